"""A real ComfyUI server with the pack in custom_nodes/my-pack, driven over HTTP and websocket as a browser drives it."""

import io
import json
import re
import urllib.request

import pytest
from PIL import Image

SAMPLER, SCHEDULER, ADVANCED = "DPMSolverSamplerExt", "DPMSolverSchedulerExt", "DPMSolverSamplerAdvancedExt"
pytestmark = pytest.mark.slow


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def workflow(kind="eps", delay=0.0, seed=1, **extra):
    """The parts that every workflow here has: model 1, positive 2, negative 3, latent 4, sampled 5 (in `extra`), check 6."""
    return {
        "1": node("AnalyticModel", kind=kind, delay=delay, fresh=seed),
        "2": node("AnalyticCond", mu=0.75),
        "3": node("AnalyticCond", mu=-0.25),
        "4": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "6": node("AnalyticCheck", model=["1", 0], samples=["5", 0], seed=seed, cfg=3.0),
        **extra,
    }


def simple(sampler, scheduler, steps=12, kind="eps", delay=0.0, seed=1):
    return workflow(kind, delay, seed, **{"5": node(
        "KSampler", model=["1", 0], positive=["2", 0], negative=["3", 0], latent_image=["4", 0], seed=seed, steps=steps, cfg=3.0,
        sampler_name=sampler, scheduler=scheduler, denoise=1.0,
    )})  # fmt: skip


def advanced(sampler, sigmas, kind="eps", delay=0.0, seed=1):
    """SamplerCustomAdvanced with the two nodes given as {"class_type": ..., "inputs": ...}."""
    return workflow(kind, delay, seed, **{
        "5": node("SamplerCustomAdvanced", noise=["9", 0], guider=["10", 0], sampler=["7", 0], sigmas=["8", 0], latent_image=["4", 0]),
        "7": sampler,
        "8": sigmas,
        "9": node("RandomNoise", noise_seed=seed),
        "10": node("CFGGuider", model=["1", 0], positive=["2", 0], negative=["3", 0], cfg=3.0),
    })  # fmt: skip


def defaults(server, node_id):
    """{name: value} of all widgets of a node at their defaults, from /object_info as a front end reads it."""
    values = {}
    for section in ("required", "optional"):
        for name, (kind, *rest) in server.tools.object_info(server.url, node_id)["input"].get(section, {}).items():
            options = rest[0] if rest else {}
            combo = kind if isinstance(kind, list) else options.get("options")
            if combo or "default" in options:
                values[name] = options.get("default", combo[0] if combo else None)
    return values


def with_values(server, values):
    """A workflow with our two nodes at their defaults except for `values`, each given to the node that has such an input."""
    nodes = []
    for node_id in (SAMPLER, SCHEDULER):
        own = defaults(server, node_id)
        nodes.append(node(node_id, **{**own, **{k: v for k, v in values.items() if k in own}}))
    return advanced(*nodes, seed=9)


def report(run):
    return run.outputs["6"]["report"][0]


def steps_of(run):
    return [(data["value"], data["max"]) for kind, data in run.events if kind == "progress" and data["node"] == "5"]


def test_object_info(server):
    """What the front end builds its menus from: both nodes from custom_nodes.my-pack, and our names at the end of the dropdowns."""
    info = server.tools.get_json(server.url + "/object_info")
    for node_id, name, output in (
        (SAMPLER, "DPM-Solver Sampler (ext)", "SAMPLER"), (SCHEDULER, "DPM-Solver Scheduler (ext)", "SIGMAS"),
        (ADVANCED, "DPM-Solver Sampler Advanced (ext)", "SAMPLER"),
    ):  # fmt: skip
        assert info[node_id]["display_name"] == name and info[node_id]["output"][0] == output
        assert info[node_id]["python_module"] == "custom_nodes.my-pack"
        tips = [e[1].get("tooltip") for s in info[node_id]["input"].values() for e in s.values()]
        assert tips and all(tips)
    required = info["KSampler"]["input"]["required"]
    assert required["sampler_name"][0][-12:] == [
        "dpm_auto_ext", "dpmpp_2m_ext", "dpmpp_3m_ext", "dpmpp_2s_ext", "dpmpp_3s_ext", "dpm_fast_ext", "dpm_adaptive_ext", "unipc_ext",
        "dpmpp_2m_sde_ext", "dpmpp_3m_sde_ext", "dpmpp_sde_ext", "dpm_solver_v3_ext",
    ]  # fmt: skip
    assert required["scheduler"][0][-4:] == ["dpm_auto_ext", "dpm_logsnr_ext", "dpm_time_uniform_ext", "dpm_time_quadratic_ext"]
    combo = info["KSamplerSelect"]["input"]["required"]["sampler_name"]
    assert "dpm_auto_ext" in (combo[0] if isinstance(combo[0], list) else combo[1]["options"])
    combo = info["BasicScheduler"]["input"]["required"]["scheduler"]
    assert "dpm_auto_ext" in (combo[0] if isinstance(combo[0], list) else combo[1]["options"])


@pytest.mark.parametrize("kind", ["eps", "zsnr", "flux", "wan"])
def test_ksampler(server, ours, kind):
    """The plainest use: a name in KSampler. The result is near the exact end, every step is reported, and a preview of each arrives."""
    run = server.tools.run_workflow(server.url, simple(ours, "dpm_auto_ext", kind=kind, seed=3), timeout=60)
    assert report(run)["rms"] < 0.3 and len(report(run)["sigmas"]) == 12  # cfg 3 makes values of 3
    assert steps_of(run) == [(i, 12) for i in range(1, 13)]
    frames = [data for what, data in run.events if what == "preview"]
    assert len(frames) == 12 and all(Image.open(io.BytesIO(f)).format == "JPEG" for f in frames)


def test_not_the_first_sampler(server):
    """An unknown name falls back silently to euler: ours must differ from it and from each other, or nothing of ours ran."""
    ends = {}
    for name in ("euler", "dpmpp_2m", "dpm_auto_ext", "dpmpp_2m_ext", "dpmpp_3m_ext"):
        ends[name] = report(server.tools.run_workflow(server.url, simple(name, "normal", seed=5), timeout=60))["rms"]
    assert len({ends[n] for n in ("euler", "dpmpp_2m", "dpmpp_2m_ext", "dpmpp_3m_ext")}) == 4
    assert ends["dpm_auto_ext"] not in (ends["euler"], ends["dpmpp_2m"])


@pytest.mark.parametrize("kind", ["eps", "flux"])
def test_sampler_custom_advanced(server, kind):
    """Our two nodes at their defaults, as dropped on the canvas, in SamplerCustomAdvanced; the scheduler with the model connected."""
    sampler = node(SAMPLER, **defaults(server, SAMPLER))
    sigmas = node(SCHEDULER, **{**defaults(server, SCHEDULER), "steps": 15, "model": ["1", 0]})
    run = server.tools.run_workflow(server.url, advanced(sampler, sigmas, kind, seed=4), timeout=60)
    assert report(run)["rms"] < 0.3 and len(report(run)["sigmas"]) == 15
    assert steps_of(run) == [(i, 15) for i in range(1, 16)]


def test_every_preset(server):
    """All presets, a custom setting and the advanced node as it is dropped pass the host's own validation of values and run."""
    info = server.tools.object_info(server.url, SAMPLER)["input"]["required"]["preset"]
    presets = info[0] if isinstance(info[0], list) else info[1]["options"]
    assert len(presets) == 13
    nodes = [node(SAMPLER, **{**defaults(server, SAMPLER), "preset": preset, "order": 3}) for preset in presets]
    nodes.append(node(ADVANCED, **defaults(server, ADVANCED)))
    for i, sampler in enumerate(nodes):
        sigmas = node(SCHEDULER, **{**defaults(server, SCHEDULER), "steps": 9})
        run = server.tools.run_workflow(server.url, advanced(sampler, sigmas, seed=20 + i), timeout=60)
        assert report(run)["rms"] < (0.5 if "sde" not in str(sampler) else 1.5)


def test_every_name_in_ksampler(server, every):
    """Every entry of the list paints, and its progress and previews arrive, up to the last step of the bar."""
    run = server.tools.run_workflow(server.url, simple(every, "karras", seed=31), timeout=60)
    assert report(run)["rms"] < (0.3 if "sde" not in every else 1.5)
    places = [value for value, total in steps_of(run) if total == 12]
    assert places == sorted(places) and places[-1] == 12 and (every == "dpm_adaptive_ext" or places == list(range(1, 13)))
    assert len([1 for what, _ in run.events if what == "preview"]) >= 4


@pytest.mark.parametrize("name", ["dpm_auto_ext", "dpmpp_3s_ext", "dpm_adaptive_ext", "dpmpp_sde_ext"])
def test_interrupt(server, name):
    """Cancel in the middle of a run stops it within a step or two; the same workflow afterwards runs to its end."""
    hits = []

    def cancel(kind, data):
        if kind == "progress" and data.get("node") == "5" and data["value"] >= 3 and not hits:
            hits.append(server.tools.post_json(server.url + "/interrupt", {}))

    run = server.tools.run_workflow(server.url, simple(name, "karras", steps=40, delay=0.15, seed=6), cancel, timeout=60, check=False)
    assert hits and run.status == "interrupted" and "execution_interrupted" in [kind for kind, _ in run.events]
    assert 3 <= len(steps_of(run)) <= 6 or name == "dpm_adaptive_ext"
    again = server.tools.run_workflow(server.url, simple(name, "karras", steps=8, seed=7), timeout=60)
    assert again.status == "success" and steps_of(again)[-1] == (8, 8)


BAD = {"10, nan, 0": "finite", "5, 1, 3, 0": "fall", "0, 1, 10": "rise from 0", "3, 1, -1": "negative"}


@pytest.mark.parametrize("text", list(BAD))
def test_bad_sigmas(server, text):
    """The user reads our sentence in the error dialog, at the sampling node, before the model has run."""
    prompt = advanced(node(SAMPLER, **defaults(server, SAMPLER)), node("AnalyticSigmas", text=text), delay=5.0, seed=8)
    run = server.tools.run_workflow(server.url, prompt, timeout=60, check=False)
    data = next(data for kind, data in run.events if kind == "execution_error")
    assert run.status == "error" and data["exception_type"] == "ValueError" and data["node_id"] == "5"
    message = data["exception_message"].strip()
    assert "\n" not in message and BAD[text] in message.lower() and run.seconds < 5


def test_values_outside_the_widgets(server):
    """Order 4, steps 0 and the like are refused by the host before anything runs: the schema states the limits."""
    for bad in ({"order": 4}, {"order": 0}, {"steps": 0}, {"denoise": 1.5}, {"sigma_max": -1.0}, {"sigma_min": -1.0}):
        prompt = with_values(server, bad)
        with pytest.raises(server.tools.Rejected) as refused:
            server.tools.run_workflow(server.url, prompt, timeout=60)
        assert next(iter(bad)) in str(refused.value)


@pytest.mark.parametrize("name", ["preset", "algorithm", "method", "solver_type", "start", "final_rule", "schedule"])
def test_unknown_choice(server, name):
    """This host does not check combo values of V3 nodes (execution.py looks at list types only): a workflow from a later version reaches
    our node, which must say in one sentence what it does not know and what it does."""
    run = server.tools.run_workflow(server.url, with_values(server, {"preset": "custom", name: "from the future"}), timeout=60, check=False)
    data = next((data for kind, data in run.events if kind == "execution_error"), None)
    assert data and data["exception_type"] == "ValueError" and data["node_type"] in (SAMPLER, SCHEDULER)
    message = data["exception_message"].strip()
    assert "\n" not in message and "from the future" in message and name in message


def test_front_end_files(server):
    """Every script that the host offers for our pack loads, as do its example workflows' names: nothing we point to is missing."""
    scripts = [p for p in server.tools.get_json(server.url + "/extensions") if p.startswith("/extensions/my-pack/")]
    for script in scripts:
        assert server.tools.get_bytes(server.url + script)
    templates = server.tools.get_json(server.url + "/workflow_templates").get("my-pack", [])
    for name in templates:
        with urllib.request.urlopen(f"{server.url}/api/workflow_templates/my-pack/{name}.json", timeout=10) as reply:
            assert json.load(reply)["nodes"]


def test_log(server):
    """Runs after the others: the pack was imported from the folder my-pack, and the log has no traceback but those of the bad inputs."""
    log = server.log_text().replace("\\", "/")
    assert re.search(r"seconds: .*custom_nodes/my-pack\n", log), "not imported"
    blocks = re.findall(r"Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*\w[^\n]*", log)
    ours = [b.splitlines()[-1] for b in blocks if "custom_nodes/my-pack" in b]
    assert all(b.startswith("ValueError: ") for b in ours), ours
    assert not [line for line in log.splitlines() if "my-pack" in line and re.search("warn|fail|error|cannot", line, re.I)]
