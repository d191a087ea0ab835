"""What a run of ours writes under the picture, and how it is read back.

`MARK` with our version is always there, options only where they are not at their default: with `MARK`, a missing one is at its default.
"""

from typing import Any

from .options import OPTIONS

MARK = "DPM-Solver ext"
KEYS = (MARK, *(option.key for option in OPTIONS))


def forget(p: Any) -> None:
    """Take out what an earlier run left: the X/Y/Z plot's cells share one dictionary."""
    for key in KEYS:
        p.extra_generation_params.pop(key, None)


def write(p: Any, version: str, values: dict[str, Any]) -> None:
    """Add what acted in this run. Both passes of a hires fix write; their options are the same."""
    p.extra_generation_params[MARK] = version
    for option in OPTIONS:
        if option.name in values and values[option.name] != option.default:
            p.extra_generation_params[option.key] = values[option.name]


def complete(_text: str, params: dict[str, Any]) -> None:
    """The host's callback before it pastes: options that `params` does not name are at their default if a sampler of ours ran."""
    if MARK in params:
        for option in OPTIONS:
            params.setdefault(option.key, option.default)
