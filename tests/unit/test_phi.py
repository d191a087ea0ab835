"""The φ functions and the moments of a step: against exact rational sums and against quadrature of their definitions."""

import math
from fractions import Fraction

import pytest
from dpm_solver_ext.solvers.phi import data_moment, noise_moment, phi
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

# every scale at which another branch or another cancellation could bite, the switches at |z| = 1 + k included
SIZES = [1e-8, 1e-5, 1e-3, 0.1, 0.5, 0.999, 1.0, 1.001, 1.999, 2.0, 2.5, 2.999, 3.0, 3.001, 3.999, 4.0, 4.001, 6.0, 9.0, 15.0, 30.0, 60.0]


def exact_sum(z: float, term) -> float:
    """Σ_j z^j·term(j) in rational arithmetic, exact for the float z until the terms are 1e-40 of the sum."""
    x, power, total, j = Fraction(z), Fraction(1), Fraction(0), 0
    while True:
        add = power * term(j)
        total += add
        if j > 2 * abs(z) + 4 and abs(add) < abs(total) * Fraction(1, 10**40):
            return float(total)
        power = power * x
        j += 1


@pytest.mark.parametrize("k", range(5))
@pytest.mark.parametrize("sign", [1, -1])
def test_phi_is_accurate_at_every_scale(k, sign):
    """φ_k(z) = Σ z^j/(j+k)! to 2e-14 relative from |z| = 1e-8 to 60: guards the switch between series and recurrence."""
    for size in SIZES:
        z = sign * size
        want = exact_sum(z, lambda j: Fraction(1, math.factorial(j + k)))
        assert phi(k, z) == pytest.approx(want, rel=2e-14), (k, z)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_phi_is_its_definition(k):
    """φ_k(z) = ∫_0^1 e^{(1-θ)z} θ^{k-1}/(k-1)! dθ: guards against a series that is accurate but for another function."""
    for z in (-60.0, -7.0, -1.0, -1e-4, 1e-4, 1.0, 7.0, 60.0):
        want, _ = quad(lambda u, z=z: math.exp((1 - u) * z) * u ** (k - 1) / math.factorial(k - 1), 0, 1, epsrel=1e-13, epsabs=0)
        assert phi(k, z) == pytest.approx(want, rel=1e-12), z


@given(st.integers(0, 3), st.floats(-60, 60).filter(lambda z: abs(z) > 1e-3))
def test_phi_recurrence(k, z):
    """z φ_{k+1}(z) + 1/k! = φ_k(z) for any z: guards the series and the recurrence against each other."""
    scale = max(abs(phi(k, z)), 1 / math.factorial(k))
    assert abs(z * phi(k + 1, z) + 1 / math.factorial(k) - phi(k, z)) < 1e-13 * scale


def data_integral(k: int, h: float) -> float:
    """∫_0^h e^{τ-h} τ^k dτ."""
    return quad(lambda u: math.exp(u - h) * u**k, 0, h, epsrel=1e-13, epsabs=0, limit=400)[0]


def noise_integral(k: int, h: float) -> float:
    """-∫_0^h e^{-τ} τ^k dτ."""
    return -quad(lambda u: math.exp(-u) * u**k, 0, h, epsrel=1e-13, epsabs=0, limit=400)[0]


@pytest.mark.parametrize("k", [0, 1, 2])
@pytest.mark.parametrize("sign", [1, -1])
def test_moments_are_their_integrals(k, sign):
    """Both moments equal quadrature of their definitions for steps of 1e-8 to 60 in either direction: a wrong factor or sign fails."""
    for size in SIZES:
        h = sign * size
        assert data_moment(k, h) == pytest.approx(data_integral(k, h), rel=1e-11), h
        assert noise_moment(k, h) == pytest.approx(noise_integral(k, h), rel=1e-11), h


@pytest.mark.parametrize("k", [0, 1, 2])
def test_moments_are_accurate(k):
    """To 5e-14 relative by exact rational sums, where quadrature cannot tell: small steps, and both sides of the tail formula's switch."""
    for h in SIZES:
        data = h ** (k + 1) * math.factorial(k) * exact_sum(-h, lambda j: Fraction(1, math.factorial(j + k + 1)))
        noise = -(h ** (k + 1)) * exact_sum(-h, lambda j: Fraction(1, math.factorial(j) * (j + k + 1)))
        assert data_moment(k, h) == pytest.approx(data, rel=5e-14), h
        assert noise_moment(k, h) == pytest.approx(noise, rel=5e-14), h


@given(st.integers(0, 2), st.floats(-20, 60), st.floats(0, 20))
def test_moments_of_adjoining_steps_add(k, h, more):
    """∫_0^{h+m} splits at h (k = 0 after the weight's factor): guards every h between the tabled ones, jumps at the switches included."""
    if k == 0:
        both = math.exp(-more) * data_moment(0, h) + data_moment(0, more)
        assert data_moment(0, h + more) == pytest.approx(both, rel=1e-11, abs=1e-13)
    after = quad(lambda u: -math.exp(-(h + u)) * (h + u) ** k, 0, more, epsrel=1e-12, epsabs=0)[0]
    scale = max(1.0, abs(noise_moment(k, h)))
    assert abs(noise_moment(k, h + more) - noise_moment(k, h) - after) < 1e-11 * scale


def test_infinite_steps():
    """h = ∞: the data moment is 1 for k = 0 and has no limit beyond; the noise moments are -k!; and h = 700 is there already."""
    assert data_moment(0, math.inf) == 1.0
    assert data_moment(1, math.inf) == math.inf and data_moment(2, math.inf) == math.inf
    for k in range(3):
        assert noise_moment(k, math.inf) == -math.factorial(k)
        assert noise_moment(k, 700.0) == pytest.approx(-math.factorial(k), rel=1e-15)
    assert data_moment(0, 700.0) == pytest.approx(1.0, rel=1e-15)


def test_no_overflow_and_python_floats():
    """Steps of up to |h| = 700 and none at all give finite Python floats: numpy scalars would promote half-precision arrays."""
    for h in (0.0, 1e-300, 60.0, 700.0):
        for k in range(3):
            for value in (data_moment(k, h), noise_moment(k, h)):
                assert type(value) is float and math.isfinite(value)
