"""Loading the pack the way ComfyUI does adds our names and changes nothing else."""

import asyncio
import re
import sys

LISTS = {"KSAMPLER_NAMES": "samplers", "SAMPLER_NAMES": "samplers", "SCHEDULER_NAMES": "schedulers", "SCHEDULER_HANDLERS": "schedulers"}


def test_names_are_appended_in_place(host, pack):
    """Combos compare by the list's value and other packs hold the list objects: same objects, the built-ins first and in their order."""
    import comfy.samplers as S

    for key, added in LISTS.items():
        now = getattr(S, key)
        assert now is host.lists[key], f"{key} was rebound"
        assert list(now) == [*host.lists_before[key], *getattr(host, added)], key
    assert S.KSampler.SAMPLERS is S.SAMPLER_NAMES and S.KSampler.SCHEDULERS is S.SCHEDULER_NAMES


def test_nothing_of_the_host_is_replaced(host, pack):
    """A pack that wraps or rebinds what is there breaks others: every attribute of the host stays the same object, and only sample_<ours>
    are new."""
    assert not [k for k, v in host.before.items() if k in pack.after and pack.after[k] is not v]
    assert not set(host.before) - set(pack.after)
    assert set(pack.after) - set(host.before) == {f"comfy.k_diffusion.sampling.sample_{name}" for name in host.samplers}


def test_no_top_level_name_of_ours(host, pack):
    """ComfyUI loads packs under their path: `nodes` must stay ComfyUI's, and no bare `solvers` may appear; two packs would share them."""
    assert sys.modules["nodes"] is host.nodes and not hasattr(host.nodes, "__path__")
    assert "solvers" not in sys.modules
    assert sys.path == host.path, "packs share sys.path with the host and with each other"


def test_second_load_changes_nothing(host, pack, tmp_path):
    """Two copies of the pack (a clone and a registry install) must not double the entries, and loading again must not fail."""
    import comfy.samplers as S

    before = {key: list(getattr(S, key)) for key in LISTS}
    twin = tmp_path / "dpm.solver-ext copy"
    twin.symlink_to(pack.path.resolve(), target_is_directory=True)
    mappings = dict(host.nodes.NODE_CLASS_MAPPINGS), dict(host.nodes.NODE_DISPLAY_NAME_MAPPINGS)
    try:
        assert asyncio.run(host.nodes.load_custom_node(str(twin), set(host.node_ids)))
    finally:
        host.nodes.NODE_CLASS_MAPPINGS.update(mappings[0])
        host.nodes.NODE_DISPLAY_NAME_MAPPINGS.update(mappings[1])
    for key, names in before.items():
        assert getattr(S, key) is host.lists[key] and list(getattr(S, key)) == names


def test_nodes(host, pack):
    """The ids are for ever: saved workflows name them. Display names are what users search for."""
    assert set(pack.nodes) == {
        "DPMSolverSamplerExt", "DPMSolverSchedulerExt", "DPMSolverSamplerAdvancedExt", "DPMSolverCalibrateExt", "DPMSolverLoadEMSExt",
        "DPMSolverEMSInfoExt", "DPMSolverTuneScheduleExt", "DPMSolverLoadTunedExt", "DPMSolverCompareExt",
        "DPMSolverErrorCurveExt",
    }  # fmt: skip
    names = host.nodes.NODE_DISPLAY_NAME_MAPPINGS
    assert names["DPMSolverSamplerExt"] == "DPM-Solver Sampler (ext)"
    assert names["DPMSolverSamplerAdvancedExt"] == "DPM-Solver Sampler Advanced (ext)"
    assert names["DPMSolverSchedulerExt"] == "DPM-Solver Scheduler (ext)"
    assert names["DPMSolverCalibrateExt"] == "Calibrate DPM-Solver-v3 (ext)"
    assert (names["DPMSolverLoadEMSExt"], names["DPMSolverEMSInfoExt"]) == ("Load EMS (ext)", "EMS Info (ext)")
    assert names["DPMSolverTuneScheduleExt"] == "Tune Schedule (ext)" and names["DPMSolverLoadTunedExt"] == "Load Tuned Steps (ext)"
    assert names["DPMSolverCompareExt"] == "Compare Samplers (ext)" and names["DPMSolverErrorCurveExt"] == "Error Curve (ext)"
    for node_id, node in pack.nodes.items():
        assert node.__name__ == node_id, "ComfyUI-Manager's scanner takes the class name for the id"
        assert node.RELATIVE_PYTHON_MODULE == "custom_nodes.my-pack"
        assert str(node.CATEGORY).startswith("sampling/custom_sampling/"), "where users look for samplers and schedulers"


def test_web_directory(host, pack):
    """The front end's files are served only if WEB_DIRECTORY names a folder that exists."""
    assert pack.module.WEB_DIRECTORY == "./web"
    folder = pack.path / "web"
    assert not folder.exists() or host.nodes.EXTENSION_WEB_DIRS["my-pack"] == str(folder)


def test_help_pages(host, pack):
    """The front end shows web/docs/<node id>.md as a node's help: every node has one, and it names every input and every choice."""
    for node_id, node in pack.nodes.items():
        text = (pack.path / "web" / "docs" / f"{node_id}.md").read_text(encoding="utf-8")
        for section, entries in node.INPUT_TYPES().items():
            for name, (_, *rest) in entries.items() if section != "hidden" else ():
                options = rest[0].get("options", []) if rest and name != "file" else []  # whatever files there are
                missing = [word for word in (name, *options) if word not in text]
                assert not missing, (node_id, missing)


def test_recipes_in_the_help_are_the_presets(host, pack):
    """The table that says how to set the advanced node to a preset, to change one thing of it, says what the presets are."""
    presets, notes = (sys.modules[f"{pack.module.__name__}.solvers.{name}"] for name in ("choices", "notes"))
    text = (pack.path / "web" / "docs" / "DPMSolverSamplerAdvancedExt.md").read_text(encoding="utf-8")
    before, table = text.partition("| preset |")[::2]
    rest = dict(re.findall(r"`(\w+)` ([\w+]+)", before.rpartition("the rest is")[2]))
    rows = {row[0]: row[1:] for line in table.splitlines() if line.startswith("| ") and (row := [c.strip() for c in line.split("|")[1:-1]])}
    for name, options in (presets.PRESETS | presets.FAMILY).items():
        known = rest | dict(word.split(" ") for word in rows[name][0].split(", "))
        values = notes.DEFAULTS | options
        assert known == {k: f"{values[k]:g}" if isinstance(values[k], float) else str(values[k]) for k in known}, name
        assert set(options) <= set(known), name
