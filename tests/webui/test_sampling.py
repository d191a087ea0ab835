"""Runs through the host's double: the numbers of its own samplers, seeds, parts of a schedule, masks, counts, interrupts."""

import math
import sys

import numpy as np
import pytest
import torch
from dpm_solver_ext.solvers import schedule
from dpm_solver_ext.solvers.path import FLOW
from dpm_solver_ext.tests.webui.host import as_numpy, default_arguments
from dpm_solver_ext.tests.webui.test_registration import LABELS, NAMES

pytestmark = pytest.mark.filterwarnings("ignore:Should have t")  # torchsde's, of the hosts' own float32 ends of a path
EXACT: dict[str, torch.Tensor] = {}  # by kind of model: they differ in rounding, and a flow model has other noise
ADAPTIVE = "DPM-Solver adaptive (ext)"
SDE = [name for name in NAMES if "SDE" in name]


def arguments(**changed):
    names = [option.name for option in sys.modules["dpm_solver_ext.webui.options"].OPTIONS]
    return [changed.get(name, value) for name, value in zip(names, default_arguments(), strict=True)]


def entry(name):
    return sys.modules["dpm_solver_ext.webui.entries"].BY_NAME[name]


@pytest.mark.parametrize("model", ["eps", "v"])
@pytest.mark.parametrize(
    "built_in, ours, options",
    [
        ("DPM++ 2M", "DPM-Solver++ 2M (ext)", {}),
        ("DPM++ 2M SDE", "DPM-Solver++ 2M SDE (ext)", {}),
        ("DPM++ 2M SDE Heun", "DPM-Solver++ 2M SDE (ext)", {"solver_type": "taylor"}),
        ("DPM++ SDE", "DPM-Solver++ SDE (ext)", {}),
        ("DPM++ 3M SDE", "DPM-Solver++ 3M SDE (ext)", {"solver_type": "official_taylor", "final_rule": "none"}),
    ],
)
def test_pictures_of_the_built_in_samplers(make_host, built_in, ours, options, model):
    """Where the algorithm is the same, so is the picture: 1e-3 of these latents is less than a third of a grey level. Schedule type and
    noise are the host's own, at "Automatic"."""
    host = make_host(model=model)
    scheduler = "Karras" if "2M (ext)" in ours or ours == "DPM-Solver++ SDE (ext)" else "Automatic"
    expected = host.generate(host.processing(built_in, scheduler, (3, 4), 20))
    found = host.generate(host.processing(ours, scheduler, (3, 4), 20), arguments(**options))
    assert not host.reported
    assert float((found - expected).abs().max()) < 1e-3
    assert float((found - host.generate(host.processing("Euler", scheduler, (3, 4), 20))).abs().max()) > 1e-2, "could not fail"


@pytest.mark.parametrize("name", NAMES)
def test_counts_are_what_the_host_is_told(host, name):
    """Prompt editing and the refiner follow the count of model calls; the last step of a singlestep solver costs one call, as in the
    host's own."""
    sd = sys.modules["modules.sd_samplers"]
    steps, told = 10, []
    host.on_call = lambda denoiser: told.append((denoiser.step, denoiser.total_steps))
    host.generate(host.processing(name, steps=steps))
    per_step = {"2S": 2, "3S": 3, "++ SDE": 2, "-2 ": 2, "-3 ": 3}
    calls = next((n for part, n in per_step.items() if part in name), 1)
    assert sd.all_samplers_map[name].total_steps(steps) == calls * steps
    assert bool(sd.all_samplers_map[name].options.get("second_order")) == (calls == 2)
    assert [step for step, _ in told] == list(range(len(told)))
    if name != ADAPTIVE:
        assert len(told) == calls * (steps - 1) + 1 and {total for _, total in told} == {calls * steps}


@pytest.mark.parametrize("name", NAMES)
def test_no_option_changes_the_count(host, name):
    if name == ADAPTIVE:
        return
    counts = set()
    table = sys.modules["dpm_solver_ext.webui.options"]
    for option in table.OPTIONS:
        for value in option.choices or ((0.0, 0.9) if option.name == "eta" else ()):
            host.calls = 0
            try:
                host.generate(host.processing(name, steps=6), arguments(**{option.name: value}))
            except table.BadOption:
                continue
            # a run that does not end at 0 has its stages in the last step, too
            counts.add(host.calls - (entry(name).calls - 1) * (value == "sigma_min"))
    assert len(counts) == 1


@pytest.mark.parametrize("name", [name for name in NAMES if name != ADAPTIVE])
@pytest.mark.parametrize("own_noise", [False, True])
def test_a_batch_is_its_single_pictures(make_host, name, own_noise):
    """Also in the second batch of a run, and where the host is told not to bring its noise sampler: then the noise is ours, by seed."""
    host = make_host()
    host.opts.no_dpmpp_sde_batch_determinism = own_noise
    seeds = (11, 12, 13, 14)
    batch = torch.cat([host.generate(host.processing(name, seeds=seeds, batch_size=2, iteration=i, steps=6)) for i in (0, 1)])
    for i, seed in enumerate(seeds):
        single = host.generate(host.processing(name, seeds=(seed,), steps=6))
        assert float((batch[i] - single[0]).abs().max()) < 1e-5
    again = host.generate(host.processing(name, seeds=seeds[:1], steps=6))
    assert torch.equal(again, host.generate(host.processing(name, seeds=seeds[:1], steps=6)))
    assert float((batch[0] - batch[1]).abs().max()) > 0.1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("model", ["eps", "v", "const", "sd3"])
def test_converges_on_every_kind_of_model(make_host, name, model):
    """To the exact end of the ODE, the same for all solvers without noise; those with noise to data of the right spread."""
    host = make_host("forge" if model == "const" else "a1111", model)
    scheduler = "DPM logSNR" if host.model.flow else "Karras"
    found = host.generate(host.processing(name, scheduler, (5, 6), 40, cfg_scale=1.0))
    assert found.isfinite().all()
    if entry(name).noisy:  # ½ N(.7, .1) + ½ N(-.7, .1)
        assert abs(float(found.std()) - math.sqrt(0.49 + 0.1)) < 0.06
        return
    if model not in EXACT:
        EXACT[model] = host.generate(host.processing("UniPC (ext)", scheduler, (5, 6), 200, cfg_scale=1.0))
    assert float((found - EXACT[model]).square().mean().sqrt()) < 0.02


def test_a_model_of_zero_terminal_snr_is_met_at_its_own_end(make_host):
    host = make_host(model="v", zsnr=True)
    assert 4000 < float(host.model.wrap().sigmas[-1]) < 5000
    for name in NAMES:
        out = host.generate(host.processing(name, "DPM auto", (5, 6), 30, cfg_scale=1.0))
        assert out.isfinite().all() and 0.6 < float(out.std()) < 0.9, name


def test_the_path_is_told_apart(make_host):
    """Forge says it; elsewhere the table ends at 1. A wrong path would still paint: as with VE sigmas of at most 1."""
    for kind, model, name in [("a1111", "eps", "ve"), ("a1111", "v", "ve"), ("a1111", "sd3", "flow"), ("forge", "const", "flow")]:
        host = make_host(kind, model)
        adapter = sys.modules["dpm_solver_ext.webui.adapter"]
        assert adapter.path_of(host.model.wrap()).name == name
        host.close()
    host = make_host("forge", "const")
    wrap = host.model.wrap()
    wrap.predictor.prediction_type = "epsilon"
    assert sys.modules["dpm_solver_ext.webui.adapter"].path_of(wrap).name == "ve"


@pytest.mark.parametrize("name", NAMES)
def test_image_to_image_takes_the_last_part_of_a_schedule(host, name):
    latent = host.generate(host.processing("Euler", seeds=(1, 2), steps=20))
    for fixed in (False, True):
        host.opts.img2img_fix_steps = fixed
        near = host.generate(host.processing(name, seeds=(3, 4), steps=10, denoising_strength=0.2), latent=latent)
        far = host.generate(host.processing(name, seeds=(3, 4), steps=10, denoising_strength=0.9), latent=latent)
        assert near.isfinite().all() and far.isfinite().all()
        assert float((near - latent).abs().mean()) < float((far - latent).abs().mean())


def test_strength_zero_does_nothing(host):
    latent = torch.ones(1, 4, 8, 8)
    host.opts.img2img_fix_steps = True
    for scheduler in LABELS:
        for name in NAMES:
            p = host.processing(name, scheduler, steps=10, denoising_strength=0.0)
            assert torch.equal(host.generate(p, arguments(final_sigma="sigma_min"), latent=latent), latent)
        schedule = sys.modules["modules.sd_schedulers"].schedulers_map[scheduler].function
        assert schedule(0, sigma_min=0.03, sigma_max=14.6, inner_model=host.model.wrap(), device="cpu").tolist() == [0.0]


@pytest.mark.parametrize("name", ["DPM-Solver++ 2M (ext)", "DPM-Solver++ SDE (ext)", "DPM-Solver-v3 (ext)"])
def test_inpainting_keeps_what_the_mask_keeps(host, name):
    latent = host.generate(host.processing("Euler", seeds=(1,), steps=20))
    mask = torch.zeros(4, 8, 8)
    mask[:, :, :4] = 1
    for thresholding in ("off", "dynamic_in_latent_space"):
        p = host.processing(name, steps=8, mask=mask, nmask=1 - mask)
        out = host.generate(p, arguments(thresholding=thresholding, threshold_max=5.0), latent=latent)
        assert float((out - latent)[..., :4].abs().max()) < 1e-5 and float((out - latent)[..., 4:].abs().max()) > 0.05


def test_interrupt_and_skip_go_through_to_the_host(host):
    for word in ("interrupted", "skipped"):

        def stop(denoiser, word=word):
            setattr(host.state, word, denoiser.step == 3)

        host.on_call = stop
        host.calls = 0
        out = host.generate(host.processing("DPM-Solver++ 2M (ext)", steps=10))
        assert host.calls == 4 and out.isfinite().all()
        setattr(host.state, word, False)
        host.calls = 0


def test_the_callback_comes_once_a_step(host, monkeypatch):
    seen = []
    common = type(sys.modules["modules.sd_samplers"].create_sampler(NAMES[0], None)).__mro__[1]
    monkeypatch.setattr(common, "callback_state", lambda self, d: seen.append((d["i"], float(d["sigma"]), d["denoised"].shape)))
    for name in NAMES:
        seen.clear()
        host.generate(host.processing(name, seeds=(1, 2), steps=6))
        steps = [i for i, _, _ in seen]
        assert all(shape == (2, 4, 8, 8) for _, _, shape in seen)
        if name == ADAPTIVE:
            assert steps == sorted(steps) and steps[-1] <= 5
        else:
            assert steps == list(range(6)), name
            assert [s for _, s, _ in seen] == sorted((s for _, s, _ in seen), reverse=True)


def test_a_refiner_may_put_another_model_in_place_during_a_run(host):
    """A sd_samplers_common.py:158: the denoiser forgets its model and the conditions in extra_args change; the next call sees both."""
    plain = host.generate(host.processing("DPM-Solver++ 2M (ext)", steps=10, cfg_scale=1.0))
    conditions = []

    def refine(denoiser):
        conditions.append(host.condition)
        if denoiser.step == 5:
            denoiser.model_wrap = None
            denoiser.sampler.sampler_extra_args["cond"] = 2.0
            host.model.x0 = lambda x, sigma, cond, alpha=1.0: 0 * x

    host.on_call = refine
    refined = host.generate(host.processing("DPM-Solver++ 2M (ext)", steps=10, cfg_scale=1.0))
    assert conditions == [1.0] * 6 + [2.0] * 4
    assert float(refined.abs().max()) < 0.5 < float(plain.abs().mean()) + 0.2


def test_half_precision_latents_come_back_as_they_were(host):
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).half()
    adapter = sys.modules["dpm_solver_ext.webui.adapter"]
    p = host.processing("DPM-Solver++ 2M (ext)")
    values = sys.modules["dpm_solver_ext.webui.options"].options_of(p, entry(NAMES[1]))
    wrap = host.model.wrap()

    class Denoiser:
        inner_model, mask, nmask = wrap, None, None

        def __call__(self, x, sigma, **_):
            assert x.dtype == torch.float32
            return wrap(x, sigma, cond=1.0)

    out = adapter.run(entry(NAMES[1]), values, Denoiser(), x * 14.6, wrap.get_sigmas(8), disable=True)
    assert out.dtype == torch.float16 and out.isfinite().all()


@pytest.mark.parametrize("scheduler", LABELS)
def test_schedule_types(make_host, scheduler):
    """n + 1 falling values from sigma_max to 0 on every kind of model, and those of the library on this model's own clock."""
    for kind, model in [("a1111", "eps"), ("a1111", "v"), ("a1111", "sd3"), ("forge", "const")]:
        host = make_host(kind, model)
        wrap = host.model.wrap()
        entry = sys.modules["modules.sd_schedulers"].schedulers_map[scheduler]
        assert entry.need_inner_model and entry.aliases == [] and entry.default_rho == -1
        for n in (1, 2, 7, 30):
            low, top = wrap.sigmas[0].item(), wrap.sigmas[-1].item()
            sigmas = entry.function(n=n, sigma_min=low, sigma_max=top, inner_model=wrap, device=torch.device("cpu"))
            assert sigmas.dtype == torch.float32 and len(sigmas) == n + 1
            assert sigmas[0] == np.float32(top) and sigmas[-1] == 0 and bool((sigmas.diff() < 0).all())
        if model == "eps" and scheduler.startswith("DPM time"):
            clock = schedule.sd_time_map()
            expected = schedule.time_uniform(30, top, low, clock, power=2 if "quadratic" in scheduler else 1)
            np.testing.assert_allclose(as_numpy(sigmas), expected, rtol=1e-4)
        host.close()


def test_flow_and_other_models_get_their_own_logsnr_steps(make_host):
    host = make_host("forge", "const")
    wrap = host.model.wrap()
    sigmas = sys.modules["modules.sd_schedulers"].schedulers_map["DPM logSNR"].function(10, 1e-3, 1.0, wrap, "cpu").tolist()
    gaps = np.diff([FLOW.half_logsnr(s) for s in sigmas[1:-1]])
    np.testing.assert_allclose(gaps, gaps[0], rtol=1e-3)


def test_automatic_means_each_entrys_own_schedule(host, make_host):
    p = host.processing("DPM-Solver auto (ext)")
    host.generate(p)
    assert p.extra_generation_params["Schedule type"] == "DPM auto"
    p = host.processing("DPM-Solver++ 2M SDE (ext)")
    host.generate(p)
    assert p.extra_generation_params["Schedule type"] == "Exponential"


def test_a_host_without_schedule_types_runs_every_entry(make_host):
    """A1111 before 1.9. There auto still has the schedule that it is made for."""
    host = make_host("old")
    for name in NAMES:
        assert host.generate(host.processing(name, steps=6)).isfinite().all()
    new = make_host()
    out = new.generate(new.processing("DPM-Solver auto (ext)", steps=6))
    new.close()
    host = make_host("old")
    assert torch.equal(out, host.generate(host.processing("DPM-Solver auto (ext)", steps=6)))


def test_hires_fix_runs_twice_with_a_schedule_of_its_own(host):
    """A processing.py:1450: a new sampler, the same p, is_hr_pass set."""
    p = host.processing("DPM-Solver++ 2M (ext)", "Karras", steps=8)
    first = host.generate(p)
    p.is_hr_pass, p.hr_scheduler, p.sampler_name = True, "DPM logSNR", "UniPC (ext)"
    sampler = sys.modules["modules.sd_samplers"].create_sampler(p.sampler_name, None)
    out = sampler.sample_img2img(p, first, torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)))
    assert out.isfinite().all()
    assert p.extra_generation_params["Schedule type"] == "Karras" and p.extra_generation_params["Hires schedule type"] == "DPM logSNR"


@pytest.mark.parametrize("scheduler", ["Karras", "Uniform", "DPM auto", "DPM time uniform"])
def test_a_run_may_end_at_the_least_noise_with_as_many_steps(host, scheduler):
    """Where a schedule visits the model's least sigma before 0, that is its last; else the step to 0 ends there."""
    sampler = sys.modules["modules.sd_samplers"].create_sampler("UniPC (ext)", None)
    p, least = host.processing("UniPC (ext)", scheduler), float(host.model.wrap().sigmas[0])
    host.process(p)
    to_zero, longer = sampler.get_sigmas(p, 8).tolist(), sampler.get_sigmas(p, 9).tolist()
    host.process(p, arguments(final_sigma="sigma_min"))
    ended = sampler.get_sigmas(p, 8).tolist()
    visits = to_zero[-2] <= least * (1 + 1e-6)
    assert visits == (scheduler in ("Karras", "Uniform"))
    assert ended == pytest.approx(longer[:-1] if visits else [*to_zero[:-1], least], rel=1e-6)
    assert len(ended) == 9 and ended[-1] == pytest.approx(least, rel=1e-6)


def test_the_adaptive_solvers_progress_ends_at_the_steps_of_the_slider(host, monkeypatch):
    """The bar in the console is full at the end, whatever the solver needed."""
    adapter = sys.modules["dpm_solver_ext.webui.adapter"]
    bars = []

    class Bar:
        def __init__(self, total, disable):
            self.total, self.n = total, 0
            bars.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def update(self, n=1):
            self.n += n

    monkeypatch.setattr(adapter, "tqdm", Bar)
    for name in (ADAPTIVE, "UniPC (ext)"):
        host.generate(host.processing(name, steps=9))
    assert [(bar.n, bar.total) for bar in bars] == [(9, 9)] * 2
