"""The real ComfyUI for the tests of this folder: in process (`host`, `pack`) and as a server (`server`).

ComfyUI's own top-level packages are called `nodes`, `comfy`, `utils`, `app`, `tests`; this repository has a `nodes/` folder too. The
repository's root is therefore never put on sys.path, and nothing here is imported by a bare name before `host` has run.
"""

import asyncio
import importlib
import importlib.util
import logging
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OURS = ("dpm_auto_ext", "dpmpp_2m_ext", "dpmpp_3m_ext")
SINGLESTEP = ("dpmpp_2s_ext", "dpmpp_3s_ext", "dpm_fast_ext")
SDE = ("dpmpp_2m_sde_ext", "dpmpp_3m_sde_ext", "dpmpp_sde_ext")
SAMPLERS = (*OURS, *SINGLESTEP, "dpm_adaptive_ext", "unipc_ext", *SDE, "dpm_solver_v3_ext")  # in the order of registration
# argument of a test: the dropdown entries that it runs with, one a test
GROUPS = {
    "ours": OURS,  # the measured ones, for the wide sweeps
    "ode": (*OURS, *SINGLESTEP, "unipc_ext", "dpm_solver_v3_ext"),  # one model call a step, and an exact end
    "sde": SDE,
    "steady": tuple(n for n in SAMPLERS if n != "dpm_adaptive_ext"),  # takes the schedule's steps, each with one callback
    "every": SAMPLERS,
}
SCHEDULERS = ("dpm_auto_ext", "dpm_logsnr_ext", "dpm_time_uniform_ext", "dpm_time_quadratic_ext")


def pytest_generate_tests(metafunc):
    """`our_schedule` and the groups as arguments run a test once per dropdown entry."""
    for argument, names in (*GROUPS.items(), ("our_schedule", SCHEDULERS)):
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, names)


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tools():
    """demo/host.py"""
    return load("dpm_ext_test_host_tools", ROOT / "demo" / "host.py")


@pytest.fixture(scope="session")
def host(tools, tmp_path_factory):
    """ComfyUI imported into this process, without our pack, on the CPU or what DPM_EXT_DEVICE says. Attributes: `analytic`, `nodes`, `base`
    (its folder) and `before` (a snapshot of everything that a pack could replace)."""
    import torch

    app, base = tools.app_dir(ROOT), tmp_path_factory.mktemp("comfyui")
    tools.prepare_base(base, {"my-pack": ROOT})
    sys.path.insert(0, str(app))
    sys.path.append(str(tools.STUBS))  # last: an installed torchvision wins
    from comfy.cli_args import args  # parses nothing unless main.py asks for it

    args.cpu, args.base_directory = bool(tools.device()), str(base)
    logging.getLogger().setLevel(logging.WARNING)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the tensors here are tiny
    analytic = load("dpm_ext_test_analytic", HERE / "analytic.py")
    import comfy.samplers
    import comfy_extras.nodes_custom_sampler
    import comfy_extras.nodes_model_advanced

    import nodes

    names = {key: getattr(comfy.samplers, key) for key in ("KSAMPLER_NAMES", "SAMPLER_NAMES", "SCHEDULER_HANDLERS", "SCHEDULER_NAMES")}
    yield SimpleNamespace(
        analytic=analytic, nodes=nodes, base=base, before=surface(), lists=names, lists_before={k: list(v) for k, v in names.items()},
        node_ids=list(nodes.NODE_CLASS_MAPPINGS), nodes_custom=comfy_extras.nodes_custom_sampler, samplers=SAMPLERS, schedulers=SCHEDULERS,
        path=list(sys.path),
    )  # fmt: skip
    torch.set_num_threads(threads)


def surface():
    """{"module.attribute" or "module.Class.attribute": object} of the host's modules that a sampler pack might be tempted to patch."""
    import comfy.k_diffusion.sampling
    import comfy.latent_formats
    import comfy.model_base
    import comfy.model_management
    import comfy.model_patcher
    import comfy.model_sampling
    import comfy.sample
    import comfy.sampler_helpers
    import comfy.samplers
    import comfy.utils
    import execution
    import folder_paths
    import latent_preview
    import torch

    import nodes

    found = {}
    modules = (
        comfy.k_diffusion.sampling, comfy.latent_formats, comfy.model_base, comfy.model_management, comfy.model_patcher,
        comfy.model_sampling, comfy.sample, comfy.sampler_helpers, comfy.samplers, comfy.utils, execution, folder_paths, latent_preview,
        nodes, torch.Tensor, logging.Logger,
    )  # fmt: skip
    for module in modules:
        for key, value in vars(module).items():
            found[f"{module.__name__}.{key}"] = value
            if isinstance(value, type) and isinstance(module, ModuleType) and value.__module__ == module.__name__:
                found |= {f"{module.__name__}.{key}.{k}": v for k, v in vars(value).items()}
    return {k: v for k, v in found.items() if "__" not in k and "_abc_impl" not in k}


@pytest.fixture(scope="session")
def pack(host):
    """This repository loaded by ComfyUI's own loader from custom_nodes/my-pack, once. Attributes: `module`, `path`, `nodes` (ours, by id),
    `after` (the snapshot again)."""
    path = host.base / "custom_nodes" / "my-pack"
    assert asyncio.run(host.nodes.load_custom_node(str(path), set(host.node_ids))), "ComfyUI could not load the pack; see the log above"
    module = sys.modules[str(path).replace(".", "_x_")]
    ids = [key for key in host.nodes.NODE_CLASS_MAPPINGS if key not in host.node_ids]
    return SimpleNamespace(module=module, path=path, nodes={key: host.nodes.NODE_CLASS_MAPPINGS[key] for key in ids}, after=surface())


@pytest.fixture
def part(pack):
    """part("nodes.tune_run") is that module of the pack, as the host loaded it."""
    return lambda name: importlib.import_module(f"{pack.module.__name__}.{name}")


@pytest.fixture
def analytic(host, pack):
    """analytic.py, with our pack loaded."""
    return host.analytic


@pytest.fixture
def build_node(pack):
    """build_node(id, **inputs) executes one of our nodes and returns its first output; an input that is not given is at its default."""

    def make(node_id, **inputs):
        node = pack.nodes[node_id]
        spec = node.INPUT_TYPES()
        values = {}
        for key, (kind, *extra) in {**spec.get("required", {}), **spec.get("optional", {})}.items():
            options = extra[0] if extra else {}
            combo = kind if isinstance(kind, list) else options.get("options") if kind == "COMBO" else None
            if "default" in options or combo:
                values[key] = options.get("default", combo[0] if combo else None)
        unknown = set(inputs) - set(spec.get("required", {})) - set(spec.get("optional", {}))
        assert not unknown, f"{node_id} has no input {unknown}"
        result = node.execute(**{**values, **inputs})
        return getattr(result, "args", result)[0]

    return make


@pytest.fixture(scope="session")
def server(tools, tmp_path_factory):
    """One real ComfyUI server with this repository as custom_nodes/my-pack, the analytic model as custom_nodes/analytic-model and the
    demo's trained one as custom_nodes/emoji-demo."""
    folder = tmp_path_factory.mktemp("server")
    model = folder / "analytic-model"
    model.mkdir()
    (model / "analytic.py").write_bytes((HERE / "analytic.py").read_bytes())
    (model / "__init__.py").write_bytes((HERE / "server_nodes.py").read_bytes())
    base = tools.prepare_base(folder / "base", {"my-pack": ROOT, "analytic-model": model, "emoji-demo": ROOT / "demo" / "pack"})
    # Where `host` came first, torchvision is the stub in this process, and the server would take it for an installed one.
    torchvision = importlib.util.find_spec("torchvision")
    stub = torchvision is None or tools.STUBS in Path(torchvision.origin or "").parents
    env = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(tools.STUBS) if stub else ""}
    with tools.Server(base, app=tools.app_dir(ROOT), env=env) as running:
        running.tools = tools
        yield running


@pytest.fixture
def interrupt(host):
    """interrupt(at): the host's own interruption, as a click on Cancel when the bar stands there; interrupt(None) never."""
    import comfy.model_management as management
    import comfy.utils

    seen = []

    def set_at(at):
        def hook(value, total, preview, **_):
            seen.append((value, total))
            if at is not None and value >= at:
                management.interrupt_current_processing(True)
            management.throw_exception_if_processing_interrupted()

        comfy.utils.set_progress_bar_global_hook(hook)
        return seen

    yield set_at
    management.interrupt_current_processing(False)
    comfy.utils.set_progress_bar_global_hook(None)


@pytest.fixture
def said(part, caplog, monkeypatch):
    """Words of our warnings during the test, each told anew."""
    monkeypatch.setattr(part("solvers.hosting"), "_told", set())
    caplog.set_level(logging.WARNING, logger="dpm_solver_ext")
    return lambda: [r.getMessage() for r in caplog.records if r.name == "dpm_solver_ext" and r.levelno == logging.WARNING]
