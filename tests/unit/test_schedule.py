"""Step schedules: lengths, ends and order for every model range, and the grids of the official code and the hosts."""

import functools
import itertools
import math
import statistics

import numpy as np
import pytest
from dpm_solver_ext.solvers import schedule, tables
from dpm_solver_ext.solvers.choices import PRESETS
from dpm_solver_ext.solvers.path import FLOW, VE
from dpm_solver_ext.tests.unit.grids import RANGE, comfy_normal, errors, fine_end, flow_shift, problem, run

SD = schedule.sd_time_map()


def flow_map(shift):
    return lambda tau: flow_shift(0.001 + 0.999 * tau, shift)


def edm_map(tau):
    """EDM's clock: ln σ / 4, even in log σ from 0.002 to 80."""
    return math.exp(math.log(0.002) + tau * math.log(80 / 0.002))


def zsnr_table():
    """SD's table rescaled to zero terminal SNR as hosts do it: √ᾱ shifted to 0 at the end, the last ᾱ then 4.897e-08."""
    beta = np.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000) ** 2
    root = np.sqrt(np.cumprod(1 - beta))
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    bar = root**2
    bar[-1] = 4.8973451890853435e-08
    return [float(v) for v in np.sqrt((1 - bar) / bar)]


ZSNR = schedule.table_map(zsnr_table())
RANGES = {  # path, sigma_max, sigma_min, clock
    "sd": (VE, 14.614642, 0.0291675, SD),
    "zsnr": (VE, 4518.75634765625, zsnr_table()[0], ZSNR),
    "edm": (VE, 80.0, 0.002, edm_map),
    "flow": (FLOW, 1.0, 0.001, flow_map(1.0)),
    "flow shift 3": (FLOW, 1.0, flow_shift(0.001, 3.0), flow_map(3.0)),
    "flux": (FLOW, 1.0, flow_shift(0.001, math.exp(1.15)), flow_map(math.exp(1.15))),
}
MAKE = {
    "auto": lambda path, n, top, low, clock: schedule.auto(path, n, top, low, clock),
    "logSNR": lambda path, n, top, low, clock: schedule.log_snr(path, n, top, low, clock),
    "logSNR without a clock": lambda path, n, top, low, clock: schedule.log_snr(path, n, top, low),
    "time_uniform": lambda path, n, top, low, clock: schedule.time_uniform(n, top, low, clock),
    "time_quadratic": lambda path, n, top, low, clock: schedule.time_uniform(n, top, low, clock, 2),
    "karras": lambda path, n, top, low, clock: schedule.karras(n, top, low),
    "exponential": lambda path, n, top, low, clock: schedule.exponential(n, top, low),
    **{
        name: functools.partial(lambda name, path, n, top, low, clock: tables.table(name, n, path, top, low), name)
        for name in tables.TABLES
    },
}


@pytest.mark.parametrize("kind", RANGES)
@pytest.mark.parametrize("name", MAKE)
def test_every_schedule_can_be_sampled_along(name, kind):
    """1 to 60 steps on six models' ranges: steps + 1 Python floats from sigma_max, exactly, strictly down to 0, within the range."""
    path, top, low, clock = RANGES[kind]
    for n in range(1, 61):
        sigmas = MAKE[name](path, n, top, low, clock)
        assert len(sigmas) == n + 1, (n, sigmas)
        assert sigmas[0] == top and sigmas[-1] == 0.0, (n, sigmas)
        assert all(type(s) is float and math.isfinite(s) for s in sigmas)
        assert all(a > b for a, b in itertools.pairwise(sigmas)), (n, sigmas)
        assert all(low * (1 - 1e-9) <= s <= top for s in sigmas[:-1]), (n, sigmas)
        path.validate(sigmas)


@pytest.mark.parametrize("kind", RANGES)
@pytest.mark.parametrize("name", MAKE)
def test_schedules_are_deterministic(name, kind):
    """The same call gives the same bits: seeds reproduce pictures only if the sigmas do."""
    path, top, low, clock = RANGES[kind]
    assert MAKE[name](path, 13, top, low, clock) == MAKE[name](path, 13, top, low, clock)


def test_karras_and_exponential_are_their_formulas():
    """EDM eq. 5, and even log σ: against NumPy. The last finite value is sigma_min, then 0."""
    for n, top, low in itertools.product((2, 7, 30), (14.6, 80.0), (0.03, 0.002)):
        ramp = np.linspace(0, 1, n)
        want = (top ** (1 / 7) + ramp * (low ** (1 / 7) - top ** (1 / 7))) ** 7
        np.testing.assert_allclose(schedule.karras(n, top, low)[:-1], want, rtol=1e-12)
        np.testing.assert_allclose(schedule.exponential(n, top, low)[:-1], np.geomspace(top, low, n), rtol=1e-12)
    np.testing.assert_allclose(schedule.karras(9, 14.6, 0.03, 3.0)[4], ((14.6 ** (1 / 3) + 0.03 ** (1 / 3)) / 2) ** 3, rtol=1e-12)


# --- the official time grids ----------------------------------------------------------------------------------------------------------


def official_sigma(t):
    """NoiseScheduleVP('discrete') on SD's betas: log α piecewise linear in t over 1/1000 … 1."""
    betas = np.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000) ** 2
    log_alpha = np.interp(t, np.linspace(0, 1, 1001)[1:], 0.5 * np.cumsum(np.log(1 - betas)))
    return np.sqrt(np.expm1(-2 * log_alpha))


@pytest.mark.parametrize("n", [1, 2, 5, 8, 20, 50])
@pytest.mark.parametrize("power", [1, 2])
def test_time_schedules_are_the_official_grids(n, power):
    """time_uniform and time_quadratic visit the official times (n even steps of t or √t from 1 to 1/1000), with 0 for their last.

    The official clock is linear in log α between the table's places, the hosts' in log σ: equal at the places, 3e-4 apart between the
    noisy ones, up to 1 % between the last twenty, where σ doubles in a few places.
    """
    times = np.linspace(1.0, 0.001 ** (1 / power), n + 1)[:-1] ** power
    want = official_sigma(np.linspace(1.0, 0.001 ** (1 / power), n + 1) ** power)[:-1]
    got = schedule.time_uniform(n, SD(1.0), SD(0.0), SD, power)
    np.testing.assert_allclose(got[:-1], want, rtol=0.01)
    noisy = times > 0.02
    np.testing.assert_allclose(np.array(got[:-1])[noisy], want[noisy], rtol=3e-4)
    assert got[-1] == 0.0


def test_time_uniform_at_the_tables_places_is_exact():
    """With steps that divide 999 every time is a place of the table, and both clocks agree to rounding."""
    for n in (3, 9, 27, 37, 111):
        want = official_sigma(np.linspace(1.0, 0.001, n + 1))[:-1]
        np.testing.assert_allclose(schedule.time_uniform(n, SD(1.0), SD(0.0), SD), [*want, 0.0], rtol=1e-9)


def test_time_uniform_on_a_flow_is_even_in_sigma():
    """On an unshifted flow model t is sigma: even steps from 1 towards 0.001, the last replaced by 0."""
    got = schedule.time_uniform(10, 1.0, 0.001, flow_map(1.0))
    np.testing.assert_allclose(got[:-1], np.linspace(1, 0.001, 11)[:-1], rtol=1e-9)


def test_time_uniform_within_a_smaller_range():
    """A user's sigma_max and sigma_min are found on the clock: the times between are even there."""
    got = schedule.time_uniform(8, 5.0, 0.1, SD)
    grid = np.linspace(0, 1, 20001)
    clock = np.array([SD(v) for v in grid])
    times = np.interp(got[:-1], clock, grid)
    assert got[0] == 5.0 and got[-1] == 0.0
    np.testing.assert_allclose(np.diff(times), np.diff(times)[0], rtol=1e-3)


# --- clocks ---------------------------------------------------------------------------------------------------------------------------


def test_sd_clock():
    """SD 1.5's table: 0.0291675 to 14.614642 (published by the hosts), rising; the ends clamp."""
    assert SD(0.0) == pytest.approx(0.0291675, rel=2e-5) and SD(1.0) == pytest.approx(14.614642, rel=1e-6)
    assert SD(-1.0) == SD(0.0) and SD(2.0) == SD(1.0)
    values = [SD(i / 500) for i in range(501)]
    assert all(a < b for a, b in itertools.pairwise(values))


def test_table_map_is_the_hosts_formula():
    """ComfyUI's ModelSamplingDiscrete.sigma: log σ linear between the two places around t, t = 999 τ; here against its few lines."""
    table = np.array(zsnr_table())
    log_sigmas = np.log(table)
    for t in (0.0, 0.25, 1.0, 17.3, 500.5, 998.9, 999.0):
        low, high, w = math.floor(t), math.ceil(t), t - math.floor(t)
        want = math.exp((1 - w) * log_sigmas[low] + w * log_sigmas[high])
        assert ZSNR(t / 999) == pytest.approx(want, rel=1e-9)
    linear = schedule.table_map([0.1, 0.2, 0.6, 1.0], log=False)
    assert [linear(v) for v in (0, 1 / 3, 0.5, 5 / 6, 1)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0])


def test_time_uniform_is_close_to_the_hosts_normal():
    """ComfyUI's sgm_uniform on SD has the same times as time_uniform: the same clock, the same even steps."""
    for n in (5, 20):
        np.testing.assert_allclose(schedule.time_uniform(n, SD(1.0), SD(0.0), SD), comfy_normal(VE, n, sgm=True), rtol=1e-6)


# --- logSNR and auto ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", RANGES)
def test_log_snr_is_even_in_lambda(kind):
    """Between the ends the λ steps are equal; an infinite end (flow 1, zero terminal SNR, σ = 0) stands outside the even part."""
    path, top, low, clock = RANGES[kind]
    for n in (5, 12, 30):
        lams = [path.half_logsnr(s) for s in schedule.log_snr(path, n, top, low, clock)]
        outside = lams[0] < -schedule.INFINITE
        steps = np.diff(lams[outside:-1])
        np.testing.assert_allclose(steps, steps[0], rtol=1e-9)
        assert lams[-1] == math.inf and (lams[0] == -math.inf) == (path is FLOW)


def test_log_snr_follows_the_models_shift():
    """The finite part of a flow model's schedule is centred where the model's clock is at half time."""
    for shift in (1.0, 3.0, 6.0):
        clock = flow_map(shift)
        lams = [FLOW.half_logsnr(s) for s in schedule.log_snr(FLOW, 9, 1.0, clock(0.0), clock)][1:-1]
        assert statistics.mean((lams[0], lams[-1])) == pytest.approx(FLOW.half_logsnr(clock(0.5)), abs=1e-9)


def test_log_snr_of_a_finite_range_is_exponential():
    """On SD and EDM ranges even λ is even log σ."""
    for top, low in ((14.614642, 0.0291675), (80.0, 0.002)):
        np.testing.assert_allclose(schedule.log_snr(VE, 12, top, low), schedule.exponential(12, top, low), rtol=1e-9)


@pytest.mark.parametrize("kind", RANGES)
def test_auto_is_right_at_the_ends(kind):
    """The default begins at sigma_max, ends at 0, and the finite end comes no nearer to 0 as steps fall, nor below the model's least."""
    path, top, low, clock = RANGES[kind]
    last = [schedule.auto(path, n, top, low, clock)[-2] for n in range(2, 61)]
    assert all(a >= b * (1 - 1e-9) for a, b in itertools.pairwise(last)) and last[-1] >= low * (1 - 1e-9)


@pytest.mark.parametrize("kind", RANGES)
def test_auto_is_even_in_its_own_measure(kind):
    """Between its ends the default is even in arctan((r/10)^(1/3)), r = σ/α and 10 moved by the fourth root of a flow model's shift:
    λ steps are least near the middle and grow towards both ends. The first of a range that is entered in one step is left out."""
    path, top, low, clock = RANGES[kind]
    middle = 10 * (math.exp(-FLOW.half_logsnr(clock(0.5))) ** 0.25 if path is FLOW else 1)
    for n in (8, 20, 60):
        lams = [path.half_logsnr(s) for s in schedule.auto(path, n, top, low, clock)[1:-1]]
        measure = [math.atan((math.exp(-lam) / middle) ** (1 / 3)) for lam in lams]
        np.testing.assert_allclose(np.diff(measure), (measure[-1] - measure[0]) / (n - 2), rtol=1e-6)
        assert np.all(np.diff(np.diff(lams)[-n // 2 :]) > 0)


@pytest.mark.parametrize("kind", ["sd", "edm", "flow shift 3"])
def test_auto_spends_its_levels_better_than_karras(kind):
    """Where λ steps grow towards one end only, karras with ρ = 6 between the same ends as auto's, the error on the image-like mixture is
    larger; over all of these step counts, since at a single one its levels may be lucky."""
    path, top, low, clock = RANGES[kind]
    model, x, ends = problem("image", path.name)
    start, ratios = x * (top / RANGE[path.name][0]), []
    ends = ends if kind != "edm" else fine_end(path, model, start, top)
    for n in (10, 11, 12, 13, 15, 17, 20):
        even = schedule.auto(path, n, top, low, clock)
        first, last = (math.exp(-path.half_logsnr(s)) for s in (even[1], even[-2]))
        spaced = [path.from_half_logsnr(-math.log(r)) for r in schedule.karras(n - 1, first, last, 6.0)[:-1]]
        ours, karras = (errors(run(path, model, s, start, **PRESETS["auto"]), ends) for s in (even, [top, *spaced, 0.0]))
        ratios.append(ours / karras)
    assert statistics.geometric_mean(ratios) < 0.96  # .93, .64, .93; at one step count .57 to 1.16


@pytest.mark.parametrize("shift", [3.0, 8.0])
def test_auto_follows_a_shift_part_of_the_way(shift):
    """A flow model's shift moves the upper end of the range by shift^(1/2) and the low one by shift^(1/4), in σ/α, at every step count."""
    for n in (6, 15, 40):
        plain, moved = (schedule.auto(FLOW, n, 1.0, 1e-6, flow_map(k)) for k in (1.0, shift))
        shifted = [math.log(b / (1 - b) / (a / (1 - a)), shift) for a, b in zip(plain[1:-1], moved[1:-1], strict=True)]
        assert abs(shifted[-1] - 0.25) < 1e-9 and 0.25 < shifted[0] < 0.5 and shifted == sorted(shifted, reverse=True)


def test_auto_has_the_detail_in_view_whatever_the_shift():
    """Data that know nothing of a model's shift of 3, 15 evaluations: ComfyUI's best pair, ipndm + beta, has an error of .0048 there;
    auto with both ends shifted in full, as it was, .019."""
    model, x, ends = problem("image", "flow")
    sigmas = schedule.auto(FLOW, 15, 1.0, flow_shift(0.001, 3.0), flow_map(3.0))
    assert errors(run(FLOW, model, sigmas, x, **PRESETS["auto"]), ends) < 0.009


# --- manual and truncate --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["14.6, 4.2, 1.1, 0", "14.6 4.2 1.1 0", " 14.6;4.2 ;1.1,\n0 ", "1.46e1,4.2,1.1,0.0,"])
def test_manual_reads_lists(text):
    """Commas, semicolons, spaces and lines separate; numbers in any notation."""
    assert schedule.manual(text) == [14.6, 4.2, 1.1, 0.0]


@pytest.mark.parametrize(
    "text, words",
    [
        ("14.6, four, 0", ["'four'"]),
        ("14.6, 1,5x", ["'5x'"]),
        ("", ["0 values"]),
        ("3", ["1 value;", "two"]),
        ("14.6, 0x10", ["'0x10'"]),
        ("14,6 5,2 0", ["point"]),
        ("3, nan, 0", ["'nan'"]),
        ("3, inf, 0", ["'inf'"]),
    ],
)
def test_manual_errors_are_one_sentence(text, words):
    """What cannot be read, or read in two ways (decimal commas), is quoted in one sentence that shows how to write it."""
    with pytest.raises(ValueError) as caught:
        schedule.manual(text)
    message = str(caught.value)
    assert message.startswith("manual_sigmas") and "14.6, 4.2, 1.1, 0." in message and "\n" not in message
    assert all(word in message for word in words)


def test_manual_leaves_bad_numbers_to_the_path():
    """Numbers that are numbers but no schedule (rising) get the path's sentence."""
    with pytest.raises(ValueError, match="they rise"):
        VE.validate(schedule.manual("0, 3, 9"))


@pytest.mark.parametrize("steps, denoise, total", [(10, 1.0, 10), (10, 0.5, 20), (10, 0.3, 33), (7, 0.9, 7), (7, 0.87, 8), (1, 0.01, 100)])
def test_truncate_is_the_hosts_rule(steps, denoise, total):
    """ComfyUI's denoise: a schedule of int(steps/denoise) steps, of which the last `steps` are run: steps + 1 values, the last 0."""
    asked = []

    def make(n):
        asked.append(n)
        return schedule.karras(n, 14.6, 0.03)

    got = schedule.truncate(make, steps, denoise)
    assert asked == [total] and len(got) == steps + 1
    assert got == schedule.karras(total, 14.6, 0.03)[total - steps :]


def test_truncate_at_zero_is_empty():
    """Denoise 0 asks for nothing: an empty list, as the hosts return, and nothing is planned."""
    assert schedule.truncate(lambda n: 1 / 0, 10, 0.0) == []  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize("steps", [0, -1])
def test_no_steps_is_one_sentence(steps):
    """Every schedule refuses to make none or fewer, naming the widget and the value."""
    clock = schedule.sd_time_map()
    for make in (
        lambda: schedule.karras(steps, 14.6, 0.03),
        lambda: schedule.exponential(steps, 14.6, 0.03),
        lambda: schedule.log_snr(VE, steps, 14.6, 0.03),
        lambda: schedule.time_uniform(steps, 14.6, 0.03, clock),
        lambda: schedule.auto(VE, steps, 14.6, 0.03, clock),
    ):
        with pytest.raises(ValueError, match=f"steps is {steps}; at least one"):
            make()


@pytest.mark.parametrize("top, low", [(0.073, 0.001), (0.01, 0.0001), (1.0, 0.9967)])
def test_ranges_outside_the_measured_one_still_fall(top, low):
    """A flow range typed below or above where log_snr and auto put their steps is filled, not turned round."""
    clock = schedule.table_map([8 * t / (1 + 7 * t) for t in (i / 1000 for i in range(1, 1001))], log=False)
    for steps in (2, 5, 30):
        for sigmas in (schedule.log_snr(FLOW, steps, top, low, clock), schedule.auto(FLOW, steps, top, low, clock)):
            FLOW.validate(sigmas)
            assert len(sigmas) == steps + 1
