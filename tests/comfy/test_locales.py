"""The texts in English and Chinese: every node, input, output and tooltip, and none that is not there any more; commands and settings; and
a help page for every node."""

import dataclasses
import importlib.util
import inspect
import json
import re
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="module")
def chinese(root):
    return json.loads((root / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))


def widgets(node):
    spec = node.INPUT_TYPES()
    return [name for section in ("required", "optional") for name in spec.get(section, {})]


def test_complete(pack, chinese):
    """The same nodes, inputs in the same order, outputs by their places."""
    assert list(chinese) == list(pack.nodes)
    for node_id, node in pack.nodes.items():
        texts = chinese[node_id]
        assert list(texts) == ["display_name", "description", "inputs", "outputs"]
        assert list(texts["inputs"]) == widgets(node), node_id
        assert list(texts["outputs"]) == [str(i) for i in range(len(node.RETURN_TYPES))], node_id
        for entry in (*texts["inputs"].values(), *texts["outputs"].values()):
            assert list(entry) == ["name", "tooltip"] and entry["name"] and re.search("[\u4e00-\u9fff]", entry["tooltip"]), entry
        assert all(re.search("[\u4e00-\u9fff]", texts[key]) for key in ("display_name", "description"))


def test_errors_can_be_found(pack, chinese):
    """A sentence of an error names the widget by its id: the Chinese name shows it too."""
    for node_id, node in pack.nodes.items():
        for name in widgets(node):
            assert name in chinese[node_id]["inputs"][name]["name"].lower(), (node_id, name)


def test_choices_keep_their_words(pack, chinese):
    """Values of combos are the same in every language, so a tooltip that speaks of them names them as they are."""
    for node_id, node in pack.nodes.items():
        for section in node.INPUT_TYPES().values():
            for name, (kind, *rest) in section.items():
                values = kind if isinstance(kind, list) else (rest[0] if rest else {}).get("options") or []
                english = (rest[0] if rest else {}).get("tooltip", "")
                told = [v for v in values if isinstance(v, str) and re.search(rf"\b{re.escape(v)}\b[:,.]", english)]
                missing = [v for v in told if v not in chinese[node_id]["inputs"][name]["tooltip"]]
                assert missing == [], (node_id, name)


def test_every_input_and_output_has_a_tooltip(pack):
    for node_id, node in pack.nodes.items():
        spec = node.INPUT_TYPES()
        for section in ("required", "optional"):
            for name, (_, *rest) in spec.get(section, {}).items():
                assert rest and rest[0].get("tooltip"), (node_id, name)
        assert all(node.OUTPUT_TOOLTIPS) and len(node.OUTPUT_TOOLTIPS) == len(node.RETURN_TYPES), node_id


def test_every_node_has_a_help_page(pack, root):
    """It begins with the node's name, speaks of every widget, answers when to use it, and shows a small picture that is there."""
    folder, shown = root / "web" / "docs", set()
    for node_id, node in pack.nodes.items():
        text = (folder / f"{node_id}.md").read_text(encoding="utf-8")
        assert text.startswith("# ") and len(text) > 300, node_id
        missing = [name for name in widgets(node) if not re.search(rf"\b{name}\b", text)]
        assert [name for name in missing if not re.fullmatch(r"positive_[234]", name)] == [], node_id
        answer = re.search(r"^\*\*When do I use it\?\*\* (.+)$", text, re.MULTILINE)
        assert answer and len(answer.group(1)) > 60, node_id
        pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
        assert pictures and set(pictures) - shown, f"{node_id} has no picture of its own"
        shown |= set(pictures)
    assert {f.stem for f in folder.glob("*.md")} == set(pack.nodes)
    assert {f.name for f in folder.iterdir() if f.suffix != ".md"} == shown, "each picture is there and is used"
    for name in shown:
        assert (folder / name).read_bytes()[:4] == b"\x89PNG" and (folder / name).stat().st_size < 40_000, name


def test_english_is_what_the_nodes_say(pack, root):
    """locales/en/nodeDefs.json is made by tools/locales.py: run it after a text of a node has changed."""
    spec = importlib.util.spec_from_file_location("dpm_ext_test_locales_tool", root / "tools" / "locales.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    path = root / "locales" / "en" / "nodeDefs.json"
    assert json.loads(path.read_text(encoding="utf-8")) == tool.texts(pack.nodes), "run tools/locales.py"
    assert path.read_text(encoding="utf-8") == tool.written(tool.texts(pack.nodes))


@pytest.mark.parametrize("name", ["commands", "main", "settings"])
def test_other_texts_are_in_both_languages(root, name):
    """The same keys at every depth; the commands and settings themselves are compared in the page, see tests/browser."""
    english, chinese = (json.loads((root / "locales" / lang / f"{name}.json").read_text(encoding="utf-8")) for lang in ("en", "zh"))

    def leaves(texts, place=()):
        for key, text in texts.items():
            if isinstance(text, dict):
                yield from leaves(text, (*place, key))
            else:
                yield (*place, key), text

    assert [place for place, _ in leaves(english)] == [place for place, _ in leaves(chinese)] and all(t for _, t in leaves(chinese))
    same = [place for place, text in leaves(chinese) if not re.search("[\u4e00-\u9fff]", text)]
    assert {place[-1] for place in same} <= {"DPM-Solver (ext)"}, "a name stays as it is"


def test_other_words_to_search_for(pack):
    """Every node has them where the host has the field; ComfyUI 0.3.75 has none, and must not be given any."""
    from comfy_api.latest import io

    aliases = importlib.import_module(f"{pack.module.__name__}.nodes.aliases")
    assert aliases.aliases("one", "two") == {} and "search_aliases" not in {f.name for f in dataclasses.fields(io.Schema)}
    newer = dataclasses.make_dataclass("Schema", [("node_id", str), ("search_aliases", list)])
    made = []
    old, aliases.io = aliases.io, SimpleNamespace(Schema=newer)
    try:
        made = aliases.aliases("one", "two")
    finally:
        aliases.io = old
    assert made == {"search_aliases": ["one", "two"]}
    for node in pack.nodes.values():
        source = inspect.getsource(node.define_schema)
        assert len(re.findall(r'"[^"]+"', re.search(r"\*\*aliases\((.*)\)", source)[1])) >= 2, node
