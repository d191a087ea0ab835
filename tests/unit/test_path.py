"""Paths: the map between a host's sigma and (α, σ, λ), its exact ends, and the sentences for bad sigmas."""

import math

import pytest
from dpm_solver_ext.solvers.path import FLOW, PATHS, VE, VP, rising
from hypothesis import given
from hypothesis import strategies as st

EVERY = pytest.mark.parametrize("path", [VE, FLOW, VP], ids=lambda p: p.name)


@EVERY
@given(lam=st.floats(-30, 30))
def test_round_trip(path, lam):
    """λ → s → λ over 60 units of λ: a formula that cancels near flow's 1 or vp's large s fails."""
    s = path.from_half_logsnr(lam)
    if path is FLOW and lam < 0:  # 1 - s is rounded there: what is exact is s itself
        assert path.half_logsnr(s) == pytest.approx(lam, abs=3e-16 * math.exp(-lam) + 1e-12) or s == 1
    else:
        assert path.half_logsnr(s) == pytest.approx(lam, abs=1e-12)


@EVERY
@given(s=st.floats(1e-12, 0.999))
def test_lambda_is_the_log_of_the_ratio(path, s):
    """λ = log(α/σ) with this path's own α and σ, and it falls as s rises: guards the three against each other."""
    assert path.half_logsnr(s) == pytest.approx(math.log(path.alpha(s) / path.sigma(s)), abs=1e-12)
    assert path.half_logsnr(s * 1.001) < path.half_logsnr(s)
    assert path.from_half_logsnr(path.half_logsnr(s)) == pytest.approx(s, rel=1e-12)


@given(st.floats(0, 1e8))
def test_vp_preserves_variance(s):
    """α² + σ² = 1 and σ/α = s on the variance-preserving path."""
    assert VP.alpha(s) ** 2 + VP.sigma(s) ** 2 == pytest.approx(1.0, abs=1e-15)
    assert VP.sigma(s) == pytest.approx(s * VP.alpha(s), rel=1e-15, abs=0)


@given(st.floats(0, 1))
def test_flow_is_straight(s):
    """α + σ = 1 on the flow path, σ = s, and α = 1 on the variance-exploding one whose σ is s too."""
    assert FLOW.alpha(s) + FLOW.sigma(s) == pytest.approx(1.0, abs=1e-16)
    assert FLOW.sigma(s) == s == VE.sigma(s)
    assert VE.alpha(s) == 1.0


def test_ends_are_exact():
    """σ = 0 is λ = +∞ on every path, flow 1 and vp ∞ are λ = -∞, and back, bit for bit: nothing is nudged."""
    for path in (VE, FLOW, VP):
        assert path.half_logsnr(0.0) == math.inf and path.alpha(0.0) == 1.0 and path.sigma(0.0) == 0.0
        assert path.from_half_logsnr(math.inf) == 0.0
    assert FLOW.half_logsnr(1.0) == -math.inf and FLOW.alpha(1.0) == 0.0 and FLOW.sigma(1.0) == 1.0
    assert FLOW.from_half_logsnr(-math.inf) == 1.0
    assert VP.half_logsnr(math.inf) == -math.inf and VP.alpha(math.inf) == 0.0 and VP.sigma(math.inf) == 1.0
    assert VP.from_half_logsnr(-math.inf) == math.inf
    assert VE.from_half_logsnr(-math.inf) == math.inf


@EVERY
def test_extreme_lambdas(path):
    """|λ| of 400 gives numbers in range and no overflow error; flow stays within 0…1."""
    for lam in (-400.0, 400.0):
        s = path.from_half_logsnr(lam)
        assert math.isfinite(s) and s >= 0
        assert path is not FLOW or s <= 1


def test_the_table_of_paths():
    """PATHS finds each instance by its own name."""
    assert PATHS == {"ve": VE, "flow": FLOW, "vp": VP}


def sentence(path, sigmas) -> str:
    with pytest.raises(ValueError) as caught:
        path.validate(sigmas)
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".") and text.count(". ") == 0, "one sentence"
    return text


BAD = [
    (VE, [2.0, math.nan, 0.0], ["sigmas[1]", "nan", "finite"]),
    (VE, [math.inf, 1.0, 0.0], ["sigmas[0]", "inf", "finite"]),
    (FLOW, [math.inf, 1.0, 0.0], ["sigmas[0]", "inf", "finite"]),
    (VP, [math.nan, 1.0], ["sigmas[0]", "nan"]),
    (VE, [2.0, 1.0, -0.5], ["sigmas[2]", "-0.5", "negative"]),
    (VP, [2.0, 1.0, -0.5], ["sigmas[2]", "-0.5", "negative"]),
    (FLOW, [1.25, 0.5, 0.0], ["sigmas[0]", "1.25", "0…1"]),
    (VE, [2.0, 1.5, 1.5, 0.0], ["sigmas[1]", "sigmas[2]", "1.5", "strictly"]),
    (VE, [0.0, 0.0], ["sigmas[0]", "sigmas[1]", "both 0"]),
    (VP, [math.inf, math.inf, 1.0], ["sigmas[0]", "sigmas[1]", "both inf"]),
    (VE, [0.0, 1.0, 2.0], ["rise from 0", "least sigma"]),
    (FLOW, [0.0, 1.0], ["rise from 0", "least sigma"]),
    (VE, [1.0, 2.0, 0.5], ["rise", "2 to 0.5", "step 1"]),
    (VE, [1.0, 2.0, 2.0], ["sigmas[1]", "sigmas[2]", "both 2"]),
    (FLOW, [0.5, 1.25], ["sigmas[1]", "1.25", "0…1"]),
    (VE, [3.0, 1.0, 2.0, 0.0], ["1 to 2", "step 1"]),
    (VE, [3.0, 1.0, 0.0, 0.5], ["0 to 0.5", "step 2"]),
]


@pytest.mark.parametrize("path, sigmas, words", BAD, ids=[f"{p.name} {s}" for p, s, _ in BAD])
def test_bad_sigmas_get_one_sentence(path, sigmas, words):
    """Each bad list gets one sentence that names the place and the value: guards the messages and that nothing slips through."""
    text = sentence(path, sigmas)
    assert text.startswith("sigmas: ")
    for word in words:
        assert word in text, text


GOOD = [
    (VE, []),
    (VE, [3.0]),
    (VE, [4519.0, 1.0, 0.0]),
    (VE, [1.0, 0.5]),
    (FLOW, [1.0, 0.5, 0.0]),
    (FLOW, [1.0, 0.0]),
    (VP, [math.inf, 1.0, 0.0]),
    (VE, [0.03, 1.0, 14.6]),
    (FLOW, [0.001, 0.5, 1.0]),
    (VP, [0.1, 1.0, math.inf]),
]


@pytest.mark.parametrize("path, sigmas", GOOD, ids=[f"{p.name} {s}" for p, s in GOOD])
def test_good_sigmas_pass(path, sigmas):
    """Empty, single, open-ended and unfinished lists are no errors: hosts make them; nor are rising ones, which encode an image."""
    path.validate(sigmas)
    assert rising(sigmas) == (len(sigmas) > 1 and sigmas[-1] > sigmas[0])


def test_flow_one_and_a_rounding_is_one():
    """Hosts compute shifts in float32: 1.0000001 is λ = -∞ as 1 is, α is 0 and not negative; 1.001 is an error that shows the digits."""
    s = 1.00000011920929  # float32's next number after 1
    assert s > 1 and FLOW.alpha(s) == 0 and FLOW.half_logsnr(s) == -math.inf
    FLOW.validate([s, 0.5, 0.0])
    with pytest.raises(ValueError, match=r"sigmas\[0\] is 1\.00002"):
        FLOW.validate([1.00002, 0.5, 0.0])
