"""tools/venv.py, which `make` runs with whatever python3 a machine has."""

import ast
import importlib.util
import subprocess
import sys

import pytest


@pytest.fixture
def venv(root, tmp_path, monkeypatch):
    """The script, working in an empty folder."""
    spec = importlib.util.spec_from_file_location("venv_script", root / "tools" / "venv.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, value in {
        "ROOT": tmp_path,
        "VENV": tmp_path / ".venv",
        "LOG": tmp_path / ".venv/install.log",
        "STAMP": tmp_path / ".venv/.installed",
    }.items():
        monkeypatch.setattr(module, name, str(value))
    monkeypatch.setattr(module, "BIN", str(tmp_path / ".venv" / "bin"))
    (tmp_path / "pyproject.toml").write_text(
        '[project]\noptional-dependencies = { demo = ["a==1"], test = ["b==2"] }\n[tool.dpm-solver-ext]\nno-deps = ["c==3"]\n'
    )
    return module


@pytest.fixture
def pip_calls(venv, monkeypatch):
    """A pip that only writes down what it was asked for, in a venv that is only a folder."""
    calls = []
    monkeypatch.setattr(venv, "make_venv", lambda: None)
    monkeypatch.setattr(venv, "pip", lambda args, label: calls.append(args))
    return calls


def test_one_clear_sentence_for_an_unsuitable_python(venv):
    assert venv.unsuitable((3, 12, 1), True) is None
    assert "3.11 or newer" in venv.unsuitable((3, 9, 18), True) and "3.9" in venv.unsuitable((3, 9, 18), True)
    assert "python3-venv" in venv.unsuitable((3, 11, 2), False)


def test_old_pythons_can_read_the_script(root):
    """An old python3 must get as far as the sentence."""
    tree = ast.parse((root / "tools" / "venv.py").read_text(encoding="utf-8"), feature_version=(3, 7))
    assert all("tomllib" not in ast.dump(node) for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom)))


def test_installs_once_and_again_when_requirements_change(venv, pip_calls, tmp_path):
    venv.main(["demo", "test"])
    assert pip_calls == [["a==1", "b==2"], ["--no-deps", "c==3"]]
    venv.main(["demo", "test"])
    assert len(pip_calls) == 2, "the second run has nothing to do"
    text = (tmp_path / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(text + "[tool.ruff]\nline-length = 100\n")
    venv.main(["demo", "test"])
    assert len(pip_calls) == 2, "a change that is not a requirement installs nothing"
    (tmp_path / "pyproject.toml").write_text(text.replace("b==2", "b==3"))
    venv.main(["demo", "test"])
    assert pip_calls[2] == ["a==1", "b==3"]


def test_an_interrupted_installation_begins_again(venv, pip_calls, monkeypatch, tmp_path):
    venv.main(["demo"])
    (tmp_path / "pyproject.toml").write_text((tmp_path / "pyproject.toml").read_text().replace("a==1", "a==2"))

    def interrupted(args, label):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(venv, "pip", interrupted)
        with pytest.raises(KeyboardInterrupt):
            venv.main(["demo"])
    assert not (tmp_path / ".venv" / ".installed").exists()
    venv.main(["demo"])
    assert pip_calls[-2:] == [["a==2"], ["--no-deps", "c==3"]]


def test_a_failing_pip_leaves_no_stamp_and_says_why(venv, tmp_path):
    """The real pip, with a requirement that no index can have."""
    (tmp_path / "pyproject.toml").write_text(
        '[project]\noptional-dependencies = { demo = ["./no-such-folder"] }\n[tool.dpm-solver-ext]\nno-deps = []\n'
    )
    with pytest.raises(SystemExit, match="no-such-folder"):
        venv.main(["demo"])
    assert not (tmp_path / ".venv" / ".installed").exists() and "no-such-folder" in (tmp_path / ".venv" / "install.log").read_text()


def test_a_venv_of_someone_else_is_left_alone(venv, pip_calls, tmp_path):
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "mine").write_text("x")
    with pytest.raises(SystemExit, match="move it away"):
        venv.main(["demo"])
    assert (tmp_path / ".venv" / "mine").exists() and pip_calls == []


def test_make_help_lists_every_target(root):
    done = subprocess.run(["make", "--no-print-directory", "help"], cwd=root, capture_output=True, text=True, check=True)
    assert all(f"make {target}" in done.stdout for target in ("demo", "test", "clean"))
    assert sys.platform == "win32" or (root / ".ci" / "run").stat().st_mode & 0o100
