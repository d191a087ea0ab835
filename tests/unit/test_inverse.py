"""Inversion: an image encoded as noise along rising sigmas, and decoded again; the ends of a run at both sides."""

import itertools
import math

import numpy as np
import pytest
from dpm_solver_ext.solvers.choices import CHOICES
from dpm_solver_ext.solvers.execute import execute
from dpm_solver_ext.solvers.path import FLOW, VE, VP
from dpm_solver_ext.solvers.presets import plan
from dpm_solver_ext.solvers.tape import Eval
from dpm_solver_ext.tests import models
from dpm_solver_ext.tests.unit.grids import SILENT, SINGLESTEP, VARIANTS, run
from dpm_solver_ext.tests.unit.test_order import geometric, grid, problem, slope

EVERY_PATH = pytest.mark.parametrize("path", [VE, FLOW, VP], ids=lambda p: p.name)
SOLVERS = [
    *(({"algorithm": a, "order": o}, o) for a in CHOICES["algorithm"] for o in (1, 2, 3)),
    *(({"algorithm": a, "order": o, "method": "singlestep_fixed"}, o) for a in SINGLESTEP for o in (2, 3)),
    *(({"algorithm": a, "order": 2, "corrector": "unipc"}, 3) for a in CHOICES["algorithm"]),
]
NAMES = [" ".join(map(str, o.values())) for o, _ in SOLVERS]


@pytest.mark.parametrize("options, order", SOLVERS, ids=NAMES)
def test_the_round_trip_has_the_order_of_the_solver(options, order):
    """Encoded and decoded with as many steps the image comes back with an error that falls at least at the solver's order."""
    path, counts = (VE, FLOW, VP)[len(str(options)) % 3], (24, 36, 54)
    model, _, image = problem("mixture", path.name)
    found = []
    for n in counts:
        up = grid(path, n)[::-1]
        noise = run(path, model, up, image, **options)
        found.append(geometric(run(path, model, up[::-1], noise, **options), image))
    assert order - 0.25 < slope(counts, found) < order + 1.3, found
    assert found[-1] < (0.05, 2e-3, 2e-4)[order - 1]


@EVERY_PATH
@pytest.mark.parametrize("name", SILENT)
def test_presets_encode_and_decode(path, name):
    """Every preset without noise brings an image back within 2 %, from sigma_min to the top and down again with 40 evaluations each way."""
    model = models.Gaussian(0.4, 0.25)
    x = 0.4 + 0.5 * np.random.default_rng(0).standard_normal((16, 8))
    lams = np.linspace(-4.0, 3.5, 41)
    down = [path.from_half_logsnr(float(v)) for v in lams]
    start = path.alpha(down[-1]) * x
    noise = run(path, model, down[::-1], start, **SILENT[name])
    assert np.abs(noise - model.solution(path, start, down[-1], down[0])).max() < 0.05 * max(1.0, path.sigma(down[0]))
    assert np.abs(run(path, model, down, noise, **SILENT[name]) - start).max() < 0.02


@EVERY_PATH
@pytest.mark.parametrize("options", [o for o, _ in SOLVERS], ids=NAMES)
def test_evaluations_rise(path, options):
    """The model is asked at the rising sigmas, the last excepted, and at stages between: never above the last."""
    sigmas = [path.from_half_logsnr(v) for v in (2.5, 2.0, 1.1, 0.3, -0.5)]
    asked = [r.sigma for r in plan(path, sigmas, **options).records if isinstance(r, Eval)]
    assert asked == sorted(asked) and set(sigmas[:-1]) <= set(asked) and asked[-1] < sigmas[-1]


# --- the ends -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [o for o, _ in SOLVERS], ids=NAMES)
@pytest.mark.parametrize("path, top", [(FLOW, 1.0), (VP, math.inf)], ids=["flow", "vp"])
def test_the_step_to_pure_noise_is_the_noise_prediction(path, top, options):
    """Up to λ = -∞ the last step is the exact limit of first order: the state becomes ε = (x - α x0)/σ of the state before it (in the ε
    form with a corrector of the state that the model was asked at); nothing is NaN."""
    model, sigmas = models.toy(), [path.from_half_logsnr(v) for v in (2.0, 1.1, 0.3, -0.5)]
    x, states, asked = np.random.default_rng(2).standard_normal((4, 8)), {}, []

    def denoise(y, r):
        asked.append((y, r))
        return model.denoise(path, y, r)

    end = execute(plan(path, [*sigmas, top], **options), denoise, x, arrive=lambda y, r, i: states.update({i: y}))
    s, before = sigmas[-1], asked[-1][0] if options["algorithm"] == "dpmsolver" else states[3]
    assert asked[-1][1] == s
    np.testing.assert_allclose(end, (before - path.alpha(s) * model.denoise(path, asked[-1][0], s)) / path.sigma(s), atol=1e-12)


@pytest.mark.parametrize("algorithm", ["dpmsolver++", "dpmsolver"])
def test_pure_noise_is_the_limit_of_high_noise(algorithm):
    """A first-order last step to flow 1 - 1e-3, 1e-6, 1e-9 tends to that to 1."""
    model, sigmas = models.toy(), [0.1, 0.3, 0.6]
    x = np.random.default_rng(2).standard_normal((4, 8))
    end = run(FLOW, model, [*sigmas, 1.0], x, algorithm=algorithm, order=1)
    gaps = [np.abs(run(FLOW, model, [*sigmas, 1 - d], x, algorithm=algorithm, order=1) - end).max() for d in (1e-3, 1e-6, 1e-9)]
    assert gaps[0] < 1e-2 and gaps[1] < 1e-5 and gaps[2] < 1e-8


@EVERY_PATH
@pytest.mark.parametrize("method", CHOICES["method"])
def test_what_inversion_refuses(path, method):
    """Rising from 0, where x holds no noise to grow, and rising with eta are one sentence each: about sigmas, and about eta."""
    with pytest.raises(ValueError, match=r"^sigmas: they rise from 0, .* least sigma \(final_sigma sigma_min\)\.$"):
        plan(path, [0.0, 0.3, 0.9], method=method)
    with pytest.raises(ValueError, match=r"^eta is 0\.5, but the sigmas rise: .* set eta to 0\.$"):
        plan(path, [0.1, 0.3, 0.9], method=method, eta=0.5)


@EVERY_PATH
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("algorithm, method", [(o["algorithm"], o["method"]) for o in VARIANTS if o["order"] == 1])
def test_zero_is_sigma_min_and_a_prediction(path, algorithm, method, order):
    """A run to σ = 0 is the run to sigma_min and one prediction there (denoise_to_zero): the choice of the last sigma changes nothing else.

    Of the multistep ones with the smooth rule: its fades look at one step only."""
    model = models.toy()
    sigmas = [path.from_half_logsnr(v) for v in (-1.0, -0.2, 0.4, 1.0, 1.9, 2.8, 3.5)]
    x = path.sigma(sigmas[0]) * np.random.default_rng(2).standard_normal((4, 8))
    options = {"algorithm": algorithm, "method": method, "order": order}
    until = run(path, model, sigmas, x, **options)
    np.testing.assert_allclose(run(path, model, [*sigmas, 0.0], x, **options), model.denoise(path, until, sigmas[-1]), atol=1e-11)


@pytest.mark.parametrize(
    "algorithm, corrector",
    [*itertools.product(SINGLESTEP, ("none", "unipc", "official")), *(("dpmsolver-v3", c) for c in ("none", "unipc", "v3", "v3_pseudo"))],
)
def test_encoding_towards_pure_noise(algorithm, corrector):
    """Up to the σ = 4519 of zero terminal SNR, with some steps beyond α/σ = 0.001, where ε and v are not stored; and to flow σ = 1,
    also by a rounding of float32 above it: every start, order and corrector plans."""
    tops = [[451.89, 2485.4, 4518.9]] + [[0.03 * (4518.76 / 0.03) ** (i / n) for i in range(n + 1)] for n in (2, 5, 12, 30)]
    for sigmas in tops:
        for order in (1, 2, 3, 4):
            for start in CHOICES["start"]:
                plan(VE, sigmas, algorithm=algorithm, corrector=corrector, order=order, start=start)
    for top in (0.9995, 1.0, 1.0000001):
        plan(FLOW, [0.01 + (top - 0.01) * i / 200 for i in range(201)], algorithm=algorithm, corrector=corrector)


def test_two_sigmas_at_the_same_end():
    """Flow 1 and a rounding above it are one noise level: a step between them would be none."""
    for sigmas in ([1.0000001, 1.0, 0.5, 0.0], [0.5, 1.0, 1.0000001]):
        with pytest.raises(ValueError, match="both 1; remove one"):
            plan(FLOW, sigmas)
    for algorithm in SINGLESTEP:  # nearly coincident ones have no room for stages
        plan(VE, [2.0, 1.0, math.nextafter(1.0, 0.0), 0.5, 0.0], method="singlestep_fixed", algorithm=algorithm)
