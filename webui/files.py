"""Files of statistics in models/dpm_ems: their list, and names that cannot lead out of the folder."""

import functools
import os
from pathlib import Path
from typing import Any

from .options import NO_FILE, BadOption

FOLDER, SUFFIX = "dpm_ems", ".safetensors"


def folder() -> Path:
    """models/dpm_ems of this host; it need not exist."""
    from modules import paths  # the host's

    return Path(paths.models_path) / FOLDER


def names() -> list[str]:
    """ "none" and the files that can be chosen, those in folders inside with / in their names."""
    top = folder()
    found = sorted(f.relative_to(top).as_posix() for f in top.rglob(f"*{SUFFIX}") if f.is_file()) if top.is_dir() else []
    return [NO_FILE, *found]


def find(name: str) -> Path:
    """The file `name` of the list. BadOption, one sentence, for a name that leads out of the folder or to no file."""
    parts, said = name.replace("\\", "/").split("/"), f"statistics is {name[:80]!r}"
    if not name.strip() or "\0" in name or os.path.isabs(name) or ":" in parts[0] or {"", ".", ".."} & set(parts):
        raise BadOption(f"{said}; choose a file of models/{FOLDER} from the list, or {NO_FILE}.")
    path = folder().joinpath(*parts)
    if not parts[-1].lower().endswith(SUFFIX) or not path.is_file():
        raise BadOption(f"{said}, and there is no such {SUFFIX} file in models/{FOLDER}; put it there and press the refresh button.")
    if not path.resolve().is_relative_to(folder().resolve()):
        raise BadOption(f"{said}, a link that leads out of models/{FOLDER}; copy the file there instead.")
    return path


def statistics(name: str) -> Any:
    """Statistics fitted to the file `name`, kept until the file changes. BadOption, one sentence."""
    path = find(name)
    stat = path.stat()
    try:
        return _fitted(str(path), stat.st_mtime_ns, stat.st_size, name)
    except ValueError as error:
        raise BadOption(f"statistics: {error}") from error


@functools.lru_cache(maxsize=4)
def _fitted(path: str, _changed: int, _size: int, label: str) -> Any:
    from ..solvers.ems_file import load_ems
    from ..solvers.ems_fit import fit

    return fit(load_ems(path), label=label)
