"""A1111, Forge and reForge: our samplers and schedule types in their lists, an accordion with their options, and a tab.

`scripts/dpm_solver_ext.py` loads the package under the name `dpm_solver_ext` and calls `install`. Modules of the host (`modules.…`) are
imported inside functions: each part stands by itself, so that a host that has moved takes away one part and not all.
"""

import inspect
import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger("dpm_solver_ext")


def attempt(what: str, do: Callable[[], Any]) -> Any:
    """`do()`; where it fails, one sentence in the log, and None."""
    try:
        return do()
    except Exception as error:  # whatever a host has become
        log.error(
            "DPM-Solver (ext): %s cannot be added to this WebUI (%s: %s); the rest works, and an update of this extension may help.",
            what, type(error).__name__, error,
        )  # fmt: skip
        return None


def install(version: str) -> Any:
    """Add all that we have to the host that runs this. Returns our script's class for the host to find, or None."""
    from . import samplers, schedules

    attempt("the schedule types", schedules.register)  # before the samplers, whose "Automatic" may mean one of them
    attempt("the samplers", lambda: samplers.register(version))
    attempt("what is read from infotext", _callbacks)
    return attempt("the accordion", lambda: _script(version))


def _callbacks() -> None:
    from . import infotext, xyz

    _listen("infotext_pasted", infotext.complete)
    _listen("before_ui", lambda: attempt("the axes of the X/Y/Z plot", xyz.register))
    attempt("the tab", lambda: _listen("ui_tabs", _tab))


def _listen(event: str, call: Callable[..., Any]) -> None:
    """The host's `on_…(call)`, which looks through the whole stack for who asks, 0.04 s of CPU each time; told that, it need not."""
    from modules import script_callbacks  # the host's

    add, listed = getattr(script_callbacks, "add_callback", None), getattr(script_callbacks, "callback_map", {})
    if add is not None and f"callbacks_{event}" in listed and "filename" in inspect.signature(add).parameters:
        add(listed[f"callbacks_{event}"], call, category=event, filename=__file__)
    else:  # older or newer
        getattr(script_callbacks, f"on_{event}")(call)


def _tab() -> list[Any]:
    """The host's callback while it makes its page."""
    from .tab import make_tab

    made = attempt("the tab", make_tab)
    return [] if made is None else [made]


def _script(version: str) -> Any:
    from modules import scripts

    from .ui import make_script

    return make_script(scripts.Script, scripts.AlwaysVisible, version)
