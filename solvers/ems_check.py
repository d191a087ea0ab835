"""What a file of moments must be before anything in it is used. Everything is taken for hostile; nothing is allocated by a claimed size."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from .ems import NAMES, Moments, Pending
from .ems_pool import Pool, bins_of, usable_kind
from .statistics import KINDS

VERSION = "1"
FILE_LIMIT = 2 << 30  # bytes
NODES_LIMIT, SAMPLES_LIMIT, NUMBER_LIMIT = 1_000, 10_000, 1 << 63
PIXELS_LIMIT = 1 << 22  # of a latent with rings: they are laid out to check the counts


def need(good: bool, reason: str) -> None:
    """ValueError with the reason, part of a sentence, unless good."""
    if not good:
        raise ValueError(reason)


def start(entry: Any) -> int:
    """Where a tensor's numbers begin."""
    offsets: Any = entry.get("data_offsets") if isinstance(entry, dict) else None
    need(isinstance(offsets, list) and len(offsets) == 2 and type(offsets[0]) is int, "its header has no places of its numbers")
    return offsets[0]


def described(header: Any) -> tuple[Moments, dict[str, tuple[int, ...]]]:
    """Empty moments as the metadata says, and the shapes of the tensors that they need."""
    words: Any = header.get("__metadata__") if isinstance(header, dict) else None
    need(isinstance(words, dict) and all(isinstance(v, str) for v in words.values()), "it has no metadata")
    need("ems.version" in words, "it is a .safetensors file of another kind")
    need(words["ems.version"] == VERSION, f"its format version is {words['ems.version']!r:.20}, this pack reads {VERSION}")
    get = {key[4:]: value for key, value in words.items() if key.startswith("ems.")}
    need({"kind", "shape", "ids", "nodes"} <= set(get), "its metadata are incomplete")
    shape = json.loads(get["shape"])
    whole = isinstance(shape, list) and 1 <= len(shape) <= 8 and all(type(n) is int and 1 <= n < 1 << 24 for n in shape)
    need(whole and math.prod(shape) <= FILE_LIMIT // 64, "the latent size in its metadata cannot be")
    need(get["nodes"].isascii() and get["nodes"].isdigit() and len(get["nodes"]) < 6, "its number of nodes cannot be")
    nodes = int(get["nodes"])
    need(4 <= nodes <= NODES_LIMIT, "its number of nodes cannot be")
    kind = get["kind"]
    need(kind in KINDS and usable_kind(kind, shape)[0] == kind, "its kind cannot be")
    need(kind != "radial" or math.prod(shape[-2:]) <= PIXELS_LIMIT, "the latent size in its metadata cannot be")
    bins = bins_of(kind, shape)
    need(nodes * math.prod(bins) * 8 * len(NAMES) <= FILE_LIMIT, "it would be too large")
    expected: dict[str, tuple[int, ...]] = {"lam": (nodes,), **dict.fromkeys(NAMES, (nodes, *bins))}
    pending, ids = None, _ids(json.loads(get["ids"]))
    if "pending" in get:
        told = json.loads(get["pending"])
        need(isinstance(told, dict) and type(told.get("node")) is int and 0 <= told["node"] <= nodes, "what it had begun cannot be")
        begun = _ids(told.get("ids"))
        need(bool(begun) and not set(begun) & set(ids), "what it had begun cannot be")
        pending = Pending(begun, told["node"], np.zeros(0), np.zeros(0), {})
        expected |= {f"pending.{name}": (nodes, *bins) for name in NAMES}
        expected |= {"pending.x": (len(begun), *shape), "pending.x0": (len(begun), *shape)}
    need(set(header) == {"__metadata__", *expected}, "its tensors are not those of statistics")
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
    need(good and len({tuple(i) for i in value}) == len(value), "its list of samples cannot be")
    return [(i[0], i[1]) for i in value]


def check_sums(m: Moments, sums: dict[str, np.ndarray], samples: int, nodes: int) -> None:
    """Counts must be those of so many samples at the first `nodes` nodes, squares not negative, and |Σuy|² at most Σuu Σyy."""
    count = Pool(m.kind, m.shape).count(samples)
    need(np.allclose(sums["n"][:nodes], count) and not sums["n"][nodes:].any(), "its counts are not those of its samples")
    need(all((sums[name] >= 0).all() for name in ("uu", "yy", "zz")), "it has negative sums of squares")
    with np.errstate(over="ignore"):
        limit = sums["uu"] * sums["yy"] * (1 + 1e-6)
        need(bool((sums["uy"] ** 2 <= limit + 1e-300).all()) and bool(np.isfinite(limit).all()), "its sums of products cannot be")
