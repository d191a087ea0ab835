"""Calibration and tuning of the loaded checkpoint, through the host's double: its own text to image up to the sampler."""

import importlib

import numpy as np
import pytest
import torch
from dpm_solver_ext.tests.webui.processing import install

pytestmark = pytest.mark.filterwarnings("ignore:Should have t")
V3 = "DPM-Solver-v3 (ext)"


def part(name):
    return importlib.import_module(f"dpm_solver_ext.webui.{name}")


@pytest.fixture
def ready(host):
    return install(host)


def use(prompts="a b\na b c", cfg=5.0, size=64, batch=4, negative=""):
    return part("measure").Use.checked(prompts, negative, cfg, size, size, batch)


def finished(what, job):
    """`job(watch)` as the page runs it; the watch at its end."""
    measure = part("measure")
    watch = measure.Watch(what)
    measure.run(watch, lambda: job(watch))
    assert watch.ended.wait(300)
    return watch


def calibrated(ready, samples=3, name="mine", nodes=10, **more):
    settings = {"probes": 1, "kind": "radial", "seed": 0, **more}
    given = use(**{k: settings.pop(k) for k in ("prompts", "cfg", "size", "batch") if k in settings})
    return finished(
        "calibration", lambda watch: part("calibrate").calibrate(given, watch, samples=samples, nodes=nodes, name=name, **settings)
    )


def test_calibration_is_the_librarys_on_the_hosts_own_guided_model(ready, tmp_path):
    """The moments are those of the library on the same denoiser with each sample's own prompt."""
    from dpm_solver_ext.solvers.ems_calibrate import calibrate
    from dpm_solver_ext.solvers.ems_file import load_ems
    from dpm_solver_ext.solvers.path import VE

    watch = calibrated(ready)
    assert watch.error is None
    found = load_ems(tmp_path / "dpm_ems" / watch.outcome[0])
    wrap, ids = ready.model.wrap(), [0]

    def denoise(x, sigma):
        cond = torch.tensor([2.0 + i % 2 for i in ids]).view(-1, 1, 1, 1)
        u, c = (wrap(x, x.new_full([len(x)], sigma), cond=value) for value in (torch.tensor(0.0), cond))
        return u + 5.0 * (c - u)

    levels = wrap.sigmas.tolist()
    expected = calibrate(
        denoise, VE, (4, 8, 8), sigma_max=levels[-1], sigma_min=levels[0], samples=3, nodes=10, table=levels, batch=3,
        begin=lambda numbers: ids.__setitem__(slice(None), numbers), device="cpu",
    )  # fmt: skip
    for name, a in expected.sums.items():
        np.testing.assert_allclose(found.sums[name], a, rtol=1e-4, atol=1e-4 * np.abs(a).max(), err_msg=name)
    words = found.metadata
    assert words["checkpoint"] == "two clusters [0123456789]" and words["guidance"] == "5" and words["prediction type"] == "EPS"
    assert not ready.saved and not ready.decoded and ready.jobs == ["dpm_solver_ext", "end"] and not ready.queue.locked()
