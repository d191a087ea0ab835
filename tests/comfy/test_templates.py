"""The example workflows: the files are what demo/templates.py writes, and their values fit the nodes of this host and of ours."""

import importlib.util
import json

import pytest

WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
CONTROL = ("seed", "noise_seed")  # the front end keeps a widget of its own after these


@pytest.fixture(scope="module")
def templates(root):
    """TEMPLATES of demo/templates.py"""
    spec = importlib.util.spec_from_file_location("dpm_ext_test_templates", root / "demo" / "templates.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TEMPLATES


def widgets(spec):
    """Names of the inputs that are widgets, in their order, with the front end's own."""
    names = []
    for section in ("required", "optional"):
        for name, (kind, *_) in spec.get(section, {}).items():
            if isinstance(kind, list) or kind in WIDGETS:
                names += [name, "control"] if name in CONTROL else [name]
    return names


def test_files_are_as_written(templates, tmp_path):
    """Each template lies where it is looked for, written by the script, with a picture of the same name."""
    for folder, make in templates:
        fresh = make().write(tmp_path)
        kept = folder / fresh.name
        assert kept.read_bytes() == fresh.read_bytes(), f"{kept.name}: run demo/templates.py"
        assert kept.with_suffix(".jpg").stat().st_size < 30_000


def test_each_job_has_a_template(templates, root):
    """What people come for, by the name that they look for; and none that the script does not write."""
    names = {make().name for _, make in templates}
    wanted = "auto sdxl flow img2img inpaint edit v3 tuned compare curve nodes sde"
    assert {f"dpm_{name}" for name in wanted.split()} <= names
    for folder in {folder for folder, _ in templates}:
        assert {f.stem for f in folder.iterdir()} <= names


def test_cards_can_be_told_apart(templates):
    """Each is a square with a title of its own in a coloured band, and no two of a pack show the same below it."""
    import numpy as np
    from PIL import Image

    packs = {}
    for folder, make in templates:
        with Image.open(folder / f"{make().name}.jpg") as card:
            assert card.size[0] == card.size[1] >= 256, make().name
            grey = np.asarray(card.convert("L").resize((160, 160)), dtype=float)
        band, below = grey[:34], grey[36:]
        assert np.median(band) < 130 and 0.03 < (band > 200).mean() < 0.4, f"{make().name}: no light words in a dark band"
        packs.setdefault(folder, {})[make().name] = band, below
    for cards in packs.values():
        pairs = [(a, b) for i, a in enumerate(cards) for b in list(cards)[:i]]
        assert [p for p in pairs if np.abs(cards[p[0]][0] - cards[p[1]][0]).mean() < 5] == [], "the same title"
        assert [p for p in pairs if np.abs(cards[p[0]][1] - cards[p[1]][1]).mean() < 12] == [], "the same picture"


def test_values_fit_the_nodes(host, pack, templates):
    """By position, as saved workflows are read: every value lies within its widget, and links join outputs and inputs of one type."""
    from comfy_extras import nodes_mask, nodes_model_advanced, nodes_preview_any, nodes_sd3

    more = {name: cls for module in (nodes_mask, nodes_model_advanced, nodes_sd3) for name, cls in vars(module).items()}
    more |= nodes_preview_any.NODE_CLASS_MAPPINGS
    checked = 0
    for folder, make in templates:
        graph = json.loads((folder / f"{make().name}.json").read_text(encoding="utf-8"))
        by_id = {n["id"]: n for n in graph["nodes"]}
        for _, source, slot, target, index, kind in graph["links"]:
            assert by_id[source]["outputs"][slot]["type"] == kind and by_id[target]["inputs"][index]["type"] in (kind, "*")
        for node in graph["nodes"]:
            cls = host.nodes.NODE_CLASS_MAPPINGS.get(node["type"]) or getattr(host.nodes_custom, node["type"], None)
            cls = cls or more.get(node["type"])
            if cls is None:  # notes and the nodes of the emoji demo
                assert node["type"] == "MarkdownNote" or node["type"].startswith("Emoji")
                continue
            spec = cls.INPUT_TYPES()
            names = widgets(spec)
            if node["type"] == "LoadImage":
                names.append("upload")
            assert len(names) == len(node["widgets_values"]), (node["type"], names)
            values = dict(zip(names, node["widgets_values"], strict=True))
            for name, (kind, *rest) in {**spec.get("required", {}), **spec.get("optional", {})}.items():
                options = rest[0] if rest else {}
                choices = kind if isinstance(kind, list) else options.get("options")
                if choices and name in values and name not in ("ckpt_name", "image"):
                    assert values[name] in choices, (node["type"], name)
                if kind in ("INT", "FLOAT") and name in values:
                    assert options["min"] <= values[name] <= options["max"], (node["type"], name)
            if node["type"] in pack.nodes and "Sampler" in node["type"]:
                assert cls.execute(**values)
                checked += 1
    assert checked >= 6
