"""The folder's name is the user's choice, and pytest makes module names of folder names."""

import subprocess
import sys

import pytest
from dpm_solver_ext.tests.package.tree import copy_files, project_files


@pytest.mark.parametrize("name", ["my-pack", "main", "dpm_solver_ext", "nodes"])
def test_clone_of_any_name_collects_and_passes(root, tmp_path, name):
    """`nodes` is also the name of one of our packages and of ComfyUI's own module."""
    clone = copy_files(root, project_files(root), tmp_path / name)
    quick = ["tests/unit", "tests/package/test_imports.py"]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-m",
        "not slow",
        *quick,
        "-k",
        "phi or path or imported or walk",
    ]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True)
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-3000:] + done.stderr[-1000:]
