"""The plot's question and answer, in the real host: the same runs as the nodes make, and nothing that a stranger may send does harm."""

import importlib
import json
from types import SimpleNamespace

import pytest

SAMPLER, SCHEDULER, ADVANCED = "DPMSolverSamplerExt", "DPMSolverSchedulerExt", "DPMSolverSamplerAdvancedExt"


def part(pack, name):
    return importlib.import_module(f"{pack.module.__name__}.nodes.{name}")


@pytest.fixture
def preview(pack):
    return part(pack, "plan_preview").preview


@pytest.mark.parametrize("schedule", ["auto", "logSNR", "karras", "time_uniform", "manual", "ays_sdxl"])
def test_the_sigmas_are_the_nodes(preview, build_node, schedule):
    """What is drawn is what the Scheduler node gives for the same widgets."""
    widgets = {"schedule": schedule, "steps": 9, "denoise": 0.6}
    sigmas = build_node(SCHEDULER, **widgets)
    calls = preview({"scheduler": {"node": SCHEDULER, **widgets}})["calls"]
    assert [c["sigma"] for c in calls] == pytest.approx(sigmas[:-1].tolist(), rel=1e-6)


def test_widgets_are_those_of_the_nodes(pack, preview):
    """Every widget of the nodes that are drawn is read, with the node's own default: one that is added later must be added here."""
    module = part(pack, "plan_preview")
    for node_id, known in ((SCHEDULER, module.SCHEDULER), *module.SAMPLERS.items()):
        spec = pack.nodes[node_id].INPUT_TYPES()
        inputs = {**spec.get("required", {}), **spec.get("optional", {})}
        own = {name: options[0].get("default") for name, (kind, *options) in inputs.items() if options and "default" in options[0]}
        assert {name: default for name, (default, _) in known.items()} == own
        for name, (_, values) in known.items():
            if isinstance(values, tuple):
                assert list(values) == list(inputs[name][1]["options"]), name


def test_every_preset(pack, preview):
    """All are drawn with the number of calls that they make."""
    presets = pack.nodes[SAMPLER].INPUT_TYPES()["required"]["preset"][1]["options"]
    counts = {p: preview({"sampler": {"node": SAMPLER, "preset": p}})["evaluations"] for p in presets}
    assert counts.pop("dpm_adaptive") is None and counts.pop("dpmpp_sde") == 23
    assert set(counts.values()) == {12}


@pytest.mark.parametrize("node_id", [SAMPLER, ADVANCED])
def test_widgets_act(preview, node_id):
    """What is drawn is the run of the widgets' values: their order, their method and their algorithm."""
    known = {"node": node_id, "algorithm": "dpmsolver", "order": 3} | (
        {"preset": "custom"} if node_id == SAMPLER else {"corrector": "none"}
    )
    found = preview({"sampler": known})
    assert found["top"] == 3 and found["options"]["algorithm"] == "dpmsolver" and found["evaluations"] == 12
    single = preview({"sampler": known | {"method": "singlestep_fixed"}, "scheduler": {"steps": 4}})
    assert single["evaluations"] == 10, "three calls a step, one in the last"


def test_sampler_of_the_host(preview):
    """Of a sampler that is not ours the levels are known, the orders are not; ours are known by their name in the list."""
    calls = preview({"sampler": {"node": "KSamplerSelect", "sampler_name": "euler"}})["calls"]
    assert len(calls) == 12 and {c["order"] for c in calls} == {None}
    found = preview({"sampler": {"node": "KSamplerSelect", "sampler_name": "dpmpp_3m_ext"}})
    assert found["top"] == 3
    assert preview({"sampler": {"node": "KSamplerSelect"}})["calls"] == calls, "euler is its default"


def test_schedule_of_the_host(preview, analytic):
    """BasicScheduler's levels, of Stable Diffusion's table as long as no model has run."""
    import comfy.model_sampling
    import comfy.samplers

    known = comfy.model_sampling.ModelSamplingDiscrete()
    wanted = comfy.samplers.calculate_sigmas(known, "karras", 20)[-11:-1].tolist()
    asked = {"node": "BasicScheduler", "scheduler": "karras", "steps": 10, "denoise": 0.5}
    found = preview({"scheduler": asked, "model": ""})
    assert [c["sigma"] for c in found["calls"]] == pytest.approx(wanted, rel=1e-6) and "Stable Diffusion" in found["source"]


def test_notes_of_a_preview_are_not_logged(preview, caplog):
    """Who turns a knob gets the sentence in the node, not in the log."""
    found = preview({"sampler": {"node": ADVANCED, "s_noise": 1.5}})
    assert any("s_noise is 1.5" in note for note in found["notes"]) and caplog.records == []


IMPOSSIBLE = {  # what a user can type
    "too many steps": {"scheduler": {"steps": 10_000}},
    "too many by denoise": {"scheduler": {"steps": 200, "denoise": 1e-9}},
    "many sigmas": {"scheduler": {"schedule": "manual", "manual_sigmas": " ".join(str(v) for v in range(999, 500, -1))}},
    "zero steps": {"scheduler": {"steps": 0}},
    "a path": {"scheduler": {"node": "DPMSolverLoadTunedExt", "file": "../../../etc/passwd", "steps": 0}},
    "rising": {"scheduler": {"schedule": "manual", "manual_sigmas": "3, 1, 2"}},
    "singlestep with eta": {"sampler": {"node": ADVANCED, "method": "adaptive", "eta": 1.0}},
    "division by zero": {"sampler": {"node": ADVANCED, "r1": 1e-300, "method": "singlestep_fixed", "order": 3}},
    "infinite noise": {"sampler": {"node": ADVANCED, "algorithm": "dpmsolver++", "corrector": "none", "s_noise": 1e308, "eta": 1.0}},
}
HOSTILE = {
    "no object": 7,
    "another key": {"file": "x"},
    "another node": {"sampler": {"node": "Evil"}},
    "a node that is a list": {"sampler": {"node": []}},
    "a node that is an object": {"sampler": {"node": {}}},
    "a scheduler that is a list": {"scheduler": {"node": []}},
    "another widget": {"scheduler": {"node": SCHEDULER, "path": "/etc"}},
    "a list": {"scheduler": {"steps": [1] * 1000}},
    "NaN": {"scheduler": {"sigma_max": float("nan")}},
    "infinity": {"scheduler": {"sigma_max": float("inf")}},
    "huge": {"scheduler": {"sigma_max": 10**400}},
    "true": {"scheduler": {"steps": True}},
    "a long text": {"scheduler": {"schedule": "manual", "manual_sigmas": "1 " * 5000}},
    "a long name": {"sampler": {"node": SAMPLER, "preset": "x" * 4000}},
    "a model": {"model": ["x"]},
}


@pytest.mark.parametrize("name", [*HOSTILE, *IMPOSSIBLE])
def test_hostile(preview, name):
    """One sentence, soon, of a length that fits a node."""
    with pytest.raises(ValueError) as error:
        preview((HOSTILE | IMPOSSIBLE)[name])
    said = str(error.value)
    assert said.endswith(".") and len(said) < 400 and "\n" not in said


@pytest.mark.parametrize("name", ["too many steps", "too many by denoise"])
def test_long_runs_are_refused_before_any_work(pack, preview, monkeypatch, name):
    """Not even the schedule is made: at a million steps that takes the server's time."""
    made = []
    monkeypatch.setattr(part(pack, "schedules"), "steps_of", lambda *widgets: made.append(widgets))
    with pytest.raises(ValueError, match="300 steps"):
        preview(IMPOSSIBLE[name])
    assert made == []


@pytest.mark.parametrize("name", [*HOSTILE, *IMPOSSIBLE])
def test_route(pack, name):
    """The route answers with that sentence: status 400 for what no page of ours asks, a body that is no JSON, too long, or of unknown
    length; 200 for what a user can type, since the browser's console is no place for it."""
    import asyncio

    page = part(pack, "page")

    def ask(body, length=...):
        async def read():
            return body

        request = SimpleNamespace(content_length=len(body) if length is ... else length, read=read)
        reply = asyncio.run(page.answer(request))
        return reply.status, json.loads(reply.body)

    status, said = ask(json.dumps((HOSTILE | IMPOSSIBLE)[name]).encode())
    assert status == (400 if name in HOSTILE else 200) and list(said) == ["error"]
    assert ask(b"{}")[0] == 200 and ask(b"{}", None)[0] == 400 and ask(b"{}", 10**6)[0] == 400 and ask(b"[" * 15_000)[0] == 400


@pytest.mark.parametrize("kind", ["eps", "flux"])
def test_a_run_is_announced(pack, analytic, build_node, monkeypatch, kind):
    """The browser that queued the run is told its plan, once, and a token with which it previews on this model's levels."""
    page = part(pack, "page")
    sent = []
    listening = SimpleNamespace(client_id="me", last_node_id="8", send_sync=lambda *message: sent.append(message))
    monkeypatch.setattr(page, "_server", lambda: listening)
    patcher = analytic.build(kind)
    sigmas, noise = build_node(SCHEDULER, steps=7, model=patcher), analytic.noise_for(analytic.latent_shape(patcher))
    analytic.sample(patcher, build_node(SAMPLER), sigmas, noise)
    assert sent == [], "nobody watches a run without a callback, such as one of thousands of a tuning"
    analytic.sample(patcher, build_node(SAMPLER), sigmas, noise, callback=lambda *step: None)
    ((event, message, client),) = sent
    assert event == page.EVENT and client == "me" and message["node"] == "8"
    plan = message["plan"]
    assert [c["sigma"] for c in plan["calls"]] == pytest.approx(sigmas[:-1].tolist(), rel=1e-6)
    again = part(pack, "plan_preview").preview({"scheduler": {"steps": 7}, "model": plan["model"]})
    assert [c["sigma"] for c in again["calls"]] == pytest.approx(sigmas[:-1].tolist(), rel=1e-5) and "Stable" not in again["source"]
    json.dumps(message, allow_nan=False)


def test_an_adaptive_run_is_announced(pack, analytic, build_node, monkeypatch):
    """After it ran: all of its model calls, rejected ones too."""
    page = part(pack, "page")
    sent = []
    monkeypatch.setattr(page, "_server", lambda: SimpleNamespace(client_id="me", last_node_id="8", send_sync=lambda *m: sent.append(m)))
    patcher = analytic.build("eps")
    noise = analytic.noise_for(analytic.latent_shape(patcher))
    analytic.sample(patcher, build_node(SAMPLER, preset="dpm_adaptive"), build_node(SCHEDULER), noise, callback=lambda *step: None)
    ((_, message, _),) = sent
    calls = [c["sigma"] for c in analytic.network(patcher).calls]
    assert [c["sigma"] for c in message["plan"]["calls"]] == pytest.approx(calls, rel=1e-6) and len(calls) > 15


@pytest.mark.parametrize("error", [RuntimeError, IndexError, ZeroDivisionError, AssertionError])
def test_a_plot_never_costs_a_picture(pack, analytic, build_node, monkeypatch, caplog, error):
    """A server that cannot be told anything, or a fault of our own on the way, is no reason to stop; the log has it for who looks."""
    page = part(pack, "page")

    def send(*message):
        raise error("closed")

    monkeypatch.setattr(page, "_server", lambda: SimpleNamespace(client_id="me", last_node_id="8", send_sync=send))
    caplog.set_level("DEBUG", logger="dpm_solver_ext")
    patcher = analytic.build("eps")
    noise = analytic.noise_for(analytic.latent_shape(patcher))
    analytic.sample(patcher, build_node(SAMPLER), build_node(SCHEDULER, steps=4), noise, callback=lambda *step: None)
    assert [(r.levelname, "closed" in r.getMessage()) for r in caplog.records if "was not told" in r.getMessage()] == [("DEBUG", True)]


def test_the_presets_route(pack):
    """All presets, with widgets that the nodes have and values that they take."""
    import asyncio

    page = part(pack, "page")
    rows = json.loads(asyncio.run(page.presets(None)).body)
    assert [row["id"] for row in rows][:3] == ["fast.sd", "quality.sd", "exact.sd"] and all(row["reason"] for row in rows)
    import nodes  # ComfyUI's

    for row in rows:
        for node_id, values in row["widgets"].items():
            spec = nodes.NODE_CLASS_MAPPINGS[node_id].INPUT_TYPES() if node_id in nodes.NODE_CLASS_MAPPINGS else None
            if spec is None:  # of ComfyUI's extras, which are not loaded here
                assert node_id in ("KSamplerSelect", "BasicScheduler")
                continue
            for name, value in values.items():
                kind, *options = (spec["required"] | spec.get("optional", {}))[name]
                allowed = kind if isinstance(kind, list) else (options[0] if options else {}).get("options")
                assert allowed is None or value in allowed, (node_id, name)


FAMILIES = {"eps": "sd", "v": "v", "edm": "edm", "flux": "flow", "sd3": "flow"}


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_families(pack, analytic, kind):
    """The family of a model that ran, as the presets name it."""
    assert part(pack, "plan_preview").family_of(analytic.build(kind).get_model_object("model_sampling")) == FAMILIES[kind]


@pytest.fixture
def listening(pack, monkeypatch):
    """What the browser is sent."""
    sent = []
    server = SimpleNamespace(client_id="me", last_node_id="8", send_sync=lambda *message: sent.append(message), sent=sent)
    monkeypatch.setattr(part(pack, "page"), "_server", lambda: server)
    return server


def test_a_file_for_another_use_is_said_at_the_node(pack, analytic, build_node, listening, caplog):
    """Each such run has the sentence in its plot; the log has it once, and a run that the file is for has none."""
    tuned, build = part(pack, "tuned_sampler"), analytic.build("eps")
    describe = part(pack, "ems_model").describe
    noise, sigmas = analytic.noise_for(analytic.latent_shape(build)), build_node(SCHEDULER, steps=4, model=build)
    import comfy.samplers

    for function, options in ((part(pack, "adapter").sample, {}), (comfy.samplers.ksampler("euler").sampler_function, {})):
        for cfg, other in (("1", False), ("7", True)):
            made = describe(build, None) | {"guidance": cfg}
            listening.sent.clear()
            given = {"sampler_function": function, "sampler_options": options, "made": made, "label": "a.safetensors"}
            analytic.sample(build, comfy.samplers.KSAMPLER(tuned.sample_tuned, given), sigmas, noise, cfg=1.0, callback=lambda *step: None)
            ((_, message, client),) = listening.sent
            notes = [note for note in message["plan"]["notes"] if "were tuned for guidance 7, but this run has guidance 1" in note]
            assert len(notes) == other and client == "me" and message["family"] == "sd", message["plan"]
    assert sum("were tuned for guidance 7" in r.getMessage() for r in caplog.records) <= 1


def test_a_tuning_shows_its_steps_now_and_then(pack, listening, monkeypatch):
    """One message in half a second and the last one at once, to the client that queued; nothing is worked out that is not sent."""
    page, asked = part(pack, "page"), []
    now = [100.0]
    monkeypatch.setattr(page.time, "monotonic", lambda: now[0])
    live = page.Live(importlib.import_module(f"{pack.module.__name__}.solvers.path").VE)

    def found(options):
        asked.append(options)
        return [8.0, 2.0, 0.5, 0.0], options, "mine", "best so far: error 2 → 1"

    for second in (0.0, 0.1, 0.49, 0.51, 0.9):
        now[0] = 100.0 + second
        live(lambda: found({"algorithm": "dpmsolver++", "order": 2}))
    live(lambda: None, final=True)
    live(lambda: found(None), final=True)
    assert len(asked) == 3 and [(event, client) for event, _, client in listening.sent] == [(page.EVENT, "me")] * 3
    first, _, last = (message for _, message, _ in listening.sent)
    assert first["live"] == "so far" and last["live"] == "tuned" and first["plan"]["source"] == "best so far: error 2 → 1"
    assert [c["sigma"] for c in first["plan"]["calls"]] == [8.0, 2.0, 0.5] and first["plan"]["top"] == 2 and last["plan"]["top"] is None
    listening.client_id = None
    live(lambda: found(None), final=True)
    assert len(asked) == 3, "nobody listens"
