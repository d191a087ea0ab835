"""DPM-Solver-v3's statistics in the real ComfyUI: measured on analytic models whose answer is known, kept in files, used to sample."""

import logging
import os
import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

SMALL = {"cfg": 1.0, "samples": 4, "nodes": 12, "probes": 1, "shape": "radial", "calibration_seed": 0, "file_name": "ems"}
SAMPLER = {
    "algorithm": "dpmsolver++", "order": 2, "method": "multistep", "solver_type": "dpmsolver", "start": "corrected", "final_rule": "smooth",
}  # fmt: skip


@pytest.fixture
def folder(pack, tmp_path, monkeypatch):
    """The folder of statistics, empty and this test's own."""
    import folder_paths

    path = tmp_path / "dpm_ems"
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "dpm_ems", ([str(path)], {".safetensors"}))
    return path


@pytest.fixture
def calibrate(analytic, pack, folder):
    """calibrate(patcher, **widgets) runs the node; attributes of what it returns: ems, file, text, evaluations, sigmas (of the calls)."""

    def run(patcher, positive=None, negative=None, size=(8, 8), batch=1, **widgets):
        calls = analytic.network(patcher).calls
        before = len(calls)
        latent = {"samples": torch.ones(analytic.latent_shape(patcher, batch, size))}  # its values must not matter
        out = pack.nodes["DPMSolverCalibrateExt"].execute(
            model=patcher, positive=positive or analytic.cond(0.75), negative=negative or analytic.cond(-0.25), latent_image=latent,
            **SMALL | widgets,
        )  # fmt: skip
        new = calls[before:]
        guided = 1 if abs(widgets.get("cfg", 1.0) - 1) < 1e-6 else 2
        return SimpleNamespace(
            ems=out.args[0], file=out.args[1], text=out.ui.as_dict()["text"][0], sigmas=[c["sigma"] for c in new],
            evaluations=sum(c["shape"][0] for c in new) / guided, batches=[c["shape"][0] // guided for c in new],
        )  # fmt: skip

    return run


@pytest.mark.parametrize("kind", ["eps", "v", "zsnr", "edm", "cosmos", "sd3", "flux", "wan", "v_edm"])
def test_what_is_measured(analytic, calibrate, kind):
    """Gaussian data with standard deviation c has l = 1/(1 + c² e^{2λ}) whatever the model's parameterisation, path and number of axes
    (wan is video, v_edm sound: the statistics are then by channel). Cost and progress are what was announced."""
    got = calibrate(analytic.build(kind), samples=2, nodes=40)
    exact = 1 / (1 + 0.25 * np.exp(2 * got.ems.lam))
    assert float(np.abs(got.ems.l - exact.reshape(-1, *[1] * (got.ems.l.ndim - 1))).max()) < 0.01
    assert got.ems.kind == ("channel" if kind == "v_edm" else "radial")
    nodes = len(got.ems.lam)
    assert 36 <= nodes <= 40 and got.evaluations in (2 * nodes * 2, 2 * nodes * 2 + 2)  # a path from pure noise: one more a sample
    assert got.text == f"{got.evaluations:.0f} sample-evaluations, 2 samples in {got.file}"


def test_on_levels_that_the_model_knows(analytic, calibrate):
    """A discrete model answers for the nearest level of its table, whatever it is asked: all nodes are in the table."""
    patcher = analytic.build("eps")
    table = patcher.get_model_object("model_sampling").sigmas.double().numpy()
    for sigma in calibrate(patcher).sigmas:
        assert np.abs(table / sigma - 1).min() < 1e-5


def test_the_model_as_it_is_used(analytic, calibrate):
    """Guidance and the functions that nodes put on a model act while it is measured: pictures of cfg 3 have another mean than those of
    cfg 1 here, which shows in b, and a post-cfg function sees every call."""
    plain, guided = (calibrate(analytic.build("eps"), cfg=cfg, shape="channel") for cfg in (1.0, 3.0))
    assert np.abs(plain.ems.b - guided.ems.b).max() > 0.1 and plain.file != guided.file
    patcher, seen = analytic.build("eps").clone(), []
    patcher.set_model_sampler_post_cfg_function(lambda args: seen.append(args["cond_scale"]) or args["denoised"])
    got = calibrate(patcher, cfg=3.0, shape="channel")
    assert set(seen) == {3.0} and len(seen) == len(got.sigmas) and got.file not in (plain.file, guided.file)


def test_again_costs_nothing(analytic, calibrate, folder):
    """The same settings find their file, in a new session too (a new model object of the same weights). More samples are added to it;
    fewer are content with it. What they add up to is what one run would have measured."""
    first = calibrate(analytic.build("eps"))
    again = calibrate(analytic.build("eps"))
    assert again.evaluations == 0 and again.file == first.file and np.array_equal(first.ems.l, again.ems.l)
    more = calibrate(analytic.build("eps"), samples=6)
    assert more.evaluations == 2 * 12 * 2 and more.file == first.file and more.ems.metadata["samples"] == "6"
    assert calibrate(analytic.build("eps"), samples=3).evaluations == 0
    assert [p.name for p in folder.iterdir()] == [first.file]
    (folder / first.file).unlink()
    whole = calibrate(analytic.build("eps"), samples=6)
    for name in ("l", "s", "b"):
        assert np.abs(getattr(whole.ems, name) - getattr(more.ems, name)).max() < 1e-5


def test_an_empty_latent_of_other_channels(analytic, pack, folder):
    """Empty Latent Image has four channels whatever the model: as in the host's samplers, an empty one becomes the model's."""
    patcher = analytic.build("sd3")
    out = pack.nodes["DPMSolverCalibrateExt"].execute(
        model=patcher, positive=analytic.cond(0.5), negative=analytic.cond(0.0), latent_image={"samples": torch.ones(2, 4, 8, 8)}, **SMALL
    )
    assert out.args[0].metadata["size"] == "16×8×8"


def test_other_settings_make_another_file(analytic, calibrate, folder):
    """Nothing is overwritten and nothing is taken for what it is not: whatever changes the measurement changes the file's name."""
    others = [
        {}, {"cfg": 2.0}, {"nodes": 13}, {"probes": 2}, {"shape": "channel"}, {"calibration_seed": 1}, {"file_name": "other"},
        {"shape": "element"}, {"shape": "element", "size": (8, 16)},
    ]  # fmt: skip
    names = [calibrate(analytic.build("eps"), samples=1, **widgets).file for widgets in others]
    assert len(set(names)) == len(names) == len(list(folder.iterdir()))


def test_other_prompts_and_sizes_use_the_file(analytic, calibrate, folder):
    """A workflow whose prompt is edited must not pay again, and radial statistics serve every size: more samples are made at theirs."""
    first = calibrate(analytic.build("eps"), samples=2, cfg=2.0)
    for widgets in ({"positive": analytic.cond(0.5)}, {"negative": analytic.cond(0.1)}, {"size": (16, 8)}, {"batch": 3}):
        again = calibrate(analytic.build("eps"), samples=2, cfg=2.0, **widgets)
        assert again.evaluations == 0 and again.file == first.file, widgets
    more = calibrate(analytic.build("eps"), samples=3, cfg=2.0, size=(16, 8), positive=analytic.cond(0.5))
    assert more.file == first.file and more.ems.metadata["size"] == "4×8×8" and more.ems.metadata["samples"] == "3"
    assert [p.name for p in folder.iterdir()] == [first.file]


def test_a_file_of_other_settings_under_this_name(analytic, calibrate, folder):
    """A file that was renamed is not taken for what its name says, nor overwritten."""
    first, other = (calibrate(analytic.build("eps"), samples=1, cfg=g) for g in (2.0, 3.0))
    (folder / first.file).unlink()
    (folder / other.file).rename(folder / first.file)
    before = (folder / first.file).read_bytes()
    with pytest.raises(ValueError, match="which was made for guidance 3; choose another name, or remove the file"):
        calibrate(analytic.build("eps"), samples=1, cfg=2.0)
    assert (folder / first.file).read_bytes() == before


@pytest.mark.parametrize("samples", [1, 4])
def test_few_samples_are_said(analytic, calibrate, caplog, samples):
    """One picture is no statistics: the log says so, and does not where there are enough."""
    caplog.set_level(logging.INFO, logger="dpm_solver_ext")
    calibrate(analytic.build("eps"), samples=samples)
    sentence = "DPM-Solver (ext): samples is 1; statistics of so few may do harm, so set it to 4 or more."
    assert (sentence in [r.getMessage() for r in caplog.records]) == (samples == 1)


def test_interrupted_and_resumed(analytic, calibrate, interrupt, folder, part):
    """Cancel keeps what is done in a part file that no list shows; the same settings again go on there, repeating one node at most, and
    end with the statistics of a run that was let alone. The bar counts on from where it was."""
    whole = calibrate(analytic.build("eps"))
    (folder / whole.file).unlink()
    import comfy.model_management as management

    interrupt(50)
    with pytest.raises(management.InterruptProcessingException):
        calibrate(analytic.build("eps"))
    assert [p.name for p in folder.iterdir()] == [whole.file + ".part"] and part("nodes.ems_files").names() == []
    seen = interrupt(None)
    del seen[:]
    rest = calibrate(analytic.build("eps"))
    assert 96 - 50 <= rest.evaluations <= 96 - 50 + 8 and rest.file == whole.file
    assert seen[0][0] > 40 and seen[-1] == (96, 96) and [p.name for p in folder.iterdir()] == [whole.file]
    for name in ("l", "s", "b"):
        assert np.abs(getattr(whole.ems, name) - getattr(rest.ems, name)).max() < 1e-5


def test_interrupted_while_samples_are_added(analytic, calibrate, interrupt, folder):
    """A file that more samples are being added to stays usable, and what was added goes on too."""
    import comfy.model_management as management

    first = calibrate(analytic.build("eps"), samples=2)
    interrupt(144)
    with pytest.raises(management.InterruptProcessingException):
        calibrate(analytic.build("eps"), samples=10)
    assert sorted(p.name for p in folder.iterdir()) == [first.file, first.file + ".part"]
    interrupt(None)
    assert calibrate(analytic.build("eps"), samples=2).evaluations == 0
    rest = calibrate(analytic.build("eps"), samples=10)
    assert rest.evaluations <= 240 - 144 + 16 and [p.name for p in folder.iterdir()] == [first.file]


def test_failed_and_resumed(analytic, calibrate, folder):
    """A model that fails in the middle loses nothing either, and its own error is what the user reads."""
    patcher = analytic.build("eps")

    def fail(index):
        if index == 15:
            raise RuntimeError("the model's own error")

    analytic.network(patcher).on_call = fail
    with pytest.raises(RuntimeError, match="the model's own error"):
        calibrate(patcher)
    assert len(list(folder.iterdir())) == 1
    assert calibrate(analytic.build("eps")).evaluations < 50


def test_damaged_files_are_measured_anew(analytic, calibrate, folder, said):
    """A file or a part that cannot be read is named and replaced; it never ends the run."""
    file = folder / calibrate(analytic.build("eps"), samples=1).file
    for bad in (b"", b"\x80\x04K\x01.", file.read_bytes()[:-9]):
        file.write_bytes(bad)
        file.with_name(file.name + ".part").write_bytes(bad)
        assert calibrate(analytic.build("eps"), samples=1).evaluations == 24
    assert len(said()) == 6 and all(file.name in words for words in said())


def test_batches(analytic, calibrate, part, monkeypatch):
    """How many latents run at once follows from the memory that is free and changes nothing; where it was not enough, the batch is
    halved and the run goes on."""
    import comfy.model_management as management

    run, ends = part("nodes.ems_run"), []
    need = lambda self, input_shape, **_: 100.0 * input_shape[0]  # noqa: E731
    monkeypatch.setattr(analytic.comfy.model_base.BaseModel, "memory_required", need)
    for i, (free, batch) in enumerate(((1e9, 5), (500.0, 2), (0.0, 1))):
        monkeypatch.setattr(
            run.management, "get_free_memory", lambda *a, torch_free_too=False, free=free, **k: (free, free) if torch_free_too else free
        )
        got = calibrate(analytic.build("eps"), samples=5, file_name=f"ems{i}")
        ends.append(got.ems)
        assert max(got.batches) == batch
    monkeypatch.setattr(run.management, "get_free_memory", lambda *a, torch_free_too=False, **k: (1e9, 1e9) if torch_free_too else 1e9)
    patcher = analytic.build("eps")

    left = [True]

    def fail(index):
        if index == 6 and left:
            left.pop()
            raise management.OOM_EXCEPTION("out of memory")

    analytic.network(patcher).on_call = fail
    got = calibrate(patcher, samples=5, file_name="ems9")
    assert got.batches[:6] == [5] * 6 and max(got.batches[6:]) == 2
    for other in (*ends[1:], got.ems):
        assert np.abs(ends[0].l - other.l).max() < 1e-5 and np.abs(ends[0].s - other.s).max() < 1e-4


@pytest.mark.parametrize("widgets, word", [
    ({"samples": 0}, "samples"), ({"nodes": 2}, "nodes"), ({"probes": 0}, "probes"), ({"shape": "from the future"}, "shape"),
    *[({"file_name": name}, "file_name") for name in (
        "", " ", "../up", "a/b", "a\\b", "/abs", "C:x", ".hidden", "x" * 90, "nul", "COM1.x", "a\0b", "a\nb", "dot.", "*", "~root",
    )],
], ids=str)  # fmt: skip
def test_bad_widgets(analytic, calibrate, folder, widgets, word):
    """One sentence that names the widget, before the first model call; nothing is written."""
    patcher = analytic.build("eps")
    with pytest.raises(ValueError, match=rf"^[^\n]*{word}[^\n]*$"):
        calibrate(patcher, **widgets)
    assert not analytic.network(patcher).calls and not folder.exists()


def test_nested_latents_are_refused(analytic, pack, folder):
    """Video with sound comes as one packed vector, of which nothing can be said by channel: a sentence, no call."""
    import comfy.nested_tensor

    patcher = analytic.build("eps", nested=True)
    latent = {"samples": comfy.nested_tensor.NestedTensor([torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 8, 8)])}
    with pytest.raises(ValueError, match=r"^latent_image [^\n]*$"):
        pack.nodes["DPMSolverCalibrateExt"].execute(
            model=patcher, positive=analytic.cond(0.5), negative=analytic.cond(0.0), latent_image=latent, **SMALL
        )


def test_load_gives_what_was_measured(analytic, calibrate, build_node, folder, pack):
    """The list has the file, in a subfolder too, and loading it gives the very numbers; a new file is noticed without a restart."""
    made = calibrate(analytic.build("eps"))
    load = pack.nodes["DPMSolverLoadEMSExt"]
    assert load.INPUT_TYPES()["required"]["file"][1]["options"] == [made.file]
    (folder / "sub").mkdir()
    (folder / "sub" / "copy.safetensors").write_bytes((folder / made.file).read_bytes())
    for name in load.INPUT_TYPES()["required"]["file"][1]["options"]:
        ems = build_node("DPMSolverLoadEMSExt", file=name)
        assert all(np.array_equal(getattr(ems, n), getattr(made.ems, n)) for n in ("lam", "l", "s", "b"))
        assert ems.metadata["guidance"] == "1" and ems.metadata["samples"] == "4"
    before = load.fingerprint_inputs(file=made.file)
    os.utime(folder / made.file, (1, 1))
    assert load.fingerprint_inputs(file=made.file) != before and load.fingerprint_inputs(file="gone.safetensors") == "gone.safetensors"


def test_files_stay_in_their_folder(build_node, folder, tmp_path):
    """No name leads out of the folder: not by dots, drives, absolute paths or links; the sentence never holds what lies there."""
    folder.mkdir()
    (tmp_path / "secret.safetensors").write_bytes(b"secret")
    (folder / "link.safetensors").symlink_to(tmp_path / "secret.safetensors")
    (folder / "dir").symlink_to(tmp_path, target_is_directory=True)
    (folder / "evil.pkl").write_bytes(b"")
    for name in (
        "../secret.safetensors", str(tmp_path / "secret.safetensors"), "link.safetensors", "dir/secret.safetensors", "..", "", ".", "\0",
        "a/../../secret.safetensors", "..\\secret.safetensors", "C:\\secret.safetensors", "evil.pkl", "gone.safetensors", "dir",
        "link.safetensors\0.png", "./link.safetensors", None,
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"^file is [^\n]*$") as error:
            build_node("DPMSolverLoadEMSExt", file=name)
        assert "secret\n" not in str(error.value), name
        assert "dpm_ems" in str(error.value) or ".safetensors" in str(error.value), name
    answers = []
    for name in ("secret", "absent"):  # nor does the answer tell whether there is such a file outside
        with pytest.raises(ValueError) as error:
            build_node("DPMSolverLoadEMSExt", file=f"../{name}.safetensors")
        answers.append(str(error.value).replace(name, ""))
    assert answers[0] == answers[1]


class Bomb:
    """Unpickling it would leave a mark."""

    def __reduce__(self):
        return exec, ("import sys; sys.dpm_ext_bomb = True",)


def test_hostile_files(analytic, calibrate, build_node, folder):
    """One sentence with the file's name for whatever is no file of ours: a pickle, another kind of .safetensors, a part of a file, numbers
    that are none, a text that would move the terminal's cursor."""
    good = folder / calibrate(analytic.build("eps"), samples=1).file
    raw = good.read_bytes()
    nan = bytearray(raw)
    nan[-8:] = np.float64("nan").tobytes()
    other = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}      '
    for bad in (pickle.dumps(Bomb()), len(other).to_bytes(8, "little") + other + b"\0" * 4, raw[:-8], raw[:100], bytes(nan), b"\xff" * 64):
        (folder / "bad.safetensors").write_bytes(bad)
        with pytest.raises(ValueError, match=r"^bad.safetensors [^\n]*$"):
            build_node("DPMSolverLoadEMSExt", file="bad.safetensors")
    assert not hasattr(sys, "dpm_ext_bomb")


def test_words_of_a_file_are_shown_as_text(analytic, calibrate, build_node, folder, part):
    """What a shared file says of itself goes into logs, terminals and pictures: no line breaks, no control codes, no novels."""
    made = calibrate(analytic.build("eps"), samples=1)
    moments = part("solvers.ems_file").load_ems(folder / made.file)
    moments.metadata |= {"model": "a\x1b[2Jb\nc", "latent format": "long" * 9999, "evil\nkey": "x"}
    part("solvers.ems_file").save_ems(moments, folder / "shared.safetensors")
    ems = build_node("DPMSolverLoadEMSExt", file="shared.safetensors")
    assert all(text.isprintable() and len(text) <= 1000 for pair in ems.metadata.items() for text in pair)
    assert build_node("DPMSolverEMSInfoExt", ems=ems).shape[0] == 1


@pytest.fixture
def paint(analytic, build_node):
    """paint(patcher, ems, cfg) samples with preset dpm_solver_v3."""

    def run(patcher, ems, cfg=1.0, steps=8, **widgets):
        how = build_node("DPMSolverSamplerExt", **{"preset": "dpm_solver_v3", "ems": ems, **widgets})
        sigmas, noise = analytic.schedule(patcher, "karras", steps), analytic.noise_for(analytic.latent_shape(patcher))
        return analytic.error(patcher, analytic.sample(patcher, how, sigmas, noise, cfg=cfg), sigmas, noise, cfg=cfg)

    return run


@pytest.mark.parametrize("kind", ["eps", "v", "edm", "sd3", "flux", "wan", "v_edm"])
@pytest.mark.parametrize("shape", ["radial", "channel", "scalar", "element"])
def test_statistics_are_used(analytic, calibrate, paint, said, kind, shape):
    """On Gaussian data measured statistics make DPM-Solver-v3 better than 2M at eight steps, in every shape and scaling. It runs without a
    warning."""
    patcher = analytic.build(kind)
    made = calibrate(patcher, shape=shape, nodes=24, samples=4)
    error, plain = paint(patcher, made.ems), paint(patcher, None, preset="dpmpp_2m")
    assert error < 0.8 * plain and error < 0.03
    assert ["kind channel is used" in words for words in said()] == [True] * ((kind, shape) == ("v_edm", "radial"))


def test_any_resolution(analytic, calibrate, build_node):
    """Radial statistics of 8×8 serve another size and aspect, those of elements do not: a sentence before the first call."""
    patcher = analytic.build("eps")
    how = {
        shape: build_node("DPMSolverSamplerExt", preset="dpm_solver_v3", ems=calibrate(patcher, shape=shape, samples=1).ems)
        for shape in ("radial", "element")
    }
    sigmas, noise = analytic.schedule(patcher, "karras", 6), analytic.noise_for((1, 4, 12, 20))
    assert torch.isfinite(analytic.sample(patcher, how["radial"], sigmas, noise)).all()
    before = len(analytic.network(patcher).calls)
    with pytest.raises(ValueError, match=r"^The statistics [^\n]*$"):
        analytic.sample(patcher, how["element"], sigmas, noise)
    assert len(analytic.network(patcher).calls) == before


def test_the_advanced_node_takes_them(analytic, calibrate, build_node):
    """Set as the help page says it is the preset, with the same statistics; without them it is another run, as is custom at its defaults
    but for the algorithm."""
    patcher = analytic.build("eps", analytic.MIXTURE)
    ems = calibrate(patcher, samples=2).ems
    sigmas, noise = analytic.schedule(patcher, "karras", 7), analytic.noise_for(analytic.latent_shape(patcher))
    hows = [("DPMSolverSamplerExt", {"preset": "dpm_solver_v3"}), ("DPMSolverSamplerAdvancedExt", {"algorithm": "dpmsolver-v3"})]
    with_, without = (
        [analytic.sample(patcher, build_node(node, **widgets, **more), sigmas, noise) for node, widgets in hows]
        for more in ({"ems": ems}, {})
    )
    custom = build_node("DPMSolverSamplerExt", preset="custom", algorithm="dpmsolver-v3", ems=ems)
    assert torch.equal(*with_) and torch.equal(*without) and not torch.allclose(with_[0], without[0], atol=1e-3)
    assert not torch.allclose(analytic.sample(patcher, custom, sigmas, noise), with_[0], atol=1e-4)  # it has no corrector


def test_large_tapes_are_not_kept(part):
    """A plan is kept for the next run, but not one whose coefficients for each element would fill the memory run by run."""
    adapter, statistics = part("nodes.adapter"), part("solvers.statistics").Statistics
    lam = np.linspace(-3, 3, 8)
    for bins, kept in (((4,), True), ((4, 64, 64), False)):
        l = np.broadcast_to(np.linspace(0.9, 0.1, 8).reshape(-1, *[1] * len(bins)), (8, *bins))
        ems = statistics("channel" if kept else "element", lam, l, -l, 0 * l)
        plans = [adapter.planned(adapter.VE, (10.0, 1.0, 0.0), {"algorithm": "dpmsolver-v3", "statistics": ems}) for _ in range(2)]
        assert (plans[0] is plans[1]) is kept


@pytest.mark.parametrize("kind", ["eps", "sd3"])
def test_masks(analytic, calibrate, build_node, kind):
    """What a mask keeps comes out to rounding, though the last step of DPM-Solver-v3 does not end on the prediction where it need not."""
    patcher = analytic.build(kind)
    how = build_node("DPMSolverSamplerExt", preset="dpm_solver_v3", ems=calibrate(patcher, samples=2, nodes=24).ems)
    shape = analytic.latent_shape(patcher)
    noise, latent = analytic.noise_for(shape, 1), analytic.noise_for(shape, 2)
    mask = torch.zeros(1, 1, *shape[2:])
    mask[..., : shape[-1] // 2] = 1
    for schedule in ("karras", "sgm_uniform"):
        sigmas = analytic.schedule(patcher, schedule, 9)
        out = analytic.sample(patcher, how, sigmas, noise, latent=latent, mask=mask)
        assert (out - latent)[(mask == 0).expand(shape)].abs().max() < 1e-5 * latent.abs().max()
        assert (out - analytic.sample(patcher, how, sigmas, noise, latent=latent)).abs().max() > 0.1


def test_another_use_is_named(analytic, calibrate, paint, said):
    """One warning, once, that names what the statistics were made for and what the run has; a fitting run has none."""
    made = calibrate(analytic.build("eps"), cfg=2.0)
    paint(analytic.build("eps"), made.ems, cfg=2.0)
    assert said() == []
    for _ in range(2):
        paint(analytic.build("eps"), made.ems, cfg=5.0)
    assert len(said()) == 1 and "guidance 2," in said()[0] and "guidance 5;" in said()[0] and made.file in said()[0]
    paint(analytic.build("v"), made.ems, cfg=2.0)
    assert "prediction type EPS" in said()[1] and "prediction type V_PREDICTION" in said()[1] and "guidance" not in said()[1]
    paint(analytic.build("eps", latent="SDXL"), made.ems, cfg=2.0)
    assert "latent format SD15 of 4 channels" in said()[2] and "latent format SDXL of 4 channels" in said()[2]
    patched = analytic.build("eps").clone()
    patched.add_patches({"diffusion_model.weight": ("diff", (torch.ones(1),))}, 0.5)
    paint(patched, made.ems, cfg=2.0)
    assert "patches none" in said()[3] and "patches 1 weights" in said()[3] and len(said()) == 4


def test_a_patched_model_is_known_again(analytic, calibrate, paint, said):
    """LoRA, guidance function, attention patch and wrapper on the model: measured, and taken for the same when it samples, twice."""
    import comfy.patcher_extension as extension

    patcher = analytic.build("eps").clone()
    patcher.add_patches({"diffusion_model.weight": ("diff", (torch.ones(1),))}, 0.5)
    patcher.set_model_sampler_post_cfg_function(lambda args: args["denoised"])
    patcher.set_model_attn1_patch(lambda q, k, v, extra: (q, k, v))
    patcher.add_wrapper(extension.WrappersMP.OUTER_SAMPLE, lambda executor, *args, **kwargs: executor(*args, **kwargs))
    made = calibrate(patcher, cfg=2.0)
    for model in (patcher, patcher, patcher.clone()):
        paint(model, made.ems, cfg=2.0)
    assert said() == [] and "1 weights and options" in made.ems.metadata["patches"]
    assert calibrate(patcher.clone(), cfg=2.0).evaluations == 0


def test_weights_that_cannot_be_read(analytic, calibrate, paint, said):
    """Other packs keep quantised weights their own way: neither a calibration nor a picture fails because of a warning."""
    patcher = analytic.build("eps")

    class Quantised(torch.Tensor):
        def reshape(self, *shape):
            raise NotImplementedError("quantised")

    analytic.network(patcher).register_buffer("packed", torch.zeros(4, 4, dtype=torch.uint8).as_subclass(Quantised))
    made = calibrate(patcher, samples=1)
    assert made.ems.metadata["weights"] == "#unknown"
    for model, ems in ((patcher, made.ems), (analytic.build("eps"), made.ems), (patcher, calibrate(analytic.build("eps"), samples=1).ems)):
        paint(model, ems)
    assert said() == []


def test_other_guiders_are_named(analytic, calibrate, build_node, said, host):
    """Guidance by two CFGs is none of one number: the warning says so, and nothing fails."""
    patcher = analytic.build("eps")
    made = calibrate(patcher, cfg=2.0, samples=1)
    how = build_node("DPMSolverSamplerExt", preset="dpm_solver_v3", ems=made.ems)
    guider = host.nodes_custom.DualCFGGuider.execute(
        model=patcher, cond1=analytic.cond(0.5), cond2=analytic.cond(0.2), negative=analytic.cond(0.0), cfg_conds=2.0,
        cfg_cond2_negative=2.0, style="regular",
    ).args[0]  # fmt: skip
    noise = analytic.noise_for(analytic.latent_shape(patcher))
    guider.sample(noise, torch.zeros_like(noise), how, analytic.schedule(patcher, "karras", 4), seed=0)
    assert len(said()) == 1 and "guidance 2," in said()[0] and "another kind" in said()[0]


def test_description_of_a_model(analytic, part):
    """The same for clones, while a LoRA is in the weights, and after it; the same model in half precision is no other, a model of other
    weights is."""
    model = part("nodes.ems_model")
    patcher = analytic.build("eps")
    values = torch.randn(400, 4, generator=torch.Generator().manual_seed(0))
    network = analytic.network(patcher)
    network.extra = torch.nn.Parameter(values.clone(), requires_grad=False)
    plain = model.describe(patcher, 1.0)
    assert model.differences(plain, model.describe(patcher.clone(), 1.0)) == ("", "")
    tuned = patcher.clone()
    tuned.add_patches({"diffusion_model.extra": ("diff", (torch.ones(400, 4),))}, 0.5)
    before = model.describe(tuned, 1.0)
    import comfy.model_management as management

    management.load_models_gpu([tuned])
    assert not torch.equal(network.extra.cpu(), values)
    assert model.describe(tuned, 1.0) == before and model.describe(patcher, 1.0) == plain
    management.unload_all_models()
    assert model.describe(tuned, 1.0) == before and before["weights"] == plain["weights"] and before["patches"] != "none"
    stronger = patcher.clone()
    stronger.add_patches({"diffusion_model.extra": ("diff", (torch.ones(400, 4),))}, 0.6)
    assert model.describe(stronger, 1.0)["patches"] != before["patches"]
    network.extra.data = values.bfloat16().float()
    assert model.differences(plain, model.describe(patcher, 1.0)) == ("", "")
    network.extra.data = values * 1.02
    assert "weights #" in model.differences(plain, model.describe(patcher, 1.0))[0]


def test_differences_are_few_words(part):
    """Of another model its weights and patches need not be listed; what an older file does not say is no difference."""
    differences = part("nodes.ems_model").differences
    made = {"model": "A", "weights": "#1 0.1", "patches": "none", "guidance": "2"}
    assert differences(made, made | {"model": "B", "weights": "#2 9", "patches": "x", "guidance": "3"}) == (
        "model A, guidance 2", "model B, guidance 3",
    )  # fmt: skip
    assert differences(made, made | {"weights": "#2 9"}) == ("weights #1", "weights #2")
    assert differences({"guidance": "2"}, made) == ("", "") and differences(made, made | {"weights": "#unknown"}) == ("", "")


def test_functions_on_a_model_are_told_apart(part):
    """By name and by the numbers they hold, not by where they lie in memory."""
    code = part("nodes.ems_model").code_of

    def make(strength):
        def patch(x):
            return x * strength

        return patch

    assert code(make(0.5)) == code(make(0.5)) != code(make(0.6))
    assert code({"a": [1, 2.0, None], "b": torch.ones(3)}) == code({"b": torch.ones(3), "a": [1, 2.0, None]})
    assert code(torch.ones(3)) != code(torch.zeros(3)) and code({1, 2}) == code({2, 1}) and code(object()) == code(object())


@pytest.mark.parametrize("node_id, widgets", [
    ("DPMSolverSamplerExt", {"preset": "auto"}), ("DPMSolverSamplerExt", {"preset": "unipc"}),
    ("DPMSolverSamplerExt", {"preset": "dpm_adaptive"}), ("DPMSolverSamplerExt", {"preset": "custom"}), ("DPMSolverSamplerAdvancedExt", {}),
    ("DPMSolverSamplerAdvancedExt", {"algorithm": "dpmsolver", "method": "adaptive"}),
], ids=str)  # fmt: skip
def test_statistics_without_their_solver(part, build_node, node_id, widgets):
    """Connected statistics that nothing would use are an error that names both and says what to set."""
    ems = part("solvers.statistics").Statistics.closed_form()
    with pytest.raises(ValueError, match=r"^ems is connected, but [^\n]*dpm-?_?solver-?_?v3[^\n]*$"):
        build_node(node_id, **widgets, ems=ems)


@pytest.mark.parametrize("widgets", [{"method": "singlestep"}, {"method": "adaptive"}, {"eta": 0.5}, {"solver_type": "bh1"}], ids=str)
def test_what_v3_does_not_have(build_node, widgets):
    """One sentence when the node runs, not when sampling begins."""
    with pytest.raises(ValueError, match=rf"^[^\n]*{next(iter(widgets))}[^\n]*$"):
        build_node("DPMSolverSamplerAdvancedExt", algorithm="dpmsolver-v3", corrector="none", **widgets)


def test_widgets_of_v3_act(analytic, build_node, said):
    """data_std and corrector_range change the run as they say, and say so where they cannot: half lies between no corrector and a full
    one, and on a model of another data_std the closed form that knows it is better."""
    patcher = analytic.build("eps", analytic.MIXTURE)
    sigmas, noise = analytic.schedule(patcher, "karras", 10), analytic.noise_for(analytic.latent_shape(patcher))

    def run(**widgets):
        return analytic.sample(
            patcher, build_node("DPMSolverSamplerAdvancedExt", **{"algorithm": "dpmsolver-v3", **widgets}), sigmas, noise
        )

    ends = [run(corrector=c, corrector_range=r) for c, r in (("none", "full"), ("unipc", "half"), ("unipc", "full"), ("v3", "half"))]
    assert all(not torch.allclose(a, b, atol=1e-4) for i, a in enumerate(ends) for b in ends[:i]) and said() == []
    assert torch.equal(run(), run(data_std=1.0)) and not torch.allclose(run(), run(data_std=0.5), atol=1e-4)
    build_node("DPMSolverSamplerAdvancedExt", data_std=0.5)
    build_node("DPMSolverSamplerAdvancedExt", corrector="none", corrector_range="half")
    assert len(said()) == 2 and "data_std" in said()[0] and "corrector_range" in said()[1]
    for widget, value in (("corrector_range", "quarter"), ("data_std", 0.0), ("data_std", float("nan"))):
        with pytest.raises(ValueError, match=rf"^[^\n]*{widget}[^\n]*$"):
            build_node("DPMSolverSamplerAdvancedExt", algorithm="dpmsolver-v3", **{widget: value})


def test_the_default_of_data_std(part):
    """The widget's default is the library's, so that the node and the dropdown entry mean one thing."""
    import inspect

    default = inspect.signature(part("solvers.statistics").Statistics.closed_form).parameters["data_std"].default
    assert part("nodes.options").DATA_STD == default


def test_half_of_the_time(analytic, part):
    """The half range ends at the level of the model's clock at one half; a flow model's shift is in it."""
    adapter = part("nodes.adapter")
    for kind, sigma in (("eps", 1.616), ("sd3", 0.75), ("schnell", 0.5)):
        sampling = analytic.build(kind).get_model_object("model_sampling")
        low, high = adapter.of_model({"corrector_range": "half"}, sampling)["corrector_range"]
        assert low == 0 and high == pytest.approx(sigma, rel=0.01), kind


@pytest.mark.parametrize("shape", ["radial", "channel", "scalar", "element"])
def test_info(analytic, calibrate, pack, shape):
    """A picture with something on it, that differs from that of other statistics, and a text that says what they are for."""
    pictures = []
    for cfg in (1.0, 2.0):
        made = calibrate(analytic.build("sd3"), cfg=cfg, shape=shape, samples=2)
        image, text = pack.nodes["DPMSolverEMSInfoExt"].execute(ems=made.ems).args
        assert image.dtype == torch.float32 and image.ndim == 4 and image.shape[::3] == (1, 3) and min(image.shape[1:3]) > 500
        assert 0 <= image.min() < 0.3 and image.max() == 1 and 0.02 < (image < 0.9).float().mean() < 0.5
        for words in (
            f"guidance: {cfg:g}",
            "prediction type: CONST",
            "latent format: SD3",
            "samples: 2",
            "nodes: 12",
            "size: 16×8×8",
            shape,
        ):
            assert words in text
        pictures.append(image)
    assert pictures[0].shape == pictures[1].shape and not torch.equal(*pictures)


def test_the_folder_is_the_hosts(host, pack):
    """models/dpm_ems is known to the host beside its own folders, none of which changed, and is not made before there is a file."""
    import folder_paths

    paths, endings = folder_paths.folder_names_and_paths["dpm_ems"]
    assert paths == [str(host.base / "models" / "dpm_ems")] and endings == {".safetensors"}


@pytest.mark.parametrize("ems", [True, False])
def test_adaptive_has_no_statistics(part, ems):
    """The adaptive solver is no multistep solver: a sentence on the widget at the node, with statistics connected or not."""
    statistics = part("solvers.statistics").Statistics.closed_form() if ems else None
    with pytest.raises(ValueError, match="^algorithm is dpmsolver-v3, which is a multistep solver; set method to multistep"):
        part("nodes.options").prepare(algorithm="dpmsolver-v3", order=2, method="adaptive", ems=statistics)
