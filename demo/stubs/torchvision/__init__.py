"""Stand-in for torchvision, used only when the real one is not installed.

ComfyUI imports torchvision at start-up for a few model families (Cosmos, Stable Cascade, audio codecs). The demo and the tests
use none of them, and the wheel that fits a CPU torch is not everywhere: this package satisfies the imports and fails, by name, on use.
"""

from . import ops, transforms

__version__ = "0.0.0"
__all__ = ["ops", "transforms"]


def __getattr__(name: str):
    if name.startswith("__"):
        raise AttributeError(name)
    raise NotImplementedError(f"torchvision.{name} is not in the demo's stand-in; install torchvision to use this model family")
