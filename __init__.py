"""DPM-Solver (ext): the DPM-Solver family for ComfyUI and for Python.

One folder, two lives, told apart by the name it is loaded under. As `dpm_solver_ext` (pip, tests) it is the library and knows no host.
Under any other name ComfyUI loaded it by its path: it adds its samplers and schedulers to the host's lists and offers its nodes.
"""

__version__ = "0.1.0"

if __name__ == "dpm_solver_ext":
    _HOME = {
        "Path": "path", "VE": "path", "FLOW": "path", "VP": "path",
        "Tape": "tape", "execute": "execute", "plan": "presets", "PRESETS": "presets",
        "plan_multistep": "multistep", "plan_singlestep": "singlestep",
    }  # fmt: skip
    __all__ = [*_HOME, "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]

    def __getattr__(name: str):
        """Names of the library, imported when first asked for."""
        from importlib import import_module

        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f".solvers.{_HOME[name]}", __name__), name)

    def __dir__() -> list[str]:
        return sorted(__all__)

else:
    from .nodes.register import register

    WEB_DIRECTORY = "./web"
    register()

    async def comfy_entrypoint():
        """ComfyUI asks for the nodes here."""
        from .nodes.extension import DPMSolverExtension

        return DPMSolverExtension()
