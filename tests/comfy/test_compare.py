"""Compare Samplers: what it counts and measures is what the runs were, and bad words are refused before a model call."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

COMPARE = "DPMSolverCompareExt"
WIDGETS = {"cfg": 1.0, "seed": 5, "samplers": "dpm_auto_ext + dpm_auto_ext\neuler + karras\ndpmpp_2m_sde_ext + karras", "steps": "4, 9"}


@pytest.fixture
def node(pack):
    return pack.nodes[COMPARE]


def inputs(analytic, kind="eps", **more):
    patcher = analytic.build(kind)
    latent = {"samples": torch.zeros(analytic.latent_shape(patcher, 2))}
    wires = {"model": patcher, "positive": analytic.cond(0.75), "negative": analytic.cond(-0.25), "latent_image": latent}
    return wires | {"reference_steps": 80} | WIDGETS | more


@pytest.mark.parametrize("kind", ["eps", "flux"])
def test_numbers(node, analytic, kind):
    """Calls are the model's own count; errors fall with the steps and are those of the analytic end; SDE samplers have none."""
    given = inputs(analytic, kind)
    out = node.execute(**given).args
    grid, images, table = out
    assert grid.shape[0] == 1 and grid.shape[-1] == 3 and images.shape[0] == 6 and images.min() >= 0 and images.max() <= 1
    lines = table.splitlines()
    assert len(lines) == 5 and lines[0].count("steps") == 2
    errors = {}
    for line in lines[2:]:
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        assert [int(re.search(r"(\d+) calls", cell).group(1)) for cell in cells] == [4, 9]
        errors[name] = [float(found.group(1)) if (found := re.search(r"error ([\d.]+)", cell)) else None for cell in cells]
    assert errors["dpmpp_2m_sde_ext + karras"] == [None, None]
    for name in ("dpm_auto_ext + dpm_auto_ext", "euler + karras"):
        assert errors[name][0] > errors[name][1] > 0
    patcher = given["model"]
    sigmas = analytic.schedule(patcher, "karras", 9)
    from_node = errors["euler + karras"][1]
    noise = analytic.comfy.sample.prepare_noise(torch.zeros(analytic.latent_shape(patcher, 2)), 5)
    true = analytic.error(patcher, analytic.sample(patcher, "euler", sigmas, noise, seed=5), sigmas, noise)
    assert from_node == pytest.approx(true, rel=0.1)


def test_connected_sampler_and_no_reference(node, analytic, build_node):
    """A SAMPLER is one more row with the first row's scheduler; without a reference there is no error anywhere."""
    sampler = build_node("DPMSolverSamplerExt", preset="dpmpp_2s")
    *_, table = node.execute(**inputs(analytic, sampler=sampler, samplers="euler + beta", steps="6", reference_steps=0)).args
    assert "| connected sampler + beta | 6 calls" in table and "error" not in table


@pytest.mark.parametrize("kind", ["eps", "sd3"])
def test_results_are_ksamplers(part, analytic, kind):
    """A row is what KSampler makes of the same two names, also where it leaves a level of the schedule out."""
    run = part("nodes.compare_run")
    patcher, results = analytic.build(kind), []
    start = torch.zeros(analytic.latent_shape(patcher))
    prompts = analytic.cond(0.75), analytic.cond(-0.25)
    vae = SimpleNamespace(decode=lambda latent: results.append(latent) or torch.zeros(1, 4, 4, 3))
    pairs = [("uni_pc", "simple"), ("uni_pc_bh2", "normal"), ("dpm_2", "karras"), ("dpm_2_ancestral", "beta"), ("euler", "normal")]
    rows = part("nodes.compare_rows").rows_of("\n".join(" + ".join(pair) for pair in pairs))
    run.compare(patcher, *prompts, {"samples": start}, 3.0, 11, rows, [5], 0, vae)
    noise = analytic.comfy.sample.prepare_noise(start, 11)
    for (sampler, scheduler), found in zip(pairs, results, strict=True):
        wanted = analytic.comfy.sample.sample(patcher, noise, 5, 3.0, sampler, scheduler, *prompts, start, disable_pbar=True, seed=11)
        assert torch.equal(found, wanted), sampler


def test_a_connected_sampler_has_the_error_of_its_row(node, analytic, build_node):
    """The same sampler is judged the same, from the list or connected; one that adds noise goes to an end of its own, which is said."""
    import comfy.samplers

    def connected(sampler):
        *_, table = node.execute(**inputs(analytic, sampler=sampler, samplers="euler + karras", steps="5", reference_steps=30)).args
        row, found = table.splitlines()[-2:]
        return re.search("error [0-9.]+", row).group(), found

    error, found = connected(comfy.samplers.sampler_object("euler"))
    assert error in found
    own = build_node("DPMSolverSamplerAdvancedExt", algorithm="dpmsolver++", corrector="none", eta=0.5)
    by_options = comfy.samplers.ksampler("euler", {"s_churn": 2.0})
    for sampler in (comfy.samplers.sampler_object("euler_ancestral"), own, by_options):
        found = connected(sampler)[1]
        assert "error" not in found and "an end of its own" in found


def test_connected_sigmas(part, node, analytic, build_node):
    """Tuned steps are compared as SamplerCustom runs them, gains and all, in the column of their number, which all rows then have."""
    import comfy.samplers

    given = inputs(analytic, samplers="euler + karras", steps="4", reference_steps=0)
    patcher, results = given["model"], []
    vae = SimpleNamespace(decode=lambda latent: results.append(latent) or torch.zeros(1, 4, 4, 3))
    sigmas = analytic.schedule(patcher, "beta", 6)
    tuned = part("nodes.tuned_sampler")
    options = {"sampler_function": comfy.samplers.sampler_object("dpmpp_2m").sampler_function, "sampler_options": {}}
    gained = comfy.samplers.KSAMPLER(tuned.sample_tuned, options | {"gains": [1.0, 1.1, 0.9, 1.2, 1.0, 1.0], "made_for": sigmas.tolist()})
    _, images, table = node.execute(**given, sampler=gained, sigmas=sigmas, vae=vae).args
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert lines[0][1:] == ["4 steps", "6 steps"] and lines[2][1].startswith("4 calls") and lines[2][2].startswith("6 calls")
    assert lines[3][0] == "connected sampler + connected sigmas" and lines[3][1] == "" and lines[3][2].startswith("6 calls")
    assert len(images) == len(results) == 3
    start = torch.zeros(analytic.latent_shape(patcher, 2))
    noise = analytic.comfy.sample.prepare_noise(start, 5)
    wanted = analytic.sample(patcher, gained, sigmas, noise, seed=5)
    assert torch.equal(results[2], wanted[:1])
    assert not torch.equal(wanted, analytic.sample(patcher, "dpmpp_2m", sigmas, noise, seed=5)), "the gains act"


def test_sigmas_alone_are_the_first_rows(node, analytic):
    """Without a sampler connected they are steps for the first row's; what ends in noise has no error."""
    given = inputs(analytic, samplers="euler + karras, dpmpp_2m + beta", steps="5", reference_steps=30)
    levels = analytic.schedule(given["model"], "karras", 5)
    *_, table = node.execute(**given, sigmas=levels).args
    first, _, last = table.splitlines()[2:]
    said = [re.search("error [0-9.]+", line).group() for line in (first, last)]
    assert last.startswith("| euler + connected sigmas |") and said[0] == said[1]
    for other in (levels[:-1], levels[1:]):  # ends elsewhere, and starts elsewhere
        *_, table = node.execute(**given, sigmas=other).args
        assert "an end of its own" in table.splitlines()[-1] and "error" not in table.splitlines()[-1]


@pytest.mark.parametrize("levels", [[], [1.0], [1.0, 2.0], [3.0, 3.0, 0.0], [float("nan"), 1.0, 0.0], [3.0, float("inf"), 0.0]])
def test_bad_sigmas(node, analytic, levels):
    """Levels that no run can follow down are refused in one sentence before the model is called."""
    given = inputs(analytic)
    with pytest.raises(ValueError, match=r"^sigmas has \d levels .*\.$"):
        node.execute(**given, sigmas=torch.tensor(levels))
    assert analytic.network(given["model"]).calls == []
    with pytest.raises(ValueError, match=r"^samplers is empty, and sigmas .*\.$"):
        node.execute(**inputs(analytic, samplers=""), sigmas=torch.tensor([1.0, 0.0]))


def test_the_same_twice_is_once(part):
    """A row or a number that is written twice is not paid for twice."""
    rows = part("nodes.compare_rows")
    assert [row.label for row in rows.rows_of("euler, euler + normal\ndeis+beta, euler")] == ["euler + normal", "deis + beta"]
    assert rows.counts_of("6, 6 10 6") == [6, 10]


def test_nested_latents_are_refused(node, analytic):
    """Video with sound, in one sentence, before the model is called."""
    import comfy.nested_tensor

    patcher = analytic.build("eps", nested=True)
    latent = comfy.nested_tensor.NestedTensor([torch.zeros(1, 4, 3, 5, 7), torch.zeros(1, 8, 11)])
    with pytest.raises(ValueError, match=r"^latent_image is a nest .*\.$"):
        node.execute(**inputs(analytic, model=patcher, latent_image={"samples": latent}))
    assert analytic.network(patcher).calls == []


def test_model_calls_of_two_a_step(node, analytic):
    *_, table = node.execute(**inputs(analytic, samplers="dpmpp_sde_ext + karras, heun + karras", steps="5")).args
    assert table.count("9 calls") == 2


MANY = [f"{sampler} + {scheduler}" for sampler in ("euler", "dpmpp_2m") for scheduler in ("karras", "normal", "beta")]
MANY += [f"{sampler} + {scheduler}" for sampler in ("ipndm", "deis", "uni_pc", "heun") for scheduler in ("simple", "beta")][:7]
BAD = {
    "samplers": ("", "nothing + karras", "euler + nothing", "\n".join(MANY), "euler + karras + beta"),
    "steps": ("", "0", "-3", "4.5", "ten", "1 2 3 4 5 6 7 8 9", "2000", "²"),
    "reference_steps": (-1,),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_bad_words(node, analytic, name, value):
    """One sentence that names the widget, before the model is called."""
    given = inputs(analytic, **{name: value})
    with pytest.raises(ValueError) as error:
        node.execute(**given)
    assert str(error.value).startswith(name) and str(error.value).endswith(".") and analytic.network(given["model"]).calls == []


def test_cancel(node, analytic):
    """The host's Cancel, an exception out of the model, ends the whole comparison."""
    import comfy.model_management

    given = inputs(analytic)
    comfy.model_management.interrupt_current_processing()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        node.execute(**given)
    comfy.model_management.interrupt_current_processing(False)


def test_no_words_are_cut(part, monkeypatch):
    """Whatever a pack calls its samplers, and however little the pictures are: every word stands in the sheet as a whole."""
    run, plots, drawn = part("nodes.compare_run"), part("plots.compare"), []
    words = part("plots.sheet").Sheet.text

    def text(self, at, said, size, colour="", anchor="la"):
        width = part("plots.sheet").width_of(said, size)
        left = at[0] - width * {"l": 0.0, "m": 0.5, "r": 1.0}[anchor[0]]
        drawn.append(said)
        assert 0 <= left and left + width <= self.size[0], said
        words(self, at, said, size, colour or "#000000", anchor)

    monkeypatch.setattr(plots.Sheet, "text", text)
    name = "a_sampler_of_a_pack_whose_author_likes_long_names_ancestral_cfg_pp"
    cells = [run.Cell(f"{name} + {name[::-1]}", 5, 12345, 98765.4, 1234.567, np.zeros((8, 8, 3), np.float32))]
    cells.append(run.Cell("b + c", 5, 1, 0.1, 0.123, np.zeros((8, 8, 3), np.float32)))
    foot = "Errors: how far from where 1000 steps of dpm_auto_ext end, and some more words"
    plots.sheet(cells, "cfg 12.75, seed 18446744073709551615", foot)
    assert {name, name[::-1], foot, "12345 calls, 98765.4 s", "error 0.123, least", "1 call, 0.1 s"} <= set(drawn)


def test_a_row_with_some_columns(part):
    """A picture stands in its own column, also where its row has no other."""
    run, plots = part("nodes.compare_run"), part("plots.compare")
    grey = [run.Cell("a + s", steps, steps, 0.1, None, np.full((128, 128, 3), 0.5, np.float32)) for steps in (5, 9)]
    made = plots.sheet([*grey, run.Cell("b", 9, 9, 0.1, None, np.full((128, 128, 3), 0.25, np.float32))], "cfg 7")
    above, below = (np.median(np.argwhere(np.abs(made[..., 0] - shade) < 0.004), 0) for shade in (0.5, 0.25))
    assert below[0] > above[0] + 100, "a row of its own"
    assert below[1] > above[1] + 50, "in the second of two columns, which the row above fills"


def test_sheet(part):
    """Every picture stands in the sheet as it is, beside its own row and column."""
    run, sheet = part("nodes.compare_run"), part("plots.compare").sheet
    shades = np.linspace(0.15, 0.9, 6)
    cells = [
        run.Cell(f"{row} + s", steps, steps, 0.5, 0.1 * steps, np.full((200, 300, 3), shades[2 * i + j], np.float32))
        for i, row in enumerate("abc") for j, steps in enumerate((5, 9))
    ]  # fmt: skip
    picture, bare = sheet(cells, "cfg 7", "how far from the end"), sheet(cells, "cfg 7")
    assert np.array_equal(picture[: len(bare)], bare) and picture[len(bare) :].min() < 0.6, "the small line stands below all else"
    places = [np.argwhere(np.abs(picture[..., 0] - shade) < 0.004) for shade in shades]
    assert all(len(place) > 0.95 * 200 * 300 for place in places)
    middles = [place.mean(0) for place in places]
    assert middles[0][0] < middles[2][0] < middles[4][0] and middles[0][1] < middles[1][1] and abs(middles[0][0] - middles[1][0]) < 1
