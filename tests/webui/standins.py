"""A host of which only some files are there: the rest answers anything. For real.py and real_ui.py; needs no torch."""

import importlib.machinery
import types


class Anything(types.ModuleType):
    """A module in which every name is there, and does nothing."""

    __path__: list = []
    __version__ = "0.0.0"

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        value = type(name, (), {"__init__": lambda self, *args, **more: None})
        setattr(self, name, value)
        return value


class StandIns:
    """Finds what is neither one of the host's `own` modules nor wanted as it is installed (`tops`: the packages to stand in for)."""

    def __init__(self, checkout, own, tops):
        self.own, self.tops = own, tops
        self.forge = checkout.joinpath("backend", "modules", "k_prediction.py").is_file()

    def find_spec(self, name, path=None, target=None):
        top, _, rest = name.partition(".")
        real = top == "modules" and (not rest or rest in self.own)
        if real or top not in self.tops:
            return None
        if self.forge and name in ("backend", "backend.modules", "backend.modules.k_prediction"):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return Anything(spec.name)

    def exec_module(self, module):
        pass


class Opts(types.SimpleNamespace):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return [] if name.startswith("prioritized_callbacks") else 0
