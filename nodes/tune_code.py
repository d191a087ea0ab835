"""A code of what a tuning depends on beside the model: prompts with their ControlNets and hooks, samplers with those that they wrap."""

import enum
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch

from .ems_model import _some, code_of

DEPTH = 16  # of things in things
WEIGHTS, VALUES = 16, 4  # how many tensors of a network are looked at, and how many values of each
WHOLE = 1 << 24  # values of a tensor that all count; of a larger one, even places
# what a run leaves on the objects that the host keeps between runs, or what has no say in the picture
RUNTIME = {
    "cond_hint", "timestep_range", "extra_concat", "model_sampling_current", "control_input", "control_model_wrapped", "load_device",
    "hook_id", "hook_ref", "start_t", "curr_t", "_curr_t", "_current_keyframe", "_current_used_steps", "_current_index",
    "_current_strength", "_skip_adding", "_hook_dict",
}  # fmt: skip
# attributes that mark what is looked into: ControlNets, groups of hooks, hooks, groups of keyframes, keyframes, samplers
INSIDE = ("previous_controlnet", "hooks", "hook_keyframe", "keyframes", "start_percent", "extra_options")


def thing_code(*things: Any) -> str:
    """Eight hexadecimal digits: the same in every process, and before, after and in the middle of a run."""
    code = hashlib.sha256()
    for thing in things:
        _add(code, thing, (), 0)
    return code.hexdigest()[:8]


def controls_of(conds: Sequence[Any]) -> Iterator[Any]:
    """The ControlNets of prompts, in the form of nodes (tensor, options) or of a run (options)."""
    for cond in conds:
        control, seen = (cond if isinstance(cond, Mapping) else cond[1]).get("control"), []
        while control is not None and control not in seen:
            yield control
            seen.append(control)
            control = getattr(control, "previous_controlnet", None)


def refuse_scheduled_hooks(conds: Sequence[Any]) -> None:
    """ValueError, one sentence, for hooks whose strength changes over the steps: the host moves along their keyframes once only, so all
    runs but the first would have the strength of the end."""
    groups = [(cond if isinstance(cond, Mapping) else cond[1]).get("hooks") for cond in conds]
    groups += [getattr(control, "extra_hooks", None) for control in controls_of(conds)]
    for group in groups:
        for hook in getattr(group, "hooks", ()):
            if len(getattr(getattr(hook, "hook_keyframe", None), "keyframes", ())) > 1:
                raise ValueError(
                    "positive or negative has a hook with keyframes, whose strength changes over the steps, which cannot be tuned; take "
                    "the keyframes off (Set Hook Keyframes) for the tuning."
                )


def _add(code, thing: Any, around: tuple[int, ...], depth: int, few: bool = False) -> None:
    """Feed `thing` into the hash; of networks and their weights (`few`) a few values only. `around` has the objects that it is in."""
    if depth > DEPTH:
        return
    if isinstance(thing, torch.nn.Module):
        _add_weights(code, type(thing).__name__, thing.state_dict())
    elif isinstance(thing, torch.Tensor):
        code.update(f"T{tuple(thing.shape)}".encode())
        _add_values(code, thing, few)
    elif isinstance(thing, np.ndarray):
        code.update(f"A{thing.shape}{thing.dtype}".encode() + np.ascontiguousarray(thing).tobytes())
    elif isinstance(thing, enum.Enum):
        code.update(f"E{type(thing).__name__}{thing.name}".encode())
    elif isinstance(thing, Mapping):
        for key in sorted(thing, key=_word):
            code.update(f"K{_word(key)}".encode())
            _add(code, thing[key], around, depth + 1, few)
    elif isinstance(thing, (list, tuple)):
        code.update(f"L{len(thing)}".encode())
        for item in thing:
            _add(code, item, around, depth + 1, few)
    elif isinstance(thing, type) or not (hasattr(thing, "__dict__") or callable(thing)):
        code.update(code_of(thing).encode())
    elif id(thing) in around:
        code.update(f"S{around.index(id(thing))}".encode())
    else:
        _add_object(code, thing, (*around, id(thing)), depth, few)


def _add_object(code, thing: Any, around: tuple[int, ...], depth: int, few: bool) -> None:
    held = {k: v for k, v in getattr(thing, "__dict__", {}).items() if k not in RUNTIME}
    model = getattr(thing, "model", None)
    if hasattr(thing, "lam") and hasattr(thing, "metadata"):  # statistics: the numbers only, not their name
        held = {k: v for k, v in held.items() if isinstance(v, np.ndarray)}
    elif isinstance(model, torch.nn.Module) and hasattr(thing, "patches"):  # a model patcher
        held = {"model": model, "patches": thing.patches}
        few = True
    elif isinstance(getattr(thing, "first_stage_model", None), torch.nn.Module):  # a VAE
        held = {"model": thing.first_stage_model}
    elif not any(hasattr(thing, name) for name in INSIDE):
        code.update(code_of(thing).encode())
        cells = [c.cell_contents for c in getattr(thing, "__closure__", None) or () if _is_filled(c)]
        owner = getattr(thing, "__self__", None)
        parts = [cells, getattr(thing, "__defaults__", None), getattr(thing, "__kwdefaults__", None)]
        parts += [None if isinstance(owner, ModuleType) else owner]
        parts += [getattr(thing, name, None) for name in ("func", "args", "keywords", "weights", "strength")]
        _add(code, [p for p in parts if p is not None], around, depth + 1, few or hasattr(thing, "weights"))
        return
    elif hasattr(thing, "control_weights"):  # a ControlLora: the run makes its network from these
        held.pop("control_model", None)
    code.update(f"O{type(thing).__name__}".encode())
    for key in sorted(held):
        code.update(f"K{key}".encode())
        _add(code, held[key], around, depth + 1, few or key in ("weights", "weights_clip", "control_weights", "models", "object_patches"))


def _add_weights(code, name: str, state: Mapping[str, Any]) -> None:
    """Names and shapes of a network's tensors and a few values, as they are whatever the device."""
    tensors = {k: v for k, v in sorted(state.items()) if isinstance(v, torch.Tensor)}
    code.update(code_of(name, [(k, tuple(v.shape)) for k, v in tensors.items()]).encode())
    for key in list(tensors)[:: max(1, len(tensors) // WEIGHTS)][:WEIGHTS]:
        _add_values(code, tensors[key], True)


def _add_values(code, tensor: torch.Tensor, few: bool) -> None:
    try:
        if few or tensor.numel() > WHOLE:
            code.update(str(_some(tensor, VALUES if few else 1 << 16)).encode())
        else:
            code.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):  # kept in a way of another pack
        code.update(b"?")


def _word(key: Any) -> str:
    """A key of a dictionary as text without addresses."""
    return repr(key) if isinstance(key, (str, bytes, int, float, bool, tuple)) else code_of(key)


def _is_filled(cell) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False
