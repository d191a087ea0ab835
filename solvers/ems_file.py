"""Files of moments: .safetensors, a few kilobytes for rings, with what was measured in its metadata.

The format is that of the safetensors library (8 bytes length, JSON header, raw numbers) and is read by it; this module needs NumPy only
and takes nothing for granted: sizes are checked before reading, and every number before use. Our own words in the metadata begin with
"ems."; all others are the caller's, `Moments.metadata`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import struct
from typing import Any

import numpy as np

from .ems import NAMES, Moments
from .ems_check import FILE_LIMIT, VERSION, check_sums, described, need, start
from .files import write_beside

HEADER_LIMIT = 1 << 20  # bytes


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
    code = hashlib.sha256()
    for a in arrays.values():
        code.update(np.ascontiguousarray(a, dtype="<f8").tobytes())
    header: dict[str, Any] = {"__metadata__": words | {"ems.nodes": str(len(moments.lam)), "ems.sha256": code.hexdigest()}}
    place = 0
    for name, a in arrays.items():
        header[name] = {"dtype": "F64", "shape": a.shape, "data_offsets": [place, place + 8 * a.size]}
        place += 8 * a.size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > HEADER_LIMIT or place > FILE_LIMIT - HEADER_LIMIT - 8:
        raise ValueError(f"The statistics would be a file of {place >> 20} MiB; use kind radial or channel, or fewer nodes.")
    numbers = (np.ascontiguousarray(a, dtype="<f8").tobytes() for a in arrays.values())
    write_beside(file, itertools.chain([struct.pack("<Q", len(text)) + text], numbers))


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


def _load(file: str) -> Moments:
    with open(file, "rb") as source:
        size = os.fstat(source.fileno()).st_size
        need(size <= FILE_LIMIT, f"it has {size >> 20} MiB, more than {FILE_LIMIT >> 20}")
        need(size >= 16, "it is shorter than a header")
        length = struct.unpack("<Q", source.read(8))[0]
        need(2 <= length <= min(HEADER_LIMIT, size - 8), "it is no .safetensors file, or cut off")
        text = source.read(length)
        need(text[:1] == b"{", "it is no .safetensors file")
        header = json.loads(text)
        moments, expected = described(header)
        place = 0
        for name, shape in sorted(expected.items(), key=lambda item: start(header[item[0]])):
            end = place + 8 * math.prod(shape)
            need(
                header[name] == {"dtype": "F64", "shape": list(shape), "data_offsets": [place, end]}, f"{name} is not as its metadata says"
            )
            place = end
        need(place == size - 8 - length, f"it has {size - 8 - length} bytes of numbers in place of {place}")
        arrays, code = {}, hashlib.sha256()
        for name in sorted(expected, key=lambda name: start(header[name])):
            raw = source.read(8 * math.prod(expected[name]))
            code.update(raw)
            arrays[name] = np.frombuffer(raw, dtype="<f8").reshape(expected[name]).astype(np.float64)
    need(all(np.isfinite(a).all() for a in arrays.values()), "it has NaN or infinite numbers")
    moments.lam[:] = arrays["lam"]
    need(bool((np.diff(moments.lam) > 0).all()), "its nodes do not rise")
    moments.sums = {name: arrays[name] for name in NAMES}
    check_sums(moments, moments.sums, len(moments.ids), len(moments.lam))
    if moments.pending is not None:
        p = moments.pending
        p.x, p.x0, p.sums = arrays["pending.x"], arrays["pending.x0"], {name: arrays[f"pending.{name}"] for name in NAMES}
        check_sums(moments, p.sums, len(p.ids), p.node)
    # against damage on the way; not against an author, who would write the right one
    need(header["__metadata__"].get("ems.sha256") == code.hexdigest(), "its numbers are not those that were written")
    return moments
