"""The files of the project as git sees them, and copies of them in other places."""

import shutil
import subprocess
from pathlib import Path


def project_files(root: Path) -> list[str]:
    """Tracked files and new ones that are not ignored, relative to `root`: what a clone will hold after the next commit."""
    out = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    return sorted(name for name in set(out.split("\0")) if name and (root / name).is_file())


def packed_files(root: Path) -> list[str]:
    """Those of them that `comfy node publish` packs: .comfyignore has the syntax of .gitignore, so git itself applies it."""
    out = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--ignored", "--exclude-from=.comfyignore"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    left_out = set(out.split("\0"))
    return [name for name in project_files(root) if name not in left_out]


def copy_files(root: Path, names: list[str], to: Path) -> Path:
    for name in names:
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, to / name)
    return to
