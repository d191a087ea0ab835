"""The documents are held against the code: links lead somewhere, the worked example works, quoted messages are those of the code."""

import ast
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from dpm_solver_ext.solvers.choices import PRESETS
from dpm_solver_ext.solvers.execute import execute
from dpm_solver_ext.solvers.path import PATHS, VE
from dpm_solver_ext.solvers.step import FLOOR, POWER
from dpm_solver_ext.solvers.tape import TapeError
from dpm_solver_ext.tests.unit.test_order import geometric, grid, problem, slope

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]
SPEAKING = ("solvers", "nodes", "webui", "scripts", "interop")  # the folders whose sentences users see


def text_of(page):
    return (ROOT / page).read_text(encoding="utf-8")


def links_of(text):
    """(words, target) of every link and picture."""
    return re.findall(r"\[([^\]]*)\]\(([^)\s]+)\)", text)


def anchors_of(text):
    """GitHub's names of a page's headings."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page):
    """Relative links only lead to what the repository has; a part after # is a heading there."""
    for words, target in links_of(text_of(page)):
        place, _, heading = target.partition("#")
        if place.startswith("https://"):
            continue
        found = (ROOT / page).parent / place if place else ROOT / page
        assert found.resolve().is_relative_to(ROOT) and found.exists(), (words, target)
        assert not heading or heading in anchors_of(found.read_text(encoding="utf-8")), (words, target)


@pytest.mark.parametrize("page", PAGES)
def test_paths_in_the_text_exist(page):
    """Files and folders that a page names by their path in the repository."""
    made = {"demo/out", "solvers/pece.py"}  # by make demo, and by whoever follows the worked example
    for path in re.findall(
        r"`((?:solvers|nodes|plots|webui|interop|tests|benchmarks|demo|docs|tools|web|locales)/[\w/.-]*)`", text_of(page)
    ):
        assert (ROOT / path).exists() or path in made, path


@pytest.mark.parametrize("page", PAGES)
def test_links_to_names_of_the_code(page):
    """`[`module.name`](file.py)` is a link to a file that has that name."""
    for words, target in links_of(text_of(page)):
        name = re.fullmatch(r"`(\w+)\.(\w+)`", words)
        if name is None or name[2] == "py" or not target.endswith(".py"):
            continue
        file = ((ROOT / page).parent / target).resolve()
        assert file.stem == name[1], (words, target)
        tree = ast.parse(file.read_text(encoding="utf-8"))
        known = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
        known |= {t.id for node in tree.body if isinstance(node, ast.Assign) for t in node.targets if isinstance(t, ast.Name)}
        known |= {node.target.id for node in tree.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
        assert name[2] in known, (words, target)


def test_theory_is_that_of_the_code():
    """What section 4 says of the preset auto and of its two constants; and it cites what it speaks of."""
    text = " ".join(text_of("docs/theory.md").split())
    auto = {"algorithm": "dpmsolver-v", "order": 2, "corrector": "unipc"}
    assert {name: PRESETS["auto"].get(name) for name in auto} == auto
    assert "Preset `auto` uses it, with order 2 and the corrector" in text
    assert f"a = {POWER} damps" in text and f"δ = {FLOOR} ends" in text
    assert len([words for words, target in links_of(text_of("docs/theory.md")) if target.endswith(".py")]) > 30


@pytest.fixture(scope="module")
def example():
    blocks = re.findall(r"```python\n(.*?)```", text_of("docs/contributing.md"), re.DOTALL)
    assert len(blocks) == 1 and len(blocks[0].splitlines()) <= 60
    return blocks[0]


def run_block(block, folder):
    """What the block defines, run as a script: with its own assertions."""
    (folder / "pece.py").write_text(block, encoding="utf-8")
    return runpy.run_path(str(folder / "pece.py"))


@pytest.mark.parametrize("path", PATHS.values(), ids=list(PATHS))
def test_the_worked_example_has_the_order_it_claims(example, tmp_path, path):
    """The very block of the document, on the mixture and the uneven steps of the order tests; and with both ends infinite."""
    plan = run_block(example, tmp_path)["plan_pece"]
    model, x, right = problem("mixture", path.name)
    counts, found = (36, 60), []
    for n in counts:
        tape = plan(path, grid(path, n))
        assert tape.evaluations == 2 * n
        found.append(geometric(execute(tape, lambda y, s: model.denoise(path, y, s), x), right))
    assert 2.6 < slope(counts, found) < 3.5
    whole = plan(path, [1.0 if path.name == "flow" else 80.0, 0.8, 0.5, 0.2, 0.0])
    end = execute(whole, lambda y, s: model.denoise(path, y, s), path.sigma(whole.sigmas[0]) * x)
    assert np.isfinite(end).all() and whole.evaluations == (6 if path.name == "flow" else 7)


def test_what_the_example_says_of_its_faults_is_true(example, tmp_path):
    """Two nodes in the corrector are order 2 and fail the block's assertion; a wrong weight is refused before any run."""
    short = example.replace('move("x", i, [i, i + 1, *before], first)', 'move("x", i, [i, i + 1], first)')
    wrong = example.replace('[f"d{j}" for j in places], weights)', '[f"d{j}" for j in places], [1.001 * w for w in weights])')
    assert short != example and wrong != example
    with pytest.raises(AssertionError) as caught:
        run_block(short, tmp_path)
    assert not isinstance(caught.value, TapeError)
    with pytest.raises(TapeError, match="the step"):
        run_block(wrong, tmp_path)
    order = run_block(short.split("\nassert ")[0], tmp_path)
    assert 1.7 < order["measured_order"](order["plan_pece"], VE) < 2.4


def templates_of(tree):
    """Every text in a module but its docstrings as people see it, with "…" for what is put in: f-strings, %-texts, joined pieces."""
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if id(node) in told:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = [str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values]
            yield "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"%[-+.\d]*[sdrgf]", "…", node.value)


@pytest.fixture(scope="module")
def sentences():
    files = [path for folder in SPEAKING for path in (ROOT / folder).rglob("*.py")]
    return "\n".join(text for path in files for text in templates_of(ast.parse(path.read_text(encoding="utf-8"))))


def pieces_of(message):
    """What of a quoted message the code must have, word for word."""
    return [piece.strip(" ") for piece in message.split("…") if len(piece.strip()) > 3]


def test_quoted_messages_are_those_of_the_code(sentences):
    """A message that users look up has to be found: each piece between two "…" stands in the code."""
    quoted = re.findall(r"^> (.*)$", text_of("docs/troubleshooting.md"), re.MULTILINE)
    assert len(quoted) > 25
    missing = [(piece, message) for message in quoted for piece in pieces_of(message) if piece not in sentences]
    assert missing == []
    assert all(sum(map(len, pieces_of(message))) > 15 for message in quoted)


@pytest.mark.parametrize("page", PAGES)
def test_notes_and_tables_are_whole(page):
    """Each footnote is used and written; the rows of a table have as many cells as its head."""
    text = re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)
    written = re.findall(r"^\[\^(\w+)\]:", text, re.MULTILINE)
    assert sorted(written) == sorted(set(re.findall(r"\[\^(\w+)\](?!:)", text)))
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        widths = {len(re.sub(r"\\\||`[^`]*`", "", row).split("|")) for row in table.splitlines()}
        assert len(widths) == 1, table


def test_the_comparison_says_what_was_compared_and_when():
    """One date, a version or commit for everybody in the tables' heads."""
    text = text_of("docs/comparison.md")
    assert re.search(r"on 20\d\d-\d\d-\d\d, at these versions", text)
    columns = [name.strip() for name in re.search(r"^\| \| ours \|(.*)\|$", text, re.MULTILINE)[1].split("|")]
    rows = re.search(r"^\| \| version \|\n(.*?)\n\n", text, re.DOTALL | re.MULTILINE)[1].lower()
    assert len(columns) == 5 and all(name.lower() in rows for name in columns)
