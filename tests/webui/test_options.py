"""Options from the accordion, the API and the X/Y/Z plot: what acts, what is refused and how, what the infotext says."""

import sys

import pytest
import torch
from dpm_solver_ext.tests.webui.host import default_arguments, xyz_plot
from dpm_solver_ext.tests.webui.test_registration import NAMES
from dpm_solver_ext.tests.webui.test_sampling import ADAPTIVE, arguments, entry

pytestmark = pytest.mark.filterwarnings("ignore:Should have t")
# Positions and names of the API's arguments and of the infotext: saved requests and pictures have them. Append only.
ARGUMENTS = [
    ("final_rule", "smooth", "DPM-Solver final rule"), ("solver_type", "dpmsolver", "DPM-Solver solver type"),
    ("thresholding", "off", "DPM-Solver thresholding"), ("threshold_ratio", 0.995, "DPM-Solver threshold ratio"),
    ("threshold_max", 1.0, "DPM-Solver threshold max"), ("eta", 1.0, "DPM-Solver eta"), ("s_noise", 1.0, "DPM-Solver s noise"),
    ("final_sigma", "zero", "DPM-Solver final sigma"), ("statistics", "none", "DPM-Solver statistics"),
    ("rtol", 0.05, "DPM-Solver rtol"), ("atol", 0.0078, "DPM-Solver atol"), ("tuned", "none", "DPM-Solver tuned"),
]  # fmt: skip
OTHER = {
    "final_rule": "none", "solver_type": "taylor", "thresholding": "dynamic_in_latent_space", "threshold_ratio": 0.9, "threshold_max": 5.0,
    "eta": 0.5, "s_noise": 1.1, "final_sigma": "sigma_min", "rtol": 0.2, "atol": 0.1,
}  # fmt: skip


def table():
    return sys.modules["dpm_solver_ext.webui.options"]


def options(host, name, args=None, **more):
    p = host.processing(name, **more)
    host.process(p, args)
    return table().options_of(p, entry(name))


def test_arguments_keep_their_places(host):
    assert [(o.name, o.default, o.key) for o in table().OPTIONS] == ARGUMENTS


def test_defaults_are_within_their_own_limits_and_every_option_says_what_it_does(host):
    for option in table().OPTIONS:
        assert option.check(option.default) == option.default
        assert len(option.info) > 40 and option.info.endswith(".") and option.label


@pytest.mark.parametrize("name", NAMES)
def test_an_option_that_is_shown_acts_and_one_that_is_hidden_does_not(host, name):
    """The picture tells: from an unshown option it is the same, from a shown one another. The CFG scale is one that needs thresholding."""

    def run():
        return host.processing(name, "Uniform", (3,), 9, cfg_scale=30.0)

    plain = host.generate(run())
    dependent = {"threshold_ratio": {"thresholding": OTHER["thresholding"]}, "threshold_max": {"thresholding": OTHER["thresholding"]}}
    for option in table().OPTIONS:
        if option.name not in OTHER:
            continue
        with_it = dependent.get(option.name, {})
        reference = host.generate(run(), arguments(**with_it)) if with_it else plain
        p = run()
        value = (
            "official" if (name, option.name) == ("DPM-Solver fast (ext)", "solver_type") else OTHER[option.name]
        )  # none of its steps is even
        changed = host.generate(p, arguments(**with_it, **{option.name: value}))
        if option.acts(entry(name), with_it.get("thresholding")):
            assert not torch.equal(changed, reference), option.name
        else:
            assert torch.equal(changed, reference), option.name
        assert (option.key in p.extra_generation_params) == option.acts(entry(name), with_it.get("thresholding"))


BAD = [
    ("final_rule", "sometimes"), ("final_rule", None), ("solver_type", 3), ("thresholding", "dynamic"), ("threshold_ratio", 0),
    ("threshold_ratio", 1.5), ("threshold_max", "much"), ("eta", -1), ("eta", True), ("eta", float("nan")), ("s_noise", None),
    ("final_sigma", "low"), ("statistics", "../secret.safetensors"), ("statistics", "/etc/passwd"), ("statistics", "missing.safetensors"),
    ("statistics", "model.ckpt"), ("statistics", 5),
    ("tuned", "../secret.json"), ("tuned", "missing.json"), ("tuned", 7), ("rtol", 0), ("rtol", float("inf")), ("atol", "0.1"),
]  # fmt: skip


@pytest.mark.parametrize("option, value", BAD)
def test_a_bad_value_is_status_422_and_one_sentence_with_the_options_name(host, option, value):
    """Raised where the host shows it: its script runner swallows errors (A scripts.py:828), its API looks into vars() (A api.py:181)."""
    name = "DPM-Solver-v3 (ext)" if option in ("statistics", "tuned") else ADAPTIVE
    with pytest.raises(table().BadOption) as caught:
        host.generate(host.processing(name), arguments(**{option: value}))
    said = str(caught.value)
    assert vars(caught.value)["status_code"] == 422 and vars(caught.value)["detail"] == said
    assert (
        f" ({option}) is " in said
        and said.startswith(table().BY_NAME[option].label)
        and said.endswith(".")
        and "\n" not in said
        and not host.reported
    )


def test_values_of_options_that_do_not_act_are_checked_too(host):
    with pytest.raises(table().BadOption, match="^Relative tolerance .rtol. is 7"):
        host.generate(host.processing("UniPC (ext)"), arguments(rtol=7))


def test_a_solver_that_cannot_take_a_value_says_so_as_a_bad_value(host):
    with pytest.raises(table().BadOption, match="^Solver type .solver_type. is bh1"):
        host.generate(host.processing("DPM-Solver++ 2S (ext)"), arguments(solver_type="bh1"))
    assert host.calls == 0


def test_the_api_may_name_its_arguments(host):
    """One mapping in the place of the first argument; the host fills the others with its defaults."""
    args = [{"eta": 0.5, "s_noise": 1}, *default_arguments()[1:]]
    found = options(host, "DPM-Solver++ SDE (ext)", args)
    assert found["eta"] == 0.5 and found["s_noise"] == 1.0 and found["final_sigma"] == "zero"
    with pytest.raises(table().BadOption, match="^etta is no option"):
        options(host, "DPM-Solver++ SDE (ext)", [{"etta": 0.5}])


def test_fewer_arguments_than_there_are_now_keep_their_meaning(host):
    """A request that was saved before an option was added."""
    assert options(host, "UniPC (ext)", ["none", "taylor"])["final_rule"] == "none"
    assert options(host, "UniPC (ext)", [])["final_rule"] == "smooth"


def test_a_run_without_our_script_has_the_defaults(host):
    """Other extensions make processing objects of their own, without scripts."""
    host.script = None
    p = host.processing("DPM-Solver++ 2M (ext)")
    assert host.generate(p).isfinite().all() and p.extra_generation_params["DPM-Solver ext"]


# --- infotext -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_infotext_is_read_back_whole(host, name):
    """Written, read by the host's own grammar, completed, cast as the host casts (by the type of the control's value): the same options."""
    changed = {k: v for k, v in OTHER.items() if table().BY_NAME[k].acts(entry(name), OTHER["thresholding"])}
    p = host.processing(name, steps=6)
    host.generate(p, arguments(**changed))
    params = host.infotext(p)
    host.pasted[0]("", params)
    read = [type(option.default)(params[option.key]) for option in table().OPTIONS]
    assert options(host, name, read) == options(host, name, arguments(**changed))


def test_infotext_is_only_that_of_the_sampler_that_ran(host):
    p = host.processing("Euler", steps=6)
    host.generate(p, arguments(**OTHER))
    assert not [key for key in p.extra_generation_params if key.startswith("DPM-Solver")]
    params = {"Steps": "6", "Sampler": "Euler"}
    host.pasted[0]("", params)
    assert params == {"Steps": "6", "Sampler": "Euler"}, "pasting a picture of another sampler leaves the accordion as it is"


def test_infotext_is_there_before_sampling(host):
    """The host writes its params.txt, from which the paste arrow reads, after `process` and before the sampler is made."""
    script = sys.modules["dpm_solver_ext.webui.ui"].make_script(object, None, "7")()
    for name, mine in (("DPM-Solver++ 2M SDE (ext)", True), ("Euler", False)):
        p = host.processing(name, steps=6, extra_generation_params={"DPM-Solver eta": 1.5})
        script.process(p, *arguments(eta=0.25))
        found = {k: v for k, v in p.extra_generation_params.items() if k.startswith("DPM-Solver")}
        assert found == ({"DPM-Solver ext": "7", "DPM-Solver eta": 0.25} if mine else {})
    p = host.processing("DPM-Solver++ 2M SDE (ext)", steps=6)
    script.process(p, *arguments(eta=-1.0))
    assert not p.extra_generation_params, "nothing of a bad value; the sampler says it where the user sees it"


def test_defaults_are_not_written_and_come_back_as_defaults(host):
    p = host.processing("UniPC (ext)", steps=6)
    host.generate(p)
    assert [key for key in p.extra_generation_params if key.startswith("DPM-Solver")] == ["DPM-Solver ext"]
    params = host.infotext(p)
    host.pasted[0]("", params)
    assert all(params[option.key] == option.default for option in table().OPTIONS)


def test_numbers_are_written_in_full(host):
    p = host.processing("DPM-Solver++ SDE (ext)", steps=6)
    host.generate(p, arguments(s_noise=1.0123456789012345))
    assert float(host.infotext(p)["DPM-Solver s noise"]) == 1.0123456789012345


# --- X/Y/Z plot -----------------------------------------------------------------------------------------------------------------------


class Axis:
    """scripts/xyz_grid.py: class AxisOption."""

    def __init__(self, label, type, apply, format_value=None, confirm=None, cost=0.0, choices=None, prepare=None):
        self.label, self.type, self.apply, self.confirm, self.choices = label, type, apply, confirm, choices


def axes(host):
    import types

    module = types.SimpleNamespace(AxisOption=Axis, axis_options=[Axis("Nothing", str, None)])
    host.scripts.scripts_data.append(types.SimpleNamespace(path="/webui/scripts/xyz_grid.py", module=module))
    for _ in range(2):  # the callback may come again; the plot's module is a new one only when scripts are loaded
        host.before_ui[0]()
    return module.axis_options


def test_every_option_has_one_axis(host):
    found = axes(host)
    assert [axis.label for axis in found] == ["Nothing", *(f"[DPM-Solver] {option.label}" for option in table().OPTIONS)]
    for axis, option in zip(found[1:], table().OPTIONS, strict=True):
        assert axis.type is (str if isinstance(option.default, str) else float)
        if isinstance(option.default, str):
            assert option.default in axis.choices()


def test_the_plot_varies_the_option_and_says_so_under_each_picture(host):
    found = {axis.label: axis for axis in axes(host)}
    p = host.processing("DPM-Solver++ SDE (ext)", steps=6)
    cells = xyz_plot(host, found["[DPM-Solver] Fresh noise (eta)"], [0.0, 1.0, 0.5], p, arguments(eta=0.3, s_noise=1.1))
    assert [text.get("DPM-Solver eta") for _, text in cells] == ["0.0", None, "0.5"], "a cell may not keep what another wrote"
    assert all(text["DPM-Solver s noise"] == "1.1" for _, text in cells[1:])
    alone = host.generate(host.processing("DPM-Solver++ SDE (ext)", steps=6), arguments(eta=0.5, s_noise=1.1))
    assert torch.equal(cells[2][0], alone) and not torch.equal(cells[0][0], cells[1][0])


def test_two_axes_at_once(host):
    found = {axis.label: axis for axis in axes(host)}
    p = host.processing("DPM-Solver++ 2M (ext)", steps=6)
    found["[DPM-Solver] Solver type"].apply(p, "taylor", None)
    found["[DPM-Solver] Final noise level"].apply(p, "sigma_min", None)
    assert options(host, "DPM-Solver++ 2M (ext)")["solver_type"] == "dpmsolver"
    found = table().options_of(p, entry("DPM-Solver++ 2M (ext)"))
    assert found["solver_type"] == "taylor" and found["final_sigma"] == "sigma_min"


def test_the_plot_refuses_bad_values_before_it_starts(host):
    for axis, option in zip(axes(host)[1:], table().OPTIONS, strict=True):
        for value in ["nonsense"] if isinstance(option.default, str) else [1e9]:
            with pytest.raises(table().BadOption, match=option.name):
                axis.confirm(host.processing(), [option.default, value])


def test_a_host_without_the_plot_says_nothing(host, caplog):
    host.before_ui[0]()
    assert not caplog.records


# --- statistics of DPM-Solver-v3 --------------------------------------------------------------------------------------------------------


@pytest.fixture
def calibrated(host, tmp_path):
    """Statistics of this host's model at CFG scale 7, made by the library, in its models/dpm_ems; the file's name."""
    from dpm_solver_ext.solvers.ems_calibrate import calibrate
    from dpm_solver_ext.solvers.ems_file import save_ems
    from dpm_solver_ext.solvers.path import VE

    def denoise(x, sigma):
        u, c = (host.model.x0(torch.from_numpy(x), sigma, condition) for condition in (0.0, 1.0))
        return (u + 7 * (c - u)).numpy()

    folder = tmp_path / "dpm_ems"
    (folder / "of a friend").mkdir(parents=True)
    low, top = (float(s) for s in host.model.wrap().sigmas[[0, -1]])
    made = calibrate(denoise, VE, (4, 8, 8), sigma_max=top, sigma_min=low, samples=4, nodes=16, metadata={"guidance": "7"})
    save_ems(made, folder / "mine.safetensors")
    save_ems(made, folder / "of a friend" / "his.safetensors")
    (folder / "cut.safetensors").write_bytes((folder / "mine.safetensors").read_bytes()[:-8])
    (folder / "notes.txt").write_text("no statistics")
    return "mine.safetensors"


V3 = "DPM-Solver-v3 (ext)"


def test_files_are_listed_and_their_statistics_used(host, calibrated):
    """The run is the library's own tape with the statistics fitted to the file."""
    files, adapter = (sys.modules[f"dpm_solver_ext.webui.{name}"] for name in ("files", "adapter"))
    assert files.names("statistics") == ["none", "cut.safetensors", "mine.safetensors", "of a friend/his.safetensors"]
    p = host.processing(V3, steps=8)
    found = host.generate(p, arguments(statistics=calibrated))
    assert host.infotext(p)["DPM-Solver statistics"] == calibrated
    assert not torch.equal(found, host.generate(host.processing(V3, steps=8)))
    assert torch.equal(found, host.generate(host.processing(V3, steps=8), arguments(statistics="of a friend/his.safetensors")))

    from dpm_solver_ext.solvers.ems_file import load_ems
    from dpm_solver_ext.solvers.ems_fit import fit
    from dpm_solver_ext.solvers.execute import execute
    from dpm_solver_ext.solvers.path import VE
    from dpm_solver_ext.solvers.presets import plan

    wrap = host.model.wrap()
    sigmas = host.k.sampling.get_sigmas_karras(8, wrap.sigmas[0].item(), wrap.sigmas[-1].item())
    tape = plan(
        VE, sigmas.tolist(), **entry(V3).solver, statistics=fit(load_ems(files.find(calibrated, table().FILES["statistics"], "statistics")))
    )
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(7))

    def denoise(x, sigma):
        u, c = (wrap(x, x.new_full([1], sigma), cond=condition) for condition in (0.0, 1.0))
        return u + 7 * (c - u)

    assert adapter.path_of(wrap) is not None
    assert float((execute(tape, denoise, sigmas[0] * noise) - found).abs().max()) < 1e-4


def test_inpainting_with_statistics_keeps_what_the_mask_keeps(host, calibrated):
    latent, mask = torch.full((1, 4, 8, 8), 0.7), torch.zeros(4, 8, 8)
    mask[:, :, :4] = 1
    p = host.processing(V3, steps=8, mask=mask, nmask=1 - mask)
    out = host.generate(p, arguments(statistics=calibrated), latent=latent)
    assert float((out - latent)[..., :4].abs().max()) < 1e-5


def test_a_damaged_file_is_a_bad_value(host, calibrated):
    with pytest.raises(table().BadOption, match="^Statistics for DPM-Solver-v3 .statistics.: cut.safetensors holds no statistics"):
        host.generate(host.processing(V3), arguments(statistics="cut.safetensors"))
    assert host.calls == 0


def test_a_file_that_has_changed_is_read_again(host, calibrated, tmp_path):
    files = sys.modules["dpm_solver_ext.webui.files"]
    first = files.statistics(calibrated)
    assert files.statistics(calibrated) is first
    path = tmp_path / "dpm_ems" / calibrated
    path.write_bytes((tmp_path / "dpm_ems" / "cut.safetensors").read_bytes())
    with pytest.raises(table().BadOption):
        files.statistics(calibrated)


@pytest.mark.parametrize("name", ["../outside.safetensors", "..\\outside.safetensors", "of a friend/../../outside.safetensors"])
def test_a_name_that_leads_out_of_the_folder_is_refused(host, calibrated, tmp_path, name):
    (tmp_path / "outside.safetensors").write_bytes((tmp_path / "dpm_ems" / calibrated).read_bytes())
    with pytest.raises(table().BadOption, match="choose a file of models/dpm_ems from the list"):
        host.generate(host.processing(V3), arguments(statistics=name))


def test_a_link_out_of_the_folder_is_refused(host, calibrated, tmp_path):
    (tmp_path / "dpm_ems" / "link.safetensors").symlink_to(tmp_path / "outside.safetensors")
    (tmp_path / "outside.safetensors").write_bytes((tmp_path / "dpm_ems" / calibrated).read_bytes())
    with pytest.raises(table().BadOption, match="^Statistics for DPM-Solver-v3 .statistics. is 'link.safetensors', a link"):
        host.generate(host.processing(V3), arguments(statistics="link.safetensors"))


def test_statistics_of_another_guidance_are_told_in_every_run(host, calibrated, caplog):
    for _ in range(2):
        host.generate(host.processing(V3, cfg_scale=3.0, steps=5), arguments(statistics=calibrated))
        host.generate(host.processing(V3, cfg_scale=7.0, steps=5), arguments(statistics=calibrated))
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2 and "made for guidance 7, but this run has guidance 3;" in said[0]


def test_statistics_of_another_prediction_type_are_told(make_host, caplog, tmp_path):
    from dpm_solver_ext.solvers.ems_calibrate import calibrate

    for kind, model, name in [
        ("a1111", "eps", "EPS"),
        ("a1111", "v", "V_PREDICTION"),
        ("a1111", "sd3", "CONST"),
        ("forge", "const", "CONST"),
    ]:
        host = make_host(kind, model)
        model_words = sys.modules["dpm_solver_ext.webui.model"]
        assert model_words.prediction_of(host.model.wrap()) == name
        host.close()
    host = make_host(model="v")
    from dpm_solver_ext.solvers.ems_file import save_ems
    from dpm_solver_ext.solvers.path import VE

    words = {"guidance": "7", "prediction type": "EPS"}
    made = calibrate(
        lambda x, s: x / (1 + s * s), VE, (4, 8, 8), sigma_max=14.6, sigma_min=0.03, samples=2, nodes=8, kind="channel", metadata=words
    )
    (tmp_path / "dpm_ems").mkdir()
    save_ems(made, tmp_path / "dpm_ems" / "eps.safetensors")
    host.generate(host.processing(V3, steps=5), arguments(statistics="eps.safetensors"))
    assert "made for prediction type EPS, but this run has prediction type V_PREDICTION;" in caplog.text


def test_statistics_of_latents_of_another_shape_are_refused_before_the_model_is_called(host, calibrated):
    with pytest.raises(table().BadOption):
        host.generate(host.processing(V3, steps=5), arguments(statistics=calibrated), shape=(16, 8, 8))
    assert host.calls == 0
