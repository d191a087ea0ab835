"""The folder's name is the user's choice, and pytest makes module names of folder names."""

import subprocess
import sys

import pytest
from dpm_solver_ext.tests.package.tree import copy_files, project_files


def run_pytest(clone, *args):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    return done.stdout


@pytest.mark.slow
def test_clone_called_my_pack_collects_everything(root, tmp_path):
    """Also with the root itself as the argument, which pytest would take for a package called my-pack."""
    collected = run_pytest(copy_files(root, project_files(root), tmp_path / "my-pack"), ".", "--collect-only")
    for folder in {path.parent.name for path in (root / "tests").glob("*/test_*.py")}:
        assert f"tests/{folder}/test_" in collected


@pytest.mark.parametrize("name", ["my-pack", "main", "dpm_solver_ext", "nodes"])
def test_clone_of_any_name_passes(root, tmp_path, name):
    """The library is loaded and used. `nodes` is also the name of one of our packages and of ComfyUI's own module."""
    clone = copy_files(root, project_files(root), tmp_path / name)
    assert " passed" in run_pytest(clone, "tests/unit/test_phi.py", "tests/package/test_readme.py")
