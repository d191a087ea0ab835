"""Names that ComfyUI touches while it is imported; every one fails, by name, when it is used."""

from enum import Enum

from . import functional

__all__ = ["InterpolationMode", "functional"]


class InterpolationMode(Enum):
    """Modes that are default arguments somewhere in the host."""

    NEAREST = "nearest"
    NEAREST_EXACT = "nearest-exact"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"


def __getattr__(name: str):
    if name.startswith("__"):
        raise AttributeError(name)

    def unavailable(*args, **kwargs):
        raise NotImplementedError(f"torchvision.transforms.{name} is not in the demo's stand-in; install torchvision to use it")

    return type(name, (), {"__init__": unavailable, "__doc__": f"transforms.{name}: fails on use"})
