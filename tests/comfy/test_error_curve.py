"""Error Curve: the orders that it measures are the known ones of an exactly solvable model, its errors the true ones, and what has no curve
is refused before a model call."""

import csv
import io

import numpy as np
import pytest
import torch

CURVE = "DPMSolverErrorCurveExt"
# order of convergence between finite noise levels of what steps of this many calls can do
KNOWN = {"dpmpp_2m": 2, "heun": 2, "unipc_ext": 3, "dpmpp_3m_ext": 3}


@pytest.fixture
def node(pack):
    return pack.nodes[CURVE]


def inputs(analytic, law="MIXTURE", kind="eps", **more):
    patcher = analytic.build(kind, getattr(analytic, law))
    latent = {"samples": torch.zeros(analytic.latent_shape(patcher, 2))}
    wires = {"model": patcher, "positive": analytic.cond(0.75), "negative": analytic.cond(-0.25), "latent_image": latent}
    widgets = {"cfg": 1.0, "seed": 5, "samplers": "euler + karras", "steps": "5, 7, 10", "reference_steps": 40, "final_sigma": "zero"}
    return wires | widgets | more


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_orders(node, analytic):
    """Of solvers of order 2 and 3, on a mixture, between finite noise levels."""
    samplers = ", ".join(f"{name} + karras" for name in KNOWN)
    given = inputs(analytic, samplers=samplers, steps="40, 56, 80", reference_steps=200, final_sigma="sigma_min")
    plot, table, found = node.execute(**given).args
    assert plot.shape[0] == 1 and plot.shape[-1] == 3 and plot.min() >= 0 and plot.max() <= 1
    orders = {row["sampler"].partition(" + ")[0]: float(row["order"]) for row in rows(found)}
    assert list(orders) == list(KNOWN)
    for name, order in KNOWN.items():
        assert abs(orders[name] - order) < 0.2, (name, orders[name])
        assert f"| {name} + karras | {orders[name]:.2f} ± " in table


@pytest.mark.parametrize(("kind", "final"), [("eps", "sigma_min"), ("eps", "zero"), ("flux", "zero")])
def test_errors_are_the_true_ones(node, analytic, kind, final):
    """Distances from the reference are those from the exact end, and model calls the network's own count; Euler is of order 1."""
    given = inputs(analytic, "GAUSS", kind, samplers="euler + karras, heun + karras", steps="28, 20, 14", final_sigma=final)
    patcher = given["model"]
    plot, _, found = node.execute(**given | {"reference_steps": 160}).args
    euler, heun = (found[:3] for found in (rows(found), rows(found)[3:]))
    total = len(analytic.network(patcher).calls)
    assert total == 160 + 80 + sum(int(row["model_calls"]) for row in (*euler, *heun)), "no run but those that are told"
    assert [int(row["model_calls"]) for row in euler] == [14, 20, 28]
    assert [int(row["model_calls"]) for row in heun] == [28 - (final == "zero"), 40 - (final == "zero"), 56 - (final == "zero")]
    assert abs(float(euler[0]["order"]) - 1) < 0.1
    noise = analytic.comfy.sample.prepare_noise(torch.zeros(analytic.latent_shape(patcher, 2)), 5)
    sigmas = analytic.schedule(patcher, "karras", 20)
    if final == "sigma_min":
        sigmas = analytic.schedule(patcher, "karras", 21)[:-1]
    true = analytic.error(patcher, analytic.sample(patcher, "euler", sigmas, noise, seed=5), sigmas, noise)
    assert float(euler[1]["error"]) == pytest.approx(true, rel=0.02)


@pytest.mark.parametrize("scheduler", ["karras", "simple", "normal", "beta", "sgm_uniform", "dpm_auto_ext", "dpm_logsnr_ext"])
def test_levels_to_sigma_min(part, analytic, scheduler):
    """As many steps as asked, falling all the way, from the model's first level to its least: one end for all of them."""
    sampling = analytic.build("eps").get_model_object("model_sampling")
    compare = part("nodes.compare_rows")
    for name in ("euler", "uni_pc"):  # KSampler leaves a level out for the second
        row = compare.rows_of(f"{name} + {scheduler}")[0]
        for steps in (1, 2, 9, 40):
            levels = row.sigmas(sampling, steps, "sigma_min")
            assert len(levels) == steps + 1 and bool((levels[1:] < levels[:-1]).all())
            assert float(levels[-1]) == pytest.approx(float(sampling.sigma_min), rel=1e-6)
            assert float(levels[0]) == pytest.approx(float(sampling.sigma_max), rel=1e-4)


def test_the_fit(part):
    """The order is that of the half with the most calls; what lies under the reference's own error, and what is no number, is left out."""
    run = part("nodes.error_curve_run")

    def points(errors, calls=None):
        return [run.Point(n, n, 0.0, e) for n, e in zip(calls or (5, 10, 20, 40, 80, 160), errors, strict=True)]

    true = [2.0 * n**-3.0 for n in (5, 10, 20, 40, 80, 160)]
    early = [9.0, 9.0, 9.0, *true[3:]]
    found = run.curve("a", points(early), 0.0)
    assert found.order == pytest.approx(3) and found.spread == pytest.approx(0, abs=1e-6)
    assert [p.fitted for p in found.points] == [False] * 3 + [True] * 3
    found = run.curve("a", points([*true[:4], 1e-3, 1e-3]), 2e-3)
    assert found.order is None, "one error is clear of the reference's"
    found = run.curve("a", points([*true[:4], 1e-6, 1e-6]), 1e-5)
    assert found.order == pytest.approx(3) and [p.fitted for p in found.points] == [False, True, True, True, False, False]
    assert run.curve("a", points([*true[:5], float("nan")]), 0.0).order == pytest.approx(3)
    assert run.curve("a", points([*true[:5], float("inf")]), 0.0).order == pytest.approx(3)
    assert run.curve("a", points(true), 1.0).order is None
    assert run.curve("a", points(true, [7] * 6), 0.0).order is None, "an adaptive sampler makes the same calls whatever the steps"
    assert run.curve("a", points(true[:2], (5, 10)), 0.0).words == "3.00", "two points have no spread"


def test_plot(part):
    """Dots stand where the errors are: evenly where they fall by the same factor; errors that are 0 or infinite have none."""
    run, plots = part("nodes.error_curve_run"), part("plots.error_curve")

    def drawn(errors, known=1e-9):
        curve = run.Curve("a + b", tuple(run.Point(n, n, 0.0, e, True) for n, e in zip((5, 10, 20, 40), errors, strict=True)), 2.0, 0.0)
        picture = plots.plot(run.Curves((curve,), 160, known), "cfg 1")
        wanted = np.array([int(plots.COLOURS[0][k : k + 2], 16) / 255 for k in (1, 3, 5)], np.float32)
        (x, y), (w, h) = plots.AT, plots.PANEL
        return np.argwhere(np.abs(picture[y : y + h, x : x + w] - wanted).max(-1) < 0.02)

    places = drawn([1e-1, 1e-2, 1e-3, 1e-4])
    assert len(places) > 400 and places[:, 0].min() < 60 and 250 < places[:, 0].max() < 400
    corner = np.corrcoef(places[:, 0], places[:, 1])[0, 1]
    assert corner > 0.99, "a straight line down to the right"
    fewer = drawn([1e-1, 1e-2, 0.0, float("inf")])
    assert 0 < len(fewer) < len(places)
    assert len(drawn([float("nan")] * 4)) == 0
    for known in (0.0, 1.0, 1e300, float("inf")):
        assert len(drawn([1e-1, 1e-2, 1e-3, 1e-4], known)) > 400, "however badly the end is known"


def test_a_reference_that_is_no_number(node, analytic):
    """A model that overflows is told after the two reference runs, before the rows are paid for."""
    given = inputs(analytic)
    network, calls = analytic.network(given["model"]), []
    whole = network.forward

    def forward(x, *args, **more):
        calls.append(1)
        return whole(x, *args, **more) * float("inf")

    network.forward = forward
    with pytest.raises(ValueError, match=r"^reference_steps is 40, .* no numbers; .*\.$"):
        node.execute(**given)
    assert len(calls) == 60


def test_no_words_are_cut(part, monkeypatch):
    """Whatever a pack calls its samplers, and with as many lines as there can be, every word stands in the picture as a whole."""
    run, plots, drawn = part("nodes.error_curve_run"), part("plots.error_curve"), []
    words = part("plots.sheet").Sheet.text

    def text(self, at, said, size, colour="#222222", anchor="la"):
        width = part("plots.sheet").width_of(said, size)
        left = at[0] - width * {"l": 0.0, "m": 0.5, "r": 1.0}[anchor[0]]
        drawn.append(said)
        assert 0 <= left and left + width <= self.size[0] and 0 <= at[1] <= self.size[1] - 6, said
        words(self, at, said, size, colour, anchor)

    monkeypatch.setattr(plots.Sheet, "text", text)
    name = "a_sampler_of_a_pack_whose_author_likes_long_names + and_its_scheduler_too_{}"
    points = tuple(run.Point(n, n, 0.0, 1.0 / n, n > 9) for n in (1, 2, 3, 4, 100, 101, 102, 1000))
    curves = tuple(run.Curve(name.format(i), points, 1.234, 12.3) for i in range(12))
    plots.plot(run.Curves(curves, 1000, 1e-12), "cfg 12.75, seed 18446744073709551615, final sigma sigma_min")
    assert {name.format(11), "order 1.23 ± 12.30", "1000"} <= set(drawn)


def test_connected_sampler(node, analytic, build_node):
    """A SAMPLER is one more line with the first line's scheduler."""
    sampler = build_node("DPMSolverSamplerExt", preset="dpmpp_2s")
    _, table, found = node.execute(**inputs(analytic, sampler=sampler, samplers="euler + beta")).args
    assert table.splitlines()[3].startswith("| connected sampler + beta |") and len(rows(found)) == 6


BAD = {
    "samplers": ("", "nothing + karras", "euler_ancestral + karras", "dpmpp_2m_sde_ext + karras", "euler + ddim_uniform"),
    "steps": ("", "0", "8", "8, 8", "4.5, 6"),
    "reference_steps": (19, 0, -1),
    "final_sigma": ("none",),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_bad_words(node, analytic, name, value):
    """One sentence that names the widget, before the model is called."""
    given = inputs(analytic, **{name: value})
    with pytest.raises(ValueError) as error:
        node.execute(**given)
    said = str(error.value)
    assert said.startswith(name) and said.endswith(".") and "\n" not in said and analytic.network(given["model"]).calls == []


def test_cancel_and_progress(node, analytic, interrupt):
    """Cancel in the middle ends all of it; the host's bar comes to its end, and counts every run."""
    import comfy.model_management

    seen = interrupt(60)
    given = inputs(analytic)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        node.execute(**given)
    assert 55 < len(analytic.network(given["model"]).calls) < 40 + 20 + 22
    comfy.model_management.interrupt_current_processing(False)
    seen = interrupt(None)
    node.execute(**given)
    assert seen[-1] == (40 + 20 + 22, 40 + 20 + 22)
