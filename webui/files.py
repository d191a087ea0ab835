"""Files of statistics and of tuned steps in the host's model folders: their lists, what they hold, and their end."""

import functools
from pathlib import Path
from typing import Any

from ..solvers.folders import Folder, part_of
from .options import BY_NAME, FILES, NO_FILE, BadOption

RENEW = "press the refresh button"


def top(folder: Folder) -> Path:
    """models/dpm_ems or models/dpm_tuned of this host; it need not exist."""
    from modules import paths  # the host's

    return Path(paths.models_path) / folder.key


def listed(folder: Folder) -> list[str]:
    """The files that can be chosen, those in folders inside with / in their names."""
    here = top(folder)
    return sorted(f.relative_to(here).as_posix() for f in here.rglob(f"*{folder.suffix}") if f.is_file()) if here.is_dir() else []


def names(option: str) -> list[str]:
    """ "none" and the files that the option `option` can choose."""
    return [NO_FILE, *listed(FILES[option])]


def find(name: str, folder: Folder, option: str) -> Path:
    """The file `name` of the list. BadOption, one sentence, for a name that leads out of the folder or to no file."""
    try:
        return folder.find_in([top(folder)], name, option, RENEW)
    except ValueError as error:
        raise BadOption(str(error)) from error


def statistics(name: str) -> Any:
    """Statistics fitted to the file `name`, kept until the file changes. BadOption, one sentence."""
    return _read(_fitted, name, "statistics")


def tuned(name: str) -> tuple[Any, dict[str, str]]:
    """(Tuned, what it was made for) of the file `name`, kept until the file changes. BadOption, one sentence."""
    return _read(_loaded, name, "tuned")


def delete(name: str, folder: Folder) -> None:
    """Remove the file `name` and what was measured for it. BadOption, one sentence."""
    path = find(name, folder, "File")
    try:
        path.unlink()
        part_of(path).unlink(missing_ok=True)
    except OSError as error:
        raise BadOption(f"File is {name!r}, which cannot be deleted ({error.strerror}); close what uses it.") from error


def _read(read: Any, name: str, option: str) -> Any:
    path = find(name, FILES[option], BY_NAME[option].said)
    stat = path.stat()
    try:
        return read(str(path), stat.st_mtime_ns, stat.st_size, name)
    except ValueError as error:
        raise BadOption(f"{BY_NAME[option].said}: {error}") from error


@functools.lru_cache(maxsize=4)
def _fitted(path: str, _changed: int, _size: int, label: str) -> Any:
    from ..solvers.ems_file import load_ems
    from ..solvers.ems_fit import statistics_of

    return statistics_of(load_ems(path), label)


@functools.lru_cache(maxsize=16)
def _loaded(path: str, _changed: int, _size: int, _label: str) -> Any:
    from ..solvers.tune_file import load_tuned

    return load_tuned(path)
