"""What statistics were made for: a description of a model and its guidance, and whether a run is the same.

Everything is text, for the metadata of a file. Nothing here depends on the device, on where the host has put the weights, or on whether
a LoRA is in them at the moment; a few values of a few tensors are read back, so it takes milliseconds.
"""

import functools
import hashlib
import math
from collections.abc import Mapping
from typing import Any

import comfy.samplers
import torch

TENSORS, VALUES = 16, 4  # how many weights are looked at, and how many values of each
TOLERANCE = 0.004  # of the values, relative rms: bfloat16's rounding is .0017, a fine-tuned model's distance 0.01 and more
COMPARED = ("model", "weights", "patches", "prediction type", "latent format", "guidance")


def describe(patcher, guidance: float | None) -> dict[str, str]:
    """{name: text} for the names of `COMPARED`. `guidance` None where the run has none that is a single number."""
    base = patcher.model
    network = getattr(base, "diffusion_model", base)
    sampling, fmt = patcher.get_model_object("model_sampling"), patcher.get_model_object("latent_format")
    kind = next((c.__name__ for c in type(sampling).__mro__ if "calculate_denoised" in vars(c)), type(sampling).__name__)
    count = sum(p.numel() for p in network.parameters())
    return {
        "model": f"{type(base).__name__}/{type(network).__name__} of {_short(count)} parameters",
        "weights": _weights(patcher, network),
        "patches": _patches(patcher),
        "prediction type": kind,
        "latent format": f"{type(fmt).__name__} of {fmt.latent_channels} channels",
        "guidance": "another kind" if guidance is None else f"{guidance:g}",
    }


def guidance_of(guider) -> float | None:
    """The CFG of a guider of the host; None for one that guides in another way."""
    own = getattr(type(guider), "predict_noise", None) is comfy.samplers.CFGGuider.predict_noise
    return float(guider.cfg) if own else None


def differences(made: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, str]:
    """What of `COMPARED` is not the same, as words for `made` and for `now`; empty if nothing is. What `made` does not say is no
    difference."""
    other = [k for k in COMPARED if k in made and not (_same_values(made[k], now[k]) if k == "weights" else made[k] == now[k])]
    if "model" in other:  # other weights and patches follow from it
        other = [k for k in other if k not in ("weights", "patches")]
    mine, yours = ([f"{k} {m[k].split(' ')[0] if k == 'weights' else m[k]}" for k in other] for m in (made, now))
    return ", ".join(mine), ", ".join(yours)


def code_of(*things: Any) -> str:
    """Eight hexadecimal digits of whatever nodes hand around: numbers, tensors (some values), functions (name and the numbers they
    hold), containers; other objects by their class, weights and strength."""
    code = hashlib.sha256()
    for thing in things:
        _add(code, thing, 0)
    return code.hexdigest()[:8]


def _short(count: int) -> str:
    return next((f"{count / size:.3g} {unit}" for size, unit in ((10**9, "billion"), (10**6, "million")) if count >= size), str(count))


def _weights(patcher, network) -> str:
    """'#code value value …': values of some weights as they are without LoRAs, which the host may have put into them. '#unknown' where
    another pack keeps weights in a way of its own that does not let them be read."""
    backup, hooked = getattr(patcher, "backup", {}), getattr(patcher, "hook_backup", {})
    values: list[float] = []
    try:
        state = {k: v for k, v in sorted(network.state_dict().items()) if isinstance(v, torch.Tensor)}
        keys = [k for k, v in state.items() if v.ndim > 1] or list(state)
        for key in keys[:: max(1, len(keys) // TENSORS)][:TENSORS]:
            own = f"diffusion_model.{key}"
            tensor = backup[own].weight if own in backup else hooked[own][0] if own in hooked else state[key]
            values += _some(tensor, VALUES)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return "#unknown"
    shapes = [(k, tuple(v.shape)) for k, v in state.items()]
    return " ".join([f"#{code_of(shapes, values)}", *(f"{v:.5g}" for v in values)])


def _same_values(a: str, b: str) -> bool:
    """Whether two texts of `_weights` are the same model but for the rounding of their precision, for all that is known."""
    if a == b or "#unknown" in (a, b):
        return True
    try:
        x, y = ([float(w) for w in text.split()[1:]] for text in (a, b))
    except ValueError:
        return False
    scale = math.sqrt(sum(v * v for v in x))
    return len(x) == len(y) and scale > 0 and math.dist(x, y) <= TOLERANCE * scale


def _patches(patcher) -> str:
    """What was added to the model: LoRAs and everything else that nodes register on it."""
    lora = {str(k): v for k, v in patcher.patches.items()}
    objects = {k: type(v).__name__ for k, v in patcher.object_patches.items() if k != "model_sampling"}
    options = {k: v for k, v in patcher.model_options.items() if k != "transformer_options" or v}
    wrappers = {k: v for k, v in getattr(patcher, "wrappers", {}).items() if v}
    if not (lora or objects or options or wrappers):
        return "none"
    words = [f"{len(lora)} weights"] * bool(lora) + ["options"] * bool(objects or options or wrappers)
    return f"{' and '.join(words)} #{code_of(lora, objects, options, wrappers)}"


def _some(tensor: torch.Tensor, count: int) -> list[float]:
    """`count` values at even places of a tensor of any kind."""
    flat = tensor.detach().reshape(-1)
    if not len(flat):
        return []
    where = [i * (len(flat) - 1) // max(1, count - 1) for i in range(count)]
    return flat[torch.tensor(where, device=flat.device)].to("cpu").float().tolist()


def _add(code, thing: Any, depth: int) -> None:
    """Feed `thing` into the hash: the same bytes in every process."""
    if depth > 8:
        return
    if isinstance(thing, torch.Tensor):
        code.update(f"T{tuple(thing.shape)}{_some(thing, 64)}".encode())
    elif isinstance(thing, Mapping):
        for key in sorted(thing, key=str):
            code.update(f"K{key}".encode())
            _add(code, thing[key], depth + 1)
    elif isinstance(thing, (list, tuple, set, frozenset)):
        code.update(f"L{len(thing)}".encode())
        for item in sorted(thing, key=str) if isinstance(thing, (set, frozenset)) else thing:
            _add(code, item, depth + 1)
    elif isinstance(thing, (str, bytes, int, float, bool, type(None))):
        code.update(repr(thing).encode())
    elif isinstance(thing, functools.partial):
        _add(code, [thing.func, thing.args, thing.keywords], depth + 1)
    elif callable(thing) and hasattr(thing, "__qualname__"):
        held = [c.cell_contents for c in getattr(thing, "__closure__", None) or () if _has_value(c)]
        code.update(thing.__qualname__.encode())
        _add(code, [_plain(held), getattr(thing, "__defaults__", None) or ()], depth + 1)
        if not isinstance(thing, type):
            _add(
                code,
                _plain(vars(getattr(thing, "__self__", None)).values() if hasattr(getattr(thing, "__self__", None), "__dict__") else ()),
                depth + 1,
            )
    else:
        code.update(type(thing).__name__.encode())
        _add(code, [getattr(thing, name, None) for name in ("weights", "strength")], depth + 1)
        _add(code, _plain(vars(thing).values() if hasattr(thing, "__dict__") else ()), depth + 1)


def _plain(values) -> list[Any]:
    """What of `values` is numbers, text or tensors: models and other large things that a function holds are not looked into."""
    return [v for v in values if isinstance(v, (str, int, float, bool, torch.Tensor))]


def _has_value(cell) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # not filled yet
        return False
