"""Names of files in the folders of this project: what leads out of them, or is no name on some file system, is refused."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PART = ".part"
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # on Windows


@dataclass(frozen=True)
class Folder:
    """models/`key` of a host: its files end in `suffix` and hold `what`."""

    key: str
    suffix: str
    what: str

    def find_in(self, folders: Iterable[Path], name: str, option: str = "file", renew: str = "press R to renew it") -> Path:
        """The file `name` of the first of `folders` that has it. ValueError, one sentence that begins with `option`, for a name that leads
        out of them or to no file; `renew` is how the host's list is renewed."""
        parts, said = str(name).replace("\\", "/").split("/"), f"{option} is {str(name)[:80]!r}"
        if not str(name).strip() or "\0" in str(name) or os.path.isabs(str(name)) or ":" in parts[0] or {"", ".", ".."} & set(parts):
            raise ValueError(f"{said}; choose a file of models/{self.key} from the list.")
        if not parts[-1].lower().endswith(self.suffix):
            raise ValueError(f"{said}; {self.what} are {self.suffix} files, so choose one from the list.")
        for folder in folders:
            path = folder.joinpath(*parts)
            if path.is_file():
                if not path.resolve().is_relative_to(folder.resolve()):
                    raise ValueError(f"{said}, a link that leads out of models/{self.key}; copy the file there instead.")
                return path
        raise ValueError(f"{said}, which is not in models/{self.key}; choose one from the list, or {renew}.")

    def place_in(self, folder: Path, name: str, code: str, option: str = "file_name") -> Path:
        """Where what has the user's `name` and the settings' `code` is kept: `folder`/`name`-`code``suffix`.

        ValueError, one sentence that begins with `option`, unless `name` is one that every file system takes, in no other folder.
        """
        plain = str(name).strip()
        if not re.fullmatch(r"[\w][\w .()+,=@-]{0,79}", plain) or plain.endswith(".") or _RESERVED.fullmatch(plain):
            raise ValueError(
                f"{option} is {str(name)[:80]!r}; type a plain name without folders: letters, digits, spaces and . _ - ( ), at most 80."
            )
        path = folder / f"{plain}-{code}{self.suffix}"
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{option} is {plain!r}, but {path.name} there is a link that leads out of models/{self.key}; remove it.")
        return path


EMS = Folder("dpm_ems", ".safetensors", "statistics")
TUNED = Folder("dpm_tuned", ".json", "tuned steps")


def check_writable(path: Path) -> None:
    """ValueError, one sentence, if `path` or its part cannot be written: before the model is called, not after."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        trial = path.with_name(path.name + PART + ".trialrun.tmp")  # as long as the longest name that will be there, write_beside's
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise ValueError(
            f"file_name leads to {path}, which cannot be written ({error.strerror}); choose a shorter name or free the folder."
        ) from error


def part_of(path: Path) -> Path:
    """Where what is unfinished is kept; the list of files leaves it out."""
    return path.with_name(path.name + PART)
