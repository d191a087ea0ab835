"""Error curves and a comparison with sigmas in a real ComfyUI server over HTTP and websocket, on the demo's trained model."""

import csv
import io

import pytest
from PIL import Image

pytestmark = pytest.mark.slow
WIRES = {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]}


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def base(**more):
    """The demo's model 1, prompts 2 and 3, and latent 4."""
    return {
        "1": node("EmojiDemoModel"),
        "2": node("EmojiDemoPrompt", subgroup="food-fruit"),
        "3": node("EmojiDemoPrompt", subgroup="(anything)"),
        "4": node("EmojiDemoLatent", width=32, height=32, batch_size=2),
        **more,
    }


def curve(seed):
    """The error curves 5, with their picture 6 and their csv 7."""
    widgets = {"samplers": "dpmpp_2m + karras, euler + karras", "steps": "5, 8, 12", "reference_steps": 40, "final_sigma": "zero"}
    return base(**{
        "5": node("DPMSolverErrorCurveExt", cfg=2.5, seed=seed, **widgets, **WIRES),
        "6": node("PreviewImage", images=["5", 0]),
        "7": node("PreviewAny", source=["5", 2]),
    })  # fmt: skip


def test_curve(server):
    """Errors of a trained model fall with the steps, those of order 2 faster; the bar counts every step; table and picture arrive."""
    run = server.tools.run_workflow(server.url, curve(1), timeout=120)
    rows = list(csv.DictReader(io.StringIO(run.outputs["7"]["text"][0])))
    errors = {name: [float(r["error"]) for r in rows if r["sampler"] == f"{name} + karras"] for name in ("dpmpp_2m", "euler")}
    for name, found in errors.items():
        assert found[0] > found[1] > found[2] > 0, name
        assert [int(r["model_calls"]) for r in rows if r["sampler"] == f"{name} + karras"] == [5, 8, 12]
    assert errors["dpmpp_2m"][2] < errors["euler"][2]
    bar = [(data["value"], data["max"]) for kind, data in run.events if kind == "progress" and data["node"] == "5"]
    assert bar[-1] == (110, 110) and [value for value, _ in bar] == sorted(value for value, _ in bar)
    assert "| dpmpp_2m + karras | " in run.outputs["5"]["text"][0]
    picture = Image.open(io.BytesIO(server.tools.fetch_image(server.url, run.outputs["6"]["images"][0])))
    assert picture.width > 700 and picture.height > 500


def test_cancel(server):
    """Cancel in the middle ends it, and the next run is whole."""
    hits = []

    def cancel(kind, data):
        if kind == "progress" and data.get("node") == "5" and data["value"] >= 70 and not hits:
            hits.append(server.tools.post_json(server.url + "/interrupt", {}))

    assert server.tools.run_workflow(server.url, curve(2), cancel, timeout=120, check=False).status == "interrupted" and hits
    assert server.tools.run_workflow(server.url, curve(2), timeout=120).outputs["7"]["text"]


def test_comparison_with_sigmas(server):
    """A schedule and a sampler of nodes are one more row, of as many steps as the schedule has."""
    steps = {"schedule": "ays_sd15", "steps": 7, "denoise": 1.0, "sigma_max": 0.0, "sigma_min": 0.0, "manual_sigmas": "", "model": ["1", 0]}
    widgets = {"cfg": 2.5, "seed": 3, "samplers": "euler + karras", "steps": "5", "reference_steps": 30}
    prompt = base(**{
        "5": node("DPMSolverSchedulerExt", **steps, final_sigma="zero"),
        "6": node("KSamplerSelect", sampler_name="dpmpp_2m"),
        "7": node("DPMSolverCompareExt", **widgets, sampler=["6", 0], sigmas=["5", 0], **WIRES),
    })  # fmt: skip
    lines = server.tools.run_workflow(server.url, prompt, timeout=120).outputs["7"]["text"][0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0][1:] == ["5 steps", "7 steps"] and [cell.split(", ")[1] for cell in cells[2][1:]] == ["5 calls", "7 calls"]
    assert cells[3][:2] == ["connected sampler + connected sigmas", ""] and ", 7 calls, " in cells[3][2]
