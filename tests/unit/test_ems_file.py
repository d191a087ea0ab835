"""Files of moments: what is written comes back to the last bit, and nothing else is ever used."""

import json
import os
import pickle
import struct

import numpy as np
import pytest
import torch
from dpm_solver_ext.solvers import ems_file
from dpm_solver_ext.solvers.ems import NAMES
from dpm_solver_ext.solvers.ems_calibrate import calibrate
from dpm_solver_ext.solvers.ems_file import load_ems, save_ems
from dpm_solver_ext.solvers.path import VE
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

WORDS = {"model": "a model é", "cfg": "7.5", "label": "mine"}


def model(x, s):
    return np.tanh(0.3 * x + 0.2 * np.roll(x, 1, -1)) / (1 + 0.1 * s)


def measure(stop=10**9, kind="channel", **options):
    """Moments of two samples, or what there is after `stop` calls."""
    held, calls = [], 0

    def limited(x, s):
        nonlocal calls
        calls += 1
        if calls > stop:
            raise InterruptedError
        return model(x, s)

    options = {"sigma_max": 8.0, "sigma_min": 0.1, "samples": 2, "nodes": 5, "kind": kind, "metadata": WORDS} | options
    try:
        return calibrate(limited, VE, (2, 4, 6), report=lambda *told: held.append(told[2]), **options)
    except InterruptedError:
        return held[-1]


def parts(path):
    """(header, numbers) of a file."""
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def write(path, header, numbers):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + numbers)


def refused(path):
    """The one sentence of the ValueError that loading gives."""
    with pytest.raises(ValueError) as told:
        load_ems(path)
    text = str(told.value)
    assert text.startswith(f"{path.name} holds no statistics that can be used: ") and text.endswith("calibrate again or choose another.")
    assert "\n" not in text and type(told.value) is ValueError and len(text) < 250
    return text


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.safetensors"
    save_ems(measure(stop=7), path)  # with something pending
    return path


@pytest.mark.parametrize("kind", ["radial", "channel", "scalar", "element"])
@pytest.mark.parametrize("stop", [1, 7, 10**9])
def test_what_is_written_comes_back(tmp_path, kind, stop):
    path, m = tmp_path / "a.safetensors", measure(stop, kind, batch=1)
    save_ems(m, path)
    back = load_ems(str(path))
    assert (back.kind, back.shape, back.ids, back.metadata) == (m.kind, m.shape, m.ids, m.metadata)
    assert (back.lam == m.lam).all() and all((back.sums[name] == m.sums[name]).all() for name in NAMES)
    assert (back.pending is None) == (m.pending is None)
    if m.pending is not None:
        p, q = back.pending, m.pending
        assert (p.ids, p.node) == (q.ids, q.node) and (p.x == q.x).all() and (p.x0 == q.x0).all()
        assert all((p.sums[name] == q.sums[name]).all() for name in NAMES)
    whole = calibrate(model, VE, (2, 4, 6), sigma_max=8.0, sigma_min=0.1, samples=2, nodes=5, kind=kind, batch=2, moments=back)
    assert all(np.allclose(whole.sums[name], measure(kind=kind).sums[name], rtol=1e-12) for name in NAMES)
    with safe_open(str(path), "np") as other:  # the format's own library reads it
        assert other.metadata()["model"] == WORDS["model"] and (other.get_tensor("uu") == m.sums["uu"]).all()


def test_a_broken_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save_ems(measure(), path)
    before = path.read_bytes()
    monkeypatch.setattr(ems_file.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        save_ems(measure(stop=3), path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


def test_words_that_cannot_be_written(tmp_path):
    for words in ({"cfg": 7}, {"ems.kind": "radial"}):
        with pytest.raises(ValueError, match=r"^metadata has '.*give texts"):
            save_ems(measure(metadata=words), tmp_path / "a")
    with pytest.raises(ValueError, match=r"would be a file of \d+ MiB"):
        save_ems(measure(metadata={"a": "b" * (2 << 20)}), tmp_path / "a")
    assert os.listdir(tmp_path) == []


def test_other_files(tmp_path):
    """No file, a folder, other formats under our ending, pickles: nothing is unpickled, nothing large is read."""
    path = tmp_path / "b.safetensors"
    assert "No such file" in refused(path)
    path.mkdir()
    refused(path)
    path.rmdir()

    class Bad:
        def __reduce__(self):
            return (open, (str(tmp_path / "touched"), "w"))

    for raw in (b"", b"1234567", pickle.dumps(Bad()), b"{}" * 50, struct.pack("<Q", 2) + b"[]" + bytes(50)):
        path.write_bytes(raw)
        refused(path)
    torch.save({"a": Bad()}, path)
    assert "no .safetensors file" in refused(path)
    save_file({"weight": np.zeros(3)}, path, {"format": "pt"})
    assert "of another kind" in refused(path)
    save_file({"weight": np.zeros(3)}, path)
    assert "no metadata" in refused(path)
    with open(path, "wb") as out:  # sparse
        out.truncate(3 << 30)
    assert "3072 MiB" in refused(path)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ems.version": "2"}, "format version"),
        ({"ems.kind": "rings"}, "kind cannot be"),
        ({"ems.kind": "scalar"}, "not as its metadata says"),
        ({"ems.shape": "[2, 4, 7]"}, "pending.x is not as"),
        ({"ems.shape": "[2, 4, 16777215]"}, "latent size"),
        ({"ems.shape": "[4, 3]"}, "not as its metadata says"),
        ({"ems.shape": "[2, 4.0, 6]"}, "latent size"),
        ({"ems.shape": "[]"}, "latent size"),
        ({"ems.shape": "1e999"}, "latent size"),
        ({"ems.shape": "[" * 100000}, "nested too deeply"),
        ({"ems.shape": "{"}, "header cannot be read"),
        ({"ems.nodes": "6"}, "not as its metadata says"),
        ({"ems.nodes": "99999"}, "number of nodes"),
        ({"ems.nodes": "-5"}, "number of nodes"),
        ({"ems.ids": "[[0, 0], [0, 0]]"}, "list of samples"),
        ({"ems.ids": "[[0, true]]"}, "list of samples"),
        ({"ems.ids": "[[0, -1]]"}, "list of samples"),
        ({"ems.ids": "[[0, 7]]"}, "counts"),
        ({"ems.ids": "[[0, 0]]"}, "begun"),
        ({"ems.pending": '{"ids": [[0, 0], [0, 1]], "node": 4}'}, "counts"),
        ({"ems.pending": '{"ids": [[0, 0], [0, 1]], "node": 6}'}, "begun"),
        ({"ems.pending": '{"ids": [], "node": 1}'}, "begun"),
        ({"ems.pending": "[]"}, "begun"),
        ({"ems.pending": None}, "tensors are not"),
        ({"ems.ids": None}, "incomplete"),
        ({"model": 7}, "no metadata"),
    ],
)
def test_metadata_that_lie(file, change, says):
    header, numbers = parts(file)
    header["__metadata__"] = {k: v for k, v in (header["__metadata__"] | change).items() if v is not None}
    write(file, header, numbers)
    assert says in refused(file)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"dtype": "F32"}, "uu is not as"),
        ({"shape": [5, 2, 1]}, "uu is not as"),
        ({"shape": [5, 3]}, "uu is not as"),
        ({"data_offsets": [0, 80]}, "is not as"),
        ({"data_offsets": [200]}, "no places"),
        ({"data_offsets": [0, 1 << 62]}, "is not as"),
        ({"data_offsets": [1e300, 2]}, "no places"),
        ({"data_offsets": None}, "no places"),
    ],
)
def test_headers_that_lie(file, entry, says):
    header, numbers = parts(file)
    header["uu"] |= entry
    write(file, header, numbers)
    assert says in refused(file)


def test_tensors_that_are_not_ours(file):
    header, numbers = parts(file)
    for name, value in (("more", header["uu"]), ("uy", None), ("uu", 3)):
        changed = {k: v for k, v in (header | {name: value}).items() if v is not None}
        write(file, changed, numbers)
        refused(file)
    write(file, header, numbers[:-8])
    assert "bytes of numbers" in refused(file)
    write(file, header, numbers + bytes(8))
    assert "bytes of numbers" in refused(file)
    write(file, b"\xff" * 40, numbers)
    assert "no .safetensors" in refused(file)
    write(file, b'{"\xff": 1}', numbers)
    assert "header cannot be read" in refused(file)
    write(file, b'{"a":' * 100_000, numbers)
    assert "nested too deeply" in refused(file)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("uu", np.nan, "NaN or infinite"),
        ("pending.x", np.inf, "NaN or infinite"),
        ("n", -24.0, "counts"),
        ("pending.n", 25.0, "counts"),
        ("pending.yy", -1.0, "negative sums"),
        ("pending.uy", 1e6, "products cannot be"),
        ("pending.uu", 1e308, "products cannot be"),
        ("lam", 100.0, "do not rise"),
    ],
)
def test_numbers_that_cannot_be(file, name, value, says):
    header, numbers = parts(file)
    place = header[name]["data_offsets"][0]
    write(file, header, numbers[:place] + struct.pack("<d", value) + numbers[place + 8 :])
    assert says in refused(file)


@pytest.mark.parametrize("place", [0, 1000, 2000])
def test_one_changed_bit_is_seen(file, place):
    """A number that could be, but is not the one that was written: damage on the way must not change pictures in silence."""
    header, numbers = parts(file)
    changed = bytearray(numbers)
    changed[place] ^= 1
    write(file, header, bytes(changed))
    assert "not those that were written" in refused(file)


RAW = []


@given(data=st.data())
def test_any_damage_is_one_sentence(tmp_path_factory, data):
    """Cut, lengthened or with bytes changed anywhere: one ValueError, or moments that hold all checks."""
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    if not RAW:
        save_ems(measure(stop=7), path)
        RAW.append(path.read_bytes())
    raw = bytearray(RAW[0])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    path.write_bytes(raw if data.draw(st.booleans()) else raw[: data.draw(st.integers(0, len(raw)))])
    try:
        m = load_ems(path)
    except ValueError as error:
        assert type(error) is ValueError and str(error).endswith("calibrate again or choose another.")
    else:
        assert all(np.isfinite(a).all() for a in m.sums.values()) and (np.diff(m.lam) > 0).all()
