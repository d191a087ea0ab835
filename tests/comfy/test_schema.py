"""Saved workflows keep widget values by position and node ids, input names and combo entries by name: all of them are append-only.

schema.json is the promise. After adding something, look at the difference and write it anew, from the repository's root:

    DPM_EXT_WRITE_SCHEMA=1 python -m pytest tests/comfy/test_schema.py
"""

import json
import os
from pathlib import Path

SNAPSHOT = Path(__file__).resolve().parent / "schema.json"
WIDGETS = ("COMBO", "INT", "FLOAT", "STRING", "BOOLEAN")
DETAILS = ("default", "min", "max", "step", "round", "multiline", "tooltip", "advanced", "forceInput")


def present(host, pack):
    """The nodes and dropdown entries as the front end gets them, JSON only. Inputs are in widget order: required, then optional."""
    nodes = {}
    for node_id, node in pack.nodes.items():
        inputs = []
        for section, entries in node.INPUT_TYPES().items():
            if section == "hidden":
                continue
            for name, (kind, *rest) in entries.items():
                options = rest[0] if rest else {}
                combo = kind if isinstance(kind, list) else options.get("options") if kind == "COMBO" else None
                entry = {"name": name, "section": section, "type": "COMBO" if combo is not None else kind}
                if combo is not None:
                    entry["options"] = list(combo)
                inputs.append(entry | {k: options[k] for k in DETAILS if k in options})
        tips = getattr(node, "OUTPUT_TOOLTIPS", None) or [None] * len(node.RETURN_TYPES)
        outputs = [
            {"type": str(kind), "name": name, "tooltip": tip}
            for kind, name, tip in zip(node.RETURN_TYPES, node.RETURN_NAMES, tips, strict=True)
        ]
        nodes[node_id] = {
            "display_name": host.nodes.NODE_DISPLAY_NAME_MAPPINGS.get(node_id), "category": node.CATEGORY,
            "description": getattr(node, "DESCRIPTION", ""), "inputs": inputs, "outputs": outputs,
        }  # fmt: skip
    import comfy.samplers as S

    added = {key: [n for n in getattr(S, key) if n not in host.lists_before[key]] for key in ("SAMPLER_NAMES", "SCHEDULER_NAMES")}
    return {"nodes": nodes, "samplers": added["SAMPLER_NAMES"], "schedulers": added["SCHEDULER_NAMES"]}


def without_prose(schema):
    """Texts may change at any time; they are no part of the promise."""
    if isinstance(schema, dict):
        return {k: without_prose(v) for k, v in schema.items() if k not in ("tooltip", "description")}
    return [without_prose(v) for v in schema] if isinstance(schema, list) else schema


def broken(old, new):
    """Sentences that say what a workflow saved under `old` would lose under `new`."""
    found = []
    for key in ("samplers", "schedulers"):
        if new[key][: len(old[key])] != old[key]:
            found.append(f"{key}: {old[key]} is no longer the beginning of {new[key]}")
    for node_id, before in old["nodes"].items():
        after = new["nodes"].get(node_id)
        if after is None:
            found.append(f"{node_id} is gone")
            continue
        for what, is_widget in (("widgets", True), ("links", False)):
            was, is_ = ([i["name"] for i in n["inputs"] if (i["type"] in WIDGETS) is is_widget] for n in (before, after))
            if is_[: len(was)] != was:
                found.append(f"{node_id}: the {what} {was} are no longer the beginning of {is_}")
        now = {i["name"]: i for i in after["inputs"]}
        for was in before["inputs"]:
            is_ = now.get(was["name"])
            if is_ is None:
                continue
            where = f"{node_id}.{was['name']}"
            if is_["type"] != was["type"] or is_.get("default") != was.get("default"):
                found.append(f"{where}: type or default changed")
            if is_.get("options", [])[: len(was.get("options", []))] != was.get("options", []):
                found.append(f"{where}: {was['options']} is no longer the beginning of {is_.get('options')}")
            if was["section"] == "optional" and is_["section"] == "required":
                found.append(f"{where}: an optional input became required")
            if is_.get("min", 0) > was.get("min", 0) or is_.get("max", 0) < was.get("max", 0):
                found.append(f"{where}: the range became narrower")
        if [o["type"] for o in after["outputs"]][: len(before["outputs"])] != [o["type"] for o in before["outputs"]]:
            found.append(f"{node_id}: the outputs changed")
    for node_id, after in new["nodes"].items():
        known = {i["name"] for i in old["nodes"].get(node_id, {"inputs": []})["inputs"]}
        if node_id in old["nodes"]:
            found += [
                f"{node_id}.{i['name']}: a new input must be optional or have a default"
                for i in after["inputs"]
                if i["name"] not in known and i["section"] == "required" and "default" not in i and "options" not in i
            ]
    return found


def test_schema_is_append_only(host, pack):
    """A saved workflow of any earlier version loads with the same meaning."""
    now = present(host, pack)
    if os.environ.get("DPM_EXT_WRITE_SCHEMA"):
        SNAPSHOT.write_text(json.dumps(without_prose(now), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert broken(json.loads(SNAPSHOT.read_text(encoding="utf-8")), now) == []


def test_the_comparison_notices(host, pack):
    """Each way of breaking a saved workflow is found, and appending is not one of them."""
    good = present(host, pack)
    sampler, scheduler = "DPMSolverSamplerExt", "DPMSolverSchedulerExt"

    def changed(change):
        copy = json.loads(json.dumps(good))
        change(copy)
        return broken(good, copy)

    def inputs(node, at):
        return lambda s: s["nodes"][node]["inputs"][at]

    new = {"name": "new", "section": "optional", "type": "INT", "default": 1}
    assert changed(lambda s: None) == []
    assert changed(lambda s: s["nodes"][sampler]["inputs"].append(new)) == []
    assert changed(lambda s: inputs(sampler, 0)(s)["options"].append("new")) == []
    assert changed(lambda s: s["samplers"].append("new")) == []
    assert changed(lambda s: s["nodes"].pop(sampler))
    assert changed(lambda s: s["nodes"][sampler]["inputs"].reverse())
    assert changed(lambda s: s["nodes"][sampler]["inputs"].insert(0, new))
    assert changed(lambda s: s["nodes"][scheduler]["inputs"].pop())
    assert changed(lambda s: inputs(sampler, 0)(s)["options"].insert(0, "new"))
    assert changed(lambda s: inputs(sampler, 0)(s)["options"].pop())
    assert changed(lambda s: inputs(scheduler, 1)(s).update(default=99))
    assert changed(lambda s: inputs(scheduler, 1)(s).update(max=1))
    assert changed(lambda s: s["nodes"][sampler]["outputs"].pop())
    assert changed(lambda s: s["samplers"].reverse())


def test_promised_inputs(host, pack):
    """The names that the documentation, the example workflows and other packs use."""
    nodes = present(host, pack)["nodes"]
    assert [(i["name"], i["type"]) for i in nodes["DPMSolverSamplerExt"]["inputs"]] == [
        ("preset", "COMBO"), ("algorithm", "COMBO"), ("order", "INT"), ("method", "COMBO"), ("solver_type", "COMBO"), ("start", "COMBO"),
        ("final_rule", "COMBO"), ("ems", "DPM_EMS"),
    ]  # fmt: skip
    assert [(i["name"], i["type"]) for i in nodes["DPMSolverSchedulerExt"]["inputs"]] == [
        ("schedule", "COMBO"), ("steps", "INT"), ("denoise", "FLOAT"), ("sigma_max", "FLOAT"), ("sigma_min", "FLOAT"),
        ("manual_sigmas", "STRING"), ("model", "MODEL"), ("final_sigma", "COMBO"),
    ]  # fmt: skip
    assert [i["name"] for i in nodes["DPMSolverSamplerAdvancedExt"]["inputs"]] == [
        "algorithm", "order", "method", "solver_type", "start", "final_rule", "corrector", "eta", "s_noise", "noise_rule", "r1", "r2",
        "thresholding", "threshold_ratio", "threshold_max", "rtol", "atol", "safety", "max_evaluations", "ems", "data_std",
        "corrector_range", "slopes",
    ]  # fmt: skip
    advanced = {i["name"]: i.get("default") for i in nodes["DPMSolverSamplerAdvancedExt"]["inputs"]}
    assert (advanced["eta"], advanced["s_noise"], advanced["r1"], advanced["thresholding"]) == (0, 1, 0, "off")
    first = {i["name"]: i.get("default", (i.get("options") or [None])[0]) for n in nodes.values() for i in n["inputs"]}
    assert (first["preset"], first["schedule"], first["sigma_max"], first["sigma_min"]) == ("auto", "auto", 0, 0)
    order = next(i for i in nodes["DPMSolverSamplerExt"]["inputs"] if i["name"] == "order")
    assert (order["min"], order["max"]) == (1, 3)
    assert [o["type"] for o in nodes["DPMSolverSamplerExt"]["outputs"]] == ["SAMPLER"]
    assert [o["type"] for o in nodes["DPMSolverSchedulerExt"]["outputs"]] == ["SIGMAS", "STRING"]
    assert [i["name"] for i in nodes["DPMSolverCalibrateExt"]["inputs"]] == [
        "model", "positive", "negative", "latent_image", "cfg", "samples", "nodes", "probes", "shape", "calibration_seed", "file_name",
    ]  # fmt: skip
    assert [o["type"] for o in nodes["DPMSolverCalibrateExt"]["outputs"]] == ["DPM_EMS", "STRING"]
    assert [o["type"] for o in nodes["DPMSolverLoadEMSExt"]["outputs"]] == ["DPM_EMS"]
    assert [o["type"] for o in nodes["DPMSolverEMSInfoExt"]["outputs"]] == ["IMAGE", "STRING"]
    assert [i["name"] for i in nodes["DPMSolverTuneScheduleExt"]["inputs"]] == [
        "model", "positive", "negative", "latent_image", "cfg", "sampler", "steps", "tune", "seeds", "budget", "tune_seed", "file_name",
        "positive_2", "positive_3", "positive_4",
    ]  # fmt: skip
    assert [o["type"] for o in nodes["DPMSolverTuneScheduleExt"]["outputs"]] == ["SIGMAS", "SAMPLER", "STRING", "IMAGE"]
    assert [i["name"] for i in nodes["DPMSolverLoadTunedExt"]["inputs"]] == ["file", "steps", "sampler"]
    assert [o["type"] for o in nodes["DPMSolverLoadTunedExt"]["outputs"]] == ["SIGMAS", "SAMPLER", "STRING"]
    assert [i["name"] for i in nodes["DPMSolverCompareExt"]["inputs"]] == [
        "model", "positive", "negative", "latent_image", "cfg", "seed", "samplers", "steps", "reference_steps", "vae", "sampler", "sigmas",
    ]  # fmt: skip
    assert [o["type"] for o in nodes["DPMSolverCompareExt"]["outputs"]] == ["IMAGE", "IMAGE", "STRING"]
    assert [i["name"] for i in nodes["DPMSolverErrorCurveExt"]["inputs"]] == [
        "model", "positive", "negative", "latent_image", "cfg", "seed", "samplers", "steps", "reference_steps", "final_sigma", "sampler",
    ]  # fmt: skip
    assert [o["type"] for o in nodes["DPMSolverErrorCurveExt"]["outputs"]] == ["IMAGE", "STRING", "STRING"]


def test_a_workflow_of_the_first_version(analytic, pack):
    """Values by position, as the front end saved them before the family came: seven widgets, "singlestep" among them, and six of the
    scheduler. Both nodes take them, and the run ends where it should."""
    sampler, scheduler = pack.nodes["DPMSolverSamplerExt"], pack.nodes["DPMSolverSchedulerExt"]
    patcher = analytic.build("eps")
    saved = ["custom", "dpmsolver", 3, "singlestep", "taylor", "official", "none"]
    how = sampler.execute(**dict(zip(sampler.INPUT_TYPES()["required"], saved, strict=True))).args[0]
    saved = ["karras", 18, 1.0, 0.0, 0.0, "14.6, 6.5, 2.9, 1.3, 0.5, 0"]
    sigmas = scheduler.execute(**dict(zip(scheduler.INPUT_TYPES()["required"], saved, strict=True)), model=patcher).args[0]
    noise = analytic.noise_for(analytic.latent_shape(patcher))
    assert analytic.error(patcher, analytic.sample(patcher, how, sigmas, noise), sigmas, noise) < 0.05
    assert len(analytic.network(patcher).calls) == 18


def test_every_input_explains_itself(host, pack):
    """A user who hovers over any input, output or node reads what it does: whole sentences, no line longer than a tooltip can show."""
    for node_id, node in present(host, pack)["nodes"].items():
        assert len(node["description"]) > 30, node_id
        for entry in [*node["inputs"], *node["outputs"]]:
            tip = entry.get("tooltip") or ""
            assert 15 < len(tip) < 700 and tip.strip().endswith((".", ")")), (node_id, entry["name"], tip)
