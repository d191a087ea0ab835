"""The README is run and compared with the code: what it shows works, what it names exists."""

import ast
import re
import runpy

import pytest


@pytest.fixture(scope="module")
def readme(root):
    return (root / "README.md").read_text(encoding="utf-8")


def names_in(path, variable):
    """Keys of a dict that is written out in a file, read without importing a host."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [variable]:
            return set(ast.literal_eval(node.value))
    raise AssertionError(f"{path.name} has no {variable}")


def test_python_examples_run(readme, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert blocks
    for block in blocks:
        (tmp_path / "example.py").write_text(block, encoding="utf-8")
        runpy.run_path(str(tmp_path / "example.py"))


def test_every_entry_is_listed_and_nothing_else(root, readme):
    registered = names_in(root / "nodes" / "register.py", "SAMPLERS") | names_in(root / "nodes" / "register.py", "SCHEDULERS")
    assert set(re.findall(r"`((?:dpm|unipc)\w*_ext)`", readme)) - {"dpm_solver_ext"} == registered


def test_every_input_of_the_nodes_is_listed_in_order(root, readme):
    trees = [ast.parse((root / "nodes" / name).read_text(encoding="utf-8")) for name in ("extension.py", "ems.py", "tune.py")]
    for node in [item for tree in trees for item in tree.body if isinstance(item, ast.ClassDef)]:
        calls = [sub for sub in ast.walk(node) if isinstance(sub, ast.Call) and ast.unparse(sub.func).endswith(".Input")]
        if not calls:
            continue
        title = next(
            sub.value.value
            for sub in ast.walk(node)
            if isinstance(sub, ast.keyword) and sub.arg == "display_name" and "(ext)" in sub.value.value
        )
        row = next(line for line in readme.splitlines() if line.startswith(f"| {title} |"))
        inputs = [call.args[0].value for call in sorted(calls, key=lambda call: call.lineno)]
        assert re.findall(r"`(\w+)`", row.split("|")[2].replace("`custom`", "")) == inputs


def test_links_and_commands_exist(root, readme):
    for target in re.findall(r"\]\((?!#)([^)]+)\)", readme):  # headings: test_docs
        assert target.startswith("https://") or (root / target).exists(), target
    for path in re.findall(r"`((?:solvers|nodes|demo|tests)/[\w/.]*)`", readme):
        assert (root / path).exists() or path == "demo/out", path
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"\bmake ([a-z]+)", readme):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
