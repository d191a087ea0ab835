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
        assert kept.with_suffix(".jpg").stat().st_size < 60_000


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
