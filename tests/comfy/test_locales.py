"""The node texts in Chinese: every node, input, output and tooltip, and none that is not there any more; and a help page for every node."""

import json
import re

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
    """It begins with the node's name, speaks of every widget, and shows only pictures that are there."""
    for node_id, node in pack.nodes.items():
        page = root / "web" / "docs" / f"{node_id}.md"
        text = page.read_text(encoding="utf-8")
        assert text.startswith("# ") and len(text) > 300, node_id
        missing = [name for name in widgets(node) if not re.search(rf"\b{name}\b", text)]
        assert [name for name in missing if not re.fullmatch(r"positive_[234]", name)] == [], node_id
        for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text):
            assert (page.parent / picture).is_file(), picture
    assert {f.stem for f in (root / "web" / "docs").glob("*.md")} == set(pack.nodes)
