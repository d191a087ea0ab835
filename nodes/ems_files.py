"""Files of statistics and of tuned steps: their folders among the host's model folders, and names that cannot lead out of them."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import folder_paths

PART = ".part"
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # on Windows


@dataclass(frozen=True)
class Folder:
    """models/`key`, which is also the key under which extra_model_paths.yaml may name more folders; its files end in `suffix` and hold
    `what`."""

    key: str
    suffix: str
    what: str

    def register(self) -> None:
        """Make the folder known to the host, as its own are; nothing is written until there is a file to save."""
        folder_paths.add_model_folder_path(self.key, os.path.join(folder_paths.models_dir, self.key))
        folder_paths.folder_names_and_paths[self.key][1].add(self.suffix)

    def names(self) -> list[str]:
        """The files that can be loaded, as the host lists them."""
        return folder_paths.get_filename_list(self.key)

    def find(self, name: str) -> Path:
        """The file `name` of the list. ValueError, one sentence, for a name that leads out of the folder or to no file."""
        parts = str(name).replace("\\", "/").split("/")
        if not str(name).strip() or "\0" in str(name) or os.path.isabs(str(name)) or ":" in parts[0] or {"", ".", ".."} & set(parts):
            raise ValueError(f"file is {str(name)[:80]!r}; choose a file of models/{self.key} from the list.")
        if not parts[-1].lower().endswith(self.suffix):
            raise ValueError(f"file is {str(name)[:80]!r}; {self.what} are {self.suffix} files, so choose one from the list.")
        for folder in map(Path, folder_paths.get_folder_paths(self.key)):
            path = folder.joinpath(*parts)
            if path.is_file():
                if not path.resolve().is_relative_to(folder.resolve()):
                    raise ValueError(
                        f"file is {str(name)[:80]!r}, a link that leads out of models/{self.key}; copy the file there instead."
                    )
                return path
        raise ValueError(
            f"file is {str(name)[:80]!r}, which is not in models/{self.key}; choose one from the list, or press R to renew it."
        )

    def changed(self, name: str):
        """What says whether the file `name` is another than before."""
        try:
            found = self.find(name).stat()
        except ValueError:
            return name
        return name, found.st_mtime_ns, found.st_size

    def place(self, name: str, code: str) -> Path:
        """Where what has the user's `name` and the settings' `code` is kept: models/`key`/`name`-`code``suffix`.

        ValueError, one sentence, unless `name` is one that every file system takes, in no other folder.
        """
        plain = str(name).strip()
        if not re.fullmatch(r"[\w][\w .()+,=@-]{0,79}", plain) or plain.endswith(".") or _RESERVED.fullmatch(plain):
            raise ValueError(
                f"file_name is {str(name)[:80]!r}; type a plain name without folders: letters, digits, spaces and . _ - ( ), at most 80."
            )
        folder = Path(folder_paths.get_folder_paths(self.key)[0])
        path = folder / f"{plain}-{code}{self.suffix}"
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"file_name is {plain!r}, but {path.name} there is a link that leads out of models/{self.key}; remove it.")
        return path


EMS = Folder("dpm_ems", ".safetensors", "statistics")
TUNED = Folder("dpm_tuned", ".json", "tuned steps")
names, find, place = EMS.names, EMS.find, EMS.place


def register() -> None:
    """Make both folders known to the host."""
    EMS.register()
    TUNED.register()


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
    """Where what is unfinished is kept; the list of files leaves it out."""
    return path.with_name(path.name + PART)
