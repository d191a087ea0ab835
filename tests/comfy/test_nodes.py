"""The two nodes, executed as the host executes them, in the real sampling stack."""

import itertools

import pytest
import torch

PAIRS = {
    "auto": "dpm_auto_ext", "logSNR": "dpm_logsnr_ext", "time_uniform": "dpm_time_uniform_ext", "time_quadratic": "dpm_time_quadratic_ext",
}  # fmt: skip
PURE = {
    "preset": "custom", "algorithm": "dpmsolver++", "order": 2, "method": "multistep", "solver_type": "dpmsolver", "start": "official",
    "final_rule": "none",
}  # fmt: skip


@pytest.mark.parametrize("kind", ["eps", "sd3"])
def test_presets_are_the_dropdown_entries(analytic, build_node, every, kind):
    """One meaning per name: the node's preset and the dropdown entry give the same bits."""
    name, preset = every, {"dpm_auto_ext": "auto"}.get(every, every.removesuffix("_ext"))
    patcher = analytic.build(kind, analytic.MIXTURE)
    sigmas, noise = analytic.schedule(patcher, "normal", 11), analytic.noise_for(analytic.latent_shape(patcher))
    from_node = analytic.sample(patcher, build_node("DPMSolverSamplerExt", preset=preset), sigmas, noise)
    assert torch.equal(from_node, analytic.sample(patcher, name, sigmas, noise))


def test_default_is_auto(analytic, build_node):
    """A node dropped on the canvas and left alone is the measured default."""
    patcher = analytic.build("eps")
    sigmas, noise = analytic.schedule(patcher, "simple", 9), analytic.noise_for(analytic.latent_shape(patcher))
    assert torch.equal(
        analytic.sample(patcher, build_node("DPMSolverSamplerExt"), sigmas, noise), analytic.sample(patcher, "dpm_auto_ext", sigmas, noise)
    )


def test_widgets_act_only_in_custom(analytic, build_node):
    """A preset is what its name says whatever the greyed widgets hold."""
    patcher = analytic.build("eps", analytic.MIXTURE)
    sigmas, noise = analytic.schedule(patcher, "simple", 9), analytic.noise_for(analytic.latent_shape(patcher))
    others = {**PURE, "algorithm": "dpmsolver", "order": 1, "solver_type": "taylor"}
    entry, preset, custom = (
        analytic.sample(patcher, how, sigmas, noise)
        for how in (
            "dpmpp_2m_ext",
            build_node("DPMSolverSamplerExt", **{**others, "preset": "dpmpp_2m"}),
            build_node("DPMSolverSamplerExt", **others),
        )
    )
    assert torch.equal(preset, entry) and not torch.allclose(custom, entry, atol=1e-3)


OPTIONS = {
    "algorithm": ("dpmsolver++", "dpmsolver", "dpmsolver-v"), "order": (1, 2, 3),
    "method": ("multistep", "singlestep", "singlestep_fixed"), "solver_type": ("dpmsolver", "taylor"), "start": ("corrected", "official"),
    "final_rule": ("smooth", "none"),  # official is none from 10 steps on
}  # fmt: skip


# start and final_rule are for multistep
COMBINATIONS = [v for v in itertools.product(*OPTIONS.values()) if v[2] == "multistep" or v[4:] == ("corrected", "smooth")]


@pytest.mark.parametrize("values", COMBINATIONS, ids=lambda v: "-".join(map(str, v)))
def test_every_combination(analytic, build_node, values):
    """No widget for what does not work: each of the combinations runs on a VE and a flow model and comes near the exact end."""
    chosen = dict(zip(OPTIONS, values, strict=True))
    how = build_node("DPMSolverSamplerExt", preset="custom", **chosen)
    for kind, schedule in (("eps", "karras"), ("sd3", "sgm_uniform")):
        patcher = analytic.build(kind)
        sigmas, noise = analytic.schedule(patcher, schedule, 18), analytic.noise_for(analytic.latent_shape(patcher))
        out = analytic.sample(patcher, how, sigmas, noise)
        calls = len(analytic.network(patcher).calls)
        assert 18 <= calls <= 18 * chosen["order"] if chosen["method"] == "singlestep_fixed" else calls == 18
        rough = chosen["order"] == 1 or chosen["algorithm"] == "dpmsolver"
        assert analytic.error(patcher, out, sigmas, noise) < (0.15 if rough else 0.06), kind


@pytest.mark.parametrize("schedule", ["simple", "karras", "sgm_uniform"])
def test_the_pure_form_is_the_builtin(analytic, build_node, schedule):
    """DPM-Solver++(2M) without any rule of ours, as published, equals the built-in on VE models: parity is an option to choose."""
    pure = build_node("DPMSolverSamplerExt", **PURE)
    patcher = analytic.build("eps", analytic.MIXTURE)
    sigmas, noise = analytic.schedule(patcher, schedule, 20), analytic.noise_for(analytic.latent_shape(patcher))
    mine, peer = (patcher.model.process_latent_in(analytic.sample(patcher, s, sigmas, noise)) for s in (pure, "dpmpp_2m"))
    assert (mine - peer).abs().max() <= 1e-5


def test_first_order_is_euler_in_disguise(analytic, build_node):
    """DPM-Solver++ 1 is DDIM: in λ the exact linear part, equal to the host's ddim (euler in sigma) on a VE model."""
    first = build_node("DPMSolverSamplerExt", **{**PURE, "order": 1})
    patcher = analytic.build("eps", analytic.MIXTURE)
    sigmas, noise = analytic.schedule(patcher, "karras", 12), analytic.noise_for(analytic.latent_shape(patcher))
    mine, peer = (patcher.model.process_latent_in(analytic.sample(patcher, s, sigmas, noise)) for s in (first, "euler"))
    assert (mine - peer).abs().max() <= 2e-5


@pytest.mark.parametrize("order", [0, 5, -1])
def test_order_out_of_range(analytic, build_node, order):
    """The API can be driven past the widget's limits by other packs: one sentence, no model call."""
    patcher = analytic.build("eps")
    noise = analytic.noise_for(analytic.latent_shape(patcher))
    with pytest.raises(ValueError, match=r"^[^\n]*order[^\n]*$"):
        how = build_node("DPMSolverSamplerExt", preset="custom", order=order)
        analytic.sample(patcher, how, analytic.schedule(patcher, "karras", 5), noise)
    assert not analytic.network(patcher).calls


@pytest.mark.parametrize("node_id, names", [
    ("DPMSolverSamplerExt", ["preset", "algorithm", "method", "solver_type", "start", "final_rule"]),
    ("DPMSolverSamplerAdvancedExt", [
        "algorithm", "method", "solver_type", "start", "final_rule", "corrector", "noise_rule", "thresholding",
    ]),
])  # fmt: skip
def test_unknown_choice(build_node, node_id, names):
    """The host does not check combo values of V3 nodes: the node does, in one sentence with the name and the value."""
    for name in names:
        more = {"preset": "custom"} if node_id == "DPMSolverSamplerExt" else {"corrector": "none", "eta": 0.5, "algorithm": "dpmsolver++"}
        if name == "noise_rule":
            more["method"] = "singlestep"
        with pytest.raises(ValueError, match=rf"^[^\n]*{name}[^\n]*$") as error:
            build_node(node_id, **more | {name: "from the future"})
        assert "from the future" in str(error.value)


@pytest.mark.parametrize("kind", ["eps", "v", "zsnr", "edm", "v_edm", "cosmos", "sd3", "aura", "flux", "schnell"])
@pytest.mark.parametrize("schedule", PAIRS)
def test_scheduler_node_is_the_dropdown_entry(analytic, build_node, schedule, kind):
    """The Scheduler node with a model and the dropdown entry give the same numbers, at denoise 1 and, as KSampler cuts it, at 0.5."""
    import comfy.samplers

    patcher = analytic.build(kind)
    for steps, denoise in ((1, 1.0), (8, 1.0), (20, 1.0), (20, 0.5)):
        node = build_node("DPMSolverSchedulerExt", schedule=schedule, steps=steps, denoise=denoise, model=patcher)
        entry = comfy.samplers.KSampler(patcher, steps, patcher.load_device, "euler", PAIRS[schedule], denoise).sigmas
        assert node.dtype == torch.float32 and torch.equal(node, entry.cpu()), (steps, denoise)


@pytest.mark.parametrize("kind", ["eps", "sd3"])
@pytest.mark.parametrize("schedule, peer", [("karras", "karras"), ("exponential", "exponential")])
def test_named_after_builtins(analytic, build_node, schedule, peer, kind):
    """karras and exponential are the host's own curves on VE models; on flow models too if they claim the name."""
    patcher = analytic.build(kind)
    mine = build_node("DPMSolverSchedulerExt", schedule=schedule, steps=15, model=patcher)
    assert mine.shape == (16,) and (mine.diff() < 0).all() and mine[-1] == 0
    if kind == "eps":
        assert torch.allclose(mine, analytic.schedule(patcher, peer, 15), rtol=1e-5)


@pytest.mark.parametrize("schedule", ["auto", "logSNR", "time_uniform", "time_quadratic", "karras", "exponential"])
def test_scheduler_without_a_model(analytic, build_node, schedule):
    """Without a model the node uses SD's table: the same numbers as with an SD model."""
    sd = analytic.build("eps")
    alone = build_node("DPMSolverSchedulerExt", schedule=schedule, steps=12)
    assert torch.allclose(alone, build_node("DPMSolverSchedulerExt", schedule=schedule, steps=12, model=sd), rtol=1e-5)


@pytest.mark.parametrize("schedule", ["auto", "logSNR", "karras", "exponential"])
def test_sigma_range_widgets(analytic, build_node, schedule):
    """sigma_max and sigma_min, when not 0, are the first and the last nonzero sigma; auto may end higher, where it measured best."""
    patcher = analytic.build("eps")
    sigmas = build_node("DPMSolverSchedulerExt", schedule=schedule, steps=10, sigma_max=7.0, sigma_min=0.1, model=patcher)
    assert sigmas.shape == (11,) and (sigmas.diff() < 0).all()
    assert float(sigmas[0]) == pytest.approx(7.0, rel=1e-5) and sigmas[-1] == 0
    assert float(sigmas[-2]) == pytest.approx(0.1, rel=1e-5) or (schedule == "auto" and float(sigmas[-2]) > 0.1)


@pytest.mark.parametrize("kind", ["eps", "zsnr", "edm", "sd3", "flux"])
@pytest.mark.parametrize("schedule", ["auto", "logSNR", "time_uniform", "time_quadratic", "karras", "exponential", "ays_sdxl", "oss_wan"])
def test_final_sigma(analytic, build_node, schedule, kind, models):
    """sigma_min in place of 0: as many steps, strictly falling, the last value the model's least noise level; also cut by denoise and with
    the widget sigma_min. zero is what it always was."""
    patcher = models(kind)
    low = float(patcher.get_model_object("model_sampling").sigma_min)
    for steps in (1, 2, 9):
        sigmas = build_node("DPMSolverSchedulerExt", schedule=schedule, steps=steps, model=patcher, final_sigma="sigma_min")
        assert sigmas.shape == (steps + 1,) and (sigmas.diff() < 0).all() and float(sigmas[-1]) == pytest.approx(low, rel=1e-5)
    part = build_node(
        "DPMSolverSchedulerExt", schedule=schedule, steps=5, denoise=0.5, sigma_min=2 * low, model=patcher, final_sigma="sigma_min"
    )
    assert part.shape == (6,) and float(part[-1]) == pytest.approx(2 * low, rel=1e-5)
    plain = build_node("DPMSolverSchedulerExt", schedule=schedule, steps=9, model=patcher)
    assert torch.equal(plain, build_node("DPMSolverSchedulerExt", schedule=schedule, steps=9, model=patcher, final_sigma="zero"))


def test_manual_sigmas(build_node):
    """A typed list is taken as it is."""
    sigmas = build_node("DPMSolverSchedulerExt", schedule="manual", manual_sigmas="14.6, 5, 2.5, 1, 0.3, 0")
    assert sigmas.tolist() == torch.tensor([14.6, 5, 2.5, 1, 0.3, 0]).tolist()


@pytest.mark.parametrize("inputs", [
    {"schedule": "manual", "manual_sigmas": "5, five, 0"}, {"schedule": "manual", "manual_sigmas": "5, 6, 0"},
    {"schedule": "manual", "manual_sigmas": "nan, 1, 0"}, {"schedule": "manual", "manual_sigmas": "1, -1"},
    {"schedule": "logSNR", "steps": 0}, {"schedule": "karras", "steps": -3},
    {"schedule": "karras", "sigma_max": 0.1, "sigma_min": 5.0}, {"schedule": "no such schedule"}, {"final_sigma": "no such end"},
], ids=str)  # fmt: skip
def test_bad_schedules(build_node, inputs):
    """One sentence for what cannot be a schedule."""
    with pytest.raises(ValueError) as error:
        build_node("DPMSolverSchedulerExt", **inputs)
    assert "\n" not in str(error.value) and 15 < len(str(error.value)) < 300


@pytest.mark.parametrize("denoise, length", [(0.0, 0), (0.01, 11), (0.3, 11), (1.0, 11)])
def test_denoise(analytic, build_node, denoise, length):
    """As BasicScheduler: 0 is an empty schedule (SamplerCustom then returns the latent), anything else has steps + 1 values."""
    sigmas = build_node("DPMSolverSchedulerExt", schedule="logSNR", steps=10, denoise=denoise, model=analytic.build("eps"))
    assert sigmas.shape == (length,)


ALL_KINDS = ("eps", "v", "zsnr", "edm", "v_edm", "cascade", "cosmos", "sd3", "aura", "flux", "flux_half", "schnell", "wan")


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_schedule_entries(analytic, our_schedule, kind, models):
    """Every entry, every kind of model, from 1 step to a few silly numbers: steps + 1 float32 values on the CPU, strictly falling, 0 last,
    and first the model's sigma_max, so that the host scales the noise as for a full run."""
    patcher = models(kind)
    low, top = (float(getattr(patcher.get_model_object("model_sampling"), key)) for key in ("sigma_min", "sigma_max"))
    for steps in (*range(1, 14), 20, 25, 30, 50, 100, 1000):
        sigmas = analytic.schedule(patcher, our_schedule, steps)
        assert sigmas.shape == (steps + 1,) and sigmas.dtype == torch.float32 and sigmas.device.type == "cpu", steps
        assert torch.isfinite(sigmas).all() and (sigmas.diff() < 0).all() and sigmas[-1] == 0, steps
        assert float(sigmas[0]) == pytest.approx(top, rel=1e-5), steps
        assert float(sigmas[-2]) > 0.2 * low, (steps, "a last step from next to nothing is a wasted model call")


@pytest.fixture(scope="module")
def models(host):
    """models(kind): one patcher per kind; cascade's table takes seconds to build."""
    built = {}
    return lambda kind: built.setdefault(kind, host.analytic.build(kind))
