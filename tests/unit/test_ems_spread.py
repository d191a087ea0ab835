"""Calibration on two processes (gloo): the file of one process, also after one of them was stopped."""

import subprocess
import sys
import textwrap

import numpy as np
import torch.distributed as dist
from dpm_solver_ext.solvers.ems import NAMES
from dpm_solver_ext.solvers.ems_calibrate import calibrate
from dpm_solver_ext.solvers.ems_file import load_ems, save_ems
from dpm_solver_ext.solvers.ems_spread import spread
from dpm_solver_ext.solvers.path import VE

OPTIONS = {"sigma_max": 8.0, "sigma_min": 0.1, "nodes": 6, "batch": 2, "seed": 3, "metadata": {"model": "a"}}
SHAPE = (2, 5, 6)


def model(x, s):
    return np.tanh(0.3 * x + 0.2 * np.roll(x, 1, -1)) / (1 + 0.1 * s)


WORKER = """
    import importlib.util, sys
    spec = importlib.util.spec_from_file_location("dpm_solver_ext", {root!r} + "/__init__.py", submodule_search_locations=[{root!r}])
    module = sys.modules["dpm_solver_ext"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    import torch.distributed as dist
    from dpm_solver_ext.solvers.ems_spread import spread
    from dpm_solver_ext.solvers.path import VE
    from dpm_solver_ext.tests.unit.test_ems_spread import OPTIONS, SHAPE, model
    dist.init_process_group("gloo", init_method="file://{folder}/meet", rank=int(sys.argv[1]), world_size=2)

    def run(file, samples, stop=10**9, **more):
        calls = []
        def limited(x, s):
            calls.append(s)
            if dist.get_rank() == 1 and len(calls) > stop:
                sys.exit(7)
            return model(x, s)
        m = spread(limited, VE, SHAPE, samples=samples, file=file, **OPTIONS | more)
        return m, len(calls)
"""


def processes(root, folder, body):
    """The exit status and last words of two processes that run `body`, one of them rank 0."""
    code = textwrap.dedent(WORKER).format(root=str(root), folder=folder) + textwrap.dedent(body)
    both = [
        subprocess.Popen([sys.executable, "-c", code, str(rank)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        ends = [p.communicate(timeout=60) for p in both]
    finally:
        for p in both:
            p.kill()
    return [(p.returncode, out + err) for p, (out, err) in zip(both, ends, strict=True)]


def assert_equal(a, b):
    assert a.ids == b.ids and a.metadata == b.metadata
    for name in NAMES:
        assert np.abs(a.sums[name] - b.sums[name]).max() <= 1e-12 * np.abs(b.sums[name]).max(), name


def test_two_processes_make_the_file_of_one(root, tmp_path):
    """Uneven shares; without a file, with one, and with one that has some samples and parts left by another run; wrong settings are an
    error in both processes, none waits for ever. Last, process 1 dies in its second chunk: one process alone goes on with what both had
    finished. (One pair of processes for all: starting them takes longest.)"""
    whole = calibrate(model, VE, SHAPE, samples=7, **OPTIONS)
    one, two, three, four = (str(tmp_path / f"{n}.safetensors") for n in "abcd")
    save_ems(calibrate(model, VE, SHAPE, ids=[5, 1], **OPTIONS), two)
    save_ems(calibrate(model, VE, SHAPE, ids=[2], **OPTIONS), two + ".part5")
    save_ems(calibrate(model, VE, SHAPE, ids=[5], **OPTIONS), two + ".part6")
    save_ems(calibrate(model, VE, SHAPE, ids=[0], **OPTIONS | {"metadata": {"model": "b"}}), three)
    body = f"""
    from dpm_solver_ext.solvers.ems_file import save_ems
    m, calls = run(None, 7)
    save_ems(m, {one!r} + str(dist.get_rank()))
    assert calls == 24, calls  # 4 samples or 3, two at once
    m, calls = run({two!r}, 7)
    assert calls == 12, calls
    save_ems(m, {two!r} + str(dist.get_rank()))
    try:
        run({three!r}, 7)
    except ValueError as error:
        assert "differ in model" in str(error), error
    else:
        raise AssertionError
    print("all well", flush=True)
    run({four!r}, 7, stop=13)
    """
    ends = processes(root, tmp_path, body)
    assert all("all well" in text for _, text in ends), ends
    for file in (one + "0", one + "1", two, two + "0", two + "1"):
        assert_equal(load_ems(file), whole)
    assert not list(tmp_path.glob("b.safetensors.part*"))

    assert ends[1][0] == 7 and ends[0][0] != 0, ends
    kept = {i for part in tmp_path.glob("d.safetensors.part*") for i in load_ems(part).ids}
    assert len(kept) >= 2 and kept < set(whole.ids)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/alone", rank=0, world_size=1)
    try:
        assert_equal(spread(model, VE, SHAPE, samples=7, file=four, **OPTIONS), whole)
    finally:
        dist.destroy_process_group()
    assert_equal(load_ems(four), whole)
    assert not list(tmp_path.glob("d.safetensors.part*"))


def test_only_parts_are_parts(tmp_path):
    """Files that begin like a part but are not numbered are somebody's own: neither read nor removed."""
    from dpm_solver_ext.solvers import ems_spread

    file = str(tmp_path / "m.safetensors")
    for name in (".part0", ".part12", ".partner-notes-2", ".part3.bak"):
        (tmp_path / f"m.safetensors{name}").touch()
    assert ems_spread._parts(file) == [file + ".part0", file + ".part12"]
