"""What torch, NumPy and JAX do not share: finding the library of an array and making new arrays of it. None of them is imported here."""

import contextlib
import sys
from typing import Any

import numpy as np

HALF = ("float16", "bfloat16")
TINY = 1e-30  # in float32, too: keeps 0/0 at 0


def namespace(x: Any) -> Any:
    """The module whose functions take x: `torch`, `numpy` or `jax.numpy` (also for JAX's tracers). ValueError for anything else."""
    if isinstance(x, (np.ndarray, np.generic, int, float)):
        return np
    if hasattr(x, "new_full"):
        return sys.modules["torch"]
    if not hasattr(x, "__array_namespace__"):
        raise ValueError(f"x is a {type(x).__name__}; give a torch tensor, a NumPy array or a JAX array.")
    return x.__array_namespace__()


def dtype_name(x: Any) -> str:
    """The array's dtype as one word in every library: "float32", "bfloat16", …"""
    return str(x.dtype).rpartition(".")[2]


def full(x: Any, shape: tuple[int, ...], value: Any) -> Any:
    """An array of `shape` filled with a host's number, beside x: float64 if x is, else float32, which holds every time label."""
    xp = namespace(x)
    dtype = xp.float64 if dtype_name(x) == "float64" else xp.float32
    return x.new_full(shape, value, dtype=dtype) if hasattr(x, "new_full") else xp.full(shape, value, dtype=dtype)


def cast(a: Any, dtype: Any) -> Any:
    """`a` with another dtype; `a` itself where it has it."""
    return a if a.dtype == dtype else a.to(dtype) if hasattr(a, "new_full") else a.astype(dtype)


def widened(x: Any) -> Any:
    """x for computing: float32 where it is half precision, else x itself."""
    return cast(x, namespace(x).float32) if dtype_name(x) in HALF else x


def along(a: Any, b: Any) -> Any:
    """<a, b>/<b, b> of each item (axis 0 counts them), shape (items, 1, …); 0 where b is 0 or an array holds NaN. Nothing is read from the
    device. One item alone is taken by `dot`, which may differ in the last bit from the same item's sum in a batch."""
    xp, axes = namespace(a), tuple(range(1, getattr(a, "ndim", 0)))
    if not axes:
        return xp.nan_to_num(a * b / (b * b + TINY))
    if not hasattr(a, "new_full"):
        return xp.nan_to_num((a * b).sum(axes, keepdims=True) / ((b * b).sum(axes, keepdims=True) + TINY))
    size = xp.linalg.vector_norm(b, dim=axes, keepdim=True)
    if a.shape[0] == 1 and a.is_contiguous() and b.is_contiguous():
        product = a.view(a.numel()).dot(b.view(b.numel())).view(size.shape)  # without an array of products in between
    else:
        product = (a * b).sum(axes, keepdim=True)
    return (product / size / size).nan_to_num(0.0)


def limited(a: Any, low: float, high: float) -> Any:
    """`a`, an array or a number, brought into low … high."""
    return a.clip(low, high) if hasattr(a, "clip") else min(max(a, low), high)


def joined(a: Any, b: Any) -> Any:
    """a before b along the batch; conditions of latent diffusion are dicts and lists of arrays, joined place by place."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return {key: joined(a[key], b[key]) for key in a}
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        return type(a)(joined(p, q) for p, q in zip(a, b, strict=True))
    if hasattr(a, "shape") and hasattr(b, "shape"):
        return namespace(a).concatenate([a, b])
    raise ValueError(f"The unconditional condition ({_kind(a)}) is not made like the condition ({_kind(b)}); give both the same structure.")


def _kind(a: Any) -> str:
    if isinstance(a, dict):
        return f"a dict of {', '.join(map(str, a))}"
    return f"{len(a)} values" if isinstance(a, (list, tuple)) else type(a).__name__


def is_traced(x: Any) -> bool:
    """Whether x stands for an array inside jax.jit, jax.grad, …: it has no values to look at."""
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(x, jax.core.Tracer)


def on_host(a: Any, what: str) -> np.ndarray:
    """The values of an array, or of numbers, in float64. ValueError, one sentence that begins with `what`, if there are none to see."""
    if is_traced(a):
        raise ValueError(f"{what} is traced by JAX, but the steps are planned on the host; make it outside of jax.jit, or of NumPy values.")
    if hasattr(a, "new_full"):
        a = a.detach().cpu().double().numpy()
    return np.asarray(a, dtype=np.float64)


def without_gradients(x: Any) -> Any:
    """A context in which torch records nothing for x; empty for the other libraries, where nobody records unasked."""
    return sys.modules["torch"].no_grad() if hasattr(x, "new_full") else contextlib.nullcontext()


def put_by(a: Any) -> Any:
    """A copy of an array to keep; of torch's, in the host's memory."""
    return (1 * a).cpu() if hasattr(a, "new_full") else 1 * a


def beside(a: Any, x: Any) -> Any:
    """What was put by, on the device of x."""
    return a.to(x.device) if hasattr(a, "new_full") else a
