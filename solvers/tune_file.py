"""Files of tuned steps and of unfinished tunings, both JSON.

A tuned file is a few kilobytes of text that can be read, shared and sent. A state holds the reference ends too, as base64 of float32.
Everything in a file is taken for hostile: its size is checked before it is read, and types, ranges and lengths before any use.
"""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from .files import write_beside
from .tune import State, Tuned

TUNED, STATE, VERSION = "dpm-solver-ext tuned steps", "dpm-solver-ext tuning state", 1
TUNED_LIMIT, STATE_LIMIT = 4 << 20, 128 << 20  # bytes
STEPS_LIMIT, CALLS_LIMIT, SAMPLES_LIMIT, WORD_LIMIT, COUNT_LIMIT = 1_000, 10_000, 10_000, 4_000, 1 << 53
ENDED, BY_BUDGET, STOPPED = "ended", "ended by the budget", "stopped early"  # the word "search" of the metadata of tuned steps
THETA_LIMIT = 20.0  # of a parameter: a gap e^20 times as long as before is no schedule


def save_tuned(tuned: Tuned, file: str | os.PathLike[str], metadata: Mapping[str, str]) -> None:
    """Write `tuned` with texts `metadata` that say what it is for; beside `file` first, then renamed."""
    _write(file, {
        "format": TUNED, "version": VERSION, "solver": tuned.solver, "sigmas": list(map(float, tuned.sigmas)), "gains": list(tuned.gains),
        "held_out": tuned.held_out, "known": tuned.known, "improved": tuned.improved, "evaluations": tuned.evaluations, "best": tuned.best,
        "metadata": _texts(metadata),
    }, TUNED_LIMIT)  # fmt: skip


def load_tuned(file: str | os.PathLike[str]) -> tuple[Tuned, dict[str, str]]:
    """(tuned, metadata) of a file of `save_tuned`. ValueError, one sentence that names the file and what is wrong, for any other."""
    return _checked(file, TUNED_LIMIT, _tuned, "tuned steps", "tune again or choose another")


def save_state(state: State, file: str | os.PathLike[str], metadata: Mapping[str, str]) -> None:
    """Write what a tuning has measured so far, as `save_tuned`."""
    _write(file, {
        "format": STATE, "version": VERSION, "metadata": _texts(metadata), "evaluations": state.evaluations, "best": state.best,
        "errors": state.errors, "searches": {name: [list(theta), ended] for name, (theta, ended) in state.searches.items()},
        "reference": {
            str(i): base64.b64encode(np.ascontiguousarray(a, dtype="<f4").tobytes()).decode() for i, a in state.reference.items()
        },
    }, STATE_LIMIT)  # fmt: skip


def load_state(file: str | os.PathLike[str]) -> tuple[State, dict[str, str]]:
    """(state, metadata) of a file of `save_state`. ValueError as of `load_tuned`."""
    return _checked(file, STATE_LIMIT, _state, "unfinished tuning", "it is begun anew")


def _write(file: str | os.PathLike[str], content: dict[str, Any], limit: int) -> None:
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1 if limit == TUNED_LIMIT else None).encode()
    if len(text) > limit:
        raise ValueError(f"The tuning would be a file of {len(text) >> 20} MiB; give fewer seeds.")
    write_beside(file, [text])


def _texts(metadata: Mapping[str, str]) -> dict[str, str]:
    """A copy. ValueError, one sentence, unless all of it could be read back."""
    bad = next((k for k, v in metadata.items() if not (_is_word(k) and _is_word(v))), None)
    if bad is not None:
        raise ValueError(f"metadata has {bad!r}: {metadata[bad]!r:.80}; give printable texts of at most {WORD_LIMIT} characters.")
    return dict(metadata)


def _checked(file, limit: int, read, what: str, mend: str):
    """`read` of the JSON in `file`, or one sentence."""
    name = os.path.basename(os.fspath(file))
    try:
        with open(file, "rb") as source:
            size = os.fstat(source.fileno()).st_size
            _need(size <= limit, f"it has {size >> 20} MiB, more than {limit >> 20}")
            text = source.read(limit + 1)
        _need(text[:1] == b"{" and len(text) <= limit, "it is no JSON file, or cut off")
        try:
            content = json.loads(text.decode(), parse_constant=_no_number)
        except ValueError as error:  # of JSON, of text that is no UTF-8 and of numbers too long
            raise ValueError("it is no JSON file, or cut off") from error
        return read(content)
    except OSError as error:
        reason = error.strerror or str(error)
    except RecursionError:
        reason = "it is nested too deeply"
    except ValueError as error:
        reason = str(error)
    raise ValueError(f"{name} holds no {what} that can be used: {reason}; {mend}.")


def _no_number(text: str):
    raise ValueError(text)


def _need(good: bool, reason: str) -> None:
    """ValueError with the reason, part of a sentence, unless good."""
    if not good:
        raise ValueError(reason)


def _is_word(value: Any) -> bool:
    """Text that is fit for a log, a terminal and a picture."""
    return isinstance(value, str) and len(value) <= WORD_LIMIT and value.isprintable()


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < COUNT_LIMIT


def _numbers(value: Any, most: int, what: str, least: float = -math.inf, top: float = 1e300) -> list[float]:
    good = isinstance(value, list) and len(value) <= most and all(type(v) in (int, float) for v in value)
    _need(good, f"{what} cannot be")
    try:
        numbers = [float(v) for v in value]
    except OverflowError:
        numbers = [math.inf]
    _need(all(math.isfinite(v) and least <= v <= top for v in numbers), f"{what} cannot be")
    return numbers


def _header(content: Any, kind: str, fields: set[str]) -> dict[str, str]:
    """The metadata of a file of this kind."""
    _need(isinstance(content, dict) and content.get("format") == kind, "it is a JSON file of another kind")
    version = content.get("version")
    _need(type(version) is int and version == VERSION, f"its format version is {str(version)!r:.20}, this pack reads {VERSION}")
    _need(set(content) == {"format", "version", "metadata"} | fields, "its fields are not those of this format")
    words = content["metadata"]
    good = isinstance(words, dict) and len(words) <= 1_000 and all(_is_word(k) and _is_word(v) for k, v in words.items())
    _need(good, "its metadata are not short printable texts")
    return dict(words)


def _best(value: Any) -> list[tuple[int, float]]:
    good = isinstance(value, list) and len(value) <= CALLS_LIMIT and all(isinstance(p, list) and len(p) == 2 for p in value)
    _need(good and all(_is_count(p[0]) for p in value), "its record of the search cannot be")
    return [(p[0], _numbers([p[1]], 1, "its record of the search", 0.0)[0]) for p in value]


def _tuned(content: Any) -> tuple[Tuned, dict[str, str]]:
    words = _header(content, TUNED, {"solver", "sigmas", "gains", "held_out", "known", "improved", "evaluations", "best"})
    sigmas = _numbers(content["sigmas"], STEPS_LIMIT + 1, "its list of sigmas", 0.0)
    falling = all(a > b for a, b in zip(sigmas, sigmas[1:], strict=False))
    _need(len(sigmas) >= 3 and sigmas[-1] == 0 and falling, "its sigmas do not fall to 0")
    gains = _numbers(content["gains"], CALLS_LIMIT, "its list of gains", -100.0, 100.0)
    _need(_is_word(content["solver"]) and _is_word(content["known"]), "the name of its solver cannot be")
    held = content["held_out"]
    good = isinstance(held, dict) and 1 <= len(held) <= 100 and all(map(_is_word, held)) and {"tuned", content["known"]} <= set(held)
    _need(good, "its errors cannot be")
    errors = {name: _numbers(values, SAMPLES_LIMIT, "its list of errors", 0.0) for name, values in held.items()}
    _need(all(errors.values()) and len({len(values) for values in errors.values()}) == 1, "its errors cannot be")
    _need(type(content["improved"]) is bool and _is_count(content["evaluations"]), "its number of evaluations cannot be")
    return Tuned(
        sigmas, content["solver"], tuple(gains), errors, content["known"], content["improved"], content["evaluations"],
        _best(content["best"]),
    ), words  # fmt: skip


def _state(content: Any) -> tuple[State, dict[str, str]]:
    words = _header(content, STATE, {"evaluations", "best", "errors", "searches", "reference"})
    errors, searches, reference = content["errors"], content["searches"], content["reference"]
    _need(_is_count(content["evaluations"]), "its number of evaluations cannot be")
    good = isinstance(errors, dict) and len(errors) <= 1_000_000 and all(map(_is_word, errors))
    _need(good, "its errors cannot be")
    values = _numbers(list(errors.values()), 1_000_000, "its list of errors", 0.0)
    good = isinstance(searches, dict) and len(searches) <= 1_000
    good = good and all(_is_word(k) and isinstance(v, list) and len(v) == 2 and type(v[1]) is bool for k, v in searches.items())
    _need(good, "its searches cannot be")
    found = {k: (_numbers(v[0], STEPS_LIMIT + CALLS_LIMIT, "its searches", -THETA_LIMIT, THETA_LIMIT), v[1]) for k, v in searches.items()}
    _need(isinstance(reference, dict) and len(reference) <= SAMPLES_LIMIT, "its reference cannot be")
    arrays: dict[int, np.ndarray] = {}
    for key, text in reference.items():
        _need(key.isascii() and key.isdigit() and len(key) < 6 and isinstance(text, str), "its reference cannot be")
        try:
            raw = base64.b64decode(text.encode("ascii"), validate=True)
        except ValueError as error:
            raise ValueError("its reference cannot be") from error
        _need(len(raw) > 0 and len(raw) % 4 == 0, "its reference cannot be")
        arrays[int(key)] = np.frombuffer(raw, dtype="<f4").astype(np.float32)
        _need(bool(np.isfinite(arrays[int(key)]).all()), "it has NaN or infinite numbers")
    _need(len({len(a) for a in arrays.values()}) <= 1 and len(arrays) == len(reference), "its reference cannot be")
    return State(arrays, dict(zip(errors, values, strict=True)), found, _best(content["best"]), content["evaluations"]), words
