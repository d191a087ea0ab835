"""Multistep DPM-Solver and DPM-Solver++ of orders 1 to 4, with a corrector and with noise: one evaluation a step, as a tape.

Sources: DPM-Solver++ (arXiv 2211.01095, algorithm 2 and appendix B) in the form "x0", DPM-Solver (arXiv 2206.00927) in the form
"eps", our own "dpmsolver-v" in the form "v", and DPM-Solver-v3 (arXiv 2310.13268) in the form "f"; the polynomial through the last
`order` evaluations in λ, integrated as `step` and `v3` say.
With `eta` > 0 they are SDE-DPM-Solver and SDE-DPM-Solver++ (the 2M and 3M SDE samplers); with a corrector UniPC, see `unipc`.

Two things differ from the official code, and each has a switch back:

- `start="corrected"`: when the second evaluation is there, the first step is taken again with both (a trapezoid rule, no extra
  evaluation), so that order 3 converges at order 3 (measured 3.0) where the first-order start leaves it at 2.
- `final_rule="smooth"`: the order falls with the sizes of the λ steps, not at a step count; see module `fades`.

With an infinite end (σ = 0, flow σ = 1) a polynomial in λ has no value there: the step next to it is of order 1 in the x0 form,
and the measured order over the whole run is 1.7 to 2.2 whatever `order` says ("dpmsolver-v" of order 2 from flow σ = 1: 1.3). Tried
at flow σ = 1, on mixtures: a second step linear in α/σ through the infinite node halves the error from 60 steps on and doubles it at
8 to 20 with guidance 7.5; polynomials in -log σ, finite there, are better on even sigmas without guidance and worse on every schedule
that suits flow models. So λ stays, and the one evaluation at the end serves the corrected start only. "dpmsolver-v" takes the last
step to σ = 0 on x0, as the others do at first order: that is not the limit of its own steps to small σ (3e-2 apart on a mixture).
"""

import math
from collections.abc import Sequence
from typing import Any

from . import v3
from .choices import FORM, check_options
from .fades import careful, correction_fades, fades
from .path import Path, rising
from .proof import check
from .statistics import Statistics
from .step import (
    check_noise,
    coefficient,
    damping,
    form_of,
    is_open,
    newton_moments,
    node_weights,
    noise_weight,
    state_weight,
    terms_of,
    value,
)  # fmt: skip
from .tape import Affine, Arrive, Claim, Eval, Mark, Noise, Record, Tape
from .trust import blended, measure
from .unipc import official_corrector_weights

V3_TYPES = ("dpmsolver", "taylor", "pseudo")  # what solver_type may be with algorithm dpmsolver-v3


def plan_multistep(
    path: Path,
    sigmas: Sequence[float],
    *,
    algorithm: str = "dpmsolver++",
    order: int = 2,
    solver_type: str = "dpmsolver",
    start: str = "corrected",
    final_rule: str = "smooth",
    corrector: str = "none",
    eta: float = 0.0,
    s_noise: float = 1.0,
    statistics: Statistics | None = None,
    corrector_range: tuple[float, float] = (0.0, math.inf),
    slopes: str = "planned",
) -> Tape:
    """Plan a run along `sigmas` (host's numbers, strictly falling, the last may be 0; or strictly rising from above 0, which encodes an
    image as noise, eta = 0).

    `algorithm` "dpmsolver++" (data prediction), "dpmsolver" (noise prediction), "dpmsolver-v" (v-prediction) or "dpmsolver-v3" (with
    `statistics`, see `ems`; without them `Statistics.closed_form`); `order` 1…4;
    `solver_type` "dpmsolver", "taylor" or "bh1", which differ at order 2 only, and not for "dpmsolver-v", which is always exact
    ("official" and "official_taylor" are the first two with the official third-order weights, for parity), or "pseudo" as in
    DPM-Solver-v3's pseudo-order methods (order 2 whatever `order` says); `start`
    "corrected", "official" or "extra" (with a corrector of order p ≥ 3: (p-1)(p-2) more evaluations make the run of order p + 1);
    `final_rule` "smooth", "official" (order drops over the last steps of runs of less than 10 steps; of every run with a corrector)
    or "none"; `corrector` "none", "unipc", "official" (UniPC's faulty vary_coeff, for parity), "v3" (through as many evaluations as the
    prediction had, the newest in the place of the oldest) or "v3_pseudo" (one more, pseudo order), acting where sigma lies in
    `corrector_range`. `eta` 0 is the ODE, 1 the papers' SDE; `s_noise` scales the noise. `slopes` "measured" scales what goes beyond order
    1 in a prediction by how well slopes have held in the run itself, see `trust`, at order 2; where sigmas rise they are planned
    (measured, encodings to pure noise come back a quarter worse).
    ValueError, one sentence, if a value is out of range. The tape has been checked.
    """
    options = {
        "algorithm": algorithm, "order": order, "solver_type": solver_type, "start": start, "final_rule": final_rule,
        "corrector": corrector, "eta": eta, "s_noise": s_noise,
    } | ({"slopes": slopes} if slopes != "planned" else {})  # fmt: skip
    check_options(**options)
    if statistics is not None and algorithm != "dpmsolver-v3":
        raise ValueError(f"algorithm is {algorithm}, which has no use for statistics; set it to dpmsolver-v3, or leave them out.")
    if statistics is not None and not isinstance(statistics, Statistics):
        raise ValueError(f"statistics is a {type(statistics).__name__}; give Statistics, as fit(moments) makes them of a calibration.")
    if algorithm == "dpmsolver-v3":
        statistics = statistics or Statistics.closed_form()
        if solver_type not in V3_TYPES:
            raise ValueError(
                f"solver_type is {solver_type}, which algorithm dpmsolver-v3 does not have; choose one of {', '.join(V3_TYPES)}."
            )
        if corrector == "official":
            raise ValueError("corrector is official, which is UniPC's and not for algorithm dpmsolver-v3; choose unipc, v3 or v3_pseudo.")
        options["statistics"] = statistics.label or statistics.kind
    corrector_range = (float(corrector_range[0]), float(corrector_range[1]))
    if corrector_range != (0.0, math.inf):
        options["corrector_range"] = list(corrector_range)
    sigmas = tuple(float(s) for s in sigmas)
    path.validate(sigmas)
    check_noise(algorithm, eta, "sde", rising(sigmas))
    if eta and corrector != "none":
        raise ValueError(f"corrector is {corrector} with eta {eta:g}, but needs a path without noise; set corrector to none or eta to 0.")
    if slopes == "measured" and (eta or algorithm == "dpmsolver-v3"):
        what = f"eta {eta:g}" if eta else f"algorithm {algorithm}"
        raise ValueError(f"slopes is measured with {what}, which has planned ones only; set slopes to planned.")
    plan = _Plan(path, sigmas, algorithm, order, solver_type, start, final_rule, corrector, eta, s_noise, statistics, corrector_range)
    plan.measured = slopes == "measured" and order == 2 and not plan.rising
    for i in range(len(sigmas) - 1):
        plan.step(i)
    name = f"multistep {algorithm} order {order}" + (", UniPC" if corrector != "none" else "") + (f", eta {eta:g}" if eta else "")
    return check(Tape(name, path.name, sigmas, tuple(plan.records), tuple(plan.claims), tuple(options.items()), plan.notes(), statistics))


class _Plan:
    """The records and claims so far, and what a step needs to know of the run."""

    def __init__(
        self, path, sigmas, algorithm, order, solver_type, start, final_rule, corrector, eta, s_noise, statistics, corrector_range
    ):  # fmt: skip
        self.path, self.sigmas, self.algorithm, self.order, self.solver_type = path, sigmas, algorithm, order, solver_type
        self.start, self.final_rule, self.corrector = start, final_rule, corrector
        self.statistics, self.corrector_range = statistics, corrector_range
        self.ways: Any = v3.Ways(statistics) if statistics is not None else None
        self.eta, self.s_noise, self.rising = eta, s_noise, rising(sigmas)
        self.steps, self.lam = len(sigmas) - 1, [path.half_logsnr(s) for s in sigmas]
        self.records: list[Record] = []
        self.claims: list[Claim] = []
        self.first = 0  # where the records of the step before begin
        self.stored: set[int] = set()  # evaluations that are stored in the method's own form
        self.measured = False
        self.trusts: dict[int, str] = {}  # i -> the register that says how far the slope between evaluations i-1 and i is trusted
        self.predicted: list[float] = []  # the weights of order 1 of the step before, where it leans on a trust
        block = order - 1  # the nodes of the extra start besides the first
        finite = self.steps > block and all(math.isfinite(v) for v in self.lam[: block + 1]) and not is_open(path, sigmas[0])
        self.extra = start == "extra" and corrector == "unipc" and order > 2 and finite

    def notes(self) -> tuple[str, ...]:
        """What of the options could not act."""
        out = []
        if self.order > self.steps > 0:
            out.append(f"order is {self.order}, but a run of {self.steps} step{'s' * (self.steps > 1)} has at most order {self.steps}.")
        if self.corrector == "none" and self.corrector_range != (0.0, math.inf):
            low, high = self.corrector_range
            out.append(f"corrector_range is {low:g} to {high:g}, which acts with a corrector only; set corrector to unipc.")
        if self.start == "extra" and not self.extra:
            out.append("start is extra, which needs corrector unipc, order 3 or 4, that many steps and a finite first λ; corrected acts.")
        return tuple(out)

    def step(self, i: int) -> None:
        """Evaluate at sigmas[i], correct the step that led there, and take the next."""
        path, records = self.path, self.records
        s, t = self.sigmas[i], self.sigmas[i + 1]
        first = len(records)
        records += [Eval(f"d{i}", "x", s), Mark(i, "x", f"d{i}")]
        if self.extra and i == 0:
            records.append(Affine("start", (("x", 1.0),)))
        form = form_of(self.algorithm, path, s, t)
        if form == "f" and path.sigma(t) == 0 and (self.steps == 1 or self.statistics.tail == "x0"):
            form = "x0"
        if self.eta and path.sigma(t) == 0:
            form = "x0"  # the form "eps" would leave the noise of the last step in the picture
        # stored for the steps to come and for the corrections; the last step of a run to σ = 0 is on x0
        if FORM[self.algorithm] != "x0" and not is_open(path, s) and (form != "x0" or self._corrects(i) or i < self.steps - 1):
            self._store(i, "x")
        if self.measured and i > 0 and path.sigma(t) > 0:
            self._measure(i)
        if self._corrects(i):
            self._correct(i)
        if i == 0 or self._corrects(i):
            records.append(Arrive(i, "x"))
        first = len(records) if self._corrects(i) else first
        if self.extra and i == self.order - 1:
            self._extra_start()
            first = len(records)
        prefix = "d" if form == "x0" else "v"
        nodes, factors = self._stencil(i, form)
        if form == "v" and self.order > 1 and i > 0 and is_open(path, self.sigmas[i - 1]):
            form, prefix = "x0", "d"  # the one node left is still near the open end, where x0 is the smoother quantity
        rule = "taylor" if form == "v" else self.solver_type
        eta = self.eta
        weights, bias = self._weights(form, s, t, nodes, rule, factors)
        stored = [f"{prefix}{i - j}" for j in range(len(nodes))]
        trusted, self.predicted = i in self.trusts and len(nodes) > 1 and prefix == self._prefix(), []
        if trusted:
            whole, _ = self._weights(form, s, t, nodes[:1], rule, factors[:1])
            self.predicted = [*whole, *[0.0] * (len(nodes) - 1)]
            weights = blended(self.trusts[i], self.predicted, weights)
        records.append(Affine("x", terms_of("x", self._state_weight(form, s, t), stored, weights), coefficient(bias)))
        if eta and path.sigma(t) > 0:
            records.append(Noise("x", self.s_noise * noise_weight(path, form, s, t, eta), s, t))
        self.claims.append(Claim(first, len(records), s, t, form, rule, tuple(nodes), tuple(factors), eta=eta, trusted=trusted))
        if not self._corrects(i + 1):
            records.append(Arrive(i + 1, "x"))
        self.first = first

    def _corrects(self, i: int) -> bool:
        """Whether the step that led to sigmas[i] is taken again with the evaluation there."""
        if not 0 < i < self.steps or (self.rising and FORM[self.algorithm] != "x0" and is_open(self.path, self.sigmas[i])):
            return False  # an encoding next to pure noise: ε and v are not stored there
        return self._full_corrector(i) or (i == 1 and self.order > 1 and self.start != "official")

    def _full_corrector(self, i: int) -> bool:
        """Whether the corrector, and not only the corrected start, acts at sigmas[i]. "v3" needs two evaluations in the prediction."""
        within = self.corrector_range[0] <= self.sigmas[i] <= self.corrector_range[1]
        return self.corrector != "none" and within and (self.corrector != "v3" or min(i, self.order) > 1)

    def _prefix(self) -> str:
        """Of the registers that the method's own form is stored in."""
        return "d" if FORM[self.algorithm] == "x0" else "v"

    def _measure(self, i: int) -> None:
        """How far the slope between the last two evaluations is trusted, where both are stored in the method's own form."""
        form, pair = FORM[self.algorithm], self.sigmas[i - 1 : i + 1]
        if not all(map(math.isfinite, self.lam[i - 1 : i + 1])) or (form != "x0" and not {i - 1, i} <= self.stored):
            return
        damped = [damping(self.path, form, s) for s in pair]
        record = measure(i, self._prefix(), damped, self.lam, first=i - 1 not in self.trusts)
        self.records.append(record)
        self.trusts[i] = record.dst

    def _store(self, i: int, state: str) -> None:
        s, form = self.sigmas[i], FORM[self.algorithm]
        self.stored.add(i)
        of_x, of_x0 = v3.value(self.statistics, self.path, s) if form == "f" else value(self.path, form, s)
        self.records.append(Affine(f"v{i}", terms_of(state, of_x, (f"d{i}",), (of_x0,))))

    def _state_weight(self, form: str, s: float, t: float):
        return v3.state_weight(self.ways, self.path, s, t) if form == "f" else state_weight(self.path, form, s, t, self.eta)

    def _weights(self, form: str, s: float, t: float, nodes, rule: str, factors) -> tuple[list, Any]:
        """(weights of the evaluations at `nodes`, bias) of a step."""
        if form == "f":
            return v3.node_weights(self.ways, self.path, s, t, nodes, rule, factors)
        return node_weights(self.path, form, s, t, nodes, rule, factors, self.eta), 0.0

    def _stencil(self, i: int, form: str) -> tuple[list[float], list[float]]:
        """The nodes of step i, newest first, and the fades of their terms."""
        p, lam, official = min(self.order, i + 1), self.lam, self.final_rule == "official"
        h = lam[i + 1] - lam[i]
        if official and (self.steps < 10 or self.corrector != "none" or self.algorithm == "dpmsolver-v3"):
            p = min(p, self.steps - i)
        rule = self.solver_type != "taylor" or self.final_rule == "smooth"
        if math.isinf(h) and (h < 0 or form in ("x0", "f") or rule or self.eta):
            p = 1
        while p > 1 and (math.isinf(lam[i - p + 1]) or (form != "x0" and is_open(self.path, self.sigmas[i - p + 1]))):
            p -= 1
        factors = [1.0] * p
        if self.final_rule == "smooth" and p > 1:
            factors = fades(self._reach(form, i), [lam[i - j] - lam[i - j - 1] for j in range(p - 1)], p, not self.extra)
            factors = careful(factors, h) if self.corrector != "none" else factors
            while factors[-1] < 1e-6:
                factors.pop()
        return [self.sigmas[i - j] for j in range(len(factors))], factors

    def _reach(self, form: str, i: int) -> float:
        """How far step i reaches for the smooth rule: its λ step; for "v", whose weight sinφ cosφ falls like e^{-λ} near the data, at most
        twice the mean distance under that weight. (The last finite step of `normal` on flow models: error .006 instead of .010.)"""
        s, t, h = self.sigmas[i], self.sigmas[i + 1], self.lam[i + 1] - self.lam[i]
        if form != "v" or math.isinf(h):
            return h
        whole, first = newton_moments(self.path, form, s, t, [s, s], "taylor")
        return math.copysign(min(abs(h), abs(2 * first / whole)), h)

    def _correct(self, i: int) -> None:
        """Step i-1 taken again, now that there is an evaluation at its end: x += what the polynomial through that one too changes.

        Without a corrector this is the corrected start. From λ = -∞ the trapezoid is in α/σ, where the integral is finite:
        x_t/σ_t - x_s/σ_s = ∫ x0 d(α/σ).
        """
        path, s, t = self.path, self.sigmas[i - 1], self.sigmas[i]
        before = self.claims[-1]
        eta = before.eta
        if path.alpha(s) == 0 or (i == 1 and FORM[self.algorithm] != "x0" and is_open(path, s)):
            form, rule, nodes, factors, bias = "x0", "ratio", (s, t), (1.0, 1.0), 0.0
            half = (path.alpha(t) - path.sigma(t) * path.alpha(s) / path.sigma(s)) / 2
            new, old = [half, half], [2 * half, 0.0]
        else:
            form, rule, full = before.form, "taylor", self._full_corrector(i)
            nodes = (s, t, *(before.nodes[1 : None if self.corrector != "v3" else -1] if full else ()))
            factors = self._correction_fades(i, len(nodes))
            if full and len(nodes) == 2 and form != "v":
                rule = self.solver_type
            if self.corrector.startswith("v3") and full and form != "v":
                rule = "pseudo" if self.corrector == "v3_pseudo" else "taylor"
            if self.corrector == "official" and form != "v":
                rule, new, bias = "vary_official", official_corrector_weights(path, form, s, t, nodes), 0.0
            else:
                new, bias = self._weights(form, s, t, nodes, rule, factors)
            known, was = self._weights(form, s, t, before.nodes, before.rule, before.fades)
            bias = bias - was
            old = [0.0] * len(nodes)
            for n, w in zip(before.nodes, known, strict=True):
                if n not in nodes:  # "v3" leaves the oldest one out
                    nodes, factors, new, old = (*nodes, n), (*factors, 0.0), [*new, 0.0 * w], [*old, 0.0]
                old[nodes.index(n)] = w
        prefix = "d" if form == "x0" else "v"
        names = [f"{prefix}{self.sigmas.index(n)}" for n in nodes]
        changes = [a - b for a, b in zip(new, old, strict=True)]
        if before.trusted:  # the prediction leant on its slope as far as it trusted it, and so much is taken back
            whole = dict(zip(before.nodes, self.predicted, strict=True))
            changes = blended(self.trusts[i - 1], [a - whole.get(n, 0.0) for a, n in zip(new, nodes, strict=True)], changes)
        self.records.append(Affine("x", terms_of("x", 1.0, names, changes), coefficient(bias)))
        self.claims.append(Claim(self.first, len(self.records), s, t, form, rule, nodes, factors, eta=eta))

    def _correction_fades(self, i: int, count: int) -> tuple[float, ...]:
        """The fades of a correction's terms: value, slope over the step itself, higher differences."""
        h, lam = self.lam[i] - self.lam[i - 1], self.lam
        if not self._full_corrector(i):
            return 1.0, 1 / (1 + h * h)
        if self.final_rule != "smooth":
            return (1.0,) * count
        return correction_fades(h, [lam[i - 1 - j] - lam[i - 2 - j] for j in range(count - 2)], i == 1, self.extra)

    def _extra_start(self) -> None:
        """The first p-1 steps taken again from the start with the polynomial through their p nodes, the evaluations there made again
        p-2 times: each round makes them better by one order of h, until the last states are of order p + 1."""
        form, p = FORM[self.algorithm], self.order
        nodes, prefix = self.sigmas[:p], "d" if form == "x0" else "v"
        goals = [(j, True) for _ in range(p - 2) for j in range(1, p)] + [(p - 1, False)]
        for j, again in goals:
            s, t, state = self.sigmas[0], self.sigmas[j], f"again{j}" if again else "x"
            weights, bias = self._weights(form, s, t, nodes, "taylor", (1.0,) * p)
            names = [f"{prefix}{k}" for k in range(p)]
            self.records.append(Affine(state, terms_of("start", self._state_weight(form, s, t), names, weights), coefficient(bias)))
            self.claims.append(Claim(0, len(self.records), s, t, form, "taylor", nodes, (1.0,) * p, state))
            if again:
                self.records.append(Eval(f"d{j}", state, t))
                if form != "x0":
                    self._store(j, state)
