"""Measured slopes: the number is what `trust` says it is, of each item by itself, and the plan at any trust proves itself."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from dpm_solver_ext.solvers import proof, step
from dpm_solver_ext.solvers.choices import PRESETS
from dpm_solver_ext.solvers.execute import execute
from dpm_solver_ext.solvers.path import FLOW, VE
from dpm_solver_ext.solvers.presets import plan
from dpm_solver_ext.solvers.schedule import auto, karras, sd_time_map
from dpm_solver_ext.solvers.tape import Affine, Blend, Measure, TapeError
from dpm_solver_ext.solvers.trust import pairs
from dpm_solver_ext.tests import models
from dpm_solver_ext.tests.unit.grids import at

AUTO = PRESETS["auto"]
PLANNED = {**AUTO, "slopes": "planned"}
KINDS = {
    "auto": (VE, karras(9, 14.6, 0.03, 6.0), AUTO),
    "flow from pure noise": (FLOW, [1.0, 0.9, 0.75, 0.6, 0.4, 0.2, 0.05], AUTO),
    "2M": (VE, karras(8, 14.6, 0.03), {"algorithm": "dpmsolver++", "order": 2, "slopes": "measured"}),
    "2M with a corrector": (VE, karras(8, 14.6, 0.03), {"order": 2, "corrector": "unipc", "slopes": "measured"}),
    "noise prediction": (VE, karras(8, 14.6, 0.03)[:-1], {"algorithm": "dpmsolver", "order": 2, "slopes": "measured"}),
}


def rough(x, s):
    """A model whose slopes grow for some items and turn back for others."""
    item = np.arange(len(x)).reshape(-1, *[1] * (x.ndim - 1))
    return np.tanh(x / (1 + s)) * (1 + item * np.sin(7 * math.log(s) + item)) / (1 + 0.3 * s)


def start(path, sigmas, items=5):
    return np.random.default_rng(2).standard_normal((items, 3, 4)) * path.sigma(sigmas[0])


def by_hand(path, sigmas, options, seen):
    """{register: trust of each item}, from the states and predictions that the run showed."""
    form = {"dpmsolver++": "x0", "dpmsolver": "eps", "dpmsolver-v": "v"}[options["algorithm"] if "algorithm" in options else "dpmsolver++"]
    u, lam, out = [], [path.half_logsnr(s) for s in sigmas], {}
    for (x, x0), s in zip(seen, sigmas, strict=False):
        a, b = step.value(path, form, s) if path.alpha(s) > 0 or form == "x0" else (math.nan, math.nan)
        cosine2 = path.alpha(s) ** 2 / (path.alpha(s) ** 2 + path.sigma(s) ** 2)
        u.append((a * x + b * x0) * ((cosine2 + 0.03**2) ** 0.3 if form == "v" else 1.0))

    def dot(p, q):
        return (p * q).reshape(len(p), -1).sum(1)

    first = next(i for i, v in enumerate(u) if np.isfinite(v).all() and math.isfinite(lam[i])) + 1
    for i in range(first, len(u)):
        if i == first:
            out[f"trust{i}"] = 1 + np.clip(3 * (dot(u[i], u[i - 1]) / dot(u[i - 1], u[i - 1]) - 1), 0, 2)
        else:
            new, old = (u[i] - u[i - 1]) / (lam[i] - lam[i - 1]), (u[i - 1] - u[i - 2]) / (lam[i - 1] - lam[i - 2])
            tau = dot(new, old) / dot(old, old)
            out[f"trust{i}"] = np.clip(1 + 3 * np.minimum(tau, 0), 0, 1) + np.minimum(np.maximum(tau - 1, 0) / 2, 0.3)
    return out


def fixed(tape, trusts):
    """The tape of one item whose trusts are known: a plain plan."""

    def known(w):
        return w.base + sum(f * trusts[name] for name, f in w.parts) if isinstance(w, Blend) else w

    records = tuple(
        replace(r, terms=tuple((n, float(known(w))) for n, w in r.terms)) if isinstance(r, Affine) else r
        for r in tape.records
        if not isinstance(r, Measure)
    )
    return replace(tape, records=records, claims=())


@pytest.mark.parametrize("kind", KINDS)
def test_the_trust_is_what_the_run_shows(kind):
    """Each item's end is that of a plan with the trusts computed by hand from its own states and predictions; and they differ."""
    path, sigmas, options = KINDS[kind]
    tape, x, seen = plan(path, sigmas, **options), start(path, sigmas), []
    assert any(isinstance(r, Measure) for r in tape.records)
    end = execute(tape, rough, x, mark=lambda i, y, d: seen.append((1 * y, 1 * d)))
    trusts = by_hand(path, sigmas, options, seen)
    used = {name for r in tape.records if isinstance(r, Affine) for _, w in r.terms if isinstance(w, Blend) for name, _ in w.parts}
    assert used and used <= set(trusts)
    spread = np.stack([trusts[name] for name in used])
    assert spread.min() < 0.2 and spread.max() > 1.2, "the model is rough enough to test with"
    for item in range(len(x)):

        def one(y, s, item=item):
            padded = np.zeros_like(x)
            padded[item] = y[0]
            return rough(padded, s)[item : item + 1]

        own = execute(fixed(tape, {name: v[item] for name, v in trusts.items()}), one, x[item : item + 1])
        assert np.allclose(own[0], end[item], rtol=1e-10, atol=1e-10), (kind, item)


@pytest.mark.parametrize("kind", KINDS)
def test_at_full_trust_it_is_the_plan_without_measuring(kind):
    """Trust 1 gives the weights of slopes "planned"; trust 0 predicts at order 1 and corrects the same."""
    path, sigmas, options = KINDS[kind]
    tape, plain = plan(path, sigmas, **options), plan(path, sigmas, **{**options, "slopes": "planned"})
    for a, b in zip(at(tape, 1.0).records, plain.records, strict=True):
        assert type(a) is type(b)
        if isinstance(a, Affine):
            assert a.dst == b.dst and dict(a.terms) == pytest.approx(dict(b.terms), rel=1e-12, abs=1e-14)
    for before, after in zip(tape.claims, at(tape, 0.0).claims, strict=True):
        assert after.order == (1.0 if before.trusted else before.order)
    assert sum(c.trusted for c in tape.claims) >= 4
    assert proof.check(tape) is tape


def test_a_wrong_factor_of_a_trust_is_caught():
    """Any single number of a blend off by a thousandth, or a trust that nothing measured, is refused."""
    path, sigmas, options = KINDS["auto"]
    tape = plan(path, sigmas, **options)
    tried = 0
    for place, r in enumerate(tape.records):
        for k, (name, w) in enumerate(r.terms if isinstance(r, Affine) else ()):
            if not isinstance(w, Blend):
                continue
            for wrong in (Blend(w.base + 1e-3, w.parts), Blend(w.base, ((w.parts[0][0], w.parts[0][1] * 1.001),))):
                terms = (*r.terms[:k], (name, wrong), *r.terms[k + 1 :])
                with pytest.raises(TapeError):
                    proof.check(replace(tape, records=(*tape.records[:place], replace(r, terms=terms), *tape.records[place + 1 :])))
                tried += 1
    assert tried > 20
    gone = next(i for i, r in enumerate(tape.records) if isinstance(r, Measure))
    claims = tuple(replace(c, first=c.first - (c.first > gone), last=c.last - (c.last > gone)) for c in tape.claims)
    with pytest.raises(TapeError, match="nothing has written"):
        proof.check(replace(tape, records=(*tape.records[:gone], *tape.records[gone + 1 :]), claims=claims))


@pytest.mark.parametrize("kind", KINDS)
def test_the_trust_of_another_slope_is_caught(kind):
    """A prediction or a correction that leans on the trust of an earlier step's slope: with all trusts alike it would not show."""
    path, sigmas, options = KINDS[kind]
    tape, tried, measured = plan(path, sigmas, **options), 0, []
    for place, r in enumerate(tape.records):
        measured += [r.dst] if isinstance(r, Measure) else []
        for k, (name, w) in enumerate(r.terms if isinstance(r, Affine) else ()):
            for j, (own, factor) in enumerate(w.parts if isinstance(w, Blend) else ()):
                for other in {*measured} - {own}:
                    wrong = Blend(w.base, (*w.parts[:j], (other, factor), *w.parts[j + 1 :]))
                    terms = (*r.terms[:k], (name, wrong), *r.terms[k + 1 :])
                    with pytest.raises(TapeError):
                        proof.check(replace(tape, records=(*tape.records[:place], replace(r, terms=terms), *tape.records[place + 1 :])))
                    tried += 1
    assert tried > 20


def test_a_wrong_measure_is_caught():
    """Whatever a `Measure` looks at, and with what numbers, is checked."""
    path, sigmas, options = KINDS["auto"]
    tape, tried = plan(path, sigmas, **options), 0
    for place, r in enumerate(tape.records):
        if not isinstance(r, Measure):
            continue
        (new, a), (old, b) = r.terms
        wrongs = [
            {"terms": t} for t in (((new, 3 * a), (old, b)), ((new, a), (old, -b)), (("x", a), (old, b)), ((new, a),), ((old, a), (new, b)))
        ]
        wrongs += [{"before": "x"}, {"before": new}, {"dst": "x"}, {"change": "x"}, {"offset": r.offset + 1}]
        wrongs += [{"scale": v} for v in (2 * r.scale, math.nan)] + [{name: getattr(r, name) + 0.1} for name in ("below", "above", "most")]
        for wrong in wrongs:
            with pytest.raises(TapeError):
                proof.check(replace(tape, records=(*tape.records[:place], replace(r, **wrong), *tape.records[place + 1 :])))
            tried += 1
    assert tried >= 6 * 15


def test_what_was_measured_is_not_overwritten():
    """Another record that writes a measure's change or trust right after it, which the next one, or a step, reads."""
    path, sigmas, options = KINDS["auto"]
    tape, tried = plan(path, sigmas, **options), 0
    for place, r in enumerate(tape.records):
        for name in (r.change, r.dst) if isinstance(r, Measure) else ():
            claims = tuple(replace(c, first=c.first + (c.first > place), last=c.last + (c.last > place)) for c in tape.claims)
            records = (*tape.records[: place + 1], Affine(name, (("x", 1.0),)), *tape.records[place + 1 :])
            with pytest.raises(TapeError, match=f"writes {name}"):
                proof.check(replace(tape, records=records, claims=claims))
            tried += 1
    assert tried >= 12


def test_another_trust_in_disguise_is_caught():
    """A step that reads another slope's trust, its base shifted so that both agree in the first of the proof's runs."""
    path, sigmas, options = KINDS["auto"]
    tape = plan(path, sigmas, **options)
    names = [r.dst for r in tape.records if isinstance(r, Measure)]
    known = dict(zip(names, pairs(len(names))[0], strict=True))
    own, other = list(known)[3], list(known)[2]

    def disguised(w):
        if not (isinstance(w, Blend) and w.parts[0][0] == own):
            return w
        ((_, f),) = w.parts
        return Blend(w.base + f * (known[own] - known[other]), ((other, f),))

    records = tuple(replace(r, terms=tuple((n, disguised(w)) for n, w in r.terms)) if isinstance(r, Affine) else r for r in tape.records)
    assert records != tape.records
    with pytest.raises(TapeError):
        proof.check(replace(tape, records=records))


@pytest.mark.parametrize("scale", [0.0, 1e-12, 1.0])
def test_nothing_to_measure_is_full_trust(scale):
    """Data of which v is 0 at every noise level (unit variance), or nearly: no division by nothing, in float32 too."""
    sigmas = karras(8, 14.6, 0.03, 6.0)
    tape = plan(VE, sigmas, **AUTO)
    for dtype in (torch.float32, torch.float64):
        x = scale * torch.from_numpy(start(VE, sigmas)).to(dtype)
        end = execute(tape, lambda y, s: y / (1 + s * s), x)
        assert torch.isfinite(end).all()
        exact = x / math.hypot(1, sigmas[0]) / math.hypot(1, sigmas[-2])  # the last step is the prediction itself
        assert torch.allclose(end, exact, rtol=0, atol=1e-5 * max(scale, 1e-30)), "v is 0: every trust gives the exact end"


@pytest.mark.parametrize("shape", [(5,), (5, 2), (5, 2, 3, 4), (5, 2, 3, 2, 4)])
def test_every_item_by_itself(shape):
    """A batch paints what its items paint alone, whatever the number of axes; numbers in a row are items of one number."""
    sigmas = karras(7, 14.6, 0.03, 6.0)
    tape = plan(VE, sigmas, **AUTO)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 14.6
    factor = torch.linspace(0.2, 2, 5, dtype=torch.float64).reshape(5, *[1] * (len(shape) - 1))

    def model(f):
        return lambda y, s: torch.sin(f * y / (1 + s)) * math.cos(3 * math.log(s))

    whole = execute(tape, model(factor), x)
    for i in range(5):
        assert torch.allclose(execute(tape, model(factor[i : i + 1]), x[i : i + 1]), whole[i : i + 1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options, order", [
    (AUTO, 3), ({"order": 2}, 2), ({"order": 2, "corrector": "unipc"}, 3), ({"order": 3}, 3),
    ({"order": 3, "corrector": "unipc", "start": "extra"}, 4), ({"order": 3, "corrector": "unipc", "corrector_range": (0.0, 0.6)}, 3),
], ids=str)  # fmt: skip
def test_order_of_convergence_is_kept(options, order):
    """Between finite noise levels a run converges as fast with measured slopes as with planned ones, also where they are left out."""
    law, errors = models.image_like(1.5), {}
    x = np.random.default_rng(1).standard_normal((4, 256)) * 2.0
    for slopes in ("measured", "planned"):

        def end(n, slopes=slopes):
            sigmas = list(np.geomspace(2.0, 0.2, n + 1))
            return execute(plan(VE, sigmas, **{**options, "slopes": slopes}), lambda y, s: law.denoise(VE, y, s), x)

        fine = end(320)
        errors[slopes] = [float(np.abs(end(n) - fine).max()) for n in (40, 80)]
    for before, after in errors.values():
        assert math.log2(before / after) > order - 0.35, errors
    assert errors["measured"][1] < 3 * errors["planned"][1]


def test_an_encoding_is_planned():
    """Where sigmas rise nothing is measured: the plan of slopes "planned", whatever lies at its end."""
    for path, sigmas in ((VE, karras(8, 14.6, 0.03)[-2::-1]), (FLOW, [0.05, 0.2, 0.5, 0.8, 1.0]), (VE, [90, 130, 1210, 3131])):
        assert plan(path, sigmas, **AUTO).records == plan(path, sigmas, **PLANNED).records


@pytest.mark.parametrize("options, words", [
    ({"eta": 1.0}, ("slopes is measured", "eta 1")), ({"algorithm": "dpmsolver-v3"}, ("slopes is measured", "dpmsolver-v3")),
    ({"method": "singlestep"}, ("slopes is measured", "multistep")), ({"order": 1}, "acts at order 2 only; set order to 2"),
    ({"order": 3, "corrector": "unipc"}, "acts at order 2 only; set order to 2"),
])  # fmt: skip
def test_where_it_cannot_act(options, words):
    """One sentence where it is impossible, a note where there is no slope."""
    sigmas = auto(VE, 6, 14.6, 0.03, sd_time_map())
    if isinstance(words, tuple):
        with pytest.raises(ValueError) as caught:
            plan(VE, sigmas, slopes="measured", **options)
        assert all(w in str(caught.value) for w in words) and str(caught.value).endswith(".")
    else:
        tape = plan(VE, sigmas, slopes="measured", **options)
        assert tape.notes == (f"slopes is measured, which {words}, or slopes to planned.",)
        assert not any(isinstance(r, Measure) for r in tape.records)
