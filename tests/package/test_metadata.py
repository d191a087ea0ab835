"""What pip, the ComfyUI registry and ComfyUI-Manager read."""

import os
import re
import subprocess
import sys
import zipfile

import pytest
import tomllib
from dpm_solver_ext.tests.package.tree import copy_files, packed_files, project_files


@pytest.fixture(scope="module")
def pyproject(root):
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


def test_registry_fields(pyproject, root):
    project, comfy = pyproject["project"], pyproject["tool"]["comfy"]
    name = project["name"]
    assert name == "dpm-solver-ext" and len(name) < 100 and re.fullmatch(r"[A-Za-z]+([-_.][A-Za-z0-9]+)*", name) and "comfyui" not in name
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"]), "the registry wants X.Y.Z"
    assert re.fullmatch(r"https://github\.com/[\w.-]+/dpm-solver-ext", project["urls"]["Repository"])
    assert project["urls"]["Issues"] == project["urls"]["Repository"] + "/issues"
    assert re.fullmatch(r"[a-z][a-z0-9-]*", comfy["PublisherId"]) and comfy["DisplayName"] == "DPM-Solver (ext)"
    # the pattern of comfy-cli: a version that does not match is dropped with a warning
    part = r"(?:(==|>=|<=|!=|~=|>|<|<>|=)\s*)?(\d+\.\d+\.\d+(?:-[a-zA-Z0-9]+)?)"
    assert all(re.fullmatch(part, piece.strip()) for piece in comfy["requires-comfyui"].split(","))
    assert project["license"] == "Apache-2.0" and project["license-files"] == ["LICENSE"]
    for classifier in project["classifiers"]:
        if classifier.startswith("Operating System :: "):
            assert classifier == "Operating System :: OS Independent"
        assert not classifier.startswith("Environment :: "), "would limit the accelerators that the registry shows"
        assert not classifier.startswith("License :: "), "PEP 639 forbids it beside a licence expression"


def test_no_runtime_dependency(pyproject, root):
    assert pyproject["project"]["dependencies"] == [] and "dynamic" not in pyproject["project"]
    # ComfyUI-Manager pip-installs the first and runs the second
    assert not (root / "requirements.txt").exists() and not (root / "install.py").exists()


def test_torch_is_pinned_in_one_place(pyproject, root):
    pins = [line for extra in pyproject["project"]["optional-dependencies"].values() for line in extra]
    assert all("==" in line for line in pins + pyproject["tool"]["dpm-solver-ext"]["no-deps"])
    pin = re.compile(r"\btorch[=]=[\d.]+")
    assert len([line for line in pins if pin.fullmatch(line)]) == 1
    texts = {name: (root / name).read_text(encoding="utf-8") for name in project_files(root) if name.endswith((".py", ".toml", ".txt"))}
    written = [name for name, text in texts.items() if pin.search(text)]
    assert written == ["pyproject.toml"]


def test_licence_is_the_whole_apache_2(root):
    text = (root / "LICENSE").read_text(encoding="utf-8")
    assert "Version 2.0, January 2004" in text and len(text) > 10_000
    for heading in ("1. Definitions.", "3. Grant of Patent License.", "9. Accepting Warranty or Additional Liability.", "END OF TERMS"):
        assert heading in text


def test_changelog_knows_the_version(pyproject, root):
    assert f"## {pyproject['project']['version']}" in (root / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_page_knows_the_version(pyproject, root):
    """ComfyUI's About page shows it."""
    assert f'VERSION = "{pyproject["project"]["version"]}"' in (root / "web" / "dpm_solver.js").read_text(encoding="utf-8")


def test_registry_ruff_rules(root):
    """The command of `comfy node validate`, which prints and does not fail: here it must print nothing."""
    command = [sys.executable, "-m", "ruff", "check", ".", "-q", "--select", "S102,S307,E702", "--exit-zero"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "", done.stdout + done.stderr


def test_registry_archive_is_small_and_loads(root, tmp_path):
    packed = packed_files(root)
    top = {name.split("/")[0] for name in packed}
    assert {"__init__.py", "pyproject.toml", "LICENSE", "README.md", "solvers", "plots", "nodes"} <= top
    assert top <= {
        "__init__.py",
        "pyproject.toml",
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "solvers",
        "plots",
        "nodes",
        "web",
        "locales",
        "example_workflows",
    }
    assert sum((root / name).stat().st_size for name in packed) < 1_400_000
    copy = copy_files(root, packed, tmp_path / "dpm_solver_ext")
    script = "import dpm_solver_ext, dpm_solver_ext.solvers.multistep; print(dpm_solver_ext.__file__)"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith(str(copy)), done.stdout + done.stderr


def test_wheel(root, tmp_path):
    """Builds without a network and imports from site-packages, whole and with nothing else in it."""
    names = project_files(root)
    source = copy_files(root, names, tmp_path / "any-name")  # in a copy: setuptools leaves build/ behind
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path / "dist", source], check=True)
    (wheel,) = (tmp_path / "dist").iterdir()
    assert wheel.name == "dpm_solver_ext-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        inside = [name for name in archive.namelist() if ".dist-info/" not in name]
        metadata = archive.read("dpm_solver_ext-0.1.0.dist-info/METADATA").decode()
        assert "dpm_solver_ext-0.1.0.dist-info/licenses/LICENSE" in archive.namelist()
    assert sorted(inside) == sorted(
        f"dpm_solver_ext/{name}" for name in names if re.fullmatch(r"(__init__|(solvers|plots|nodes|interop)/.+)\.py", name)
    )
    needed = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:")]
    assert needed and all("extra ==" in line for line in needed)

    site = tmp_path / "site-packages"
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", site, wheel], check=True)
    script = "import dpm_solver_ext, dpm_solver_ext.solvers.multistep; print(dpm_solver_ext.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(site)}
    )
    assert done.returncode == 0 and done.stdout.startswith(str(site)), done.stdout + done.stderr


def test_no_path_or_mirror_of_a_developers_machine(root):
    folders = re.compile(rb"(?:^|[^A-Za-z0-9_./])/(?:work|tmp|root|home|opt|Users)/[A-Za-z0-9]")
    hosts = re.compile(rb"\b(?:pypi\.org|pythonhosted\.org|npmjs\.org|deb\.debian\.org)\b")
    found = []
    for name in project_files(root):
        data = (root / name).read_bytes()
        if b"\0" in data[:8000]:
            continue
        found += [f"{name}: {match.group().decode()}" for pattern in (folders, hosts) for match in pattern.finditer(data)]
    assert found == []
