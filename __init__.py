"""DPM-Solver (ext): the DPM-Solver family for ComfyUI and for Python.

One folder, two lives, told apart by the name it is loaded under. As `dpm_solver_ext` (pip, tests) it is the library and knows no host.
Under any other name ComfyUI loaded it by its path: it adds its samplers and schedulers to the host's lists and offers its nodes.
"""

__version__ = "0.1.0"

if __name__ == "dpm_solver_ext":
    _HOME = {
        "Path": "solvers.path", "VE": "solvers.path", "FLOW": "solvers.path", "VP": "solvers.path",
        "Tape": "solvers.tape", "execute": "solvers.execute", "walk": "solvers.execute",
        "plan": "solvers.presets", "PRESETS": "solvers.choices",
        "plan_multistep": "solvers.multistep", "plan_singlestep": "solvers.singlestep", "plan_fast": "solvers.singlestep",
        "adaptive": "solvers.adaptive", "walk_adaptive": "solvers.adaptive", "AdaptiveInfo": "solvers.adaptive",
        "dynamic_threshold": "solvers.threshold", "make_project": "solvers.threshold", "brownian": "solvers.noise",
        "NoiseScheduleVP": "solvers.official_schedule", "model_wrapper": "solvers.official_model", "DPM_Solver": "solvers.official",
        "DPM_Solver_v3": "solvers.official_v3", "Statistics": "solvers.statistics",
        "calibrate": "solvers.ems_calibrate", "Moments": "solvers.ems", "fit": "solvers.ems_fit",
        "save_ems": "solvers.ems_file", "load_ems": "solvers.ems_file",
        "tune_schedule": "solvers.tune", "Tuned": "solvers.tune",
        "DPMSolverSampler": "interop.ldm", "DPMSolverExtScheduler": "interop.diffusers_scheduler",
    }  # fmt: skip
    __all__ = [*(n for n, home in _HOME.items() if home.startswith("solvers")), "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]

    def __getattr__(name: str):
        """Names of the library, imported when first asked for."""
        from importlib import import_module

        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f".{_HOME[name]}", __name__), name)

    def __dir__() -> list[str]:
        return sorted([*_HOME, "__version__"])

else:
    from .nodes.register import register

    WEB_DIRECTORY = "./web"
    register()

    async def comfy_entrypoint():
        """ComfyUI asks for the nodes here."""
        from .nodes.extension import DPMSolverExtension

        return DPMSolverExtension()
