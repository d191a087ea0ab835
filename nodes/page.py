"""The browser's side of the nodes: the routes that the page asks, and the messages that tell it what ran, or what a tuning has found."""

import logging
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

LARGEST = 20_000  # bytes of a request: all widgets of two nodes are below 5000
ROUTE, EVENT = "/dpm_solver_ext/plan", "dpm_solver_ext.plan"
PRESETS = "/dpm_solver_ext/presets"
PAUSE = 0.5  # seconds between two messages of one tuning: more than that nobody sees
log = logging.getLogger("dpm_solver_ext")
# (sigmas, options of `plan` or None for a sampler that is not ours, the sampler's name, one line on them)
Found = tuple[Sequence[float], dict[str, Any] | None, str, str]


def _server():
    """ComfyUI's server if one runs in this process; a script that only imports ComfyUI has none."""
    return getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)


def register() -> None:
    """Add the routes, once, while the host collects its own."""
    server = _server()
    if server is not None and not any(getattr(route, "path", "") == ROUTE for route in server.routes):
        server.routes.post(ROUTE)(answer)
        server.routes.get(PRESETS)(presets)


async def presets(request):
    """JSON of `presets.table`."""
    from aiohttp import web

    from .presets import table

    return web.json_response(table())


async def answer(request):
    """JSON of `plan_preview.preview`, or one sentence as "error": for what the widgets cannot make, and with status 400, which browsers
    complain of in their console, for what no page of ours asks."""
    import asyncio

    from aiohttp import web

    from .plan_preview import NotAsked

    def refuse(sentence: str, status: int = 400):
        return web.json_response({"error": sentence}, status=status)

    if request.content_length is None or request.content_length > LARGEST:
        return refuse(f"The request is longer than {LARGEST} bytes, or does not say how long it is.")
    try:
        found = await asyncio.get_running_loop().run_in_executor(None, _planned, await request.read())
    except (NotAsked, RecursionError) as error:
        return refuse(str(error))
    except ValueError as error:
        return refuse(str(error), 200)
    return web.json_response(found)


def _planned(body: bytes):
    import json

    from .plan_preview import NotAsked, preview

    try:
        asked = json.loads(body)
    except ValueError:
        raise NotAsked("The request is no JSON.") from None
    return preview(asked)


def announce(model_sampling, path, levels, tape, options, calls, notes: Sequence[str] = (), solver: str = "") -> None:
    """Tell the browser that queued the run what ran: the outline of its tape, or of the model `calls` (sigmas) of an adaptive run, or of
    one of `solver`, which is not ours; and `notes`, sentences that the user should read beside it.

    Nobody listens where a script runs ComfyUI: then this costs nothing. A plot must never cost a picture: what fails here is logged."""
    server = _server()
    if server is None or getattr(server, "client_id", None) is None:
        return
    try:
        from ..solvers.outline import outline, outline_of_calls
        from .plan_preview import family_of, remember

        if tape is not None:
            found = outline(tape)
        elif solver:
            found = outline_of_calls(path, calls, levels, None, solver)
        else:
            adaptive = f"adaptive {options.get('algorithm', 'dpmsolver++')}"
            found = outline_of_calls(path, calls, levels, int(options.get("order", 3)), adaptive)
        found |= {"notes": [*notes, *found["notes"]], "source": "", "model": remember(model_sampling)}
        message = {"node": _executing(server), "family": family_of(model_sampling), "plan": found}
        server.send_sync(EVENT, message, server.client_id)
    except Exception as error:
        log.debug("DPM-Solver (ext): the page was not told what ran: %s", error)


class Live:
    """Tells the browser that queued a tuning what it has found so far, at most every `PAUSE` seconds."""

    def __init__(self, path):
        self.path, self.told = path, -PAUSE

    def __call__(self, find: Callable[[], Found | None], final: bool = False) -> None:
        """`find()` returns what is to be drawn, see `Found`, None for nothing yet; it is only called when something will be sent. What is
        final is sent at once."""
        server, now = _server(), time.monotonic()
        if server is None or getattr(server, "client_id", None) is None or now - self.told < PAUSE and not final:
            return
        self.told = now
        try:
            found = find()
            if found is None:
                return
            levels, options, solver, line = found
            plan = {**drawn(self.path, levels, options, solver), "source": line, "model": None}
            server.send_sync(EVENT, {"node": _executing(server), "plan": plan, "live": "tuned" if final else "so far"}, server.client_id)
        except Exception as error:
            log.debug("DPM-Solver (ext): the page was not told of the best steps so far: %s", error)


def drawn(path, levels: Sequence[float], options: dict[str, Any] | None, solver: str) -> dict[str, Any]:
    """The outline of a run at `levels` (steps + 1,): of its tape for a solver of ours, else of its noise levels."""
    from ..solvers.outline import outline, outline_of_calls
    from ..solvers.presets import plan

    if options is None:
        return outline_of_calls(path, levels[:-1], levels, None, solver)
    return outline(plan(path, levels, **options))


def _executing(server) -> str:
    """The id of the node that runs now; "12:5" inside of a subgraph."""
    try:
        from comfy_execution.utils import get_executing_context

        context = get_executing_context()
    except ImportError:
        context = None
    return str(context.node_id if context is not None else getattr(server, "last_node_id", "") or "")
