"""Files of statistics: their folder among the host's model folders, and names that cannot lead out of it."""

import os
import re
from pathlib import Path

import folder_paths

KEY = "dpm_ems"  # models/dpm_ems, and the key under which extra_model_paths.yaml may name more folders
SUFFIX, PART = ".safetensors", ".part"
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # on Windows


def register() -> None:
    """Make the folder known to the host, as its own are; nothing is written until there is a file to save."""
    folder_paths.add_model_folder_path(KEY, os.path.join(folder_paths.models_dir, KEY))
    folder_paths.folder_names_and_paths[KEY][1].add(SUFFIX)


def names() -> list[str]:
    """The files that can be loaded, as the host lists them."""
    return folder_paths.get_filename_list(KEY)


def find(name: str) -> Path:
    """The file `name` of the list. ValueError, one sentence, for a name that leads out of the folder or to no file."""
    parts = str(name).replace("\\", "/").split("/")
    if not str(name).strip() or "\0" in str(name) or os.path.isabs(str(name)) or ":" in parts[0] or {"", ".", ".."} & set(parts):
        raise ValueError(f"file is {str(name)[:80]!r}; choose a file of models/{KEY} from the list.")
    if not parts[-1].lower().endswith(SUFFIX):
        raise ValueError(f"file is {str(name)[:80]!r}; statistics are {SUFFIX} files, so choose one from the list.")
    for folder in map(Path, folder_paths.get_folder_paths(KEY)):
        path = folder.joinpath(*parts)
        if path.is_file():
            if not path.resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"file is {str(name)[:80]!r}, a link that leads out of models/{KEY}; copy the file there instead.")
            return path
    raise ValueError(f"file is {str(name)[:80]!r}, which is not in models/{KEY}; choose one from the list, or press R to renew it.")


def place(name: str, code: str) -> Path:
    """Where statistics of the user's `name` and the settings' `code` are kept: models/dpm_ems/`name`-`code`.safetensors.

    ValueError, one sentence, unless `name` is one that every file system takes, in no other folder.
    """
    plain = str(name).strip()
    if not re.fullmatch(r"[\w][\w .()+,=@-]{0,79}", plain) or plain.endswith(".") or _RESERVED.fullmatch(plain):
        raise ValueError(
            f"file_name is {str(name)[:80]!r}; type a plain name without folders: letters, digits, spaces and . _ - ( ), at most 80."
        )
    folder = Path(folder_paths.get_folder_paths(KEY)[0])
    path = folder / f"{plain}-{code}{SUFFIX}"
    if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"file_name is {plain!r}, but {path.name} there is a link that leads out of models/{KEY}; remove it.")
    return path


def check_writable(path: Path) -> None:
    """ValueError, one sentence, if `path` cannot be written: before the model is called, not after."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        trial = path.with_name(path.name + PART + ".trial")
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise ValueError(
            f"file_name leads to {path}, which cannot be written ({error.strerror}); choose a shorter name or free the folder."
        ) from error


def part_of(path: Path) -> Path:
    """Where an unfinished calibration is kept; the list of files leaves it out."""
    return path.with_name(path.name + PART)
