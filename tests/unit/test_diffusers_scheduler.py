"""DPMSolverExtScheduler: diffusers' own results where both are right, our tapes step by step, and real pipelines with tiny networks."""

import copy
import json
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from dpm_solver_ext.solvers.choices import PRESETS
from dpm_solver_ext.solvers.execute import execute
from dpm_solver_ext.solvers.noise import brownian
from dpm_solver_ext.solvers.path import FLOW, VP
from dpm_solver_ext.solvers.presets import plan
from dpm_solver_ext.solvers.threshold import make_project

diffusers = pytest.importorskip("diffusers")
scheduler_module = pytest.importorskip("dpm_solver_ext.interop.diffusers_scheduler")
DPMSolverExtScheduler = scheduler_module.DPMSolverExtScheduler

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
FLOWING = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
OFFICIAL = {"start": "official", "final_rule": "none"}
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(__array__ implementation|algorithm_type|configuration file of this scheduler).*"
)  # diffusers' own


def network(kind, x, sigma, flow):
    """A smooth denoiser's output in any parametrisation."""
    x = x.double()
    path = FLOW if flow else VP
    a, s = path.alpha(sigma), path.sigma(sigma)
    x0 = 0.7 * torch.tanh(1.3 * a * x + 0.2) + 0.1 * torch.sin(2 * x)
    if kind == "sample":
        return x0
    if kind == "flow_prediction":
        return (x - x0) / s
    eps = (x - a * x0) / s
    return eps if kind == "epsilon" else a * eps - s * x0


def states(batch=2, dtype=torch.float32):
    return torch.randn(batch, 4, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def sample(scheduler, steps=None, x=None, edit=None, kept=None, noises=None, **how):
    """A pipeline's loop; `edit(i, x)` changes the latents between steps, `kept` collects them and copies, `noises` are the steps' noise."""
    scheduler.set_timesteps(steps, **how)
    x = states() if x is None else x
    flow = scheduler.config.prediction_type == "flow_prediction"
    for i, t in enumerate(scheduler.timesteps):
        out = network(scheduler.config.prediction_type, scheduler.scale_model_input(x, t), float(scheduler.sigmas[i]), flow).to(x.dtype)
        x = scheduler.step(out, t, x, **({} if noises is None else {"variance_noise": noises[i]})).prev_sample
        if kept is not None:
            kept.append((x, x.clone()))
        if edit is not None:
            x = edit(i, x)
    return x


def same(ours, theirs, atol=2e-5):
    """Equal to `atol` times the size of the states: the form "eps" ends at some tens on this network."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=atol * max(1.0, float(theirs.abs().max())))


# --- diffusers' own schedulers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 7, 20])
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"use_karras_sigmas": True},
        {"use_exponential_sigmas": True},
        {"use_lu_lambdas": True, "solver_type": "heun"},
        {"solver_order": 3, "prediction_type": "v_prediction"},
        {"solver_order": 1, "timestep_spacing": "leading", "steps_offset": 1},
        {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"},
        {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min", "solver_type": "heun"},
        {"final_sigmas_type": "sigma_min", "use_karras_sigmas": True},
        {"prediction_type": "sample", "thresholding": True, "sample_max_value": 1.5, "dynamic_thresholding_ratio": 0.7},
        {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
        FLOWING,
    ],
    ids=str,
)
def test_multistep_is_diffusers(config, steps):
    """From the config of a DPMSolverMultistepScheduler, with the official choices: its timesteps and its results, to 2e-5 in float32."""
    config = SD | config
    theirs = diffusers.DPMSolverMultistepScheduler(**config, lower_order_final=False)
    kind = {"solver_type": "official"} if config.get("solver_order") == 3 else {}
    ours = DPMSolverExtScheduler.from_config(theirs.config, **OFFICIAL, **kind)
    same(sample(ours, steps), sample(theirs, steps))
    n = len(ours.timesteps)  # one less where karras ends at sigma_min: diffusers' last step goes from there to there
    assert n == steps - (steps > 1 and config.get("final_sigmas_type") == "sigma_min" and "use_karras_sigmas" in config)
    assert torch.equal(ours.timesteps, theirs.timesteps[:n]) and ours.timesteps.dtype is theirs.timesteps.dtype


@pytest.mark.parametrize("solver_type", ["midpoint", "heun"])
@pytest.mark.parametrize("algorithm", ["sde-dpmsolver++", "sde-dpmsolver"])
def test_sde_is_diffusers(algorithm, solver_type):
    """The SDE forms of order 2 draw the same numbers from the same generator, and so give the same, to 3e-5; as with given noise."""
    config = SD | {"algorithm_type": algorithm, "solver_type": solver_type, "lower_order_final": False}
    config |= {"final_sigmas_type": "sigma_min"} if algorithm == "sde-dpmsolver" else {}
    theirs = diffusers.DPMSolverMultistepScheduler(**config)
    ours = DPMSolverExtScheduler.from_config(theirs.config, **OFFICIAL)
    ends = []
    for scheduler in (ours, theirs):
        torch.manual_seed(5)
        ends.append(sample(scheduler, 9))
    same(*ends, atol=3e-5)
    noises = [states(dtype=torch.float32) * (-1) ** i for i in range(9)]
    same(sample(ours, 9, noises=noises), sample(theirs, 9, noises=noises), atol=3e-5)


@pytest.mark.parametrize("steps", [5, 6, 9])
@pytest.mark.parametrize("solver_type", ["midpoint", "heun"])
@pytest.mark.parametrize("algorithm", ["dpmsolver++", "sde-dpmsolver++"])
def test_singlestep_is_diffusers(algorithm, solver_type, steps, monkeypatch):
    """Order 2 of DPMSolverSinglestepScheduler, of even and odd length, and its SDE form given the noise, to 2e-5.

    Its order 3 takes the inner stage by the midpoint rule, and with 10 steps the orders 3 3 3 1 where the papers have 3 3 2 1: not ours.
    """
    from diffusers.schedulers import scheduling_dpmsolver_singlestep as module

    config = SD | {"algorithm_type": algorithm, "solver_type": solver_type, "lower_order_final": True}
    theirs = diffusers.DPMSolverSinglestepScheduler(**config)
    ours = DPMSolverExtScheduler.from_config(theirs.config)
    assert ours.config.method == "singlestep"
    noises = [states() * (-1) ** i for i in range(steps)]
    supply = iter(noises)
    monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: next(supply))
    same(sample(ours, steps, noises=noises), sample(theirs, steps))


@pytest.mark.parametrize("steps", [4, 9])
@pytest.mark.parametrize(
    "config",
    [
        {"solver_order": 1},
        {"solver_order": 2},
        {"solver_order": 3},
        {"solver_order": 2, "solver_type": "bh1", "final_sigmas_type": "sigma_min"},  # diffusers' bh1 to sigma 0 is NaN
        {"solver_order": 3, "predict_x0": False, "final_sigmas_type": "sigma_min"},
        {"solver_order": 2, "use_karras_sigmas": True},
        FLOWING,
        FLOWING | {"shift_terminal": 0.1},
    ],
    ids=str,
)
def test_unipc_is_diffusers(config, steps):
    """From the config of a UniPCMultistepScheduler: predictor and corrector as there, to 2e-5."""
    theirs = diffusers.UniPCMultistepScheduler(**SD, **config)
    ours = DPMSolverExtScheduler.from_config(theirs.config, start="official", final_rule="official")
    assert ours.config.corrector == "unipc"
    same(sample(ours, steps), sample(theirs, steps))
    assert torch.equal(ours.timesteps, theirs.timesteps)


def test_dpmsolver_sde_is_diffusers():
    """DPMSolverSDEScheduler (dpmpp_sde), which runs in the variance-exploding scale, from its config, given the noise: to 3e-5."""
    theirs = diffusers.DPMSolverSDEScheduler(**SD, use_karras_sigmas=True)
    ours = DPMSolverExtScheduler.from_config(theirs.config)
    theirs.set_timesteps(6)
    levels = sorted(set(theirs.sigmas.tolist()), reverse=True)
    noises = [states() * (-1) ** i for i in range(20)]
    supply = iter(noises)
    theirs.noise_sampler = lambda *_: next(supply)
    big = math.hypot(1.0, levels[0])
    x = states() * big
    for t in theirs.timesteps:
        scaled = theirs.scale_model_input(x, t)
        index = theirs.step_index
        s = float(theirs.sigmas[index] if theirs.state_in_first_order else theirs.mid_point_sigma)
        x = theirs.step(network("epsilon", scaled, s, False).float(), t, x).prev_sample
    assert ours.config.method == "singlestep_fixed"
    same(sample(ours, sigmas=levels, noises=noises), x, atol=3e-5)
    assert len(ours.timesteps) == len(theirs.timesteps) == 11


@pytest.mark.parametrize("config", [{"shift": 3.0}, {"use_dynamic_shifting": True}, {"shift": 2.0, "shift_terminal": 0.05}], ids=str)
def test_flow_match_levels_are_diffusers(config):
    """From a FlowMatchEulerDiscreteScheduler: its levels for a number of steps and for the sigmas and mu that pipelines pass; order 1 is
    its Euler step, to 1e-6."""
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(**config)
    ours = DPMSolverExtScheduler.from_config(theirs.config, solver_order=1)
    for how in ({"num_inference_steps": 7}, {"sigmas": np.linspace(1, 1 / 6, 6).tolist()}):
        how |= {"mu": 0.8} if "use_dynamic_shifting" in config else {}
        for scheduler in (ours, theirs):
            scheduler.register_to_config(prediction_type="flow_prediction")
            scheduler.set_timesteps(**how)
        assert torch.equal(ours.sigmas, theirs.sigmas) and torch.equal(ours.timesteps, theirs.timesteps)
    steps = how.pop("sigmas")
    ends = []
    for scheduler in (ours, theirs):
        x = states()
        scheduler.set_timesteps(sigmas=steps, **how)
        for i, t in enumerate(scheduler.timesteps):
            x = scheduler.step(network("flow_prediction", x, float(scheduler.sigmas[i]), True).float(), t, x).prev_sample
        ends.append(x)
    same(*ends, atol=1e-6)


# --- the tapes, step by step ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        {"preset": "auto"},
        {"preset": "dpmpp_3m", "final_sigmas_type": "sigma_min"},
        {"algorithm_type": "dpmsolver", "solver_order": 3},
        {"solver_order": 4, "corrector": "unipc", "start": "extra", "final_rule": "none"},
        {"method": "singlestep", "solver_order": 3},
        {"method": "singlestep_fixed", "solver_order": 3, "r1": 0.4, "r2": 0.7},
        {"method": "singlestep_fixed", "noise_rule": "renoise", "eta": 0.5},
        {"algorithm_type": "sde-dpmsolver++", "s_noise": 0.9},
        {"preset": "auto", "prediction_type": "flow_prediction", "shift": 3.0},
    ],
    ids=str,
)
def test_steps_walk_the_tape(config):
    """A pipeline's loop equals `execute` of the same tape, to 1e-12 in float64: every method, stage and extra evaluation has its
    timestep, and the options of the config are those of `plan`."""
    scheduler = DPMSolverExtScheduler(**SD, **config, schedule="auto")
    kind = scheduler.config.prediction_type
    path = FLOW if kind == "flow_prediction" else VP
    noises = [states(dtype=torch.float64) * (-1) ** i for i in range(40)]
    x = states(dtype=torch.float64)
    scheduler.set_timesteps(8)
    levels = scheduler._levels
    options = {
        name: config[name] for name in ("method", "corrector", "start", "final_rule", "r1", "r2", "s_noise", "noise_rule") if name in config
    }
    options |= {"order": config.get("solver_order", 2), "algorithm": config.get("algorithm_type", "dpmsolver++").removeprefix("sde-")}
    options |= {"eta": config.get("eta", float("sde" in config.get("algorithm_type", "")))} | PRESETS.get(config.get("preset", ""), {})
    tape = plan(path, levels, **options)
    count = iter(range(1000))

    def denoise(y, s):
        denoise.calls = next(count)
        return network("sample", y, s, path is FLOW)

    want = execute(tape, denoise, x, noise=lambda a, b: noises[denoise.calls])
    for i, t in enumerate(scheduler.timesteps):
        s = scheduler._evals[i]
        x = scheduler.step(network(kind, x, s, path is FLOW), t, x, variance_noise=noises[i], return_dict=False)[0]
    assert len(scheduler.timesteps) == tape.evaluations
    same(x, want, atol=1e-12)


def test_schedules_of_ours():
    """`schedule` visits the levels of solvers.schedule; the timesteps say them exactly, between the model's own; sigma_min may end it."""
    from dpm_solver_ext.solvers import schedule

    table = DPMSolverExtScheduler(**SD)._table
    top, low = float(table[-1]), float(table[0])
    for name, levels in (
        ("karras", schedule.karras(8, top, low)),
        ("auto", schedule.auto(VP, 8, top, low, schedule.table_map(table.tolist()))),
        ("logSNR", schedule.log_snr(VP, 8, top, low)),
    ):
        scheduler = DPMSolverExtScheduler(**SD, schedule=name)
        scheduler.set_timesteps(8)
        np.testing.assert_allclose(scheduler.sigmas, levels, rtol=1e-6)
        assert len(scheduler.timesteps) == 8 and scheduler.timesteps.dtype is torch.float32
        back = np.exp(np.interp(scheduler.timesteps, np.arange(1000), np.log(table)))
        np.testing.assert_allclose(back, levels[:-1], rtol=2e-5)
    for name in scheduler_module.SCHEDULES:
        for config in (SD, SD | {"rescale_betas_zero_snr": True}, {"prediction_type": "flow_prediction", "shift": 3.0}):
            scheduler = DPMSolverExtScheduler(**config, schedule=name, final_sigmas_type="sigma_min")
            scheduler.set_timesteps(8)
            assert len(scheduler.timesteps) == 8 == scheduler.num_inference_steps
            assert float(scheduler.sigmas[-1]) == pytest.approx(0.002994 if "shift" in config else low, rel=1e-3)
            assert (scheduler.sigmas.diff() < 0).all()


def test_given_timesteps_and_sigmas():
    """`timesteps` are the model's own; `sigmas` are taken as they are, with or without the 0 at the end (diffusers' AYS lists)."""
    scheduler = DPMSolverExtScheduler(**SD)
    scheduler.set_timesteps(timesteps=[999, 700, 300, 50])
    assert scheduler.timesteps.tolist() == [999, 700, 300, 50] and scheduler.timesteps.dtype is torch.int64
    np.testing.assert_allclose(scheduler.sigmas[:-1], scheduler._table[[999, 700, 300, 50]], rtol=1e-6)
    for sigmas in ([14.0, 3.0, 1.0, 0.2], [14.0, 3.0, 1.0, 0.2, 0.0]):
        scheduler.set_timesteps(sigmas=sigmas)
        np.testing.assert_allclose(scheduler.sigmas, [14.0, 3.0, 1.0, 0.2, 0.0], rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_changed_latents_are_honoured(dtype):
    """Latents that a pipeline replaces or changes in place between steps (inpainting, callbacks) are the state from then on: equal to
    diffusers with the same edits. Tensors handed out before stay as they were."""
    shift = states() * 0.1

    def replaced(i, x):
        return x + shift.to(x.dtype) if i % 2 else x.clone()

    def in_place(i, x):
        return x.add_(shift.to(x.dtype)) if i % 2 else x

    config = SD | {"prediction_type": "v_prediction", "lower_order_final": False}
    for edit in (replaced, in_place):
        theirs = diffusers.DPMSolverMultistepScheduler(**config)
        kept = []
        ours = DPMSolverExtScheduler.from_config(theirs.config, **OFFICIAL)
        end = sample(ours, 8, states().to(dtype), edit, kept)
        want = sample(theirs, 8, states().to(dtype), edit)
        same(end.float(), want.float(), atol=2e-5 if dtype is torch.float32 else 2e-2)
        if edit is replaced:
            assert all(torch.equal(tensor, then) for tensor, then in kept)


def test_half_precision_keeps_its_state_in_float32():
    """With float16 latents the result is as near to the float32 run as float16 inputs to the network allow, nearer than with a state
    that is rounded each step, and the latents stay float16; under inference_mode as well."""
    ours = DPMSolverExtScheduler(**SD, prediction_type="v_prediction", schedule="auto")
    x = states().half()
    want = sample(ours, 30, x.float())
    got = sample(ours, 30, x)
    rounded = sample(ours, 30, x, edit=lambda i, y: y.clone())
    assert got.dtype is torch.float16
    rms = lambda a: float((a.float() - want).square().mean().sqrt())  # noqa: E731
    assert rms(got) < 1e-3 and rms(got) < rms(rounded) < 3e-3
    with torch.inference_mode():
        assert rms(sample(ours, 30, x)) < 3e-3


@pytest.mark.parametrize(
    "method, order, begins", [("multistep", 2, (1, 3, 7)), ("singlestep", 3, (1, 2, 3)), ("singlestep_fixed", 2, (2, 4))]
)
def test_image_to_image_begins_in_the_middle(method, order, begins):
    """A run from a begin index, or from a timestep without one, is the run along the levels that are left; add_noise meets its level."""
    scheduler = DPMSolverExtScheduler(**SD, method=method, solver_order=order, schedule="karras", prediction_type="sample")
    for begin in begins:
        for by_index in (True, False):
            scheduler.set_timesteps(8)
            assert scheduler.order == (order if method == "singlestep_fixed" else 1)
            timesteps, sigma = scheduler.timesteps[begin:], scheduler._evals[begin]
            if by_index:
                scheduler.set_begin_index(begin)
            image, noise = states(), states().flip(0)
            x = scheduler.add_noise(image, noise, timesteps[:1].repeat(2))
            torch.testing.assert_close(x, VP.alpha(sigma) * image + VP.sigma(sigma) * noise)
            rest = [s for s in scheduler._levels if s <= sigma]
            want = execute(plan(VP, rest, method=method, order=order), lambda y, s: network("sample", y, s, False).float(), x)
            for i, t in enumerate(timesteps):
                assert scheduler.step_index == (None if i == 0 else begin + i)
                x = scheduler.step(network("sample", x, scheduler._evals[begin + i], False).float(), t, x).prev_sample
            same(x, want, atol=1e-6)


def beginnings(n, **config):
    """What happens at each begin index of a run of n steps: None, or the error."""
    scheduler, found = DPMSolverExtScheduler(**SD, **config), []
    scheduler.set_timesteps(n)
    for index in range(len(scheduler.timesteps)):
        scheduler.set_timesteps(n)
        scheduler.set_begin_index(index)
        try:
            x = states()
            for t in scheduler.timesteps[index:]:
                x = scheduler.step(0.1 * x, t, x).prev_sample
            found.append(None)
        except ValueError as problem:
            found.append(str(problem))
    return found


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("n", [2, 7, 9])
def test_singlestep_begins_anywhere(n, order):
    """Pipelines count steps of scheduler.order 1 and may begin at any: the rest is grouped anew, with noise as without."""
    assert beginnings(n, method="singlestep", solver_order=order) == [None] * n
    if order == 2:
        for rule in ("sde", "ancestral"):
            assert beginnings(n, method="singlestep", eta=1.0, noise_rule=rule) == [None] * n


def test_no_begin_inside_a_step():
    """A begin at a stage that no step can begin at is one sentence with the mend of its cause, also where a stage of "renoise" and the
    next level are equal but for rounding (planning from there divides by zero)."""
    for config, words in (
        ({"method": "singlestep_fixed"}, "inside a step of method singlestep_fixed.*multiple of scheduler.order \\(2\\), or take"),
        ({"method": "singlestep_fixed", "algorithm_type": "sde-dpmsolver", "noise_rule": "renoise"}, "multiple of scheduler.order"),
        ({"method": "singlestep", "eta": 1.0, "noise_rule": "renoise"}, "noise_rule renoise; begin at the first.*noise_rule sde"),
        ({"start": "extra", "corrector": "unipc", "solver_order": 3}, "start extra, noise_rule sde; take start corrected"),
    ):
        for steps in (2, 8):
            found = beginnings(steps, **config)
            assert found[0] is None and (steps == 2 or None not in (found[1], found[3]))
            assert all(re.search(words, e) and e.endswith(".") for e in found if e), found


def test_a_copy_goes_on():
    """Pipelines deep-copy schedulers: before, during and after a run; the copy of a running one plans the rest anew."""
    scheduler = DPMSolverExtScheduler(**SD, prediction_type="sample", solver_order=1)
    want = sample(copy.deepcopy(scheduler), 6)
    scheduler.set_timesteps(6)
    x = states()
    for i, t in enumerate(scheduler.timesteps):
        if i == 3:
            twin, y = copy.deepcopy(scheduler), x.clone()
        if i >= 3:
            y = twin.step(network("sample", y, float(twin.sigmas[i]), False).float(), t, y).prev_sample
        x = scheduler.step(network("sample", x, float(scheduler.sigmas[i]), False).float(), t, x).prev_sample
    same(x, want, atol=0)
    same(y, want, atol=1e-6)
    copy.deepcopy(scheduler)


def test_noise_of_a_stage_is_part_of_its_step():
    """Singlestep SDE: the noise of a whole step holds the increment drawn for its stage; items draw from their own generators, so that
    item 0 is the batch-1 run."""
    scheduler = DPMSolverExtScheduler(**SD)
    x = torch.zeros(1, 40000)
    a, m, b = 5.0, 3.0, 1.0
    stage = scheduler._noise(x, torch.Generator().manual_seed(1), a, m)
    step = scheduler._noise(x, torch.Generator().manual_seed(2), a, b)
    other = scheduler._noise(x, torch.Generator().manual_seed(3), b, 0.5)
    assert abs(float((stage * step).mean()) - math.sqrt((a - m) / (a - b))) < 0.025
    assert abs(float((step**2).mean()) - 1) < 0.036 and abs(float((step * other).mean())) < 0.025
    ours = DPMSolverExtScheduler(**SD, algorithm_type="sde-dpmsolver++", method="singlestep_fixed", prediction_type="sample")
    ends = []
    for batch in (1, 3):
        generators = [torch.Generator().manual_seed(i) for i in range(batch)]
        ours.set_timesteps(4)
        x = states(3)[:batch]
        for i, t in enumerate(ours.timesteps):
            x = ours.step(network("sample", x, ours._evals[i], False).float(), t, x, generator=generators).prev_sample
        ends.append(x[:1])
    same(*ends, atol=0)


def test_one_generator_draws_the_whole_batch():
    """As diffusers' schedulers, on purpose: with one generator an item's noise after the first step depends on the batch's size."""
    for make in (DPMSolverExtScheduler, diffusers.DPMSolverMultistepScheduler):
        ends = []
        for batch in (1, 3):
            scheduler, generator = make(**SD, algorithm_type="sde-dpmsolver++", prediction_type="sample"), torch.Generator().manual_seed(0)
            scheduler.set_timesteps(4)
            x = states(3)[:batch]
            for t in scheduler.timesteps[:2]:
                x = scheduler.step(0.1 * x, t, x, generator=generator).prev_sample
            ends.append(x[0])
        assert not torch.allclose(*ends)


def test_brownian_noise_may_be_given():
    """`variance_noise` takes the library's Brownian noise; with thresholding the loop equals `execute` with both hooks."""
    config = {"algorithm_type": "sde-dpmsolver++", "thresholding": True, "dynamic_thresholding_ratio": 0.8, "sample_max_value": 2.0}
    scheduler = DPMSolverExtScheduler(**SD, **config, schedule="karras")
    scheduler.set_timesteps(6)
    levels = scheduler._levels
    x = states()
    noise = brownian(x, levels, 3)
    want = execute(
        plan(VP, levels, eta=1.0),
        lambda y, s: network("sample", y, s, False).float(),
        x,
        project=make_project(0.8, 1.0, 2.0),
        noise=noise,
    )
    for i, t in enumerate(scheduler.timesteps):
        given = noise(levels[i], levels[i + 1]) if levels[i + 1] else None
        out = scheduler.step(network("epsilon", x, levels[i], False).float(), t, x, variance_noise=given)
        x = out.prev_sample
    assert float(out.pred_original_sample.abs().max()) <= 1
    same(x, want)


# --- configs ----------------------------------------------------------------------------------------------------------------------


def test_saved_and_loaded(tmp_path):
    """A saved scheduler comes back with every option, and runs the same; the file is JSON."""
    config = SD | {"preset": "auto", "schedule": "auto", "prediction_type": "v_prediction", "eta": 0.0, "trained_betas": None}
    first = DPMSolverExtScheduler(**config)
    first.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "scheduler_config.json").read_text())["_class_name"] == "DPMSolverExtScheduler"
    second = DPMSolverExtScheduler.from_pretrained(tmp_path)
    third = DPMSolverExtScheduler.from_config(second.config)
    for other in (second, third):
        for name, value in first.config.items():
            assert name.startswith("_") or other.config[name] == value, name
        same(sample(other, 5), sample(first, 5), atol=0)


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize(
    "name, config, meaning",
    [
        ("DDIMScheduler", {}, {}),
        ("PNDMScheduler", {"skip_prk_steps": True, "steps_offset": 1}, {"steps_offset": 1}),
        ("EulerDiscreteScheduler", {"use_karras_sigmas": True}, {"use_karras_sigmas": True}),
        ("DPMSolverMultistepScheduler", {"solver_order": 3}, {"solver_order": 3, "method": "multistep", "corrector": "none"}),
        ("DPMSolverSinglestepScheduler", {}, {"method": "singlestep"}),
        ("DEISMultistepScheduler", {}, {"method": "multistep"}),
        ("UniPCMultistepScheduler", {"predict_x0": False}, {"corrector": "unipc", "algorithm_type": "dpmsolver"}),
        ("DPMSolverSDEScheduler", {}, {"method": "singlestep_fixed", "algorithm_type": "sde-dpmsolver++"}),
        ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}, {"prediction_type": "flow_prediction", "shift": 3.0}),
    ],
)
def test_from_the_config_of_any_scheduler(name, config, meaning, loaded, tmp_path, caplog):
    """What a config and its class mean is taken over, whether it was made or loaded from a file, without a warning; a run is finite; a
    keyword wins."""
    other = getattr(diffusers, name)(**config, **({} if "Flow" in name else SD))
    if loaded:
        other.save_pretrained(tmp_path)
        other = getattr(diffusers, name).from_pretrained(tmp_path)
    ours = DPMSolverExtScheduler.from_config(other.config)
    for key, value in ({} if "Flow" in name else SD | {"prediction_type": "epsilon"}).items():
        assert ours.config[key] == value
    for key, value in meaning.items():
        assert ours.config[key] == value
    assert torch.isfinite(sample(ours, 5)).all()
    assert DPMSolverExtScheduler.from_config(other.config, method="multistep", preset="auto").config.method == "multistep"
    assert not caplog.records


def test_add_noise_in_training():
    """Without a run, add_noise at any timestep is the model's own (DDPM's; on flow models the straight line)."""
    times = torch.tensor([0, 17, 500, 999])
    x, noise = states(4), states(4).flip(0)
    same(DPMSolverExtScheduler(**SD).add_noise(x, noise, times), diffusers.DDPMScheduler(**SD).add_noise(x, noise, times), atol=1e-5)
    flow = DPMSolverExtScheduler(prediction_type="flow_prediction")
    same(flow.scale_noise(x, times, noise), torch.stack([x[i] + t / 1000 * (noise[i] - x[i]) for i, t in enumerate(times)]), atol=1e-6)
    assert len(flow) == 1000 and flow.init_noise_sigma == 1.0


def test_bad_input_is_one_sentence():
    """Wrong options when the scheduler is made, calls out of order and shapes that do not fit: the option, its value and the mend."""
    for config, words in (
        ({"prediction_type": "eps"}, "prediction_type is 'eps'; choose one of epsilon"),
        ({"schedule": "manual"}, "schedule is 'manual'"),
        ({"preset": "best"}, "preset is 'best'"),
        ({"solver_order": 5}, "order is 5"),
        ({"algorithm_type": "ddim"}, "algorithm is 'ddim'"),
        ({"method": "singlestep", "corrector": "unipc"}, "corrector is unipc"),
        ({"thresholding": True, "dynamic_thresholding_ratio": 2.0}, "ratio is 2"),
        ({"invert_sigmas": True}, "invert_sigmas is True"),
        ({"final_sigmas_type": "min"}, "final_sigmas_type is 'min'"),
    ):
        with pytest.raises(ValueError, match=words):
            DPMSolverExtScheduler(**config)
    scheduler = DPMSolverExtScheduler(**SD)
    with pytest.raises(ValueError, match="before set_timesteps"):
        scheduler.step(states(), 999, states())
    for how, words in (
        ({}, "got nothing"),
        ({"timesteps": [5, 1], "sigmas": [2.0, 1.0]}, "timesteps and sigmas"),
        ({"num_inference_steps": 0}, "steps is 0; at least one"),
        ({"timesteps": []}, "steps is 0; at least one"),
        ({"sigmas": [1.0, 2.0, 0.5]}, "sort them"),
    ):
        with pytest.raises(ValueError, match=words):
            scheduler.set_timesteps(**how)
    with pytest.raises(ValueError, match="mu is missing"):
        DPMSolverExtScheduler(prediction_type="flow_prediction", use_dynamic_shifting=True).set_timesteps(5)
    with pytest.raises(ValueError, match="takes no timesteps"):
        DPMSolverExtScheduler(clock="UniPCMultistepScheduler").set_timesteps(timesteps=[5, 1])
    with pytest.raises(ValueError, match=r"shape \(2, 8, 6, 6\).*set variance_type to learned"):
        scheduler.set_timesteps(4)
        scheduler.step(torch.cat([states(), states()], 1), 999, states())
    learned = DPMSolverExtScheduler(**SD, variance_type="learned_range")
    learned.set_timesteps(4)
    double = learned.step(torch.cat([states(), 7 * states()], 1), 999, states()).prev_sample
    scheduler.set_timesteps(4)
    same(double, scheduler.step(states(), 999, states()).prev_sample, atol=0)
    with pytest.raises(ValueError, match="run of 3 evaluations is over"):
        sample(scheduler, 3)
        scheduler.step(states(), 0, states())


def test_what_cannot_act_is_logged(monkeypatch):
    """An option without effect in this run is one line in the log, once; a run where all act has none."""
    lines = []
    monkeypatch.setattr(scheduler_module.log, "warning", lines.append)
    scheduler = DPMSolverExtScheduler(**SD, solver_order=3)
    scheduler.set_timesteps(5)
    assert lines == []
    scheduler.set_timesteps(2)
    assert len(lines) == 1 and "order is 3" in lines[0]
    scheduler.set_timesteps(2)
    assert len(lines) == 1, "said once"
    DPMSolverExtScheduler(**SD, solver_order=3).set_timesteps(2)
    assert len(lines) == 2, "each scheduler for itself"


def test_equal_timesteps():
    """Of equal timesteps the second is taken, and the last for one that is not there: where diffusers begins without a begin index."""
    scheduler, times = DPMSolverExtScheduler(**SD), torch.tensor([9, 5, 5, 1])
    theirs = diffusers.DPMSolverMultistepScheduler(**SD)
    for t in (9, 5, 1):
        assert scheduler.index_for_timestep(t, times) == theirs.index_for_timestep(t, times)
    for each in (scheduler, theirs):
        each.set_timesteps(6)
        assert each.index_for_timestep(4) == 5


# --- pipelines ----------------------------------------------------------------------------------------------------------------------


def unet():
    torch.manual_seed(0)
    blocks = {"layers_per_block": 1, "block_out_channels": (8, 8), "norm_num_groups": 4}
    kinds = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    return diffusers.UNet2DModel(sample_size=8, in_channels=3, out_channels=3, **blocks, **kinds)


OWN_PROCESS = pytest.mark.skipif("DPM_EXT_PIPELINES" not in os.environ, reason="run by test_pipelines, in a process of their own")


def test_pipelines(root):
    """Whole diffusers pipelines, below, in a fresh process: ComfyUI's tests leave a stand-in of torchvision in theirs, and transformers
    stumbles on it."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "pipeline and not test_pipelines", __file__]
    done = subprocess.run(command, cwd=root, env=os.environ | {"DPM_EXT_PIPELINES": "1"}, capture_output=True, text=True)
    assert done.returncode == 0 and "6 passed" in done.stdout, done.stdout[-3000:] + done.stderr[-1000:]


@OWN_PROCESS
def test_a_pipeline_runs_is_saved_and_loaded(tmp_path):
    """DDPMPipeline with a tiny random network: the scheduler drives it, goes into its folder and comes back from there by its class."""
    pipe = diffusers.DDPMPipeline(unet(), DPMSolverExtScheduler.from_config(diffusers.DDIMScheduler(**SD).config, schedule="auto"))
    pipe.set_progress_bar_config(disable=True)
    picture = lambda p: p(num_inference_steps=5, generator=torch.Generator().manual_seed(0), output_type="np").images  # noqa: E731
    first = picture(pipe)
    assert first.shape == (1, 8, 8, 3) and np.isfinite(first).all() and first.std() > 0.01
    pipe.save_pretrained(tmp_path)
    again = diffusers.DDPMPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert type(again.scheduler) is DPMSolverExtScheduler and again.scheduler.config.schedule == "auto"
    np.testing.assert_allclose(picture(again), first, atol=1e-4)  # loaded weights lie elsewhere in memory: another summation


@OWN_PROCESS
@pytest.mark.parametrize("kind", ["", "Img2Img", "Inpaint"])
def test_stable_diffusion_pipelines(kind):
    """Stable Diffusion's pipelines with tiny random networks, offline: the loop runs over our timesteps, image to image over the last of
    them, and with the official choices the latents are those of diffusers' own scheduler."""
    torch.manual_seed(0)
    blocks = {"layers_per_block": 1, "block_out_channels": (8, 16), "norm_num_groups": 4, "cross_attention_dim": 8, "attention_head_dim": 4}
    kinds = {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")}
    net = diffusers.UNet2DConditionModel(sample_size=8, in_channels=4, out_channels=4, **blocks, **kinds)
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    vae = diffusers.AutoencoderKL(block_out_channels=(8, 8), latent_channels=4, norm_num_groups=4, **kinds)
    parts = dict.fromkeys(("text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    theirs = diffusers.DPMSolverMultistepScheduler(**SD, lower_order_final=False)
    prompt = torch.randn(1, 7, 8)
    image, mask = torch.rand(1, 3, 16, 16), (torch.rand(1, 1, 16, 16) > 0.5).float()
    ends, seen = [], []
    for scheduler in (
        theirs,
        DPMSolverExtScheduler.from_config(theirs.config, **OFFICIAL),
        DPMSolverExtScheduler(**SD, preset="auto", schedule="auto"),
    ):
        cls = getattr(diffusers, f"StableDiffusion{kind}Pipeline")
        pipe = cls(vae=vae, unet=net, scheduler=scheduler, **parts, requires_safety_checker=False)
        pipe.set_progress_bar_config(disable=True)
        given = {"image": image, "strength": 0.6} if kind else {}
        given |= {"mask_image": mask, "height": 16, "width": 16} if kind == "Inpaint" else {}
        times = []

        def note(_, i, t, changes, times=times):
            times.append(float(t))
            return changes

        ends.append(
            pipe(
                prompt_embeds=prompt, negative_prompt_embeds=0 * prompt, num_inference_steps=5, guidance_scale=3.0, output_type="latent",
                generator=torch.Generator().manual_seed(1), callback_on_step_end=note, **given,
            ).images
        )  # fmt: skip
        seen.append(times)
    assert seen[0] == seen[1] and len(seen[2]) == (3 if kind else 5)
    assert seen[2] == pipe.scheduler.timesteps.tolist()[-len(seen[2]) :]
    same(ends[1], ends[0], atol=1e-4)
    assert torch.isfinite(ends[2]).all() and (ends[2] - ends[0]).abs().max() > 1e-3


@OWN_PROCESS
@pytest.mark.parametrize("kind", ["StableDiffusion3Img2Img", "Flux"])
def test_flow_pipelines(kind):
    """Flow-match pipelines with tiny random networks: order 1 gives the latents of their own Euler scheduler, on its shifted levels (SD3
    image to image through scale_noise, Flux with sigmas and mu); `schedule` is followed although Flux passes sigmas."""
    torch.manual_seed(0)
    heads = {
        "num_layers": 1,
        "num_attention_heads": 2,
        "joint_attention_dim": 8,
        "pooled_projection_dim": 12,
        "patch_size": 1,
        "in_channels": 4,
    }
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    vae = diffusers.AutoencoderKL(block_out_channels=(8, 8), latent_channels=4, norm_num_groups=4, shift_factor=0.0, **kinds)
    parts: dict = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    prompt, pooled = torch.randn(1, 7, 8), torch.randn(1, 12)
    given: dict = {"prompt_embeds": prompt, "pooled_prompt_embeds": pooled, "num_inference_steps": 5, "output_type": "latent"}
    if kind == "Flux":
        net = diffusers.FluxTransformer2DModel(num_single_layers=1, attention_head_dim=16, axes_dims_rope=[4, 4, 8], **heads)
        given |= {"height": 16, "width": 16}
        theirs = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    else:
        net = diffusers.SD3Transformer2DModel(sample_size=8, attention_head_dim=8, caption_projection_dim=16, out_channels=4, **heads)
        parts |= {"text_encoder_3": None, "tokenizer_3": None}
        given |= {"image": torch.rand(1, 3, 16, 16), "strength": 0.6}
        given |= {"negative_prompt_embeds": 0 * prompt, "negative_pooled_prompt_embeds": 0 * pooled}
        theirs = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    ends, levels = [], []
    ours = DPMSolverExtScheduler.from_config(theirs.config, solver_order=1)
    for scheduler in (theirs, ours, DPMSolverExtScheduler.from_config(theirs.config, preset="auto", schedule="auto")):
        pipe = getattr(diffusers, f"{kind}Pipeline")(transformer=net, vae=vae, scheduler=scheduler, **parts)
        pipe.set_progress_bar_config(disable=True)
        ends.append(pipe(generator=torch.Generator().manual_seed(0), **given).images)
        levels.append(scheduler.timesteps)
    same(ends[1], ends[0], atol=1e-5)
    assert torch.equal(levels[1], levels[0])
    assert torch.isfinite(ends[2]).all() and len(levels[2]) == 5
    assert (levels[2] - levels[0]).abs().max() > 10
