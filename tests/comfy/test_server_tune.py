"""A tuning in a real ComfyUI server over HTTP and websocket: the demo's trained model, Cancel in the middle, and pictures from it."""

import io

import pytest
from PIL import Image

TUNE, LOAD = "DPMSolverTuneScheduleExt", "DPMSolverLoadTunedExt"
BUDGET = 700
pytestmark = pytest.mark.slow


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def base(budget=BUDGET, cfg=2.5):
    """The demo's model 1, prompts 2, 3 and 7, latent 4, a sampler 6, and the tuning 5 of at most `budget` model calls."""
    wires = {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0], "sampler": ["6", 0]}
    return {
        "1": node("EmojiDemoModel"),
        "2": node("EmojiDemoPrompt", subgroup="food-fruit"),
        "3": node("EmojiDemoPrompt", subgroup="(anything)"),
        "4": node("EmojiDemoLatent", width=32, height=32, batch_size=2),
        "6": node("KSamplerSelect", sampler_name="dpmpp_2m"),
        "7": node("EmojiDemoPrompt", subgroup="animal-bird"),
        "5": node(
            TUNE, cfg=cfg, steps=5, tune="schedule and gains", seeds=6, budget=budget, tune_seed=0, file_name="emoji test",
            positive_2=["7", 0], **wires,
        ),
    }  # fmt: skip


def painting(source, sampler, cfg=2.5, **more):
    """Nodes that paint with the tuned steps of `source` and the SAMPLER `sampler`; `more` are others."""
    wires = {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]}
    return {
        **base(cfg=cfg), **more,
        "8": node("SamplerCustom", add_noise=True, noise_seed=70, cfg=cfg, sampler=sampler, sigmas=[source, 0], **wires),
        "9": node("EmojiDemoDecode", samples=["8", 0], scale=1),
        "10": node("PreviewImage", images=["9", 0]),
        "13": node("PreviewAny", source=[source, 2]),
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
    return sorted(p.name for p in (server.base / "models" / "dpm_tuned").iterdir())


def pictures(server, prompt):
    """(the pictures of node 10, the run)"""
    run = server.tools.run_workflow(server.url, prompt, timeout=120)
    return [Image.open(io.BytesIO(server.tools.fetch_image(server.url, i))).tobytes() for i in run.outputs["10"]["images"]], run


def cancelled(server, at):
    """A run of the tuning on which Cancel is clicked when its bar stands at `at`."""
    hits = []

    def cancel(kind, data):
        if kind == "progress" and data.get("node") == "5" and data["value"] >= at and not hits:
            hits.append(server.tools.post_json(server.url + "/interrupt", {}))

    run = server.tools.run_workflow(server.url, base(), cancel, timeout=120, check=False)
    assert hits and run.status == "interrupted"
    return run


@pytest.fixture(scope="module")
def cut(server):
    """The run that was cut off before the search."""
    run = cancelled(server, 350)
    assert [n for n in files(server) if not n.endswith(".part")] == []
    return run


@pytest.fixture(scope="module")
def stopped(server, cut):
    """(the run that was cut off in the search, its file, that file's content, pictures with it, what Load Tuned Steps says)"""
    run = cancelled(server, 600)
    (name,) = [n for n in files(server) if not n.endswith(".part")]
    prompt = painting("14", ["14", 1], **{"14": node(LOAD, file=name, steps=0, sampler=["6", 0])})
    del prompt["5"]
    shown, loaded = pictures(server, prompt)
    content = (server.base / "models" / "dpm_tuned" / name).read_bytes()
    return run, name, content, shown, loaded.outputs["13"]["text"][0]


@pytest.fixture(scope="module")
def tuned(server, cut, stopped):
    """(name of the file, the run that was cut off, the run that finished it)"""
    rest = server.tools.run_workflow(server.url, base(), timeout=120)
    (name,) = [n for n in files(server) if not n.endswith(".part")]
    return name, cut, rest


def test_cancelled_and_resumed(tuned, stopped):
    """The bar moves in model calls; Cancel stops at once and keeps what is done; the second run counts on to the end."""
    name, cut, rest = tuned
    assert name.startswith("emoji test-") and name.endswith(".json")
    values = [v for v, _ in bar(cut)]
    assert {total for _, total in bar(cut)} == {BUDGET} and values == sorted(values) and 350 <= values[-1] <= 400
    for before, after in ((cut, stopped[0]), (stopped[0], rest)):
        first, again = bar(before)[-1][0], [v for v, _ in bar(after)]
        assert first <= again[0] <= first + 6 and again == sorted(again)
    assert again[-1] == BUDGET and f"file: {name}" in rest.outputs["5"]["text"][0]


def test_cancelled_in_the_search(server, stopped, tuned):
    """Cancel in the search leaves the best so far as a file, which the log names; Load Tuned Steps paints with it and says that
    it was stopped early. When the tuning has come to its end, the same file is the outcome, so workflows that load it stay good."""
    run, name, content, shown, info = stopped
    assert name == tuned[0] and len(shown) == 2 and b'"search": "stopped early"' in content
    assert info.startswith("Stopped early: dpmpp_2m with ") and "on others it was not checked" in info
    assert bar(run)[-1][0] >= 600 and f"the best so far is {name}, for Load Tuned Steps (ext)" in server.log_text()
    assert b"stopped early" not in (server.base / "models" / "dpm_tuned" / name).read_bytes()
    assert "Stopped" not in tuned[2].outputs["5"]["text"][0]


def test_told(server, tuned):
    """The node says how far it is, and the log before the first model call what it costs at most, and at the second start what is done."""
    said = texts(tuned[2])
    assert said and all(of == "5" for of, _ in said) and said[-1][1].endswith("model calls, done")
    lines = [line for line in server.log_text().splitlines() if "tuning 5 steps of dpmpp_2m on BaseModel/EmojiEps" in line]
    assert f"at most {BUDGET} model calls of one picture, 0 of them done before" in lines[0] and ", 0 of them" not in lines[1]


def test_painting(server, tuned):
    """Tuning, now for nothing (another budget, so that the host does not just take what it remembers), and a picture with it."""
    prompt = painting("5", ["5", 1])
    prompt["5"]["inputs"]["budget"] = BUDGET - 1
    shown, run = pictures(server, prompt)
    assert bar(run) == [] and [v for v, _ in bar(run, "8")] == list(range(1, 6)) and len(shown) == 2
    assert ", 0 of them now" in run.outputs["5"]["text"][0] and "guidance: 2.5" in run.outputs["13"]["text"][0]


def test_loading(server, tuned):
    """The file is in the node's list; loaded, it paints the very pictures; with another CFG the log names both, once."""
    info = server.tools.object_info(server.url, LOAD)["input"]["required"]["file"]
    assert info[1]["options"] == [tuned[0]]
    load = {"14": node(LOAD, file=tuned[0], steps=0, sampler=["6", 0])}
    first, second = pictures(server, painting("5", ["5", 1]))[0], pictures(server, painting("14", ["14", 1], **load))[0]
    assert first == second and "were tuned for" not in server.log_text()
    for _ in range(2):
        prompt = painting("14", ["14", 1], cfg=5.0, **load)
        del prompt["5"]
        server.tools.run_workflow(server.url, prompt, timeout=120)
    lines = [line for line in server.log_text().splitlines() if "were tuned for" in line]
    assert len(lines) == 1 and "guidance 2.5" in lines[0] and "guidance 5" in lines[0]


@pytest.mark.parametrize("name", ["../../secret.json", "/etc/passwd", "gone.json"])
def test_names_that_lead_out(server, name):
    """A workflow from elsewhere may name any file: the user reads one sentence at that node."""
    prompt = painting("14", ["14", 1], **{"14": node(LOAD, file=name, steps=0)})
    del prompt["5"]
    run = server.tools.run_workflow(server.url, prompt, timeout=60, check=False)
    assert run.status != "success"


def test_a_sampler_without_a_schedule(server):
    """The user reads one sentence that names the input."""
    prompt = base()
    prompt["6"]["inputs"]["sampler_name"] = "dpm_adaptive"
    run = server.tools.run_workflow(server.url, prompt, timeout=60, check=False)
    assert run.status == "error" and "chooses its own steps" in str(run.error)
