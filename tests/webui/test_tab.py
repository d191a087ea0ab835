"""Calibration and tuning of the loaded checkpoint, through the host's double: its own text to image up to the sampler."""

import importlib
import json
import sys
import types

import numpy as np
import pytest
import torch
from dpm_solver_ext.tests.webui.processing import install
from dpm_solver_ext.tests.webui.test_sampling import arguments, entry

pytestmark = pytest.mark.filterwarnings("ignore:Should have t")
V3, AUTO = "DPM-Solver-v3 (ext)", "DPM-Solver auto (ext)"
GAINS = [1.1, 0.95, 1.2, 0.9]


def part(name):
    return importlib.import_module(f"dpm_solver_ext.webui.{name}")


@pytest.fixture
def ready(host):
    return install(host)


@pytest.fixture
def buttons(ready, monkeypatch):
    """What the tab's buttons do; a component is left as it is by {}."""
    monkeypatch.setattr(sys.modules["gradio"], "update", lambda **changes: changes, raising=False)
    found = part("buttons")
    monkeypatch.setattr(found, "POLL", 0.01)
    return found


def use(prompts="a b\na b c", cfg=5.0, size=64, batch=4, negative=""):
    return part("measure").Use.checked(prompts, negative, cfg, size, size, batch)


def finished(what, job):
    """`job(watch)` as the page runs it; the watch at its end."""
    measure = part("measure")
    watch = measure.Watch(what)
    measure.run(watch, lambda: job(watch))
    assert watch.ended.wait(300)
    return watch


def calibrated(samples=3, name="mine", nodes=8, probes=1, kind="channel", seed=0, given=None):
    given = given or use()
    return finished(
        "calibration",
        lambda watch: part("calibrate").calibrate(
            given, watch, samples=samples, nodes=nodes, probes=probes, kind=kind, seed=seed, name=name
        ),
    )


def tuned(sampler=AUTO, steps=4, mode=1, seeds=6, budget=0, given=None, name="mine", file="none"):
    modes = part("lists").MODES
    return finished(
        "tuning",
        lambda watch: part("tune").tune(
            given or use("a b"), watch, sampler=sampler, file=file, steps=steps, mode=modes[mode], seeds=seeds, budget=budget, seed=0,
            name=name,
        ),
    )  # fmt: skip


def guided(host, cond, scale=5.0):
    """The double's denoiser at prompts of this many words, a number or one for each of the batch."""
    wrap = host.model.wrap()

    def denoise(x, sigma):
        u, c = (wrap(x, x.new_full([len(x)], sigma), cond=torch.as_tensor(value)) for value in (0.0, cond()))
        return u + scale * (c - u)

    return denoise


# --- calibration ------------------------------------------------------------------------------------------------------------------------


def test_calibration_is_the_librarys_on_the_hosts_own_guided_model(ready, tmp_path):
    """The moments are those of the library on the same denoiser with each sample's own prompt; no picture is decoded or saved."""
    from dpm_solver_ext.solvers.ems_calibrate import calibrate
    from dpm_solver_ext.solvers.ems_file import load_ems
    from dpm_solver_ext.solvers.path import VE

    (tmp_path / "params.txt").write_text("of the last picture")
    counts = set()
    ready.on_call = lambda denoiser: counts.add((denoiser.step, denoiser.total_steps))
    watch = calibrated(kind="radial", nodes=10)
    assert watch.error is None
    assert ready.unguided_below == 0.0 and counts == {(19, 20)}, "settings that leave guidance out of some calls must not act"
    found = load_ems(tmp_path / "dpm_ems" / watch.outcome[0])
    ids = [0]
    denoise = guided(ready, lambda: torch.tensor([2.0 + i % 2 for i in ids]).view(-1, 1, 1, 1))
    levels = ready.model.wrap().sigmas.tolist()
    expected = calibrate(
        denoise, VE, (4, 8, 8), sigma_max=levels[-1], sigma_min=levels[0], samples=3, nodes=10, table=levels, batch=3,
        begin=lambda numbers: ids.__setitem__(slice(None), numbers), device="cpu",
    )  # fmt: skip
    for name, a in expected.sums.items():
        np.testing.assert_allclose(found.sums[name], a, rtol=1e-4, atol=1e-4 * np.abs(a).max(), err_msg=name)
    words = found.metadata
    assert words["checkpoint"] == "two clusters [0123456789]" and words["guidance"] == "5" and words["prediction type"] == "EPS"
    assert (tmp_path / "params.txt").read_text() == "of the last picture", "which the page brings back"
    assert not ready.saved and not ready.decoded and ready.jobs == ["dpm_solver_ext", "end"] and not ready.queue.locked()


def test_what_is_measured_is_not_measured_again(ready):
    first = calibrated(samples=2)
    calls = ready.calls
    again = calibrated(samples=2)
    assert ready.calls == calls and again.outcome == (first.outcome[0], again.outcome[1]) and again.outcome[1].startswith("0 model calls")
    more = calibrated(samples=3)
    assert more.outcome[0] == first.outcome[0] and first.outcome[1].startswith("32 model") and more.outcome[1].startswith("16 model")
    for other in (
        {"seed": 1},
        {"nodes": 9},
        {"kind": "scalar"},
        {"given": use(cfg=4.0)},
        {"given": use("a b\nc")},
        {"given": use(size=72)},
    ):
        assert calibrated(samples=2, **other).outcome[0] != first.outcome[0], other


@pytest.mark.parametrize("how", ["stop", "host", "error"])
def test_a_run_that_is_cut_off_goes_on(ready, tmp_path, how):
    """By our Stop, by the host's own Interrupt, or by an error of the model: what is measured is kept, and the end is that of one run."""
    whole = calibrated(name="whole").outcome[0]
    total, ready.calls = ready.calls, 0
    watches = []

    def cut(denoiser):
        if ready.calls == 8:
            if how == "error":
                raise RuntimeError("the model broke")
            watches[0].stop.set() if how == "stop" else ready.state.interrupt()

    measure = part("measure")
    plain = measure.Watch.begin
    measure.Watch.begin = lambda self, done: (watches.append(self), plain(self, done))[1]
    ready.on_call = cut
    watch = calibrated(name="cut")
    measure.Watch.begin = plain
    ready.on_call = lambda denoiser: None
    assert not ready.queue.locked() and list((tmp_path / "dpm_ems").glob("cut-*.part"))
    if how == "error":
        assert watch.outcome is None and str(watch.error) == "the model broke"
    else:
        assert watch.error is None and watch.outcome[0] is None and "go on from there (cut-" in watch.outcome[1]
    made = ready.calls
    ended = calibrated(name="cut")
    assert ready.calls - made < total and ready.calls <= total + 3, "at most one node is measured twice"
    assert not list((tmp_path / "dpm_ems").glob("*.part"))
    from dpm_solver_ext.solvers.ems_file import load_ems

    one, two = (load_ems(tmp_path / "dpm_ems" / name) for name in (whole, ended.outcome[0]))
    for name in one.sums:
        np.testing.assert_allclose(two.sums[name], one.sums[name], rtol=1e-5, atol=1e-6 * np.abs(one.sums[name]).max())


def test_the_statistics_serve_the_use_that_they_were_made_for_and_else_every_run_says_so(ready, caplog, tmp_path):
    """In the console and under the picture: another checkpoint, CFG or LoRA, other noise levels, or a file that does not say."""
    file, comments = calibrated().outcome[0], []

    def run(file=file, cfg=5.0, **more):
        caplog.clear()
        comments.clear()
        p = ready.processing(V3, steps=5, cfg_scale=cfg, comment=comments.append, **more)
        ready.generate(p, arguments(statistics=file))
        said = [record.getMessage() for record in caplog.records]
        assert said == comments
        return said

    assert run() == []
    for _ in range(2):
        ready.model.sd_checkpoint_info.shorthash = "another"
        assert "made for checkpoint two clusters [0123456789], but this run has checkpoint two clusters [another];" in run()[0]
        ready.model.sd_checkpoint_info.shorthash = "0123456789"
        assert run() == []
    assert "guidance 5, but this run has guidance 3;" in run(cfg=3.0)[0]
    lora = {"lora": [types.SimpleNamespace(items=["ink", "0.8"])]}
    assert "LoRAs none, but this run has LoRAs lora:ink:0.8;" in run(extra_network_data=lora)[0]
    from dpm_solver_ext.solvers.ems_file import load_ems, save_ems

    moments = load_ems(tmp_path / "dpm_ems" / file)
    moments.metadata["sigma range"] = "0.029 to 4518"
    save_ems(moments, tmp_path / "dpm_ems" / "zsnr.safetensors")
    assert "sigma range 0.029 to 4518, but this run has sigma range 0.02" in run("zsnr.safetensors")[0]
    moments.metadata["sigma range"] = "0.02917 to 14.615"  # the same, in another host's rounding
    del moments.metadata["checkpoint"]
    save_ems(moments, tmp_path / "dpm_ems" / "comfyui.safetensors")
    assert "do not say for which checkpoint" in run("comfyui.safetensors")[0]


@pytest.mark.parametrize("kind, model", [("a1111", "v"), ("a1111", "sd3"), ("forge", "const"), ("old", "eps")])
def test_every_kind_of_host_and_model(make_host, tmp_path, kind, model):
    """A file of each, whose statistics then paint; tuned steps that are better than the best known on pictures that were not searched."""
    host = install(make_host(kind, model))
    watch = calibrated(samples=2)
    assert watch.error is None
    latent = {"shape": (16, 8, 8)} if host.model.flow else {}
    assert host.generate(host.processing(V3, steps=5, cfg_scale=5.0), arguments(statistics=watch.outcome[0]), **latent).isfinite().all()
    watch = tuned(mode=0, budget=700)
    assert watch.error is None
    assert host.generate(host.processing(AUTO, steps=4, cfg_scale=5.0), arguments(tuned=watch.outcome[0]), **latent).isfinite().all()
    content = json.loads((tmp_path / "dpm_tuned" / watch.outcome[0]).read_text())
    assert content["metadata"]["noise"] == ("flow" if host.model.flow else "ve")


def test_less_memory_takes_fewer_latents_at_once(ready, monkeypatch):
    sizes = []

    def few(denoiser):
        sizes.append(len(denoiser.p.prompts))

    ready.on_call = few
    plain, seen = part("measure").Measured.__call__, []

    def short(self, state, sigma):
        seen.append(len(state))
        if len(state) > 1:
            raise torch.cuda.OutOfMemoryError("no memory")
        return plain(self, state, sigma)

    monkeypatch.setattr(part("measure").Measured, "__call__", short)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    watch = calibrated(samples=4)
    assert watch.error is None and seen[:3] == [4, 2, 1] and set(seen[2:]) == {1}
    assert set(sizes) == {4}, "the host makes room for as many as go at once"


BAD = {
    "Prompts to measure with is empty": {"prompts": "  \n"},
    "CFG to measure with is -1": {"cfg": -1},
    "Width to measure with is 10": {"width": 10},
    "Latents at once is 0": {"batch": 0},
    "Samples is 0": {"samples": 0},
    "Samples is 2.5": {"samples": 2.5},
    "Noise levels is 3": {"nodes": 3},
    "Probes is None": {"probes": None},
    "Shape of the statistics is 'square'": {"shape": "square"},
    "Calibration seed is -1": {"seed": -1},
    "Name of the statistics is '../up'": {"name": "../up"},
    "Name of the statistics is ''": {"name": ""},
    "Prompts to measure with name different LoRAs": {"prompts": "a <lora:x:1>\nb"},
    "Prompts to measure with, or the negative one, have a part that changes": {"prompts": "a [b:c d:0.5]"},
    "Prompts to measure with, or": {"negative": "[b:c d:0.5]"},
}


@pytest.mark.parametrize("sentence", BAD)
def test_bad_values_are_one_sentence_before_the_model_is_called(ready, buttons, sentence):
    given = {
        "prompts": "a", "negative": "", "cfg": 5, "width": 64, "height": 64, "batch": 2, "samples": 2, "nodes": 8, "probes": 1,
        "shape": "channel", "seed": 0, "name": "x",
    }  # fmt: skip
    status, report, picture, *free = last(buttons.start_calibration(**{**given, **BAD[sentence]}))
    assert free == [{"interactive": True}] * 2
    assert status.startswith("<p>" + sentence.replace("'", "&#x27;")) and status.endswith(".</p>") and status.count("<p>") == 1
    assert report == picture == {} and ready.calls == 0


def test_steps_of_samplers_with_noise_are_tuned_without_it_and_without_gains(ready, tmp_path):
    watch = tuned("DPM-Solver++ 2M SDE (ext)", mode=2, budget=600)
    assert watch.error is None
    content = json.loads((tmp_path / "dpm_tuned" / watch.outcome[0]).read_text())
    assert content["gains"] == [] and content["solver"] == "DPM-Solver++ 2M SDE (ext)"
    assert "adds noise, so only its schedule is tuned" in watch.outcome[1]
    assert content["metadata"]["sampler"] == "DPM-Solver++ 2M SDE (ext), without its noise" and content["metadata"]["tune"] == "schedule"


def test_loras_of_the_prompts_are_in_the_words_and_in_the_name(ready, tmp_path):
    from dpm_solver_ext.solvers.ems_file import load_ems

    plain = calibrated(given=use("a b"), samples=1).outcome[0]
    with_it = calibrated(given=use("a b <lora:ink:0.8>\nc <lora:ink:0.8>"), samples=1).outcome[0]
    assert plain != with_it
    assert load_ems(tmp_path / "dpm_ems" / with_it).metadata["LoRAs"] == "lora:ink:0.8"


# --- tuning and tuned steps ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def steps(ready, tmp_path):
    """(name, content) of steps tuned on the double at 4 steps and CFG 5, for DPM-Solver auto; and beside it gained.json, the same with
    gains that are far from 1."""
    watch = tuned()
    assert watch.error is None
    name, folder = watch.outcome[0], tmp_path / "dpm_tuned"
    content = json.loads((folder / name).read_text())
    assert content["improved"] and len(content["gains"]) == 4, "could not fail"
    (folder / "gained.json").write_text(json.dumps({**content, "gains": GAINS}))
    return name, content


def picture(host, sampler=AUTO, count=4, words="a b", **options):
    p = host.processing(sampler, "Karras", (5,), count, cfg_scale=5.0, denoising_strength=0.5)
    shared = {k: options.pop(k) for k in ("latent", "mask") if k in options}
    if "mask" in shared:
        p.mask, p.nmask = shared["mask"], 1 - shared.pop("mask")
    return p, host.generate(p, arguments(**options), **shared)


def test_tuned_steps_and_gains_paint_what_was_tuned(ready, steps):
    """The run is the library's tape at the file's sigmas, each prediction times its gain; and nearer to the converged picture than the
    schedule type that was chosen."""
    from dpm_solver_ext.solvers.execute import execute
    from dpm_solver_ext.solvers.path import VE
    from dpm_solver_ext.solvers.presets import plan

    name, content = steps
    p, found = picture(ready, tuned="gained.json")
    left, plain = iter(GAINS), guided(ready, lambda: 1.0)
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(5))
    tape = plan(VE, content["sigmas"], **entry(AUTO).solver)
    expected = execute(tape, lambda x, sigma: next(left) * plain(x, sigma), content["sigmas"][0] * noise)
    assert float((found - expected).abs().max()) < 1e-3
    assert p.extra_generation_params["DPM-Solver tuned"] == "gained.json" and "Schedule type" not in p.extra_generation_params
    converged = picture(ready, count=100)[1]
    errors = [float((converged - image).square().mean().sqrt()) for image in (picture(ready, tuned=name)[1], picture(ready)[1])]
    assert errors[0] < 0.8 * errors[1]


def test_gains_are_off_where_they_are_wrong_and_that_is_said(ready, steps, caplog):
    """At another number of steps, with another sampler, another option, a mask, or a part of the schedule: its plain steps at most."""
    name, content = "gained.json", steps[1]
    half = torch.zeros(4, 8, 8)
    half[:, :, :4] = 1
    latent = torch.full((1, 4, 8, 8), 0.5)
    cases = {
        "tuned for 4 steps; this run of 6": {"count": 6},
        "which are for DPM-Solver auto (ext) as it was tuned": {"sampler": "UniPC (ext)"},
        "as it was tuned, so": {"thresholding": "dynamic_in_latent_space", "threshold_max": 5.0},
        "for whole runs of its own 4 steps": {"latent": latent},
    }
    for sentence, more in cases.items():
        caplog.clear()
        assert picture(ready, tuned=name, **more)[1].isfinite().all()
        assert any(sentence in record.getMessage() for record in caplog.records), sentence
    caplog.clear()
    ready.opts.img2img_fix_steps = True
    p = ready.processing(AUTO, "Karras", (5,), 4, cfg_scale=5.0, denoising_strength=0.999, mask=half, nmask=1 - half)
    out = ready.generate(p, arguments(tuned=name), latent=latent)
    assert float((out - latent)[..., :4].abs().max()) < 1e-5, "a mask keeps its part"
    sampler = sys.modules["modules.sd_samplers"].create_sampler("UniPC (ext)", None)
    q = ready.processing("UniPC (ext)", "Karras", (5,), 4)
    ready.process(q, arguments(tuned=name))
    assert sampler.get_sigmas(q, 4).tolist() == pytest.approx(content["sigmas"], rel=1e-6)
    longer = sampler.get_sigmas(q, 9).tolist()
    assert len(longer) == 10 and longer[0] == pytest.approx(content["sigmas"][0]) and longer[-1] == 0 and longer == sorted(longer)[::-1]


def test_tuned_steps_of_another_use_or_kind_of_model(ready, steps, caplog, tmp_path, make_host):
    name, _ = steps
    p = ready.processing(AUTO, "Karras", (5,), 4, cfg_scale=3.0)
    ready.generate(p, arguments(tuned=name))
    assert "were tuned for guidance 5, but this run has guidance 3; tune for this use" in caplog.text
    ready.close()
    zsnr = install(make_host("a1111", "eps", zsnr=True))
    caplog.clear()
    zsnr.generate(zsnr.processing(AUTO, steps=4, cfg_scale=5.0), arguments(tuned=name))
    assert "begins at sigma 14.61, but this model at 4519; tune for this model" in caplog.text
    zsnr.close()
    flow = make_host("forge", "const")
    with pytest.raises(part("options").BadOption, match="Tuned steps .tuned.: .* is for models of another kind .ve. than this one .flow."):
        flow.generate(flow.processing(AUTO, steps=4), arguments(tuned=name), shape=(16, 8, 8))
    assert flow.calls == 0


def test_tuning_again_costs_nothing_and_a_stopped_one_goes_on(ready, steps):
    calls = ready.calls
    assert tuned().outcome == (steps[0], f"0 model calls: {steps[0]} has the outcome.") and ready.calls == calls
    watches, measure = [], part("measure")
    plain = measure.Watch.begin
    measure.Watch.begin = lambda self, done: (watches.append(self), plain(self, done))[1]
    ready.calls = 0

    def cut(denoiser):
        if ready.calls == calls * 4 // 5:
            watches[0].stop.set()

    ready.on_call = cut
    stopped = tuned(name="cut")
    measure.Watch.begin = plain
    assert stopped.error is None and "go on from there (cut-" in stopped.outcome[1]
    files = part("files")
    early, words = files.tuned(stopped.outcome[0])
    assert words["search"] == "stopped early" and "has the best so far" in stopped.outcome[1]
    assert early.error() < early.error(early.known)
    ready.on_call, made = (lambda denoiser: None), ready.calls
    ended = tuned(name="cut")
    assert ended.error is None and 0 < ready.calls - made < 0.8 * calls
    assert ended.outcome[0] == stopped.outcome[0] and files.tuned(ended.outcome[0])[1]["search"] == "ended"
    assert files.tuned(ended.outcome[0])[0].error() <= 1.02 * files.tuned(steps[0])[0].error()


def stopped_at(ready, monkeypatch, call, name):
    """A tuning that Stop ends at a model call."""
    watches, measure = [], part("measure")
    begin = measure.Watch.begin
    monkeypatch.setattr(measure.Watch, "begin", lambda self, done: (watches.append(self), begin(self, done))[1])
    ready.calls, ready.on_call = 0, lambda denoiser: watches[0].stop.set() if ready.calls == call else None
    watch = tuned(name=name)
    ready.on_call = lambda denoiser: None
    monkeypatch.setattr(measure.Watch, "begin", begin)
    return watch


def test_what_was_measured_at_other_levels_is_not_used(ready, monkeypatch, caplog):
    """A part file of known schedules that the host has come to make otherwise: one warning, and all is measured anew."""
    stopped = stopped_at(ready, monkeypatch, 150, "moved")
    assert "go on from there" in stopped.outcome[1]
    tune = part("tune")
    before = tune.known_schedules
    monkeypatch.setattr(tune, "known_schedules", lambda *args: {k: [v[0], v[1] * 1.01, *v[2:]] for k, v in before(*args).items()})
    ready.calls, anew = 0, tuned(name="moved")
    assert anew.error is None and "known schedules were others" in caplog.text
    assert f"{part('files').tuned(anew.outcome[0])[0].evaluations:,} model calls" in anew.outcome[1]


def test_stop_stays_stop_where_the_best_so_far_fails(ready, monkeypatch, caplog):
    from dpm_solver_ext.solvers import tune_so_far

    monkeypatch.setattr(tune_so_far, "so_far", lambda *args, **options: 1 / 0)
    stopped = stopped_at(ready, monkeypatch, 150, "odd")
    assert stopped.error is None and stopped.outcome[1].startswith("Stopped") and "could not be kept" in caplog.text


def test_no_more_is_spent_than_is_told(ready, monkeypatch):
    """The number of model calls on the page is the budget of the tuning, for samplers with two calls a step too."""
    from dpm_solver_ext.solvers import tune as library

    asked, told, measure = [], [], part("measure")
    call = measure.Watch.__call__
    monkeypatch.setattr(measure.Watch, "__call__", lambda self, done, total, *rest: (told.append(total), call(self, done, total, *rest)))
    whole = library.tune_schedule
    monkeypatch.setattr(library, "tune_schedule", lambda *args, **options: (asked.append(options["budget"]), whole(*args, **options))[1])
    outcome = tuned(sampler="DPM-Solver++ 2S (ext)", name="two", mode=0)
    assert outcome.error is None and set(told) == set(asked) and len(set(asked)) == 1


def test_an_answer_from_before_a_tuning_is_forgotten(ready, buttons):
    """The host keeps look-ups for ever: an API call with the new name, too early, would make it mean Automatic from then on."""
    sd, table = (sys.modules[f"modules.{name}"] for name in ("sd_samplers", "sd_schedulers"))
    name = tuned(mode=0, budget=600).outcome[0].removesuffix(".json")
    label = f"DPM tuned {name}"
    assert label not in table.schedulers_map and sd.get_sampler_and_scheduler("DPM++ 2M", label)[1] == "Automatic"
    end = last(buttons.start_tuning("a b", "", 5.0, 64, 64, 4, AUTO, "none", 4, "schedule", 6, 600, 0, "mine"))
    assert "0 model calls" in end[0] and sd.get_sampler_and_scheduler("DPM++ 2M", label)[1] == label


def test_tuned_files_are_schedule_types_for_every_sampler(ready, steps):
    """Added when the host loads or a tuning ends, without gains; one that is deleted goes."""
    name, content = steps
    label = "DPM tuned " + name.removesuffix(".json")
    table = sys.modules["modules.sd_schedulers"]
    schedules = part("schedules")
    schedules.register()
    assert [s.label for s in table.schedulers].count(label) == 1 and table.schedulers_map[label].name == "dpm_tuned_ext " + name
    wrap = ready.model.wrap()
    sigmas = table.schedulers_map[label].function(n=4, sigma_min=0.03, sigma_max=14.6, inner_model=wrap, device="cpu")
    assert sigmas.tolist() == pytest.approx(content["sigmas"], rel=1e-6)
    p = ready.processing("DPM++ 2M", label, (5,), 4)
    assert ready.generate(p).isfinite().all() and p.extra_generation_params["Schedule type"] == label
    part("files").delete(name, part("options").FILES["tuned"])
    schedules.register(loading=False)
    with pytest.raises(part("options").BadOption, match="which is not in models/dpm_tuned"):  # the page still has it
        ready.generate(ready.processing("DPM++ 2M", label, (5,), 4))
    schedules.register()
    assert label not in [s.label for s in table.schedulers] and label not in table.schedulers_map
    assert "dpm_tuned_ext " + name not in table.schedulers_map


def test_a_file_that_cannot_be_used_is_status_422(ready, steps, tmp_path):
    name, content = steps
    folder = tmp_path / "dpm_tuned"
    (folder / "cut.json").write_text(json.dumps(content)[:-5])
    (folder / "silent.json").write_text(json.dumps({**content, "metadata": {}}))
    for file, sentence in (
        ("cut.json", "Tuned steps .tuned.: cut.json holds no tuned steps"),
        ("silent.json", "Tuned steps .tuned.: silent.json does not say"),
    ):
        with pytest.raises(part("options").BadOption, match=sentence) as caught:
            ready.generate(ready.processing(AUTO, steps=4), arguments(tuned=file))
        assert vars(caught.value)["status_code"] == 422


def test_gains_for_another_number_of_calls_are_off(ready, steps, tmp_path):
    """A file may hold any number of them."""
    _, content = steps
    options = {**entry(AUTO).solver, "thresholding": "off"}
    gains = part("tuned").gains
    assert gains("gained.json", options, "none", content["sigmas"], 4, False) == (tuple(GAINS), "")
    for calls in (3, 5):
        assert gains("gained.json", options, "none", content["sigmas"], calls, False)[0] == ()


def test_tuned_for_statistics_that_are_another_file_now(ready, tmp_path):
    """Gains of DPM-Solver-v3 are for the numbers of the statistics, not for their name."""
    one, two = (calibrated(samples=n, name=f"of {n}").outcome[0] for n in (2, 3))
    folder, tuned_part = tmp_path / "dpm_ems", part("tuned")
    plain = {**entry(V3).solver, "thresholding": "off"}
    words = {"plan": json.dumps({**entry(V3).solver, "statistics": True}), "statistics": tuned_part.named(one)}
    assert tuned_part._same_solver(words, plain, one)
    assert not tuned_part._same_solver(words, plain, two) and not tuned_part._same_solver(words, plain, "none")
    (folder / one).write_bytes((folder / two).read_bytes())
    assert not tuned_part._same_solver(words, plain, one)


def test_plans_of_masked_runs_with_statistics_are_kept(ready, monkeypatch):
    """And their last step ends with the prediction, where the mask has put what it keeps; that of whole runs does not."""
    file, adapter, tails = calibrated(samples=2).outcome[0], part("adapter"), []
    plan = adapter.planned
    monkeypatch.setattr(adapter, "planned", lambda *args: (tails.append(args[2]["statistics"].tail), plan(*args))[1])
    hosting, half = importlib.import_module("dpm_solver_ext.solvers.hosting"), torch.zeros(4, 8, 8)
    for _ in range(2):
        made = hosting._kept.cache_info().misses
        p = ready.processing(V3, steps=5, cfg_scale=5.0, mask=half, nmask=1 - half)
        ready.generate(p, arguments(statistics=file), latent=torch.zeros(1, 4, 8, 8))
    assert hosting._kept.cache_info().misses == made
    ready.generate(ready.processing(V3, steps=5, cfg_scale=5.0), arguments(statistics=file))
    assert tails[:2] == ["x0", "x0"] and tails[2] != "x0"


@pytest.mark.parametrize("plan", ["[1]", "{}", "not json", "[" * 5000, '{"algorithm": ["x"]}', '{"order": 2}'])
def test_a_strange_plan_in_a_file_has_no_gains(ready, steps, tmp_path, plan):
    name, content = steps
    strange = {**content, "gains": GAINS, "metadata": {**content["metadata"], "plan": plan[:4000]}}
    (tmp_path / "dpm_tuned" / "strange.json").write_text(json.dumps(strange))
    found, note = part("tuned").gains("strange.json", {**entry(AUTO).solver, "thresholding": "off"}, "none", content["sigmas"], 4, False)
    assert found == () and "so they are off here" in note


def test_solvers_that_a_tuning_tries(ready):
    solvers, lists = part("tune").solvers_of, part("lists")
    assert list(solvers(V3, lists.MODES[0], "none")) == [V3]
    assert list(solvers("UniPC (ext)", lists.MODES[2], "none")) == ["UniPC (ext)", AUTO, "DPM-Solver++ 2M (ext)"]
    assert "DPM-Solver adaptive (ext)" not in lists.SAMPLERS and len(lists.SAMPLERS) == 13
    with pytest.raises(part("options").BadOption, match="Sampler to tune for is 'Euler'"):
        part("tune").tune(use(), None, sampler="Euler", file="none", steps=4, mode="schedule", seeds=6, budget=0, seed=0, name="x")


# --- the buttons --------------------------------------------------------------------------------------------------------------------------


def last(answers):
    *_, end = answers
    return end


def test_the_calibrate_button_shows_how_far_it_is_and_what_came_of_it(ready, buttons):
    answers = list(buttons.start_calibration("a b", "", 5.0, 64, 64, 4, 3, 8, 1, "channel", 0, "mine"))
    assert all(answer[1:] == [{}, {}, *[{"interactive": False}] * 2] for answer in answers[:-1]) and len(answers) > 1
    status, report, image, *free = answers[-1]
    assert free == [{"interactive": True}] * 2
    image = image["value"]
    assert "samples are in mine-" in status and "channel statistics of DPM-Solver-v3" in report and "checkpoint: two clusters" in report
    assert image.dtype == np.uint8 and image.ndim == 3
    assert ready.state.sampling_step == ready.state.sampling_steps > 0, "the host's own progress"
    found = part("files").names("statistics")[1:]
    choices, _, tick = buttons.lists("statistics for DPM-Solver-v3")
    assert choices["choices"] == found and len(found) == 1 and tick is False


def test_the_tune_button(ready, buttons):
    end = last(buttons.start_tuning("a b", "", 5.0, 64, 64, 4, AUTO, "none", 4, "schedule", 6, 600, 0, "mine"))
    assert "has the outcome" in end[0] and "sigmas" in end[1] and end[2]["visible"] and end[2]["value"].dtype == np.uint8
    label = "DPM tuned " + part("files").names("tuned")[1].removesuffix(".json")
    assert label in sys.modules["modules.sd_schedulers"].schedulers_map


def test_one_run_at_a_time_and_a_second_page_looks_on(ready, buttons):
    import threading

    seen, go = threading.Event(), threading.Event()

    def wait(denoiser):
        seen.set()
        assert go.wait(60)

    ready.on_call = wait
    ask = ("a b", "", 5.0, 64, 64, 4, 2, 8, 1, "channel", 0, "mine")
    first = buttons.start_calibration(*ask)
    next(first)
    assert seen.wait(60)
    second = buttons.start_calibration(*ask[:-1], "other")
    next(second)
    go.set()
    assert "mine-" in last(first)[0]
    end = last(second)[0]
    assert "mine-" in end and "calibration was not started: one runs at a time" in end
    assert [name[:5] for name in part("files").names("statistics")[1:]] == ["mine-"] and ready.jobs.count("dpm_solver_ext") == 1


def test_stop(ready, buttons):
    assert "Nothing runs" in buttons.stop_run()
    ready.on_call = lambda denoiser: buttons.stop_run() if ready.calls == 5 else None
    end = last(buttons.start_calibration("a b", "", 5.0, 64, 64, 4, 3, 8, 1, "channel", 0, "mine"))
    assert end[0].startswith("<p>Stopped; what is measured is kept") and ready.calls == 6


def test_a_page_asks_for_look_after_look(ready, buttons):
    """No event of the page is a generator: gradio 3 does not end those of a page that is closed, and Reload UI then hangs for ever."""
    import inspect

    begin = buttons.begun(buttons.start_calibration)
    assert not inspect.isgeneratorfunction(begin) and not inspect.isgeneratorfunction(buttons.look)
    looks, tick, ends, *shown = begin(4, "a b", "", 5.0, 64, 64, 4, 1, 8, 1, "channel", 0, "mine")
    assert tick == 5 and ends == {} and len(shown) == 5 and shown[0].startswith("<p>waiting")
    statuses = []
    while looks is not None:
        looks, now, ends, status, *rest = buttons.look(looks, tick, 7)
        assert len(rest) == 4 and (now == tick + 1 and ends == {} if looks is not None else now == {} and ends == 8)
        tick, statuses = now, [*statuses, status]
    assert "samples are in mine-" in statuses[-2] and statuses[-1] == {}, "the last look stays"
    assert buttons.look(None, 9, 8) == [None, *[{}] * 7], "a page that has just been made asks in vain"


def test_a_look_that_is_asked_for_twice_is_taken_once(buttons):
    def nested():
        yield [buttons.look(looks, 1, 0)]

    looks = nested()
    assert next(looks) == [[looks, *[{}] * 7]]


def test_files_are_shown_and_deleted_only_when_sure(ready, buttons, tmp_path):
    name = calibrated(samples=2).outcome[0]
    path, kind = tmp_path / "dpm_ems" / name, "statistics for DPM-Solver-v3"
    show, delete = buttons.said(buttons.inspected), buttons.said(buttons.deleted)
    assert "channel statistics" in show(kind, name)[1] and "File is &#x27;&#x27;" in show(kind, None)[0]
    assert "tick the box" in delete(kind, name, False)[0] and path.is_file()
    outside = tmp_path / "outside.safetensors"
    outside.write_bytes(path.read_bytes())
    for bad in ("../outside.safetensors", str(outside), "", "missing.safetensors"):
        assert "File is" in delete(kind, bad, True)[0] and outside.is_file()
    assert "is deleted" in delete(kind, name, True)[0] and not path.exists()


def test_words_of_a_file_are_text(ready, buttons, tmp_path):
    """A file of somebody else may have HTML in its words."""
    from dpm_solver_ext.solvers.ems_file import load_ems, save_ems

    name = calibrated(samples=2).outcome[0]
    moments = load_ems(tmp_path / "dpm_ems" / name)
    moments.metadata["model"] = "<script>alert(1)</script>"
    save_ems(moments, tmp_path / "dpm_ems" / "his.safetensors")
    report = buttons.said(buttons.inspected)("statistics for DPM-Solver-v3", "his.safetensors")[1]
    assert "&lt;script&gt;" in report and "<script" not in report


def test_schedules_are_drawn_on_the_loaded_model(ready, buttons, make_host):
    draw = buttons.said(buttons.drawn)
    status, report, image = draw(["Karras", "DPM logSNR"], 5)
    image = image["value"]
    assert status == "" and image.dtype == np.uint8 and "Karras: 14.61, " in report and "DPM logSNR: 14.61" in report
    assert (
        "to draw is empty" in draw([], 5)[0]
        and "no schedule type here" in draw(["Nonsense"], 5)[0]
        and "Steps to draw is 0" in draw(["Karras"], 0)[0]
    )
    sys.modules["modules.sd_samplers"].create_sampler = None  # nothing is loaded
    status, report, _ = draw(["DPM auto"], 5)
    assert "No loaded checkpoint could be asked" in status and "DPM auto: 14.61" in report
    status, *_ = draw(["Uniform"], 5)
    assert "needs a loaded checkpoint" in status


def test_without_our_samplers_nothing_is_painted(ready, buttons):
    sd = sys.modules["modules.sd_samplers"]
    sd.all_samplers_map.pop("DPM-Solver++ 2M (ext)")
    end = last(buttons.start_calibration("a b", "", 5.0, 64, 64, 4, 1, 8, 1, "channel", 0, "mine"))
    assert "not in the WebUI" in end[0] and not ready.saved
