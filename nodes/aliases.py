"""Other words under which the node search finds a node, for hosts that have them: ComfyUI since January 2026, not 0.3.75."""

import dataclasses

from comfy_api.latest import io


def aliases(*words: str) -> dict[str, list[str]]:
    """`search_aliases` for an `io.Schema`; nothing where this host's has none."""
    return {"search_aliases": list(words)} if "search_aliases" in {f.name for f in dataclasses.fields(io.Schema)} else {}
