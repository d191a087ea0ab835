"""A calibration in a real ComfyUI server over HTTP and websocket: the demo's trained model, Cancel in the middle, and pictures from it."""

import io

import pytest
from PIL import Image

CALIBRATE, SAMPLER, SCHEDULER, LOAD, INFO = (
    "DPMSolverCalibrateExt", "DPMSolverSamplerExt", "DPMSolverSchedulerExt", "DPMSolverLoadEMSExt", "DPMSolverEMSInfoExt",
)  # fmt: skip
COST = 6 * 20 * 2  # samples, nodes, one probe
pytestmark = pytest.mark.slow


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def base(cfg=2.5, subgroup="food-fruit"):
    """The demo's model 1, prompts 2 and 3, latent 4, and the calibration 5 of `COST` sample-evaluations."""
    wires = {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]}
    return {
        "1": node("EmojiDemoModel"),
        "2": node("EmojiDemoPrompt", subgroup=subgroup),
        "3": node("EmojiDemoPrompt", subgroup="(anything)"),
        "4": node("EmojiDemoLatent", width=32, height=32, batch_size=2),
        "5": node(
            CALIBRATE, cfg=cfg, samples=6, nodes=20, probes=1, shape="radial", calibration_seed=0, file_name="emoji test", **wires
        ),
    }  # fmt: skip


def painting(ems, cfg=2.5, **more):
    """Nodes that paint with preset dpm_solver_v3 and the statistics `ems`, and show plot and summary; `more` are others."""
    wires = {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]}
    widgets = {"algorithm": "dpmsolver++", "order": 2, "method": "multistep", "solver_type": "dpmsolver"}
    return {
        **base(cfg), **more,
        "6": node(SAMPLER, preset="dpm_solver_v3", ems=ems, start="corrected", final_rule="smooth", **widgets),
        "7": node(
            SCHEDULER, schedule="auto", steps=6, denoise=1.0, sigma_max=0.0, sigma_min=0.0, manual_sigmas="10, 0", model=["1", 0]
        ),
        "8": node("SamplerCustom", add_noise=True, noise_seed=7, cfg=cfg, sampler=["6", 0], sigmas=["7", 0], **wires),
        "9": node("EmojiDemoDecode", samples=["8", 0], scale=1),
        "10": node("PreviewImage", images=["9", 0]),
        "11": node(INFO, ems=ems),
        "12": node("PreviewImage", images=["11", 0]),
        "13": node("PreviewAny", source=["11", 1]),
    }  # fmt: skip


def bar(run, of="5"):
    return [(data["value"], data["max"]) for kind, data in run.events if kind == "progress" and data["node"] == of]


def texts(run):
    """What the node showed while it ran: (node, text)."""
    found = []
    for kind, data in run.events:
        if kind == "preview" and data[:3] != b"\xff\xd8\xff":  # run_workflow cut off 8 bytes: the event, and the length of the node's id
            found.append((data[:1].decode(), data[1:].decode()))
    return found


def files(server):
    return sorted(p.name for p in (server.base / "models" / "dpm_ems").iterdir())


@pytest.fixture(scope="module")
def calibrated(server):
    """(name of the file, the run that was cut off, the run that finished it)"""
    hits = []

    def cancel(kind, data):
        if kind == "progress" and data.get("node") == "5" and data["value"] >= 100 and not hits:
            hits.append(server.tools.post_json(server.url + "/interrupt", {}))

    cut = server.tools.run_workflow(server.url, base(), cancel, timeout=120, check=False)
    assert hits and cut.status == "interrupted" and [n for n in files(server) if not n.endswith(".part")] == []
    rest = server.tools.run_workflow(server.url, base(), timeout=120)
    (name,) = files(server)
    return name, cut, rest


def test_cancelled_and_resumed(calibrated):
    """The bar moves in sample-evaluations; Cancel stops at once and keeps what is done; the second run counts on to the end."""
    name, cut, rest = calibrated
    assert name.startswith("emoji test-") and name.endswith(".safetensors")
    values = [v for v, _ in bar(cut)]
    assert {total for _, total in bar(cut)} == {COST} and values == sorted(values) and 100 <= values[-1] <= 124
    again = [v for v, _ in bar(rest)]
    assert values[-1] - 12 <= again[0] <= values[-1] + 6 and again == sorted(again) and again[-1] == COST
    assert rest.outputs["5"]["text"][0].endswith(f"6 samples in {name}")


def test_time_left(server, calibrated):
    """The node says how far it is and how long it will take."""
    said = texts(calibrated[2])
    assert said and all(of == "5" and f"of {COST} sample-evaluations, " in text and text.endswith(" left") for of, text in said)
    assert said[-1][1].startswith(f"{COST} of") and said[-1][1].endswith("0:00 left")


def test_cost_in_the_log(server, calibrated):
    """Before the first model call the log says what it costs, and at the second start how much of it is done."""
    lines = [line for line in server.log_text().splitlines() if "calibration of BaseModel/EmojiEps" in line]
    assert f"6 samples, 20 noise levels, 1 probe each: {COST} sample-evaluations, 0 of them done before" in lines[0]
    assert f"{COST} sample-evaluations, " in lines[1] and ", 0 of them" not in lines[1]


def test_painting(server, calibrated):
    """Calibration, now for nothing (fewer samples, so that the host does not just take what it remembers), picture, plot and text in one
    workflow, as in the template."""
    prompt = painting(["5", 0])
    prompt["5"]["inputs"]["samples"] = 5
    run = server.tools.run_workflow(server.url, prompt, timeout=120)
    assert bar(run) == [] and [v for v, _ in bar(run, "8")] == list(range(1, 7))
    assert run.outputs["5"]["text"] == [f"0 sample-evaluations, 6 samples in {calibrated[0]}"]
    assert len(run.outputs["10"]["images"]) == 2 and len(run.outputs["12"]["images"]) == 1
    assert server.tools.fetch_image(server.url, run.outputs["12"]["images"][0])[:4] == b"\x89PNG"
    assert "guidance: 2.5" in run.outputs["13"]["text"][0] and calibrated[0] in run.outputs["13"]["text"][0]


def test_loading(server, calibrated):
    """The file is in the node's list; loaded, it paints the very pictures; with another CFG the log names both, once."""
    info = server.tools.object_info(server.url, LOAD)["input"]["required"]["file"]
    assert info[1]["options"] == [calibrated[0]]
    ends = []
    for ems, more in ((["5", 0], {}), (["14", 0], {"14": node(LOAD, file=calibrated[0])})):
        run = server.tools.run_workflow(server.url, painting(ems, **more), timeout=120)
        pictures = [server.tools.fetch_image(server.url, i) for i in run.outputs["10"]["images"]]
        ends.append([Image.open(io.BytesIO(p)).tobytes() for p in pictures])
    assert ends[0] == ends[1] and "were made for" not in server.log_text()
    for _ in range(2):
        prompt = painting(["14", 0], cfg=5.0, **{"14": node(LOAD, file=calibrated[0])})
        del prompt["5"]
        server.tools.run_workflow(server.url, prompt, timeout=120)
    lines = [line for line in server.log_text().splitlines() if "were made for" in line]
    assert len(lines) == 1 and "guidance 2.5" in lines[0] and "guidance 5" in lines[0]


@pytest.mark.parametrize("name", ["../../secret.safetensors", "/etc/passwd", "gone.safetensors"])
def test_names_that_lead_out(server, name):
    """A workflow from elsewhere may name any file: the user reads one sentence at that node."""
    prompt = painting(["14", 0], **{"14": node(LOAD, file=name)})
    run = server.tools.run_workflow(server.url, prompt, timeout=60, check=False)
    data = next((data for kind, data in run.events if kind == "execution_error"), None)
    assert data and data["node_id"] == "14" and data["exception_type"] == "ValueError" and "\n" not in data["exception_message"].strip()
