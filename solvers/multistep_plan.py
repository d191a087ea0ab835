"""The records and claims of a multistep run, written from its `stencils`."""

import math
from collections.abc import Sequence
from typing import Any

from .path import Path
from .stencils import Options, Stencils
from .step import coefficient, terms_of
from .tape import Affine, Arrive, Claim, Coefficient, Eval, Mark, Noise, Record
from .trust import blended, measure


class Plan(Stencils):
    """The records and claims so far, and what a step needs to know of the run."""

    def __init__(self, path: Path, sigmas: tuple[float, ...], options: Options, measured: bool):
        super().__init__(path, sigmas, options)
        self.measured = measured and not self.rising
        self.records: list[Record] = []
        self.claims: list[Claim] = []
        self.first = 0  # where the records of the step before begin
        self.stored: set[int] = set()  # evaluations that are stored in the method's own form
        self.trusts: dict[int, str] = {}  # i -> the register that says how far the slope between evaluations i-1 and i is trusted
        self.own_prefix = "d" if self.own == "x0" else "v"  # of the registers that the method's own form is stored in
        self.damping = self.grid.damping.tolist() if self.own == "v" else [1.0] * len(sigmas)
        if self.measured and self.steps > 0:  # the weights of predictions at trust 0: those of order 1
            self.untrusted = [of_one * damping for of_one, damping in zip(self.raw[:, 0].tolist(), self.damping, strict=False)]
        for i in range(self.steps):
            self._step(i)

    def notes(self) -> tuple[str, ...]:
        """What of the options could not act."""
        out, o = [], self.options
        if o.order > self.steps > 0:
            out.append(f"order is {o.order}, but a run of {self.steps} step{'s' * (self.steps > 1)} has at most order {self.steps}.")
        if o.corrector == "none" and o.corrector_range != (0.0, math.inf):
            low, high = o.corrector_range
            out.append(f"corrector_range is {low:g} to {high:g}, which acts with a corrector only; set corrector to unipc.")
        if o.start == "extra" and not self.extra:
            out.append("start is extra, which needs corrector unipc, order 3 or 4, that many steps and a finite first λ; corrected acts.")
        return tuple(out)

    def _step(self, i: int) -> None:
        """Evaluate at sigmas[i], correct the step that led there, and take the next."""
        records, corrects = self.records, self.corrects[i]
        s, t, first, made = self.sigmas[i], self.sigmas[i + 1], len(self.records), f"d{i}"
        records += (Eval(made, "x", s), Mark(i, "x", made))
        if self.extra and i == 0:
            records.append(Affine("start", (("x", 1.0),)))
        # stored for the steps to come and for the corrections; the last step of a run to σ = 0 is on x0
        if self.own != "x0" and not self.open[i] and (self.stored_forms[i] != "x0" or corrects or i < self.steps - 1):
            self._store(i, "x")
        if self.measured and i > 0 and self.sigma[i + 1] > 0:
            self._measure(i)
        if corrects:
            self._correct(i)
        if i == 0 or corrects:
            records.append(Arrive(i, "x"))
        first = len(records) if corrects else first
        if self.extra and i == self.options.order - 1:
            self._extra_start()
            first = len(records)
        form, count, eta = self.forms[i], self.counts[i], self.options.eta
        prefix = "d" if form == "x0" else "v"
        weights: Sequence[Coefficient] = self.weights[i]
        trusted = i in self.trusts and count > 1 and prefix == self.own_prefix
        if trusted:
            weights = blended(self.trusts[i], (self.untrusted[i], *[0.0] * (count - 1)), weights)
        stored = [f"{prefix}{j}" for j in range(i, i - count, -1)]
        records.append(Affine("x", terms_of("x", self.keeps[i], stored, weights), coefficient(self.biases[i])))
        if eta and self.sigma[i + 1] > 0:
            records.append(Noise("x", self.options.s_noise * self.noises[i], s, t))
        claim = Claim(first, len(records), s, t, form, self.rules[i], self.nodes(i), tuple(self.fades[i]), "x", eta, trusted)
        self.claims.append(claim)
        if not self.corrects[i + 1]:
            records.append(Arrive(i + 1, "x"))
        self.first = first

    def _measure(self, i: int) -> None:
        """How far the slope between the last two evaluations is trusted, where both are stored in the method's own form."""
        if not (math.isfinite(self.lam[i - 1]) and math.isfinite(self.lam[i])):
            return
        if self.own == "x0" or {i - 1, i} <= self.stored:
            record = measure(i, self.own_prefix, self.damping[i - 1 : i + 1], self.lam, first=i - 1 not in self.trusts)
            self.records.append(record)
            self.trusts[i] = record.dst

    def _store(self, i: int, state: str) -> None:
        self.stored.add(i)
        self.records.append(Affine(f"v{i}", terms_of(state, self.of_x[i], (f"d{i}",), (self.of_x0[i],))))

    def _correct(self, i: int) -> None:
        """Step i-1 taken again, now that there is an evaluation at its end: x += what the polynomial through that one too changes.

        Without a corrector this is the corrected start. From λ = -∞ the trapezoid is in α/σ, where the integral is finite:
        x_t/σ_t - x_s/σ_s = ∫ x0 d(α/σ).
        """
        s, t, before, bias = self.sigmas[i - 1], self.sigmas[i], self.claims[-1], 0.0
        count, factors, rule, new = self.again[i]
        if self.from_open(i):
            form, rule, nodes, factors = "x0", "ratio", (s, t), [1.0, 1.0]
            half = (self.alpha[i] - self.sigma[i] * self.alpha[i - 1] / self.sigma[i - 1]) / 2
            changes: list[Any] = [-half, half]
        else:
            form, nodes = before.form, (s, t, *before.nodes[1:])
            if new is None:
                new, bias = self.one(form, s, t, nodes[:count], rule, factors)
                bias = bias - self.biases[i - 1]
            missing = len(nodes) - count  # "v3" leaves the oldest one out
            new, factors = [*new, *[0.0] * missing], [*factors, *[0.0] * missing]
            first, *older = self.weights[i - 1]
            changes = [a - b for a, b in zip(new, (first, 0.0, *older), strict=True)]
        prefix = "d" if form == "x0" else "v"
        names = [f"{prefix}{i - 1}", f"{prefix}{i}", *[f"{prefix}{j}" for j in range(i - 2, i - len(nodes), -1)]]
        if before.trusted:  # the prediction leant on its slope as far as it trusted it, and so much is taken back
            changes = blended(self.trusts[i - 1], [new[0] - self.untrusted[i - 1], *new[1:]], changes)  # type: ignore[index]
        self.records.append(Affine("x", terms_of("x", 1.0, names, changes), coefficient(bias)))
        self.claims.append(Claim(self.first, len(self.records), s, t, form, rule, nodes, tuple(factors), "x", before.eta))

    def _extra_start(self) -> None:
        """The first p-1 steps taken again from the start with the polynomial through their p nodes, the evaluations there made again
        p-2 times: each round makes them better by one order of h, until the last states are of order p + 1."""
        form, p = self.own, self.options.order
        nodes, prefix = self.sigmas[:p], "d" if form == "x0" else "v"
        goals = [(j, True) for _ in range(p - 2) for j in range(1, p)] + [(p - 1, False)]
        for j, again in goals:
            s, t, state = self.sigmas[0], self.sigmas[j], f"again{j}" if again else "x"
            weights, bias = self.one(form, s, t, nodes, "taylor", (1.0,) * p)
            names = [f"{prefix}{k}" for k in range(p)]
            self.records.append(Affine(state, terms_of("start", self.keep(form, s, t), names, weights), coefficient(bias)))
            self.claims.append(Claim(0, len(self.records), s, t, form, "taylor", nodes, (1.0,) * p, state))
            if again:
                self.records.append(Eval(f"d{j}", state, t))
                if form != "x0":
                    self._store(j, state)
