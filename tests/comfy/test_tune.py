"""Tuned steps in the real ComfyUI: found on analytic models whose exact end is known, kept in files, used to sample."""

import dataclasses
import json
import logging
from types import SimpleNamespace

import pytest
import torch

SMALL = {"cfg": 1.0, "steps": 5, "tune": "schedule", "seeds": 8, "budget": 800, "tune_seed": 0, "file_name": "tuned"}


@pytest.fixture
def folder(pack, tmp_path, monkeypatch):
    """The folder of tuned steps, empty and this test's own."""
    import folder_paths

    path = tmp_path / "dpm_tuned"
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "dpm_tuned", ([str(path)], {".json"}))
    return path


@pytest.fixture
def tune(analytic, pack, folder, part, monkeypatch):
    """tune(patcher, sampler, **widgets) runs the node; attributes of what it returns: sigmas, sampler, info, plot, text, calls (model calls
    of one picture)."""

    monkeypatch.setattr(part("nodes.tune_run"), "REFERENCE", 20)  # enough for these models, and fast

    def run(patcher, sampler="dpmpp_2m", size=(8, 8), positive=None, **widgets):
        calls = analytic.network(patcher).calls
        before = len(calls)
        latent = {"samples": torch.ones(analytic.latent_shape(patcher, 1, size))}  # its values must not matter
        out = pack.nodes["DPMSolverTuneScheduleExt"].execute(
            model=patcher, positive=positive or analytic.cond(0.75), negative=analytic.cond(-0.25), latent_image=latent,
            sampler=analytic.sampler(sampler) if isinstance(sampler, str) else sampler, **SMALL | widgets,
        )  # fmt: skip
        guided = 1 if abs(widgets.get("cfg", 1.0) - 1) < 1e-6 else 2
        sigmas, how, info, plot = out.args
        return SimpleNamespace(
            sigmas=sigmas, sampler=how, info=info, plot=plot, text=out.ui.as_dict()["text"][0],
            calls=sum(c["shape"][0] for c in calls[before:]) / guided,
        )  # fmt: skip

    return run


def painted(analytic, patcher, how, sigmas, seed=100, cfg=1.0, batch=2, **more):
    """The rms error of a picture."""
    noise = analytic.noise_for(analytic.latent_shape(patcher, batch), seed)
    return analytic.error(patcher, analytic.sample(patcher, how, sigmas, noise, cfg=cfg, **more), sigmas, noise, cfg=cfg)


@pytest.mark.parametrize("kind", ["eps", "v", "sd3"])
@pytest.mark.parametrize("mode", ["schedule", "schedule and gains"])
def test_better_than_known_schedules(analytic, tune, kind, mode):
    """On fresh seeds the tuned steps have less error, against the exact end, than the schedules that the search began from."""
    patcher = analytic.build(kind, analytic.MIXTURE)
    got = tune(patcher, tune=mode)
    assert got.calls <= 800 and len(got.sigmas) == 6 and got.sigmas[-1] == 0
    error = painted(analytic, patcher, got.sampler, got.sigmas)
    for name in ("dpm_auto_ext", "beta", "sgm_uniform", "normal"):
        assert error < painted(analytic, patcher, "dpmpp_2m", analytic.schedule(patcher, name, 5)), name


def test_with_ours_and_the_best_solver(analytic, tune, part):
    """With the solvers of this pack to choose from, the result is not worse than the connected one's; the sampler that comes out is the one
    that was chosen, and gives with the sigmas what the info says."""
    patcher = analytic.build("eps", analytic.MIXTURE)
    alone = tune(patcher, sampler="euler", tune="schedule and gains")
    chosen = tune(patcher, sampler="euler", tune="schedule, gains and solver", budget=1500)
    first, second = (painted(analytic, patcher, got.sampler, got.sigmas) for got in (alone, chosen))
    assert second < first and "euler" not in chosen.info.splitlines()[0].split(",")[0]
    assert part("nodes.tuned_sampler").own_options(chosen.sampler) is not None


@pytest.mark.parametrize("preset", ["auto", "dpmpp_2m_sde", "dpmpp_2s", "dpmpp_sde"])
def test_samplers_of_ours(analytic, tune, build_node, part, preset):
    """Ours by the node, SDE forms without their noise; what comes out paints."""
    patcher = analytic.build("eps")
    how = build_node("DPMSolverSamplerExt", preset=preset)
    got = tune(patcher, sampler=how, tune="schedule and gains", budget=1000)
    assert painted(analytic, patcher, got.sampler, got.sigmas) < (1.0 if "sde" in preset else 0.1)
    own = part("nodes.tuned_sampler").own_options
    only = own(got.sampler) == own(how) and not got.sampler.extra_options["gains"] and "without its noise" in got.info
    assert ("sde" in preset) == only  # only the schedule, and the noise stays


@pytest.mark.parametrize("name, words", [
    ("euler_ancestral", "adds noise"), ("dpmpp_2m_sde", "adds noise"), ("dpm_adaptive", "chooses its own steps"),
    ("dpm_fast", "chooses its own steps"), ("euler_cfg_pp", "CFG[+][+]"), ("dpm_adaptive_ext", "adaptive"),
])  # fmt: skip
@pytest.mark.parametrize("kind", ["eps", "sd3"])
def test_samplers_that_cannot_be_tuned(analytic, tune, folder, name, words, kind):
    """One sentence that names the input, after a handful of model calls at most; nothing is written."""
    patcher = analytic.build(kind)
    with pytest.raises(ValueError, match=rf"^sampler [^\n]*{words}[^\n]*$"):
        tune(patcher, sampler=name)
    assert len(analytic.network(patcher).calls) < 60 and not list(folder.glob("*"))


@pytest.mark.parametrize("name", [
    "heun", "lms", "ipndm_v", "deis", "res_multistep", "gradient_estimation", "uni_pc", "dpm_fast_ext",
])  # fmt: skip
def test_samplers_of_the_host(analytic, tune, name):
    """Samplers of the host's list that have a schedule and no noise, with one or two calls a step, are tuned."""
    patcher = analytic.build("eps", analytic.MIXTURE)
    got = tune(patcher, sampler=name, seeds=6, budget=800, steps=4, size=(4, 4))
    assert len(got.sigmas) == 5 and painted(analytic, patcher, got.sampler, got.sigmas) < 0.5


def test_again_costs_nothing(analytic, tune, folder):
    """The same settings find their file, in a new session too (a new model object of the same weights), and with a lower budget; the
    outputs are those of the first time, and nothing else lies in the folder."""
    first = tune(analytic.build("eps"), tune="schedule and gains")
    kept = sorted(p.name for p in folder.iterdir())
    for budget in (800, 300):
        again = tune(analytic.build("eps"), tune="schedule and gains", budget=budget)
        assert again.calls == 0 and torch.equal(again.sigmas, first.sigmas) and torch.equal(again.plot, first.plot)
        assert again.sampler.extra_options["gains"] == first.sampler.extra_options["gains"] and ", 0 of them now" in again.info
    assert sorted(p.name for p in folder.iterdir()) == kept and sum(n.endswith(".json") for n in kept) == 1


def test_a_higher_budget_goes_on(analytic, tune, folder):
    """What a small budget ended goes on with a higher one, from where it was: references and known schedules are not run again."""
    patcher = analytic.build("eps", analytic.MIXTURE)
    first = tune(patcher, budget=700)
    assert "the budget ended it" in first.info and len(list(folder.iterdir())) == 2
    more = tune(patcher, budget=8000)
    spent = json.loads(next(folder.glob("*.json")).read_text())["evaluations"]
    assert 0 < more.calls == spent - first.calls and more.calls < 3000 - 8 * 20
    assert "the budget ended it" not in more.info and [p.suffix for p in folder.iterdir()] == [".json"]
    assert tune(patcher, budget=9000).calls == 0


def test_other_settings_make_another_file(analytic, tune, folder):
    """Nothing is taken for what it is not: whatever changes the best steps changes the file's name. Prompts count, by every value."""
    seldom = analytic.cond(0.75)
    seldom[0][0][0, 3, 5] += 0.25
    others = [
        {}, {"cfg": 2.0}, {"steps": 4}, {"tune": "schedule and gains"}, {"seeds": 7}, {"tune_seed": 1}, {"file_name": "other"},
        {"size": (4, 8)}, {"sampler": "euler"}, {"positive": analytic.cond(0.5)}, {"positive": seldom}, {"positive_2": analytic.cond(0.5)},
        {"sampler": "dpmpp_2m_ext"},
    ]  # fmt: skip
    for widgets in others:
        assert tune(analytic.build("eps"), **{"seeds": 6, "budget": 800, "size": (4, 4)} | widgets).calls > 0, widgets
    assert len(list(folder.glob("*.json"))) == len(others)


def test_a_file_of_other_settings_under_this_name(analytic, tune, folder):
    """A file that was renamed is not taken for what its name says, nor overwritten."""
    small = {"seeds": 6, "budget": 800, "size": (4, 4)}
    for steps in (4, 5):
        tune(analytic.build("eps"), steps=steps, **small)
    for end in (".json", ".json.part"):
        names = {json.loads(p.read_text())["metadata"]["steps"]: p for p in folder.iterdir() if p.name.endswith(end)}
        if len(names) == 2:
            names["4"].write_bytes(names["5"].read_bytes())
            before = names["4"].read_bytes()
            with pytest.raises(ValueError, match="^file_name leads to [^\n]* which was made for [^\n]*steps 5[^\n]*; choose another name"):
                tune(analytic.build("eps"), steps=4, **small)
            assert names["4"].read_bytes() == before
            names["4"].unlink()


@pytest.mark.parametrize("at", [60, 200, 450])
def test_interrupted_and_resumed(analytic, tune, interrupt, folder, at):
    """Cancel in the reference, at the known schedules or in the search keeps what is done in a part file that no list shows; the same
    settings go on there, pay no finished run of the first two twice, and the budget holds for both runs together."""
    import comfy.model_management as management
    import folder_paths

    patcher = analytic.build("eps", analytic.MIXTURE)
    interrupt(at)
    with pytest.raises(management.InterruptProcessingException):
        tune(patcher, seeds=8)
    spent = sum(c["shape"][0] for c in analytic.network(patcher).calls)
    reference = 8 * 20
    found = sorted(p.name.partition(".")[2] for p in folder.iterdir())
    assert at <= spent <= at + 8 and found == ["json"] * (at > 400) + ["json.part"] * (at > reference)
    folder_paths.filename_list_cache.clear()
    assert len(folder_paths.get_filename_list("dpm_tuned")) == (at > 400)
    seen = interrupt(None)
    del seen[:]
    rest = tune(patcher, seeds=8)
    assert seen[-1] == (800, 800) and rest.calls + spent * (at > reference) <= 800
    if at > reference:  # before, there is nothing that could be kept: all samples are run at once
        assert seen[0][0] > spent and rest.calls <= 800 - reference
    error = painted(analytic, patcher, rest.sampler, rest.sigmas)
    assert error < painted(analytic, patcher, "dpmpp_2m", analytic.schedule(patcher, "karras", 5))


def test_cancel_keeps_the_best(analytic, pack, tune, interrupt, folder, part, caplog, monkeypatch):
    """Cancel in the search: the best so far is a file at once, which Load opens and which says of itself that it was stopped early and
    not checked; its claim is true of the pictures of the search. The same settings go on from there, and the same file is the outcome."""
    import comfy.model_management as management

    patcher = analytic.build("eps", analytic.MIXTURE)
    caplog.set_level(logging.INFO, logger="dpm_solver_ext")
    shown = []
    monkeypatch.setattr(part("nodes.tune"), "_show", lambda node: shown.append)
    interrupt(500)
    with pytest.raises(management.InterruptProcessingException):
        tune(patcher, tune="schedule and gains")
    spent = sum(c["shape"][0] for c in analytic.network(patcher).calls)
    (file,) = folder.glob("*.json")
    last = caplog.messages[-1]
    assert "tuning stopped; the best so far is " + file.name in last and "% less error" in last and "not checked on others" in last
    assert last.endswith(shown[-1])  # on the node too
    load, how = pack.nodes["DPMSolverLoadTunedExt"].execute, analytic.sampler("dpmpp_2m")
    sigmas, sampler, text = load(file=file.name, steps=0, sampler=how).args
    assert text.startswith("Stopped early: dpmpp_2m with ") and "pictures that the search was made on" in text
    content = json.loads(file.read_text())
    known = part("nodes.tune_run").known_schedules(patcher.get_model_object("model_sampling"), 5)
    best = torch.tensor(known[content["known"].removeprefix("dpmpp_2m + ")])
    for name, run in (("tuned", (sampler, sigmas)), (content["known"], ("dpmpp_2m", best))):
        pictures = [painted(analytic, patcher, *run, seed=i, batch=1) for i in range(4)]
        assert sum(pictures) / 4 == pytest.approx(sum(content["held_out"][name]) / 4, rel=0.15), name
    interrupt(None)
    rest = tune(patcher, tune="schedule and gains", budget=8000)
    assert rest.calls > 0 and [p.name for p in folder.iterdir()] == [file.name]
    assert json.loads(file.read_text())["evaluations"] == spent + rest.calls
    whole = load(file=file.name, steps=0, sampler=how).args[2]
    assert whole.splitlines()[0] == rest.info.splitlines()[0] and "Stopped" not in whole and "has not seen" in whole
    assert tune(patcher, tune="schedule and gains", budget=8000).calls == 0


def test_cancel_replaces_nothing_better(analytic, tune, interrupt, folder, caplog):
    """A file that was checked on unseen pictures stays when a higher budget is cancelled; so does a better one of an earlier stop whose
    part file was lost."""
    import comfy.model_management as management

    patcher = analytic.build("eps", analytic.MIXTURE)
    caplog.set_level(logging.INFO, logger="dpm_solver_ext")

    def stopped(at, **widgets):
        interrupt(at)
        with pytest.raises(management.InterruptProcessingException):
            tune(patcher, **widgets)
        interrupt(None)
        return next(folder.glob(f"{widgets['file_name']}*.json")).read_bytes()

    tune(patcher, budget=700, file_name="checked")
    (file,) = folder.glob("checked*.json")
    before = file.read_bytes()
    assert stopped(720, budget=8000, file_name="checked") == before and f"{file.name} is as it was before" in caplog.messages[-1]
    content = json.loads(stopped(500, budget=8000, file_name="stopped"))
    (file,) = folder.glob("stopped*.json")
    for at, error, stays in ((560, 0.0, True), (600, 9.0, False)):
        held = content["held_out"] | {"tuned": [error] * 4, content["known"]: [10.0] * 4}
        file.write_text(json.dumps(content | {"held_out": held}))
        before = file.read_bytes()
        assert (stopped(at, budget=8000, file_name="stopped") == before) == stays
        assert (f"{file.name} is as it was before" in caplog.messages[-1]) == stays


def test_cancel_on_a_full_disk(analytic, tune, interrupt, folder, part, monkeypatch, caplog):
    """The user reads of the Cancel; that the best so far could not be written is in the log."""
    import comfy.model_management as management

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(part("nodes.tune_store"), "save_tuned", full)
    caplog.set_level(logging.INFO, logger="dpm_solver_ext")
    interrupt(500)
    with pytest.raises(management.InterruptProcessingException):
        tune(analytic.build("eps", analytic.MIXTURE))
    assert "could not be written" in caplog.messages[-1] and [p.suffix for p in folder.iterdir()] == [".part"]


def test_every_batch_of_the_reference_is_kept(analytic, tune, folder, part, monkeypatch):
    """The part file grows with each batch of reference pictures, not only when a run is cut off: a crash loses one batch of them."""
    monkeypatch.setattr(part("nodes.long_run"), "MOST", 2)
    patcher, load, kept = analytic.build("eps"), part("solvers.tune_file").load_state, {}

    def look(index):
        for file in folder.glob("*.part"):
            kept.setdefault(len(load(file)[0].reference), index)

    analytic.network(patcher).on_call = look
    tune(patcher, seeds=6, budget=800)
    checks = 5  # calls that see whether the sampler adds noise; and a batch is seen to be whole at the first call of the next
    assert kept == {n: checks + 20 * n // 2 + 1 for n in (2, 4, 6)}


def test_the_part_is_written_every_ten_seconds(part, tmp_path, monkeypatch):
    """Every ten seconds, at once if asked, nothing while there is nothing; where writing is slow, a twentieth of the time at most."""
    run, clock, writes = part("solvers.keep"), [0.0], []
    monkeypatch.setattr(run, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def save(content, path):
        writes.append((content, path.name, clock[0]))
        clock[0] += 3.0 if content == "slow" else 0.0

    with run.Keeper(None, tmp_path / "a.json", save) as keep:
        for second in range(100):
            clock[0] = float(second)
            keep.content = "fast" if second > 15 else None
            keep(now=second in (5, 52))
        assert writes == [("fast", "a.json.part", t) for t in (16.0, 27.0, 38.0, 49.0, 52.0, 63.0, 74.0, 85.0, 96.0)]
        del writes[:]
        keep.content = "slow"
        for _ in range(200):
            clock[0] += 1.0
            keep()
        assert [b[2] - a[2] for a, b in zip(writes, writes[1:], strict=False)] == [64.0] * 3  # 3 of writing, 60, and the next call
        keep.finish()
    assert len(writes) == 4


def test_damaged_files_are_made_anew(analytic, tune, folder, said):
    """A file or a part that cannot be read is named and replaced; it never ends the run."""
    small = {"seeds": 6, "budget": 800, "size": (4, 4)}
    first = tune(analytic.build("eps"), **small)
    file = next(folder.glob("*.json"))
    for bad in (b"", b"\x80\x04K\x01.", file.read_bytes()[:-9]):
        file.write_bytes(bad)
        file.with_name(file.name + ".part").write_bytes(bad)
        again = tune(analytic.build("eps"), **small)
        assert again.calls == first.calls and torch.equal(again.sigmas, first.sigmas)
    assert len(said()) == 6 and all(file.name in words for words in said())


def test_batches(analytic, tune, part, monkeypatch):
    """How many latents run at once follows from the memory that is free; where it was not enough, the batch is halved and the run goes on
    with what it has."""
    import comfy.model_management as management

    patcher, left, shapes = analytic.build("eps"), [True], []

    def fail(index):
        shapes.extend(c["shape"][0] for c in analytic.network(patcher).calls[len(shapes) :])
        if index == 25 and left:
            left.pop()
            raise management.OOM_EXCEPTION("out of memory")

    analytic.network(patcher).on_call = fail
    got = tune(patcher)
    assert max(shapes[:24]) == 8 and max(shapes[27:]) == 4 and got.calls <= 800 + 6


def test_prompts_are_dealt(analytic, tune, part, monkeypatch):
    """Sample i is painted with prompt i mod their number, whatever the batch."""
    patcher, mus = analytic.build("eps"), (0.75, 0.5, -1.0)
    host = part("nodes.tune_host").Host
    real, dealt = host.denoise, set()

    def denoise(self, state, sigma):
        before = len(analytic.network(patcher).calls)
        out = real(self, state, sigma)
        for call in analytic.network(patcher).calls[before:]:
            dealt.update((mu, tuple(i for i in self.ids if mus[i % 3] == mu)) for mu in call["mu"])
            assert call["shape"][0] == len([i for i in self.ids if mus[i % 3] == call["mu"][0]]) and len(set(call["mu"])) == 1
        return out

    monkeypatch.setattr(host, "denoise", denoise)
    got = tune(patcher, positive_2=analytic.cond(0.5), positive_3=analytic.cond(-1.0))
    assert {mu for mu, _ in dealt} == set(mus) and got.calls > 100


def test_the_reference_is_the_picture(analytic, tune, part, monkeypatch):
    """The starts are those of the host's own pictures: a fine run from them ends where a fine run of the node SamplerCustom does."""
    run, seen = part("nodes.tune_run"), {}
    real = run.tune_schedule
    monkeypatch.setattr(run, "tune_schedule", lambda *a, **k: seen.update(x=k["x"]) or real(*a, **k))
    import comfy.sample

    for kind in ("eps", "sd3", "edm"):
        patcher = analytic.build(kind)
        tune(patcher, tune_seed=20, seeds=6, budget=800)
        empty = torch.zeros(analytic.latent_shape(patcher))
        for i in range(4):
            noise = comfy.sample.prepare_noise(empty, 20 + i)
            sampling = patcher.get_model_object("model_sampling")
            top = torch.as_tensor(float(sampling.sigma_max), dtype=torch.float32)
            assert torch.equal(seen["x"][i : i + 1].cpu(), sampling.noise_scaling(top, noise, empty, True))


@pytest.fixture
def tuned_with_gains(analytic, tune):
    patcher = analytic.build("eps", analytic.MIXTURE)
    got = tune(patcher, tune="schedule and gains", budget=4000)
    assert max(abs(g - 1) for g in got.sampler.extra_options["gains"]) > 0.01, "this test needs gains"
    return patcher, got


def test_gains_act_on_their_run_only(analytic, tuned_with_gains, said):
    """At the tuned sigmas the gains act; at others, and with a mask, the run is that of the sampler alone, and one sentence says so."""
    patcher, got = tuned_with_gains
    noise = analytic.noise_for(analytic.latent_shape(patcher), 5)

    def run(how, sigmas, **more):
        return analytic.sample(patcher, how, sigmas, noise, **more)

    assert (run(got.sampler, got.sigmas) - run("dpmpp_2m", got.sigmas)).abs().max() > 1e-3 and said() == []
    assert torch.equal(run(got.sampler, got.sigmas * (1 + 1e-5)), run(got.sampler, got.sigmas * (1 + 1e-5)))
    other = analytic.schedule(patcher, "karras", 5)
    assert torch.equal(run(got.sampler, other), run("dpmpp_2m", other))
    assert torch.equal(run(got.sampler, got.sigmas[1:]), run("dpmpp_2m", got.sigmas[1:]))
    assert len(said()) == 1 and "other sigmas" in said()[0]
    mask, latent = torch.zeros(1, 1, 8, 8), analytic.noise_for(analytic.latent_shape(patcher), 6)
    mask[..., :4] = 1
    both = [run(how, got.sigmas, mask=mask, latent=latent) for how in (got.sampler, "dpmpp_2m")]
    assert torch.equal(*both) and len(said()) == 2 and "mask" in said()[1]


def test_previews(analytic, tuned_with_gains):
    """The callback is told every step, of the states and predictions that the sampler works with."""
    patcher, got = tuned_with_gains
    told = []

    noise = analytic.noise_for(analytic.latent_shape(patcher), 5)
    out = analytic.sample(patcher, got.sampler, got.sigmas, noise, callback=lambda step, x0, x, total: told.append((step, total, x0.cpu())))
    assert [t[:2] for t in told] == [(i, 5) for i in range(5)]
    assert torch.allclose(patcher.model.process_latent_out(told[-1][2]), out, atol=1e-4)


def test_load_gives_what_was_tuned(analytic, pack, tuned_with_gains, folder, said):
    """A file of a foreign sampler needs it connected, and is then the very sampler; with another one the gains are off. At another number
    of steps the sigmas are a schedule of that number."""
    patcher, got = tuned_with_gains
    load = pack.nodes["DPMSolverLoadTunedExt"]
    (name,) = load.INPUT_TYPES()["required"]["file"][1]["options"]
    with pytest.raises(ValueError, match=r"^tuned-\w+\.json is for the sampler dpmpp_2m, which [^\n]*connect it"):
        load.execute(file=name, steps=0)
    sigmas, how, text = load.execute(file=name, steps=0, sampler=analytic.sampler("dpmpp_2m")).args
    noise = analytic.noise_for(analytic.latent_shape(patcher), 5)
    assert torch.equal(sigmas, got.sigmas) and text.splitlines()[0] == got.info.splitlines()[0]
    pictures = [analytic.sample(patcher, h, sigmas, noise) for h in (how, got.sampler)]
    assert torch.equal(*pictures) and said() == []
    euler, text = load.execute(file=name, steps=0, sampler=analytic.sampler("euler")).args[1:]
    assert torch.equal(analytic.sample(patcher, euler, sigmas, noise), analytic.sample(patcher, "euler", sigmas, noise))
    assert "without gains" in text
    for steps in (3, 8, 20):
        more, how, text = load.execute(file=name, steps=steps, sampler=analytic.sampler("dpmpp_2m")).args
        assert len(more) == steps + 1 and more[0] == sigmas[0] and more[-1] == 0 and bool((more.diff() < 0).all())
        assert torch.equal(analytic.sample(patcher, how, more, noise), analytic.sample(patcher, "dpmpp_2m", more, noise))
        assert "without gains" in text
    analytic.sample(patcher, how, sigmas, noise, cfg=3.0)
    assert len(said()) == 1 and "guidance 1," in said()[0] and "guidance 3;" in said()[0] and name in said()[0]


def test_load_makes_ours(analytic, pack, tune, build_node):
    """Steps tuned for a sampler of this pack need nothing connected."""
    patcher = analytic.build("sd3", analytic.MIXTURE)
    got = tune(patcher, sampler=build_node("DPMSolverSamplerExt", preset="dpmpp_3m"), tune="schedule and gains")
    load = pack.nodes["DPMSolverLoadTunedExt"]
    (name,) = load.INPUT_TYPES()["required"]["file"][1]["options"]
    sigmas, how, _ = load.execute(file=name, steps=0).args
    noise = analytic.noise_for(analytic.latent_shape(patcher), 5)
    assert torch.equal(analytic.sample(patcher, how, sigmas, noise), analytic.sample(patcher, got.sampler, got.sigmas, noise))


def test_with_statistics(analytic, pack, tune, build_node, part):
    """DPM-Solver-v3 with statistics is tuned with them, at order 2 and 1; other statistics make another file, which asks for
    them."""
    import numpy as np

    statistics = part("solvers.statistics").Statistics
    lam = np.linspace(-2.7, 3.5, 12)
    l = 1 / (1 + 0.25 * np.exp(2 * lam))
    ems = [statistics("scalar", lam, l * f, 0 * l, 0 * l) for f in (1.0, 0.9)]
    patcher = analytic.build("eps", analytic.MIXTURE)
    hows = [build_node("DPMSolverSamplerExt", preset="dpm_solver_v3", ems=e) for e in ems]
    got = tune(patcher, sampler=hows[0])
    assert tune(patcher, sampler=hows[0]).calls == 0 and tune(patcher, sampler=hows[1]).calls > 0
    choices = part("nodes.tune_choice").choices_of(hows[0], "schedule, gains and solver")
    ours = {f"{name} (ext)" for name in part("solvers.tune").CANDIDATES}
    assert set(choices) == {"dpm_solver_v3_ext", "dpm_solver_v3 of order 1 (ext)", *ours}
    load = pack.nodes["DPMSolverLoadTunedExt"]
    for name in load.INPUT_TYPES()["required"]["file"][1]["options"]:
        with pytest.raises(ValueError, match=r"with statistics; connect to sampler [^\n]*$"):
            load.execute(file=name, steps=0)
    sigmas, how, _ = load.execute(file=name, steps=0, sampler=hows[0]).args
    assert painted(analytic, patcher, how, sigmas) < 0.3 and len(got.sigmas) == 6


@pytest.mark.parametrize("widgets, word", [
    ({"steps": 2}, "steps"), ({"seeds": 5}, "seeds"), ({"budget": -1}, "budget"), ({"budget": 100}, "budget"), ({"tune": "all"}, "tune"),
    *[({"file_name": name}, "file_name") for name in ("", "../up", "a/b", "nul", "a\nb")],
], ids=str)  # fmt: skip
def test_bad_widgets(analytic, tune, folder, widgets, word):
    """One sentence that names the widget, before the first model call; nothing is written."""
    patcher = analytic.build("eps")
    with pytest.raises(ValueError, match=rf"^[^\n]*{word}[^\n]*$"):
        tune(patcher, **widgets)
    assert not analytic.network(patcher).calls and not folder.exists()


def test_files_stay_in_their_folder(pack, folder, tmp_path):
    """No name leads out of the folder, and hostile files are one sentence with their name."""
    folder.mkdir()
    (tmp_path / "secret.json").write_bytes(b"{}")
    (folder / "link.json").symlink_to(tmp_path / "secret.json")
    load = pack.nodes["DPMSolverLoadTunedExt"].execute
    for name in ("../secret.json", str(tmp_path / "secret.json"), "link.json", "..", "", "gone.json", "a.txt", None):
        with pytest.raises(ValueError, match=r"^file is [^\n]*$"):
            load(file=name, steps=0)
    for bad in (b"", b"{}", b"[" * 100_000, b'{"format": 1e999}', b"\xff"):
        (folder / "bad.json").write_bytes(bad)
        with pytest.raises(ValueError, match=r"^bad.json [^\n]*$"):
            load(file="bad.json", steps=0)


def test_words_of_a_file_choose_no_code(analytic, tune, pack, folder):
    """What a shared file says of its solver is checked like a widget: what is none of ours is asked for, nothing else."""
    tune(analytic.build("eps"), sampler="dpmpp_2m_ext", seeds=6, budget=800)
    file = next(folder.glob("*.json"))
    content = json.loads(file.read_text())
    load = pack.nodes["DPMSolverLoadTunedExt"].execute
    assert load(file=file.name, steps=0)
    for words in (
        {"plan": "[1]"}, {"plan": "{"}, {"plan": '{"algorithm": "evil"}'}, {"plan": '{"order": 1e999}'}, {"plan": '{"path": 1}'},
        {"plan": '{"algorithm": "dpmsolver++", "order": true}'}, {"plan": "[" * 3000}, {"sigma_min": "x"}, {"sigma_min": "nan"},
        {"noise": "loud"}, {"sigma_min": "99"},
    ):  # fmt: skip
        file.write_text(json.dumps(content | {"metadata": content["metadata"] | words}))
        with pytest.raises(ValueError, match=rf"^{file.name} [^\n]*$"):
            load(file=file.name, steps=0)


def test_the_folder_is_the_hosts(host, pack):
    """models/dpm_tuned is known to the host beside its own folders, and is not made before there is a file."""
    import folder_paths

    paths, endings = folder_paths.folder_names_and_paths["dpm_tuned"]
    assert paths == [str(host.base / "models" / "dpm_tuned")] and endings == {".json"}


def test_plot(analytic, tune):
    """A picture with something on it."""
    got = tune(analytic.build("sd3"), seeds=6, budget=800)
    assert got.plot.dtype == torch.float32 and got.plot.ndim == 4 and got.plot.shape[::3] == (1, 3) and min(got.plot.shape[1:3]) > 400
    assert 0 <= got.plot.min() < 0.3 and got.plot.max() == 1 and 0.02 < (got.plot < 0.9).float().mean() < 0.5
    assert "guidance: 1" in got.info and "error: " in got.info and got.info == got.text


def wrapping(sampler, **options):
    """A SAMPLER that runs another one, as packs for detail do."""
    import comfy.samplers

    def sample_wrapped(model, x, sigmas, extra_args=None, callback=None, disable=None, *, inner, **_):
        return inner.sampler_function(model, x, sigmas, extra_args=extra_args, callback=callback, disable=disable, **inner.extra_options)

    return comfy.samplers.KSAMPLER(sample_wrapped, {"inner": sampler, **options})


def controlled(analytic, weight=1.0, strength=1.0, reach=(0.0, 1.0), before=None, hooks=None, value=0.5):
    """A prompt with a ControlNet that has a network, maybe after another one, and hooks."""
    control = analytic.ShiftControl()
    control.control_model = torch.nn.Linear(3, 3)
    torch.nn.init.constant_(control.control_model.weight, weight)
    torch.nn.init.zeros_(control.control_model.bias)
    control.set_cond_hint(torch.full((1, 3, 4, 4), value), strength, reach)
    if before is not None:
        control.set_previous_controlnet(analytic.ShiftControl().set_cond_hint(torch.full((1, 3, 4, 4), before)))
    ((tensor, _),) = analytic.cond(0.75)
    return [[tensor, {"control": control} | ({} if hooks is None else {"hooks": hooks})]]


def hooked(strength=1.0, frames=(), seed=0):
    import comfy.hooks

    group = comfy.hooks.create_hook_lora({"a.lora_up.weight": torch.full((4, 2), 1.0 + seed)}, strength, strength)
    times = comfy.hooks.HookKeyframeGroup()
    for frame in frames:
        times.add(comfy.hooks.HookKeyframe(*frame))
    group.set_keyframes_on_hooks(times)
    return group


def test_codes_of_prompts(analytic, part):
    """Whatever of a ControlNet or of hooks changes the picture changes the code; equal ones that are other objects, and what a run leaves
    on them, do not."""
    code = part("nodes.tune_code").thing_code
    others = [
        {}, {"weight": 2.0}, {"strength": 0.5}, {"reach": (0.0, 0.5)}, {"reach": (0.2, 1.0)}, {"before": 0.1}, {"before": 0.2},
        {"value": 0.4}, {"hooks": hooked()}, {"hooks": hooked(0.5)}, {"hooks": hooked(seed=1)}, {"hooks": hooked(frames=[(0.3, 0.0)])},
    ]  # fmt: skip
    codes = [code(controlled(analytic, **how)) for how in others]
    assert len(set(codes)) == len(others) and codes == [code(controlled(analytic, **how)) for how in others]
    used = controlled(analytic, hooks=hooked(frames=[(0.3, 0.0)]))
    control, frames = used[0][1]["control"], used[0][1]["hooks"].hooks[0].hook_keyframe
    control.cond_hint, control.timestep_range, control.extra_concat = torch.ones(1, 3, 8, 8), (9.0, 0.0), [torch.ones(1)]
    frames._current_used_steps, frames._curr_t, frames.keyframes[0].start_t = 3, 0.5, 14.6
    assert code(used) == codes[-1]
    control.previous_controlnet = control  # a ring ends
    assert code(used) != codes[-1]


def test_codes_of_samplers(analytic, part):
    """A sampler that wraps another one is told from the same around a third, by name too."""
    choice = part("nodes.tune_choice")
    hows = [wrapping(analytic.sampler("euler")), wrapping(analytic.sampler("dpmpp_2m")), wrapping(wrapping(analytic.sampler("euler")))]
    hows += [wrapping(analytic.sampler("euler"), amount=0.5), analytic.sampler("euler")]
    assert len({choice.code_of_sampler(how) for how in hows}) == 5
    assert choice.code_of_sampler(wrapping(analytic.sampler("euler"))) == choice.code_of_sampler(hows[0])
    assert choice.name_of(hows[0]) == "wrapped of euler" and choice.name_of(hows[1]) == "wrapped of dpmpp_2m"


def test_one_solver_by_many_ways(analytic, pack, tune, build_node, folder, part):
    """The preset auto is one sampler, from KSamplerSelect, from either node of this pack or among the solvers that are tried: it has
    one code and one name, is not tried twice, and gets on Load the gains that were tuned for it; its next relative does not."""
    import comfy.samplers

    choice, modes = part("nodes.tune_choice"), part("nodes.tune").MODES
    ways = {
        "KSamplerSelect": analytic.sampler("dpm_auto_ext"), "node": build_node("DPMSolverSamplerExt", preset="auto"),
        "custom": build_node("DPMSolverSamplerExt", preset="custom", algorithm="dpmsolver-v"),
        "advanced": build_node("DPMSolverSamplerAdvancedExt"),
    }  # fmt: skip
    other = ways.pop("custom")  # without the corrector
    tried = choice.choices_of(analytic.sampler("heun"), modes[2])["auto (ext)"]
    code = choice.code_of_sampler(comfy.samplers.KSAMPLER(tried.function, tried.options))
    for how in ways.values():
        assert choice.code_of_sampler(how) == code and choice.name_of(how) == "dpm_auto_ext"
        assert "auto (ext)" not in choice.choices_of(how, modes[2])
    assert choice.code_of_sampler(other) != code and "auto (ext)" in choice.choices_of(other, modes[2])
    patcher = analytic.build("eps", analytic.MIXTURE)
    got = tune(patcher, sampler="dpm_auto_ext", tune="schedule and gains")
    (file,) = folder.glob("*.json")
    content = json.loads(file.read_text())
    assert got.sampler.extra_options["gains"], "this test needs gains"
    for name in ("dpm_auto_ext", "auto (ext)"):  # what it is called when it was connected, and when it was found
        file.write_text(json.dumps(content | {"solver": name}))
        for way, how in {**ways, "": None, "custom": other}.items():
            _, loaded, text = pack.nodes["DPMSolverLoadTunedExt"].execute(file=file.name, steps=0, sampler=how).args
            same = loaded.extra_options["gains"] == got.sampler.extra_options["gains"]
            assert same == (how is not other) == ("without gains" not in text), way


def test_resumed_with_controls(analytic, tune, interrupt, folder):
    """Cancel leaves nothing on the ControlNets of any prompt, which the host keeps: the next run goes on in the same part file."""
    import comfy.model_management as management

    prompts = {"positive": controlled(analytic), "positive_2": controlled(analytic, before=0.25)}
    patcher = analytic.build("eps", analytic.MIXTURE)
    interrupt(200)
    with pytest.raises(management.InterruptProcessingException):
        tune(patcher, **prompts)
    controls = [p[0][1]["control"] for p in prompts.values()]
    assert all(c.timestep_range is None for c in [*controls, controls[1].previous_controlnet])
    controls[0].cond_hint = torch.ones(1)  # some packs' own nets are not cleaned
    seen = interrupt(None)
    del seen[:]
    assert tune(patcher, **prompts).calls > 0 and seen[0][0] > 200 and len(list(folder.glob("*.json"))) == 1
    assert all(c.timestep_range is None for c in controls)


def test_scheduled_hooks(analytic, tune, part):
    """Hooks with keyframes move forward once in the host, so only one run would have them right: refused, on controls too."""
    refuse = part("nodes.tune_code").refuse_scheduled_hooks
    for frames, good in (([(0.3, 0.0)], True), ([(1.0, 0.0), (0.3, 0.5)], False)):
        plain = analytic.cond(0.75)
        plain[0][1]["hooks"] = hooked(frames=frames)
        on_control = controlled(analytic, before=0.1)
        on_control[0][1]["control"].previous_controlnet.extra_hooks = hooked(frames=frames)
        for prompt in (plain, on_control):
            if good:  # one strength all the time
                assert refuse(prompt) is None
                continue
            patcher = analytic.build("eps")
            for where in ("positive", "positive_2"):
                with pytest.raises(ValueError, match=r"^positive or negative has a hook with keyframes[^\n]*$"):
                    tune(patcher, **{where: prompt})
            assert not analytic.network(patcher).calls


@pytest.mark.parametrize("mode", ["schedule", "schedule and gains"])
def test_another_use_warns(analytic, tune, said, mode):
    """The sampler of the tuning node says once that a run has another CFG than it was tuned for, with gains or without."""
    patcher = analytic.build("eps", analytic.MIXTURE)
    got = tune(patcher, tune=mode)
    noise = analytic.noise_for(analytic.latent_shape(patcher), 5)
    analytic.sample(patcher, got.sampler, got.sigmas, noise)
    assert said() == []
    for _ in range(2):
        analytic.sample(patcher, got.sampler, got.sigmas, noise, cfg=3.0)
    assert len(said()) == 1 and "guidance 1," in said()[0] and "guidance 3;" in said()[0]


def test_gains_are_for_their_options(analytic, pack, tune, folder):
    """On Load, gains go to the very sampler with the very options, not to one of the same name."""
    patcher = analytic.build("eps", analytic.MIXTURE)
    got = tune(patcher, sampler=wrapping(analytic.sampler("dpmpp_2m"), amount=1.0), tune="schedule and gains")
    assert got.sampler.extra_options["gains"], "this test needs gains"
    load, (file,) = pack.nodes["DPMSolverLoadTunedExt"].execute, folder.glob("*.json")
    for amount, there in ((1.0, True), (0.5, False)):
        how, text = load(file=file.name, steps=0, sampler=wrapping(analytic.sampler("dpmpp_2m"), amount=amount)).args[1:]
        assert bool(how.extra_options["gains"]) == there and ("without gains" in text) != there


def test_load_makes_thresholding(analytic, pack, tune, build_node, folder):
    """Every option of the advanced node that is a number or a word comes back from the file; wrong ones do not."""
    patcher = analytic.build("eps", analytic.MIXTURE)
    how = build_node(
        "DPMSolverSamplerAdvancedExt", thresholding="dynamic_in_latent_space", threshold_ratio=0.9, threshold_max=2.0,
    )  # fmt: skip
    got = tune(patcher, sampler=how, tune="schedule and gains")
    load, (file,) = pack.nodes["DPMSolverLoadTunedExt"].execute, folder.glob("*.json")
    sigmas, made, _ = load(file=file.name, steps=0).args
    noise = analytic.noise_for(analytic.latent_shape(patcher), 5)
    assert torch.equal(analytic.sample(patcher, made, sigmas, noise), analytic.sample(patcher, got.sampler, got.sigmas, noise))
    content = json.loads(file.read_text())
    plan = json.loads(content["metadata"]["plan"])
    for bad in ({"thresholding": "loud"}, {"threshold_ratio": 7.0}, {"threshold_max": -1.0}, {"corrector_range": "x"}, {"thresholding": 1}):
        file.write_text(json.dumps(content | {"metadata": content["metadata"] | {"plan": json.dumps(plan | bad)}}))
        with pytest.raises(ValueError, match=rf"^{file.name} [^\n]*cannot be made from the file; connect it[^\n]*$"):
            load(file=file.name, steps=0)


def test_a_full_disk(analytic, tune, part, monkeypatch, said):
    """What cannot be kept on the way does not end the tuning; one warning."""
    run = part("nodes.tune_run")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run, "save_state", full)
    monkeypatch.setattr(run.Keeper, "EVERY", -1.0)
    for budget in (700, 8000):  # the lower one ends the search
        assert len(tune(analytic.build("eps", analytic.MIXTURE), budget=budget).sigmas) == 6
    assert len(said()) == 1 and "No space left" in said()[0]


@pytest.mark.parametrize("name, per_step", [("heun", 2), ("dpmpp_2m", 1)])
def test_what_is_told_is_what_may_be_spent(analytic, tune, part, monkeypatch, caplog, name, per_step):
    """With budget 0 the log tells the very total that the library would take for itself, and hands it over; one below the least is refused
    with the least that the library asks for, before any model call. A sampler with two calls a step costs what it costs."""
    node, library = part("nodes.tune_run"), part("solvers.tune")
    real, prices, asked = library.lowest_budget, [], []
    monkeypatch.setattr(library, "lowest_budget", lambda *costs: prices.append((costs, real(*costs))) or prices[-1][1])

    class Seen(Exception):
        pass

    def priced(*args, **options):
        asked.append(options["budget"])
        library.tune_schedule(*args, **options | {"budget": None, "report": stop})

    def stop(state):
        raise Seen

    monkeypatch.setattr(node, "tune_schedule", priced)
    caplog.set_level(logging.INFO, logger="dpm_solver_ext")
    for mode in part("nodes.tune").MODES:
        patcher, widgets = analytic.build("eps", analytic.MIXTURE), {"sampler": name, "steps": 4, "seeds": 7, "tune": mode}
        del prices[:]
        with pytest.raises(Seen):
            tune(patcher, budget=0, **widgets)
        (costs, least), (_, total) = prices
        assert costs[3] == 4 * per_step - (per_step > 1) and total > least  # the last step ends at 0, which takes one call
        assert asked[-1] == total and f"at most {total:,} model calls" in caplog.text
        before = len(analytic.network(patcher).calls)
        with pytest.raises(
            ValueError, match=rf"^budget is {least - 1}; 7 seeds at 4 steps need {least} model calls at least, so raise it to that[^\n]*$"
        ):
            tune(patcher, budget=least - 1, **widgets)
        assert len(analytic.network(patcher).calls) == before
        with pytest.raises(Seen):
            tune(patcher, budget=least, **widgets)
        assert asked[-1] == least


def test_a_sampler_without_end(analytic, tune, folder):
    """A sampler that would call for ever is refused before the model is called."""
    import comfy.samplers

    def sample_for_ever(model, x, sigmas, extra_args=None, callback=None, disable=None):
        while True:
            x = model(x, sigmas[:1], **(extra_args or {}))

    patcher = analytic.build("eps")
    with pytest.raises(ValueError, match=r"^sampler for_ever makes more than 165 model calls in 5 steps; connect [^\n]*$"):
        tune(patcher, sampler=comfy.samplers.KSAMPLER(sample_for_ever))
    assert not analytic.network(patcher).calls and not folder.exists()


@pytest.mark.parametrize("what", ["a known schedule", "the reference", "rounding"])
def test_a_part_of_other_levels(analytic, tune, interrupt, folder, part, monkeypatch, said, what):
    """Errors and steps that were found at other noise levels than those of now are not taken up, whatever made them others: one warning,
    and the outcome is that of a tuning that begins there. Rounding makes no others."""
    import comfy.model_management as management

    run, patcher = part("nodes.tune_run"), analytic.build("eps", analytic.MIXTURE)
    interrupt(500)
    with pytest.raises(management.InterruptProcessingException):
        tune(patcher)
    (kept,) = folder.glob("*.part")
    names = {p.name for p in folder.iterdir()}
    if what == "the reference":
        monkeypatch.setattr(run, "REFERENCE", 21)
    else:
        real, factor = run.known_schedules, 1.02 if what == "a known schedule" else 1 + 1e-7

        def moved(sampling, steps):
            found = real(sampling, steps)
            return found | {"karras": [s * factor if i == 2 else s for i, s in enumerate(found["karras"])]}

        monkeypatch.setattr(run, "known_schedules", moved)
    seen = interrupt(None)
    del seen[:]
    got = tune(patcher)
    again = what == "rounding"
    assert (seen[0][0] > 500) == again and len(said()) == (not again) and all(kept.name in words for words in said())
    # the outcome is under the same name, and is what an untouched folder would have got
    assert {p.name for p in folder.iterdir() if p.suffix == ".json"} <= names
    if not again:
        for file in folder.iterdir():
            file.unlink()
        assert torch.equal(tune(patcher).sigmas, got.sigmas)


def test_cancel_before_anything_was_found(analytic, tune, interrupt, folder, part, monkeypatch, caplog):
    """The node and the log say that there is no file, or that an old one is as it was, and whether anything is kept; what stage it was in
    was told before. An error is no Cancel and says itself what it is."""
    import comfy.model_management as management

    pace = part("nodes.long_run").Pace
    real = pace.__call__
    monkeypatch.setattr(pace, "__call__", lambda self, done, text: (self.say(text("1:00")), real(self, done, text)))
    shown, patcher = [], analytic.build("eps", analytic.MIXTURE)
    monkeypatch.setattr(part("nodes.tune"), "_show", lambda node: shown.append)
    caplog.set_level(logging.INFO, logger="dpm_solver_ext")
    none = "tuning stopped; nothing better than the known schedules was found yet, so there is no file to load; the same settings "
    for at, stage, last in (
        (60, "painting the references", none + "begin anew."),
        (200, "trying known schedules", none + "go on from here."),
    ):
        interrupt(at)
        with pytest.raises(management.InterruptProcessingException):
            tune(patcher)
        assert shown[-2].endswith(f"at most 1:00 left, {stage}") and shown[-1] == last and caplog.messages[-1].endswith(last)
        assert not list(folder.glob("*.json"))
    interrupt(None)
    tune(patcher, budget=700)
    assert "error " in shown[-2] and " → " in shown[-2]
    (file,) = folder.glob("*.json")
    file.with_name(file.name + ".part").unlink()
    interrupt(200)
    with pytest.raises(management.InterruptProcessingException):
        tune(patcher)
    assert shown[-1] == f"tuning stopped; {file.name} is as it was before; the same settings go on from here."
    interrupt(None)
    with pytest.raises(ValueError, match="adds noise"):
        tune(patcher, sampler="euler_ancestral")
    assert not shown[-1].startswith("tuning stopped; nothing") and shown[-1].count("as it was before") == 1


def test_an_error_on_the_way_out(analytic, tune, interrupt, folder, part, monkeypatch, said):
    """Cancel stays Cancel, whatever goes wrong where the best so far is looked for; the part is kept, and the log says what went wrong."""
    import comfy.model_management as management

    def broken(*args, **options):
        raise KeyError("spoilt")

    for name in ("so_far", "words_of"):
        interrupt(500)
        with monkeypatch.context() as patch, pytest.raises(management.InterruptProcessingException):
            patch.setattr(part("nodes.tune_run"), name, broken)
            tune(analytic.build("eps", analytic.MIXTURE), file_name=name)
        assert "the best so far could not be saved: 'spoilt'" in said()[-1] and list(folder.glob(f"{name}*.part"))


def test_calls_of_uneven_pairs(analytic, tune, folder, part):
    """Where the outcome makes more or fewer model calls a picture than the pair that it is held against, the file and
    the info say how many each."""
    store = part("nodes.tune_store")
    tune(analytic.build("eps"), sampler="heun", tune="schedule and gains", steps=4, seeds=6, budget=2000, size=(4, 4))
    (file,) = folder.glob("*.json")
    tuned, words = part("solvers.tune_file").load_tuned(file)
    assert tuned.solver == "heun" and "model calls a picture" not in words["compared"]  # both are heun's
    choice, state = part("nodes.tune_choice").choices_of(analytic.sampler("heun"), "schedule"), part("solvers.tune").State()
    choices, calls = choice | {"ddim (ext)": choice["heun"]}, {"heun + beta": 7, "heun + karras": 7, "ddim (ext) + beta": 4}
    state.errors = {f"{pair} | 0": 1.0 for pair in calls}
    for solver, known, told in (
        ("heun", "ddim (ext) + beta", " (heun makes 7 model calls a picture, ddim (ext) + beta 4)"),
        ("heun", "heun + karras", ""),
        ("ddim (ext)", "heun + karras", " (ddim (ext) makes 4 model calls a picture, heun + karras 7)"),
        ("ddim (ext)", "ddim (ext) + beta", ""),
    ):  # fmt: skip
        outcome = dataclasses.replace(tuned, solver=solver, known=known, held_out={"tuned": [1.0], known: [2.0]}, improved=True)
        words = store.words_of(outcome, {}, 0, "ended", choices, ["beta", "karras"], state, calls)
        assert words["compared"] == f"3 pairs of heun, ddim (ext) with beta, karras{told}"
        assert f"karras{told}; no others" in part("plots.tuned").summary(outcome, words, file.name)


def test_no_schedule_to_check_with(analytic, tune, part, monkeypatch):
    """One sentence where no known schedule of 3 steps is there to check a foreign sampler with."""
    run = part("nodes.tune_run")
    real = run.known_schedules
    monkeypatch.setattr(run, "known_schedules", lambda sampling, steps: {} if steps == 3 else real(sampling, steps))
    with pytest.raises(ValueError, match=r"^sampler dpmpp_2m cannot be checked[^\n]*$"):
        tune(analytic.build("eps"))
