"""Shared by all tests, which import the library as `dpm_solver_ext` and helpers as `dpm_solver_ext.tests.models`.

The clone's folder may have any name (`main`, `my-pack`), so the root `__init__.py` is loaded here under the one name that makes it the
library, and nothing but this loads it.
"""

import importlib.util
import os
import sys
from pathlib import Path

# Read by torch and BLAS when they load: small arrays on a busy two-core machine are fastest on one thread, and rounding stays the same.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
# No test may reach for a network, whatever a library would like to look up.
for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY"):
    os.environ[name] = "1"

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent

settings.register_profile("project", derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")


def _load_library():
    spec = importlib.util.spec_from_file_location("dpm_solver_ext", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["dpm_solver_ext"] = module
    spec.loader.exec_module(module)


if "dpm_solver_ext" not in sys.modules:
    _load_library()


class RootIsAFolder:
    """pytest takes a folder with an `__init__.py` for a package and imports it under the folder's name: with a hyphen that fails, and any
    other name would make the root believe that ComfyUI had loaded it. To pytest our root is a plain folder."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(self, path, parent):
        return pytest.Dir.from_parent(parent, path=path) if path == ROOT else None


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes more than ten seconds")
    config.pluginmanager.register(RootIsAFolder(), "root-is-a-folder")


@pytest.fixture(scope="session")
def root() -> Path:
    """The clone's root folder."""
    return ROOT
