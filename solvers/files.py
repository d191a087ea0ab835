"""Writing a file so that a broken write leaves the old one."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable


def write_beside(file: str | os.PathLike[str], parts: Iterable[bytes]) -> None:
    """Write `parts` one after the other to a new file beside `file`, then rename it: whatever happens, `file` is the old one or all of the
    new one, and nothing else is left in the folder."""
    file = os.fspath(file)
    beside = f"{file}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        with open(beside, "xb") as out:
            for part in parts:
                out.write(part)
            out.flush()
            os.fsync(out.fileno())
        os.replace(beside, file)
    finally:
        if os.path.exists(beside):
            os.remove(beside)
