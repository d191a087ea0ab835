"""What each step of a multistep run is made of: form, nodes, fades and weights of predictions and corrections, all steps at once.

Steps of the method's own form and of finite h have their weights from `weights`; the few others, with an infinite end or where nothing is
known of the data yet, from `step`, one by one. DPM-Solver-v3's have theirs from `v3`.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import v3
from .choices import FORM
from .fades import careful, correction_fades, fades
from .path import Levels, Path, rising
from .statistics import Statistics
from .step import form_of, is_open, node_weights, noise_weight, state_weight, value
from .unipc import official_corrector_weights
from .weights import Grid


@dataclass(frozen=True)
class Options:
    """As in `multistep.plan_multistep`."""

    algorithm: str
    order: int
    solver_type: str
    start: str
    final_rule: str
    corrector: str
    eta: float
    s_noise: float
    statistics: Statistics | None
    corrector_range: tuple[float, float]


class Stencils:
    """The steps 0 … n-1 along n+1 sigmas. `forms`, `counts` (of nodes), `fades`, `rules`, `weights`, `biases` are of their predictions."""

    def __init__(self, path: Path, sigmas: tuple[float, ...], options: Options):
        self.path: Any = Levels(path, sigmas)
        self.sigmas, self.options = sigmas, options
        self.own, self.steps, self.rising = FORM[options.algorithm], len(sigmas) - 1, rising(sigmas)
        self.alpha, self.sigma, self.lam = ([of(s) for s in sigmas] for of in (self.path.alpha, self.path.sigma, self.path.half_logsnr))
        self.open = [is_open(self.path, s) for s in sigmas]
        self.ways: Any = v3.Ways(options.statistics) if options.statistics is not None else None
        block = options.order - 1  # the nodes of the extra start besides the first
        finite = self.steps > block and all(map(math.isfinite, self.lam[: block + 1])) and not self.open[0]
        self.extra = options.start == "extra" and options.corrector == "unipc" and options.order > 2 and finite
        low, high = options.corrector_range
        least = 1 if options.corrector == "v3" else 0  # "v3" needs two evaluations in the prediction
        within = [low <= s <= high and min(i, options.order) > least for i, s in enumerate(sigmas)]
        inner = [0 < i < self.steps and not (self.rising and self.own != "x0" and o) for i, o in enumerate(self.open)]
        # whether the corrector, and not only the corrected start, acts at each sigma; and whether the step there is taken again
        self.full = [options.corrector != "none" and w for w in within]
        corrected = options.order > 1 and options.start != "official"
        self.corrects = [a and (b or (i == 1 and corrected)) for i, (a, b) in enumerate(zip(inner, self.full, strict=True))]
        with np.errstate(all="ignore"):  # of steps with an infinite end nothing is used
            self.grid = Grid(self.alpha, self.sigma, self.lam, options.eta)
            if self.steps > 0:
                self._plan()

    def _plan(self) -> None:
        o, n = self.options, self.steps
        self.forms = [self._form(i) for i in range(n)]  # by which the evaluations are stored; then those of the steps
        self.stored_forms = list(self.forms)
        h, width = self.grid.h, max(1, min(o.order, n))
        most = max(width + (o.corrector != "none"), 2 if self.own == "v" or any(self.corrects) else 1)
        if self.own != "v" and most == 2 and not o.solver_type.endswith(("taylor", "pseudo")) and not any(self.corrects):
            most = 1  # the other moment is made of this one
        self.raw: Any = self.grid.moments(self.own, most) if self.own != "f" else None
        counts = np.array([self._order(i) for i in range(n)], dtype=int)
        factors = [np.ones(n)] * width
        known = np.concatenate([np.full(o.order, np.nan), h])
        before = [known[o.order - 1 - j : o.order - 1 - j + n] for j in range(o.order)]
        if o.final_rule == "smooth" and width > 1:
            factors = fades(self._reach(), before, width, not self.extra)
            factors = careful(factors, h) if o.corrector != "none" else factors
        shown = np.stack(factors, axis=1)
        counts = np.minimum(counts, np.argmax(np.column_stack([shown < 1e-6, np.ones(n, dtype=bool)]), axis=1))
        self.counts, self.fades = counts.tolist(), [row[:c] for row, c in zip(shown.tolist(), counts.tolist(), strict=True)]
        if self.own == "v" and o.order > 1:  # the one node left is still near the open end, where x0 is the smoother quantity
            self.forms = ["x0" if i > 0 and self.open[i - 1] else form for i, form in enumerate(self.forms)]
        self.rules = ["taylor" if form == "v" else o.solver_type for form in self.forms]
        self._predictions(counts, shown)
        self._corrections(counts, before)

    def _form(self, i: int) -> str:
        path, s, t = self.path, self.sigmas[i], self.sigmas[i + 1]
        if not self.open[i] and self.sigma[i + 1] and self.alpha[i + 1]:
            return self.own
        form = form_of(self.options.algorithm, path, s, t)  # type: ignore[arg-type]
        if form == "f" and self.sigma[i + 1] == 0 and (self.steps == 1 or self.options.statistics.tail == "x0"):  # type: ignore[union-attr]
            return "x0"
        return "x0" if self.options.eta and self.sigma[i + 1] == 0 else form  # "eps" would leave the noise of the last step in the picture

    def _order(self, i: int) -> int:
        """The most nodes that step i may have."""
        o, form, p = self.options, self.forms[i], min(self.options.order, i + 1)
        if o.final_rule == "official" and (self.steps < 10 or o.corrector != "none" or o.algorithm == "dpmsolver-v3"):
            p = min(p, self.steps - i)
        h = self.lam[i + 1] - self.lam[i]
        rule = o.solver_type != "taylor" or o.final_rule == "smooth"
        if math.isinf(h) and (h < 0 or form in ("x0", "f") or rule or o.eta):
            return 1
        while p > 1 and (math.isinf(self.lam[i - p + 1]) or (form != "x0" and self.open[i - p + 1])):
            p -= 1
        return p

    def _reach(self) -> np.ndarray:
        """How far each step reaches for the smooth rule: its λ step; for "v", whose weight sinφ cosφ falls like e^{-λ} near the data, at
        most twice the mean distance under that weight. (The last finite step of `normal` on flow models: error .006 instead of .010.)"""
        h = self.grid.h
        if self.own != "v":
            return h
        far = np.abs(2 * self.raw[:, 1] / self.raw[:, 0])
        own = np.array([form == "v" for form in self.forms]) & np.isfinite(h)
        return np.where(own, np.copysign(np.minimum(np.abs(h), far), h), h)

    def _regular(self, i: int) -> bool:
        return self.forms[i] == self.own != "f" and math.isfinite(self.lam[i]) and math.isfinite(self.lam[i + 1])

    def _predictions(self, counts: np.ndarray, shown: np.ndarray) -> None:
        o, n = self.options, self.steps
        regular = [self._regular(i) for i in range(n)]
        self.weights: list[list[Any]] = [[]] * n
        self.keeps: list[Any] = [0.0] * n  # the factors of the state
        self.biases: list[Any] = [0.0] * n
        self.noises = [0.0] * n
        self.of_x, self.of_x0 = ([], []) if self.own == "x0" else self._values()
        if (rows := np.flatnonzero(regular)).size:
            places = np.maximum(rows[:, None] - np.arange(shown.shape[1]), 0)
            rules = [self.rules[i] for i in rows.tolist()]
            found = self.grid.node_weights(self.own, rows, self.raw, places, counts[rows], shown[rows], rules).tolist()
            keeps = self.grid.state_weights(self.own).tolist()
            noises = self.grid.noise_weights(self.own).tolist() if o.eta else self.noises
            for i, weights in zip(rows.tolist(), found, strict=True):
                self.weights[i], self.keeps[i], self.noises[i] = weights[: self.counts[i]], keeps[i], noises[i]
        for i in range(n):
            if not regular[i]:
                form, s, t = self.forms[i], self.sigmas[i], self.sigmas[i + 1]
                self.weights[i], self.biases[i] = self.one(form, s, t, self.nodes(i), self.rules[i], self.fades[i])
                self.keeps[i] = self.keep(form, s, t)
                if o.eta and self.sigma[i + 1] > 0:
                    self.noises[i] = noise_weight(self.path, form, s, t, o.eta)

    def _values(self) -> tuple[list[Any], list[Any]]:
        """The factors of x and of x0 that give the own form's quantity at each sigma."""
        if self.own == "f":
            finite = [s for s, lam in zip(self.sigmas, self.lam, strict=True) if math.isfinite(lam)]
            known = dict(zip(finite, v3.values(self.ways.statistics, self.path, finite), strict=True))
            return [known.get(s, 0.0) for s in self.sigmas], [-1.0] * len(self.sigmas)
        both = [value(self.path, self.own, s) if a and s else (0.0, 0.0) for s, a in zip(self.sigmas, self.alpha, strict=True)]
        return [a for a, _ in both], [b for _, b in both]

    def _corrections(self, counts: np.ndarray, before: list[np.ndarray]) -> None:
        """Of the steps taken again: counts of nodes (start, end, older ones), fades, rules and, where they are regular, weights."""
        o, n = self.options, self.steps
        rows = [i for i in range(1, n) if self.corrects[i]]
        self.again: dict[int, tuple[int, list[float], str, list[float] | None]] = {}
        if not rows:
            return
        steps = np.array(rows) - 1
        full = [self.full[i] for i in rows]
        most = counts[steps] + 1
        most = np.maximum(2, most - 1) if o.corrector == "v3" else most  # in the place of the oldest
        width = int(most.max())
        h = self.grid.h
        if o.final_rule == "smooth":
            shown = np.stack(correction_fades(h, before[: width - 2], self.extra), axis=1)[steps]
        else:
            shown = np.ones((len(rows), width))
        if rows[0] == 1 and not full[0]:
            shown[0, :2] = 1.0, 1 / (1 + h[0] * h[0])
        rules = [self._rule_again(i, count) for i, count in zip(rows, most.tolist(), strict=True)]
        fine = [self._regular(i - 1) and not self.from_open(i) and rule != "vary_official" for i, rule in zip(rows, rules, strict=True)]
        found: list[list[float] | None] = [None] * len(rows)
        if any(fine):
            some, older = np.flatnonzero(fine), np.arange(2, width)
            places = np.column_stack([steps, steps + 1, np.maximum(steps[:, None] + 1 - older, 0)])[some]
            some_rules = [rules[k] for k in some.tolist()]
            made = self.grid.node_weights(self.own, steps[some], self.raw, places, most[some], shown[some], some_rules).tolist()
            for k, row in zip(some.tolist(), made, strict=True):
                found[k] = row[: int(most[k])]
        for k, (i, count, row) in enumerate(zip(rows, most.tolist(), shown.tolist(), strict=True)):
            self.again[i] = count, row[:count], rules[k], found[k]

    def _rule_again(self, i: int, count: int) -> str:
        o, form = self.options, self.forms[i - 1]
        if o.corrector == "official" and form != "v":
            return "vary_official"
        if o.corrector.startswith("v3") and self.full[i] and form != "v":
            return "pseudo" if o.corrector == "v3_pseudo" else "taylor"
        return o.solver_type if self.full[i] and count == 2 and form != "v" else "taylor"

    def from_open(self, i: int) -> bool:
        """Whether the step to sigmas[i] came from where nothing is known of the data."""
        return self.alpha[i - 1] == 0 or (i == 1 and self.own != "x0" and self.open[0])

    def nodes(self, i: int) -> tuple[float, ...]:
        """Those of step i, newest first."""
        return self.sigmas[i + 1 - self.counts[i] : i + 1][::-1]

    def keep(self, form: str, s: float, t: float) -> Any:
        """The factor of the state, of one step."""
        return v3.state_weight(self.ways, self.path, s, t) if form == "f" else state_weight(self.path, form, s, t, self.options.eta)

    def one(self, form: str, s: float, t: float, nodes, rule: str, factors) -> tuple[list[Any], Any]:
        """(weights of the evaluations at `nodes`, bias) of one step."""
        if form == "f":
            return v3.node_weights(self.ways, self.path, s, t, nodes, rule, factors)
        if rule == "vary_official":
            return official_corrector_weights(self.path, form, s, t, nodes), 0.0
        return node_weights(self.path, form, s, t, nodes, rule, factors, self.options.eta), 0.0
