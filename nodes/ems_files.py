"""Files of statistics and of tuned steps: their folders among the host's model folders."""

import os
from dataclasses import dataclass
from pathlib import Path

import folder_paths

from ..solvers import folders
from ..solvers.folders import check_writable, part_of

__all__ = ["EMS", "TUNED", "Folder", "check_writable", "find", "names", "part_of", "place", "register"]


@dataclass(frozen=True)
class Folder(folders.Folder):
    """models/`key`, which is also the key under which extra_model_paths.yaml may name more folders."""

    def register(self) -> None:
        """Make the folder known to the host, as its own are; nothing is written until there is a file to save."""
        folder_paths.add_model_folder_path(self.key, os.path.join(folder_paths.models_dir, self.key))
        folder_paths.folder_names_and_paths[self.key][1].add(self.suffix)

    def names(self) -> list[str]:
        """The files that can be loaded, as the host lists them."""
        return folder_paths.get_filename_list(self.key)

    def find(self, name: str) -> Path:
        """The file `name` of the list. ValueError, one sentence, for a name that leads out of the folder or to no file."""
        return self.find_in(map(Path, folder_paths.get_folder_paths(self.key)), name)

    def changed(self, name: str):
        """What says whether the file `name` is another than before."""
        try:
            found = self.find(name).stat()
        except ValueError:
            return name
        return name, found.st_mtime_ns, found.st_size

    def place(self, name: str, code: str) -> Path:
        """Where what has the user's `name` and the settings' `code` is kept. ValueError as of `place_in`."""
        return self.place_in(Path(folder_paths.get_folder_paths(self.key)[0]), name, code)


EMS, TUNED = (Folder(folder.key, folder.suffix, folder.what) for folder in (folders.EMS, folders.TUNED))
names, find, place = EMS.names, EMS.find, EMS.place


def register() -> None:
    """Make both folders known to the host."""
    EMS.register()
    TUNED.register()
