"""What a plot shows of a run: a short description of a tape, one entry for each model call, ready for JSON."""

from collections.abc import Sequence

from .path import PATHS, Path
from .tape import Claim, Eval, Tape

MOST = 400  # entries: a plot of more is a solid line, and only every n-th call is listed then


def outline(tape: Tape) -> dict[str, object]:
    """The tape's run in plain numbers, words and lists:

    `solver`, `path`, `options`, `notes`; `steps`, `evaluations` (model calls of the whole run), `registers` (states in memory at once);
    `first` and `last`, the (sigma, λ) at which it begins and ends, λ None where it is infinite; `top`, the highest number of evaluations
    that a step follows; and `calls`, one entry for each model call in their order, at most `MOST` of them:

    | key | meaning |
    | --- | --- |
    | call | its number, from 0 |
    | sigma, lam | where the model is called; lam None where λ is infinite |
    | step, to | the step that it serves, from 0, and the sigma at which that step ends |
    | order | order of that step as it is finally taken; 1.4 is a blend of 1 and 2 |
    | predicted | its order at first, where the next model call corrects it; else None |
    | measured | whether the run itself decides how far that step leans on the last slope (`trust`); the order is that of leaning in full |
    | part | "start" before the first step that follows `top` evaluations, "final" after the last one, else "" |
    """
    path = PATHS[tape.path]
    steps = _steps(tape)
    top = max((len(first.nodes) for first, _ in steps), default=1)
    full = [i for i, (first, _) in enumerate(steps) if len(first.nodes) == top]
    calls = []
    for number, (sigma, step) in enumerate(_served(tape, steps)):
        first, last = steps[step]
        part = "start" if step < full[0] else "final" if step > full[-1] else ""
        calls.append(
            {
                "call": number, "sigma": sigma, "lam": _lam(path, sigma), "step": step, "to": last.sigma_to,
                "order": round(last.order, 3), "predicted": round(first.order, 3) if last is not first else None,
                "measured": first.trusted or last.trusted, "part": part,
            }
        )  # fmt: skip
    return {
        "solver": tape.solver, "path": tape.path, "options": {k: v for k, v in tape.options if v is not None}, "notes": list(tape.notes),
        "steps": max(len(tape.sigmas) - 1, 0), "evaluations": tape.evaluations, "registers": tape.peak_registers, "top": top,
        **_ends(path, tape.sigmas), "calls": thinned(calls),
    }  # fmt: skip


def outline_of_calls(path: Path, sigmas: Sequence[float], levels: Sequence[float], order: int | None, solver: str) -> dict[str, object]:
    """The same of a run that has no tape, from the `sigmas` of all its model calls; `levels`: its ends. `order` None is not known."""
    calls = [
        {
            "call": i, "sigma": s, "lam": _lam(path, s), "step": i, "to": s, "order": None if order is None else float(order),
            "predicted": None, "measured": False, "part": "",
        }
        for i, s in enumerate(sigmas)
    ]  # fmt: skip
    return {
        "solver": solver, "path": path.name, "options": {}, "notes": [], "steps": len(calls), "evaluations": len(calls), "registers": 0,
        "top": order, **_ends(path, levels), "calls": thinned(calls),
    }  # fmt: skip


def thinned(calls: list[dict[str, object]]) -> list[dict[str, object]]:
    """At most `MOST` of them, evenly, the first and the last included."""
    if len(calls) <= MOST:
        return calls
    return [calls[round(i * (len(calls) - 1) / (MOST - 1))] for i in range(MOST)]


def _ends(path: Path, sigmas: Sequence[float]) -> dict[str, object]:
    ends = [[s, _lam(path, s)] for s in (sigmas[0], sigmas[-1])] if len(sigmas) else [None, None]
    return {"first": ends[0], "last": ends[1]}


def _lam(path: Path, sigma: float) -> float | None:
    lam = path.half_logsnr(sigma)
    return lam if abs(lam) < 1e300 else None


def _steps(tape: Tape) -> list[tuple[Claim, Claim]]:
    """The steps of the state x: (how it is first taken, how it is finally taken)."""
    found: dict[tuple[float, float], tuple[Claim, Claim]] = {}
    for claim in tape.claims:
        if claim.register == "x" and claim.nodes:
            way = (claim.sigma_from, claim.sigma_to)
            found[way] = (found[way][0] if way in found else claim, claim)
    return list(found.values())


def _served(tape: Tape, steps: list[tuple[Claim, Claim]]) -> list[tuple[float, int]]:
    """(sigma, the step it serves) of each model call: the first one that reads it and does not end where it was made, which would be a
    correction of the step before."""
    evals = [(position, r.sigma) for position, r in enumerate(tape.records) if isinstance(r, Eval)]
    served: list[int | None] = [None] * len(evals)
    waiting = 0
    for number, (first, last) in enumerate(steps):
        for i in range(waiting, len(evals)):
            position, sigma = evals[i]
            if position >= last.last:
                break
            inside = sigma in first.nodes or sigma in last.nodes or position >= first.first  # a stage may be read by other stages only
            if served[i] is None and sigma != last.sigma_to and inside:
                served[i] = number
        while waiting < len(evals) and served[waiting] is not None:
            waiting += 1
    return [(sigma, len(steps) - 1 if step is None else step) for (_, sigma), step in zip(evals, served, strict=True)]
