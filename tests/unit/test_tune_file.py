"""Files of tuned steps and of unfinished tunings: what is written comes back, and anything else is one sentence."""

import base64
import copy
import json
import os
import pickle

import numpy as np
import pytest
from dpm_solver_ext.solvers import tune_file
from dpm_solver_ext.solvers.tune import State, Tuned
from dpm_solver_ext.solvers.tune_file import load_state, load_tuned, save_state, save_tuned
from dpm_solver_ext.solvers.tune_run import PICKS
from hypothesis import given
from hypothesis import strategies as st

WORDS = {"model": "A of 3 parameters", "guidance": "7", "plan": '{"algorithm": "dpmsolver++"}'}
TUNED = Tuned(
    [14.6, 4.0, 0.1 + 0.2, 0.0], "dpmpp_2m", (0.97, 1.0, 1.05), {"tuned": [0.1, 0.2], "dpmpp_2m + karras": [0.3, 0.25]},
    "dpmpp_2m + karras", True, 4321, [(100, 0.3), (200, 0.15)],
)  # fmt: skip
STATE = State(
    {0: np.array([1.5, -2.0, 1e-30], np.float32), 3: np.array([0.1, 0.2, 0.3], np.float32)}, {"a + b | 0": 0.25, "a + b | 3": 1e6},
    {"a + b": ([0.1, -0.7], False), "c + b": ([], True)}, [(7, 0.5)], 99,
)  # fmt: skip
LOADERS = {"tuned": (load_tuned, "tuned steps", "tune again or choose another."), "state": (load_state, "unfinished tuning", "begun anew.")}


@pytest.fixture(params=["tuned", "state"])
def file(request, tmp_path):
    """(a good file, which kind it is)"""
    path = tmp_path / "a.json"
    save_tuned(TUNED, path, WORDS) if request.param == "tuned" else save_state(STATE, path, WORDS)
    return path, request.param


def refused(path, kind):
    """The one sentence of the ValueError that loading gives."""
    load, what, mend = LOADERS[kind]
    with pytest.raises(ValueError) as told:
        load(path)
    text = str(told.value)
    assert text.startswith(f"{path.name} holds no {what} that can be used: ") and text.endswith(mend)
    assert text.isprintable() and type(told.value) is ValueError and len(text) < 250
    return text


def test_what_is_written_comes_back(tmp_path):
    """To the last bit, with the texts."""
    save_tuned(TUNED, tmp_path / "a", WORDS)
    assert load_tuned(tmp_path / "a") == (TUNED, WORDS)
    save_state(STATE, str(tmp_path / "b"), WORDS)
    back, words = load_state(str(tmp_path / "b"))
    assert words == WORDS and (back.errors, back.searches, back.best, back.evaluations) == (
        STATE.errors, STATE.searches, STATE.best, STATE.evaluations,
    )  # fmt: skip
    assert list(back.reference) == [0, 3] and all(np.array_equal(back.reference[i], STATE.reference[i]) for i in (0, 3))
    assert all(a.dtype == np.float32 and a.flags.writeable for a in back.reference.values())
    save_state(State(), tmp_path / "c", {})
    assert load_state(tmp_path / "c") == (State(), {})


def test_a_broken_write_leaves_the_old_file(file, monkeypatch):
    path, kind = file
    before = path.read_bytes()
    monkeypatch.setattr(tune_file.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        save_tuned(TUNED, path, {}) if kind == "tuned" else save_state(STATE, path, {})
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


def test_what_cannot_be_written(tmp_path, monkeypatch):
    """Texts that no file may hold, and files that would be too large, are said when they are made."""
    for words in ({"cfg": 7}, {"a\nb": "c"}, {"a": "\x1b[2J"}, {"a": "b" * 5000}):
        with pytest.raises(ValueError, match=r"^metadata has [^\n]*give printable texts"):
            save_tuned(TUNED, tmp_path / "a", words)
    monkeypatch.setattr(tune_file, "STATE_LIMIT", 100)
    with pytest.raises(ValueError, match=r"would be a file of \d+ MiB"):
        save_state(STATE, tmp_path / "a", {})
    assert os.listdir(tmp_path) == []


def test_the_largest_state_fits():
    """The node's most pictures fit in a part file, and what is read from a foreign one stays a small share of a machine's memory."""
    assert 128 * PICKS * 4 * 4 / 3 < tune_file.STATE_LIMIT / 2 and tune_file.STATE_LIMIT <= 128 << 20


def test_other_files(file):
    """No file, a folder, other formats, one kind for the other, pickles: nothing is unpickled, nothing large is read."""
    path, kind = file
    raw, other = path.read_bytes(), "state" if kind == "tuned" else "tuned"
    assert "another kind" in refused(path, other)
    path.unlink()
    assert "No such file" in refused(path, kind)
    path.mkdir()
    refused(path, kind)
    path.rmdir()

    class Bad:
        def __reduce__(self):
            return (open, (str(path.parent / "touched"), "w"))

    for bad in (b"", b"[]", b"{}", b"{", pickle.dumps(Bad()), b"\xff" * 40, b'{"a": "\xff"}', raw[:-3], b'{"a":' * 100_000, b"1" * 9999):
        path.write_bytes(bad)
        refused(path, kind)
    with open(path, "wb") as out:  # sparse
        out.truncate(2 << 30)
    assert "2048 MiB" in refused(path, kind)
    assert not (path.parent / "touched").exists()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("version", 2, "format version"), ("version", True, "format version"), ("version", "1" * 999, "format version"),
        ("format", "x", "another kind"), ("metadata", [], "metadata"), ("metadata", {"a": 1}, "metadata"),
        ("metadata", {"a": "b\nc"}, "metadata"), ("metadata", {"a": "\u202e"}, "metadata"), ("metadata", {"a": "x" * 9999}, "metadata"),
        ("more", 1, "fields"), ("gains", None, "fields"), ("sigmas", [], "do not fall"), ("sigmas", [3.0, 2.0, 1.0], "do not fall"),
        ("sigmas", [3.0, 3.0, 0.0], "do not fall"), ("sigmas", [3.0, 4.0, 0.0], "do not fall"), ("sigmas", [3.0, -1.0, 0.0], "sigmas"),
        ("sigmas", [True, 0.5, 0], "sigmas"), ("sigmas", ["3", 1, 0], "sigmas"), ("sigmas", {"a": 1}, "sigmas"),
        ("sigmas", [10**400, 1, 0], "sigmas"), ("sigmas", [*range(3000, -1, -1)], "sigmas"), ("gains", [1e9], "gains"),
        ("gains", [None], "gains"), ("solver", 3, "solver"), ("solver", "a\tb", "solver"), ("known", "other", "errors"),
        ("held_out", {}, "errors"), ("held_out", {"tuned": []}, "errors"), ("held_out", {"tuned": [1], "dpmpp_2m + karras": []}, "errors"),
        ("held_out", {"tuned": [-1], "dpmpp_2m + karras": [1]}, "errors"), ("improved", 1, "evaluations"),
        ("evaluations", -1, "evaluations"), ("evaluations", 1.5, "evaluations"), ("evaluations", 10**30, "evaluations"),
        ("best", [[1]], "search"),
        ("best", [[0.5, 1]], "search"), ("best", [[1, "x"]], "search"), ("best", 7, "search"),
    ],
)  # fmt: skip
def test_tuned_files_that_lie(tmp_path, name, value, says):
    path = tmp_path / "a.json"
    save_tuned(TUNED, path, WORDS)
    content = {k: v for k, v in (json.loads(path.read_text()) | {name: value}).items() if v is not None}
    path.write_text(json.dumps(content))
    assert says in refused(path, "tuned")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_numbers_that_are_none(file, number):
    path, kind = file
    text = path.read_text()
    for old in ("0.3", "4.0") if kind == "tuned" else ("0.25", "-0.7", "0.5"):
        path.write_text(text.replace(old, number, 1))
        refused(path, kind)


def b64(values):
    return base64.b64encode(np.asarray(values, "<f4").tobytes()).decode()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reference", []), ("reference", {"x": b64([1])}), ("reference", {"-1": b64([1])}), ("reference", {"1": 7}),
        ("reference", {"1": "!"}), ("reference", {"1": ""}), ("reference", {"1": "AAA="}), ("reference", {"1": "é"}),
        ("reference", {"1": b64([np.nan])}), ("reference", {"1": b64([1]), "2": b64([1, 2])}),
        ("reference", {"1": b64([1]), "01": b64([1])}), ("reference", {"999999": b64([1])}), ("reference", {"\u0661": b64([1])}),
        ("errors", []), ("errors", {"a": "b"}),
        ("errors", {"a": -1}), ("errors", {"a\n": 1}), ("searches", {"a": [1]}), ("searches", {"a": [[1], 0]}),
        ("searches", {"a": [["x"], True]}), ("searches", {"a": [[1e9], True]}), ("searches", 5), ("evaluations", "many"),
    ],
)  # fmt: skip
def test_states_that_lie(tmp_path, name, value):
    path = tmp_path / "a.json"
    save_state(STATE, path, WORDS)
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    assert name.rstrip("s") in refused(path, "state") or "NaN" in refused(path, "state")


GOOD: dict[str, bytes] = {}


def good(path, kind):
    """The bytes of a good file, written once."""
    if kind not in GOOD:
        save_tuned(TUNED, path, WORDS) if kind == "tuned" else save_state(STATE, path, WORDS)
        GOOD[kind] = path.read_bytes()
    return GOOD[kind]


def places(content, at=()):
    """Every place of a JSON value."""
    yield at
    if isinstance(content, dict):
        for key, value in content.items():
            yield from places(value, (*at, key))
    elif isinstance(content, list):
        for i, value in enumerate(content):
            yield from places(value, (*at, i))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@given(data=st.data(), kind=st.sampled_from(["tuned", "state"]))
def test_any_content_is_one_sentence(tmp_path_factory, data, kind):
    """Any JSON value at any place of a good file: one ValueError, or something that holds all checks."""
    path = tmp_path_factory.getbasetemp() / "hostile.json"
    content = json.loads(good(path, kind))
    where = data.draw(st.sampled_from(list(places(content))))
    changed = copy.deepcopy(content)
    if where:
        inner = changed
        for key in where[:-1]:
            inner = inner[key]
        inner[where[-1]] = data.draw(JSON)
    else:
        changed = data.draw(JSON)
    path.write_text(json.dumps(changed))
    check(path, kind)


@given(data=st.data(), kind=st.sampled_from(["tuned", "state"]))
def test_any_damage_is_one_sentence(tmp_path_factory, data, kind):
    """Cut, lengthened or with bytes changed anywhere."""
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    raw = bytearray(good(path, kind))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    path.write_bytes(raw if data.draw(st.booleans()) else raw[: data.draw(st.integers(0, len(raw)))])
    check(path, kind)


def check(path, kind):
    load, _, mend = LOADERS[kind]
    try:
        found, words = load(path)
    except ValueError as error:
        assert type(error) is ValueError and str(error).endswith(mend) and str(error).isprintable()
        return
    assert all(isinstance(k, str) and k.isprintable() and v.isprintable() for k, v in words.items())
    if kind == "tuned":
        assert found.sigmas[-1] == 0 and all(a > b for a, b in zip(found.sigmas, found.sigmas[1:], strict=False))
        assert np.isfinite([*found.sigmas, *found.gains, found.error(), found.error(found.known)]).all() and found.solver.isprintable()
    else:
        assert all(np.isfinite(a).all() for a in found.reference.values()) and np.isfinite(list(found.errors.values())).all()
