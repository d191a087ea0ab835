"""Files of moments: .safetensors, a few kilobytes for rings, with what was measured in its metadata.

The format is that of the safetensors library (8 bytes length, JSON header, raw numbers) and is read by it; this module needs NumPy only
and takes nothing for granted: sizes are checked before reading, and every number before use. Our own words in the metadata begin with
"ems."; all others are the caller's, `Moments.metadata`.
"""

from __future__ import annotations

import json
import math
import os
import struct
import uuid
from typing import Any

import numpy as np

from .ems import NAMES, Moments, Pending
from .ems_pool import Pool, bins_of, usable_kind

VERSION = "1"
HEADER_LIMIT, FILE_LIMIT = 1 << 20, 2 << 30  # bytes
NODES_LIMIT, SAMPLES_LIMIT, NUMBER_LIMIT = 10_000, 10_000, 1 << 63


def save_ems(moments: Moments, file: str | os.PathLike[str]) -> None:
    """Write `moments`, finished or not, to `file`: beside it first, then renamed, so that a broken write leaves the old file."""
    words = dict(moments.metadata)
    bad = next((k for k, v in words.items() if not (isinstance(k, str) and isinstance(v, str)) or k.startswith("ems.")), None)
    if bad is not None:
        raise ValueError(f"metadata has {bad!r}: {words[bad]!r}; give texts, under names that do not begin with 'ems.'.")
    words |= {"ems.version": VERSION, "ems.kind": moments.kind, "ems.shape": json.dumps(moments.shape), "ems.ids": json.dumps(moments.ids)}
    arrays = {"lam": moments.lam, **moments.sums}
    if moments.pending is not None:
        p = moments.pending
        words["ems.pending"] = json.dumps({"ids": p.ids, "node": p.node})
        arrays |= {"pending.x": p.x, "pending.x0": p.x0, **{f"pending.{name}": a for name, a in p.sums.items()}}
    header: dict[str, Any] = {"__metadata__": words | {"ems.nodes": str(len(moments.lam))}}
    place = 0
    for name, a in arrays.items():
        header[name] = {"dtype": "F64", "shape": a.shape, "data_offsets": [place, place + 8 * a.size]}
        place += 8 * a.size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > HEADER_LIMIT or place > FILE_LIMIT - HEADER_LIMIT - 8:
        raise ValueError(f"The statistics would be a file of {place >> 20} MiB; use kind radial or channel, or fewer nodes.")
    file = os.fspath(file)
    beside = f"{file}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        with open(beside, "xb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            for a in arrays.values():
                out.write(np.ascontiguousarray(a, dtype="<f8").tobytes())
            out.flush()
            os.fsync(out.fileno())
        os.replace(beside, file)
    finally:
        if os.path.exists(beside):
            os.remove(beside)


def load_ems(file: str | os.PathLike[str]) -> Moments:
    """The moments in `file`. ValueError, one sentence that names the file and what is wrong, for anything but a file of `save_ems`."""
    try:
        return _load(os.fspath(file))
    except OSError as error:
        reason = error.strerror or str(error)
    except RecursionError:
        reason = "its header is nested too deeply"
    except ValueError as error:  # also of JSON and of text that is no UTF-8
        reason = str(error) if type(error) is ValueError else "its header cannot be read"
    raise ValueError(
        f"{os.path.basename(os.fspath(file))} holds no statistics that can be used: {reason}; calibrate again or choose another."
    )


def _need(good: bool, reason: str) -> None:
    if not good:
        raise ValueError(reason)


def _load(file: str) -> Moments:
    with open(file, "rb") as source:
        size = os.fstat(source.fileno()).st_size
        _need(size <= FILE_LIMIT, f"it has {size >> 20} MiB, more than {FILE_LIMIT >> 20}")
        _need(size >= 16, "it is shorter than a header")
        length = struct.unpack("<Q", source.read(8))[0]
        _need(2 <= length <= min(HEADER_LIMIT, size - 8), "it is no .safetensors file, or cut off")
        text = source.read(length)
        _need(text[:1] == b"{", "it is no .safetensors file")
        header = json.loads(text)
        moments, expected = _described(header)
        place = 0
        for name, shape in sorted(expected.items(), key=lambda item: _start(header[item[0]])):
            end = place + 8 * math.prod(shape)
            _need(
                header[name] == {"dtype": "F64", "shape": list(shape), "data_offsets": [place, end]}, f"{name} is not as its metadata says"
            )
            place = end
        _need(place == size - 8 - length, f"it has {size - 8 - length} bytes of numbers in place of {place}")
        arrays = {}
        for name in sorted(expected, key=lambda name: _start(header[name])):
            raw = source.read(8 * math.prod(expected[name]))
            arrays[name] = np.frombuffer(raw, dtype="<f8").reshape(expected[name]).astype(np.float64)
    _need(all(np.isfinite(a).all() for a in arrays.values()), "it has NaN or infinite numbers")
    moments.lam[:] = arrays["lam"]
    _need(bool((np.diff(moments.lam) > 0).all()), "its nodes do not rise")
    moments.sums = {name: arrays[name] for name in NAMES}
    _check_sums(moments, moments.sums, len(moments.ids), len(moments.lam))
    if moments.pending is not None:
        p = moments.pending
        p.x, p.x0, p.sums = arrays["pending.x"], arrays["pending.x0"], {name: arrays[f"pending.{name}"] for name in NAMES}
        _check_sums(moments, p.sums, len(p.ids), p.node)
    return moments


def _start(entry: Any) -> int:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    _need(isinstance(offsets, list) and len(offsets) == 2 and type(offsets[0]) is int, "its header has no places of its numbers")
    return offsets[0]


def _described(header: Any) -> tuple[Moments, dict[str, tuple[int, ...]]]:
    """Empty moments as the metadata says, and the shapes of the tensors that they need."""
    words = header.get("__metadata__") if isinstance(header, dict) else None
    _need(isinstance(words, dict) and all(isinstance(v, str) for v in words.values()), "it has no metadata")
    _need("ems.version" in words, "it is a .safetensors file of another kind")
    _need(words["ems.version"] == VERSION, f"its format version is {words['ems.version']!r:.20}, this pack reads {VERSION}")
    get = {key[4:]: value for key, value in words.items() if key.startswith("ems.")}
    _need({"kind", "shape", "ids", "nodes"} <= set(get), "its metadata are incomplete")
    shape = json.loads(get["shape"])
    whole = isinstance(shape, list) and 1 <= len(shape) <= 8 and all(type(n) is int and 1 <= n < 1 << 24 for n in shape)
    _need(whole and math.prod(shape) <= FILE_LIMIT // 64, "the latent size in its metadata cannot be")
    _need(get["nodes"].isascii() and get["nodes"].isdigit() and len(get["nodes"]) < 6, "its number of nodes cannot be")
    nodes = int(get["nodes"])
    _need(4 <= nodes <= NODES_LIMIT, "its number of nodes cannot be")
    kind = get["kind"]
    _need(kind in ("scalar", "channel", "radial", "element") and usable_kind(kind, shape)[0] == kind, "its kind cannot be")
    bins = bins_of(kind, shape)
    _need(nodes * math.prod(bins) * 8 * len(NAMES) <= FILE_LIMIT, "it would be too large")
    expected: dict[str, tuple[int, ...]] = {"lam": (nodes,), **dict.fromkeys(NAMES, (nodes, *bins))}
    pending, ids = None, _ids(json.loads(get["ids"]))
    if "pending" in get:
        told = json.loads(get["pending"])
        _need(isinstance(told, dict) and type(told.get("node")) is int and 0 <= told["node"] <= nodes, "what it had begun cannot be")
        begun = _ids(told.get("ids"))
        _need(bool(begun) and not set(begun) & set(ids), "what it had begun cannot be")
        pending = Pending(begun, told["node"], np.zeros(0), np.zeros(0), {})
        expected |= {f"pending.{name}": (nodes, *bins) for name in NAMES}
        expected |= {"pending.x": (len(begun), *shape), "pending.x0": (len(begun), *shape)}
    _need(set(header) == {"__metadata__", *expected}, "its tensors are not those of statistics")
    own = {key: value for key, value in words.items() if not key.startswith("ems.")}
    empty = {name: np.zeros(0) for name in NAMES}  # nothing is allocated by a size that only the header claims
    return Moments(kind, tuple(shape), np.zeros(nodes), own, ids, empty, pending), expected


def _ids(value: Any) -> list[tuple[int, int]]:
    """Samples as (seed, number), each once."""
    good = (
        isinstance(value, list)
        and len(value) <= SAMPLES_LIMIT
        and all(isinstance(i, list) and len(i) == 2 and all(type(n) is int and 0 <= n < NUMBER_LIMIT for n in i) for i in value)
    )
    _need(good and len({tuple(i) for i in value}) == len(value), "its list of samples cannot be")
    return [(i[0], i[1]) for i in value]


def _check_sums(m: Moments, sums: dict[str, np.ndarray], samples: int, nodes: int) -> None:
    """Counts must be those of so many samples at the first `nodes` nodes, squares not negative, and |Σuy|² at most Σuu Σyy."""
    count = Pool(m.kind, m.shape).count(samples)
    _need(np.allclose(sums["n"][:nodes], count) and not sums["n"][nodes:].any(), "its counts are not those of its samples")
    _need(all((sums[name] >= 0).all() for name in ("uu", "yy", "zz")), "it has negative sums of squares")
    with np.errstate(over="ignore"):
        limit = sums["uu"] * sums["yy"] * (1 + 1e-6)
        _need(bool((sums["uy"] ** 2 <= limit + 1e-300).all()) and bool(np.isfinite(limit).all()), "its sums of products cannot be")
