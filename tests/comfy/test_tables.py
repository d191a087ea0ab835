"""The Scheduler node's published tables: beside ComfyUI's own nodes for them, on every kind of model, and what is said."""

import importlib
import logging

import pytest
import torch

VE_TABLES, FLOW_TABLES = ("ays_sd15", "ays_sdxl", "ays_svd", "gits_sd15"), ("oss_flux", "oss_wan", "oss_chroma")
PEERS = {  # ComfyUI's file and node, its inputs, the step counts that were published
    "ays_sd15": ("nodes_align_your_steps", "AlignYourStepsScheduler", {"model_type": "SD1"}, (10,)),
    "ays_sdxl": ("nodes_align_your_steps", "AlignYourStepsScheduler", {"model_type": "SDXL"}, (10,)),
    "ays_svd": ("nodes_align_your_steps", "AlignYourStepsScheduler", {"model_type": "SVD"}, (10,)),
    "gits_sd15": ("nodes_gits", "GITSScheduler", {"coeff": 1.2}, range(2, 21)),
    "oss_flux": ("nodes_optimalsteps", "OptimalStepsScheduler", {"model_type": "FLUX"}, (10,)),
    "oss_wan": ("nodes_optimalsteps", "OptimalStepsScheduler", {"model_type": "Wan"}, (20,)),
    "oss_chroma": ("nodes_optimalsteps", "OptimalStepsScheduler", {"model_type": "Chroma"}, (40,)),
}
HOME = {"ays_sd15": "eps", "ays_sdxl": "eps", "gits_sd15": "eps", "oss_flux": "flux", "oss_wan": "wan", "oss_chroma": "flux"}


@pytest.fixture
def peer(host):
    """peer(name, steps): the sigmas of ComfyUI's own node for that table."""

    def run(name, steps):
        file, node, inputs, _ = PEERS[name]
        return getattr(importlib.import_module(f"comfy_extras.{file}"), node).execute(**inputs, steps=steps, denoise=1.0).args[0]

    return run


@pytest.fixture
def said(pack, caplog, monkeypatch):
    """said(): the warnings of this test, of which nothing was told before."""
    monkeypatch.setattr(importlib.import_module(f"{pack.module.__name__}.solvers.hosting"), "_told", set())
    caplog.set_level(logging.WARNING, logger="dpm_solver_ext")
    return lambda: [r.getMessage() for r in caplog.records if r.name == "dpm_solver_ext" and r.levelno == logging.WARNING]


@pytest.mark.parametrize("name", PEERS)
def test_the_host_has_the_same_numbers(build_node, peer, name):
    """Without a model, at every published count: ComfyUI's own values to rounding (Chroma's have three digits there)."""
    for steps in PEERS[name][3]:
        mine, theirs = build_node("DPMSolverSchedulerExt", schedule=name, steps=steps), peer(name, steps)
        assert torch.allclose(mine, theirs, rtol=5e-5, atol=5.1e-4 if name == "oss_chroma" else 0), (steps, mine, theirs)


@pytest.mark.parametrize("name", VE_TABLES[:2])
@pytest.mark.parametrize("steps", [5, 7, 8, 15, 20, 33])
def test_the_host_interpolates_the_same(build_node, peer, name, steps):
    """Align Your Steps at other counts: log-linear over the steps, as ComfyUI does it too."""
    assert torch.allclose(build_node("DPMSolverSchedulerExt", schedule=name, steps=steps), peer(name, steps), rtol=1e-5)


@pytest.mark.parametrize("name", HOME)
def test_its_model_gets_its_table(analytic, build_node, peer, said, name):
    """With the model that it was made for: the same numbers but for the first, which is the model's largest, and no warning."""
    patcher = analytic.build(HOME[name])
    steps = max(PEERS[name][3])
    node = build_node("DPMSolverSchedulerExt", schedule=name, steps=steps, model=patcher)
    top = float(patcher.get_model_object("model_sampling").sigma_max)
    assert torch.allclose(node[1:], peer(name, steps)[1:], rtol=5e-5, atol=5.1e-4 if name == "oss_chroma" else 0)
    assert float(node[0]) == pytest.approx(top, rel=1e-6) and said() == []


@pytest.mark.parametrize("kind", ["eps", "v", "zsnr", "edm", "v_edm", "cosmos", "sd3", "aura", "flux", "flux_half", "schnell", "wan"])
@pytest.mark.parametrize("name", PEERS)
def test_any_model_can_follow_it(analytic, build_node, said, name, kind):
    """On every kind of model: steps + 1 values from the model's largest strictly down to 0. A table for flow models on another, or the
    other way round, is told in one sentence that names it and says what to choose."""
    patcher = analytic.build(kind)
    sampling = patcher.get_model_object("model_sampling")
    low, top = float(sampling.sigma_min), float(sampling.sigma_max)
    for steps in (1, 2, 3, 5, 10, 13, 40, 100, 1000):
        sigmas = build_node("DPMSolverSchedulerExt", schedule=name, steps=steps, model=patcher)
        assert sigmas.shape == (steps + 1,) and (sigmas.diff() < 0).all() and sigmas[-1] == 0, steps
        assert float(sigmas[0]) == pytest.approx(top, rel=1e-5) and (steps == 1 or float(sigmas[-2]) > low * 0.99), steps
    flow = kind in ("sd3", "aura", "flux", "flux_half", "schnell", "wan")
    if flow is (name in FLOW_TABLES):
        assert said() == []
    else:
        (sentence,) = said()
        assert f"schedule {name} was made for" in sentence and "choose auto" in sentence and "\n" not in sentence


def test_widgets_act(analytic, build_node):
    """The range widgets cut the table, denoise takes the end of a longer one, and final_sigma ends where the table does."""
    patcher = analytic.build("eps")
    make = lambda **more: build_node("DPMSolverSchedulerExt", **{"schedule": "ays_sdxl", "steps": 10, "model": patcher, **more})  # noqa: E731
    plain = make()
    cut = make(sigma_max=float(plain[2]), sigma_min=float(plain[8]), steps=6)
    assert torch.allclose(cut, torch.cat([plain[2:8], plain[-1:]]), rtol=1e-5)
    assert torch.equal(make(steps=5, denoise=0.5), plain[5:])
    ended = make(final_sigma="sigma_min")
    assert torch.equal(ended[:-1], plain[:-1]) and float(ended[-1]) == pytest.approx(0.02917, 1e-3)
    assert make(denoise=0.0).shape == (0,)
    alone = build_node("DPMSolverSchedulerExt", schedule="ays_svd", steps=10, final_sigma="sigma_min")
    assert float(alone[0]) == 700 and float(alone[-1]) == pytest.approx(0.002)


def test_info_names_the_model_it_was_made_for(analytic, pack, said):
    """The info line says whose table it is, with and without a model."""
    node = pack.nodes["DPMSolverSchedulerExt"]
    _, text = node.execute("ays_svd", 10, 1.0, 0.0, 0.0, "").args
    alone = "over its own noise levels, because no model is connected"
    assert f"ays_svd, 10 steps, published for Stable Video Diffusion, {alone}: 700, 54.5" in text
    _, text = node.execute("oss_wan", 20, 1.0, 0.0, 0.0, "", analytic.build("wan")).args
    assert "oss_wan, 20 steps, published for Wan: 1, 0.997" in text and "connect" not in text and said() == []


@pytest.mark.parametrize("name", FLOW_TABLES)
def test_a_flow_table_that_is_in_doubt(analytic, pack, said, name):
    """Levels of a flow model without a model, or with a model of another kind: one sentence in the log and in the info."""
    node = pack.nodes["DPMSolverSchedulerExt"]
    for model, words in ((None, "connect the model"), (analytic.build("eps"), "choose auto"), (analytic.build("flux"), "")):
        _, text = node.execute(name, 10, 1.0, 0.0, 0.0, "", model).args
        assert "\n" not in text and bool(words) == ("; schedule " in text) and words in text
        sentences = [s for s in said() if words and words in s]
        assert len(sentences) == bool(words) and (not words or sentences[0].endswith(text.partition("; ")[2]))


def test_a_sigma_min_that_changes_nothing(analytic, build_node, said):
    """A table has its own last steps: a sigma_min below them is told, and one that cuts it or is the end of the run is not."""
    patcher = analytic.build("eps")
    make = lambda **more: build_node("DPMSolverSchedulerExt", **{"schedule": "ays_sdxl", "steps": 10, **more})  # noqa: E731
    for model in ({"model": patcher}, {}):
        before = len(said())
        assert torch.equal(make(sigma_min=0.05, **model), make(**model)) and len(said()) == before + (before == 0)
        assert "sigma_min is 0.05, which changes nothing here" in said()[-1] and "set it to 0" in said()[-1]
        for acts in ({"sigma_min": 0.5}, {"sigma_min": 0.05, "final_sigma": "sigma_min"}, {"schedule": "karras", "sigma_min": 0.05}):
            assert not torch.equal(make(**acts, **model), make(**{**acts, "sigma_min": 0.0}, **model))
        assert len(said()) == 1


def test_a_run_along_a_table_ends_right(analytic, build_node):
    """The real sampling stack along a table ends where the exact solution does."""
    for name, kind in (("ays_sd15", "eps"), ("gits_sd15", "eps"), ("oss_chroma", "flux")):
        patcher = analytic.build(kind)
        sigmas = build_node("DPMSolverSchedulerExt", schedule=name, steps=20, model=patcher)
        noise = analytic.noise_for(analytic.latent_shape(patcher))
        assert analytic.error(patcher, analytic.sample(patcher, "dpmpp_2m_ext", sigmas, noise), sigmas, noise) < 0.05
