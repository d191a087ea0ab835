"""Σ weight·array in as few passes over the arrays as torch's kernels allow: 3(n-1) for n terms, each kernel reading two, writing one.

A kernel of torch joins two arrays, and has one free number: `lerp` (1-w, w), `add` (1, w); so a sum whose weights reach 1 is a running
mean, and one of which a weight is 1 begins there. Any other begins with `addr`, β·a + α·(u ⊗ v), which with u = (1) is an elementwise
kernel with two free numbers; but to autocast it is a matrix product, to be done in half precision, so there `mul` and `add_` do it. Weights
of each item come by `addcmul`.

Torch has kernels that read more than two arrays, for sums of rows in one block of memory. On a GPU they lose: four terms of 16x16x128x128
take an H100 55 µs by `addcmul`, 69 by `baddbmm`, which copies its addend first, and 169 by `embedding_bag`; inner products of 16 items take
25 µs by products and `sum`, 155 by `bmm`. On a CPU sums are alike, and that `bmm` takes 5 times as long.
"""

import math
from typing import Any, NamedTuple

from .arrays import along, limited
from .tape import Measure

# From how many numbers on `addr` is taken, on devices where it is one elementwise kernel. On a CPU `mul` and `add_` are faster by 15 µs on
# 64 KB, which lie in its caches, alike on 1 MB, and slower by a quarter on 4 MB and by a half on 16 MB.
LEAST_FOR_ADDR = {"cpu": 2**18, "cuda": 0, "meta": 0}


class PerItem(NamedTuple):
    """A weight that differs over the items: factor · numbers, of shape (items, 1, …)."""

    factor: float
    numbers: Any

    @property
    def value(self) -> Any:
        return self.factor * self.numbers


class Trust(NamedTuple):
    """What a `Measure` found: slope · numbers + height, one for each item, of shape (items, 1, …)."""

    numbers: Any
    slope: float
    height: float


def measured(record: Measure, change: Any, before: Any) -> Trust:
    """How far a slope is trusted. Of clip(a q + b, 0, high) only q is brought into bounds: a, b join the readers' coefficients."""
    q, numbers, slope, height = along(change, before), None, 1.0, 0.0
    above = record.above, record.above * (record.offset - 1), record.most
    for rate, offset, high in (above, (record.below, record.below * record.offset + 1, 1.0)):
        a = rate * record.scale
        if a == 0:
            height += limited(offset, 0.0, high)
            continue
        height += offset
        clipped = limited(q, *sorted((-offset / a, (high - offset) / a)))
        if numbers is None:
            numbers, slope = clipped, a
        else:
            numbers = numbers.add(clipped, alpha=a / slope) if hasattr(numbers, "lerp") else numbers + a / slope * clipped
    return Trust(0 * q if numbers is None else numbers, slope, height)


def unit(x: Any) -> Any:
    """The vector (1) beside x, which `combine` needs for `addr`; None where that is not taken, as under autocast (A1111 samples in it)."""
    if not hasattr(x, "lerp") or math.prod(x.shape) < LEAST_FOR_ADDR.get(x.device.type, math.inf):
        return None
    one = x.new_ones(1)
    return one if one.view(1, 1).addr(one, one).dtype == x.dtype else None


def combine(terms: list[tuple[Any, Any]], one: Any = None) -> Any:
    """Σ w·array as a new array; w a float or a `PerItem`, `one` as `unit` makes it."""
    weight, first = terms[0]
    if not hasattr(first, "lerp"):  # NumPy and JAX: Python floats keep the arrays' precision, XLA fuses the sum
        total = _number(weight) * first
        for w, a in terms[1:]:
            total = total + _number(w) * a
        return total
    if all(isinstance(w, float) for w, _ in terms):
        return _combine_floats(terms, one)
    plain = [(w, a) for w, a in terms if isinstance(w, float)]
    own = [(w, a) for w, a in terms if not isinstance(w, float)]
    if plain:
        total = _combine_floats(plain, one)
    else:
        (w, a), *own = own
        total = a * w.value
    for w, a in own:
        total.addcmul_(a, w.numbers, value=w.factor)
    return total


def _number(w: Any) -> Any:
    return w.value if isinstance(w, PerItem) else w


def _combine_floats(terms: list[tuple[float, Any]], one: Any) -> Any:
    weight, first = terms[0]
    if len(terms) == 1:
        return first.clone() if weight == 1 else first.mul(weight)
    order = _lerp_order([w for w, _ in terms])
    if order is not None:
        return _running_mean([terms[i] for i in order])
    whole = next((i for i, (w, _) in enumerate(terms) if w == 1), None)
    if whole is not None:
        (w, a), *rest = (t for i, t in enumerate(terms) if i != whole)
        total = terms[whole][1].add(a, alpha=w)
    else:
        total, rest = _two(*terms[0], *terms[1], one), terms[2:]
    for w, a in rest:
        total.add_(a, alpha=w)
    return total


def _two(v: float, a: Any, w: float, b: Any, one: Any) -> Any:
    """v·a + w·b."""
    if one is not None and a.is_contiguous() and b.is_contiguous():
        total = a.view(1, a.numel()).addr(one, b.view(b.numel()), beta=v, alpha=w).view(a.shape)
        if total.dtype == a.dtype:  # else a model or a host has switched autocast on since `unit` looked
            return total
    return a.mul(v).add_(b, alpha=w)


def _running_mean(terms: list[tuple[float, Any]]) -> Any:
    """Weights that sum to 1: after each kernel the total is the terms so far, scaled to weight 1."""
    (so_far, first), *rest = terms
    total = first
    for w, a in rest:
        so_far += w
        total = total.lerp(a, w / so_far) if total is first else total.lerp_(a, w / so_far)
    return total


def _lerp_order(weights: list[float]) -> list[int] | None:
    """An order of the terms in which a running mean is well scaled, or None: then the coefficients do not sum to 1."""
    if abs(sum(weights) - 1) > 1e-9:
        return None
    order = sorted(range(len(weights)), key=lambda i: -weights[i])
    total, partial = 0.0, []
    for i in order:
        total += weights[i]
        partial.append(total)
    return order if min(partial) > 0.3 and max(abs(w) for w in weights) < 4 else None
