"""The browser's side of the nodes: the route that the plot asks, and the message that tells it what ran."""

import logging
import sys

LARGEST = 20_000  # bytes of a request: all widgets of two nodes are below 5000
ROUTE, EVENT = "/dpm_solver_ext/plan", "dpm_solver_ext.plan"
log = logging.getLogger("dpm_solver_ext")


def _server():
    """ComfyUI's server if one runs in this process; a script that only imports ComfyUI has none."""
    return getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)


def register() -> None:
    """Add the route, once, while the host collects its own."""
    server = _server()
    if server is not None and not any(getattr(route, "path", "") == ROUTE for route in server.routes):
        server.routes.post(ROUTE)(answer)


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


def announce(model_sampling, path, levels, tape, options, calls) -> None:
    """Tell the browser that queued the run what ran: the outline of its tape, or of the model `calls` (sigmas) of an adaptive run. Nobody
    listens where a script runs ComfyUI: then this costs nothing. A plot must never cost a picture: what fails here is logged."""
    server = _server()
    if server is None or getattr(server, "client_id", None) is None:
        return
    try:
        from ..solvers.outline import outline, outline_of_calls
        from .plan_preview import remember

        if tape is None:
            found = outline_of_calls(
                path, calls, levels, int(options.get("order", 3)), f"adaptive {options.get('algorithm', 'dpmsolver++')}"
            )
        else:
            found = outline(tape)
        token = remember(model_sampling)
        message = {"node": _executing(server), "plan": {**found, "source": "", "model": token}}
        server.send_sync(EVENT, message, server.client_id)
    except Exception as error:
        log.debug("DPM-Solver (ext): the page was not told what ran: %s", error)


def _executing(server) -> str:
    """The id of the node that runs now; "12:5" inside of a subgraph."""
    try:
        from comfy_execution.utils import get_executing_context

        context = get_executing_context()
    except ImportError:
        context = None
    return str(context.node_id if context is not None else getattr(server, "last_node_id", "") or "")
