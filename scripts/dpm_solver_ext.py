"""What the WebUI (A1111, Forge, reForge) runs: loads this folder as the package `dpm_solver_ext`, which adds everything to the host.

The host puts the folder on sys.path only while this file runs; the package is loaded by its path, under a name that nothing else has, and
imports itself relatively. Reload UI runs this file again: then the package is loaded anew, so that an update is seen.
"""

import importlib
import importlib.util
import logging
import sys
from pathlib import Path

NAME = "dpm_solver_ext"


def _load():
    root = Path(__file__).resolve().parent.parent
    for loaded in [name for name in sys.modules if name == NAME or name.startswith(NAME + ".")]:
        del sys.modules[loaded]
    spec = importlib.util.spec_from_file_location(NAME, root / "__init__.py", submodule_search_locations=[str(root)])
    package = sys.modules[NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    return importlib.import_module(NAME + ".webui").install(package.__version__)


try:
    DPMSolverExt = _load()
except Exception as error:  # one sentence in place of the host's page of traces
    logging.getLogger(NAME).error(
        "DPM-Solver (ext) cannot be loaded (%s: %s); update it, or remove it from extensions.", type(error).__name__, error
    )
