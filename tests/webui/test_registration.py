"""What loading adds to a host: its own names, once, whatever was loaded before, and nothing else."""

import importlib.util
import logging
import os
import subprocess
import sys
import textwrap

import pytest
from dpm_solver_ext.tests.webui.host import ROOT

NAMES = [
    "DPM-Solver auto (ext)", "DPM-Solver++ 2M (ext)", "DPM-Solver++ 3M (ext)", "DPM-Solver++ 2S (ext)", "DPM-Solver++ 3S (ext)",
    "DPM-Solver++ 2M SDE (ext)", "DPM-Solver++ 3M SDE (ext)", "DPM-Solver++ SDE (ext)", "DPM-Solver-2 (ext)", "DPM-Solver-3 (ext)",
    "DPM-Solver fast (ext)", "DPM-Solver adaptive (ext)", "UniPC (ext)", "DPM-Solver-v3 (ext)",
]  # fmt: skip
LABELS = [
    "DPM auto", "DPM logSNR", "DPM time uniform", "DPM time quadratic", "DPM AYS SD 1.5", "DPM AYS SDXL", "DPM GITS SD 1.5", "DPM OSS FLUX",
    "DPM OSS Chroma",
]  # fmt: skip


def lists(host):
    sd = sys.modules["modules.sd_samplers"]
    return sd, [s.name for s in sd.all_samplers]


@pytest.mark.parametrize("kind", ["a1111", "forge", "old"])
def test_every_entry_is_listed_once_and_the_hosts_own_stay(make_host, kind):
    host = make_host(kind, load=False)
    sd, before = lists(host)
    own = list(sd.all_samplers)
    for _ in range(3):  # Reload UI runs the script again in the same process
        host.load()
        names = lists(host)[1]
        assert names == before + NAMES
        assert sd.all_samplers[: len(own)] == own and sd.samplers is sd.all_samplers
        assert all(
            sd.all_samplers_map[name] is s and sd.samplers_map[name.lower()] == name for name, s in zip(names, sd.all_samplers, strict=True)
        )
        if kind != "old":
            table = sys.modules["modules.sd_schedulers"]
            assert [s.label for s in table.schedulers][5:] == LABELS
            assert all(table.schedulers_map[s.name] is table.schedulers_map[s.label] is s for s in table.schedulers)
        assert len(host.scripts.scripts_data) == len(host.pasted) == len(host.before_ui) == len(host.tabs) == 1
    assert sd.create_sampler(NAMES[1], None).func.__self__.__class__.__module__ == "dpm_solver_ext.webui.samplers"


def test_a_reload_brings_new_code_and_takes_old_entries_away(make_host):
    """An update in place: entries are those of the package that is loaded now, and a name that it no longer has goes."""
    host = make_host()
    sd, _ = lists(host)
    old = sd.all_samplers_map["UniPC (ext)"]
    gone = type(old)("DPM-Solver gone (ext)", old.constructor, [], {})
    sd.all_samplers.append(gone)
    sd.all_samplers.append(old)  # and a duplicate, however it came
    sd.all_samplers_map[gone.name] = gone
    code = sys.modules["dpm_solver_ext.webui.samplers"]
    host.load()
    assert sys.modules["dpm_solver_ext.webui.samplers"] is not code, "the code was not loaded anew"
    names = lists(host)[1]
    assert gone.name not in names and gone.name not in sd.all_samplers_map and names.count("UniPC (ext)") == 1
    assert sd.all_samplers_map["UniPC (ext)"] is not old


def test_names_survive_another_extension_that_rebinds_forges_map(make_host):
    host = make_host("forge")
    sd, names = lists(host)
    sd.add_sampler(type(sd.all_samplers[0])("Other", None, [], {}))
    assert sd.all_samplers_map[NAMES[0]].name == NAMES[0]
    host.load()
    assert lists(host)[1] == [*names, "Other"]


def test_an_answer_from_before_we_were_there_is_forgotten(make_host):
    """The host keeps look-ups for ever: an API call while the UI reloads would make our name mean DPM++ 2M from then on."""
    host = make_host(load=False)
    sd, _ = lists(host)
    assert sd.get_sampler_and_scheduler("UniPC (ext)", "Automatic") == ("DPM++ 2M", "Automatic")
    host.load()
    assert sd.get_sampler_and_scheduler("UniPC (ext)", "Automatic") == ("UniPC (ext)", "Automatic")


@pytest.mark.parametrize("scheduler", ["Automatic", "Karras", *LABELS, "dpm_time_uniform_ext"])
def test_every_name_is_found_under_its_own_name(host, scheduler):
    """Names that end in a schedule's label are cut by the host, unknown ones become the first sampler."""
    sd, names = lists(host)
    for name in names:
        found, schedule = sd.get_sampler_and_scheduler(name, scheduler, convert_automatic=False)
        assert found == name
        assert schedule == sys.modules["modules.sd_schedulers"].schedulers_map.get(scheduler, None).label


def test_samplers_with_noise_are_given_the_hosts_own(host):
    """So its settings of the noise's source act on them, too."""
    flags = {s.name: bool(s.options.get("brownian_noise")) for s in sys.modules["modules.sd_samplers"].all_samplers}
    assert {name: flags[name] for name in NAMES} == {name: "SDE" in name for name in NAMES}


def test_no_alias_that_the_api_would_turn_into_another_sampler(host):
    assert all(s.aliases == [] for s in sys.modules["modules.sd_samplers"].all_samplers if s.name in NAMES)


def test_only_our_own_names_enter_sys_modules(make_host):
    host = make_host(load=False)
    before, path = set(sys.modules), list(sys.path)
    host.load()
    new = {name for name in set(sys.modules) - before if name.split(".")[0] not in sys.stdlib_module_names}
    assert {name.split(".")[0] for name in new} <= {"dpm_solver_ext"}
    assert sys.path == path
    solvers = {name.rpartition(".")[2] for name in new if name.startswith("dpm_solver_ext.solvers.")}
    assert solvers <= {"choices", "path", "schedule", "arrays", "hosting", "notes", "folders"}, "planners wait for the first run"


def test_one_file_in_scripts_and_no_package(root):
    assert [path.name for path in (root / "scripts").iterdir() if path.name != "__pycache__"] == ["dpm_solver_ext.py"]


PARTS = {
    "sd_samplers_kdiffusion": ("samplers", lambda m: delattr(m, "KDiffusionSampler")),
    "sd_samplers": ("samplers", lambda m: delattr(m, "set_samplers")),
    "sd_schedulers": ("schedule types", lambda m: delattr(m, "Scheduler")),
    "script_callbacks": ("infotext", lambda m: (delattr(m, "add_callback"), delattr(m, "on_infotext_pasted"))),
    "scripts": ("accordion", lambda m: delattr(m, "AlwaysVisible")),
}


@pytest.mark.parametrize("kind, looks", [("a1111", 0), ("forge", 0), ("old", 3)])
def test_the_host_is_told_who_listens_where_it_can_be(make_host, kind, looks):
    """It would look through the stack for it, 0.04 s of CPU each time; and what it lists is what it would have found."""
    host = make_host(kind)
    assert host.looks == looks
    told = [(c.script, c.name) for listed in host.listening.values() for c in listed]
    code = sys.modules["dpm_solver_ext.webui"]
    assert told == [(code.__file__, f"__init__.py/{event}") for event in ("infotext_pasted", "before_ui", "ui_tabs")]


@pytest.mark.parametrize("moved", PARTS)
def test_a_host_that_has_moved_costs_one_part_and_says_so_in_one_sentence(make_host, caplog, moved):
    host = make_host(load=False)
    part, move = PARTS[moved]
    move(sys.modules[f"modules.{moved}"])
    with caplog.at_level(logging.ERROR):
        host.load()
    said = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    assert len(said) == 1 and part in said[0] and "the rest works" in said[0] and "\n" not in said[0]
    works = {
        "samplers": set(NAMES) <= set(lists(host)[1]),
        "schedule types": set(LABELS) <= {s.label for s in sys.modules["modules.sd_schedulers"].schedulers},
        "infotext": bool(host.pasted),
        "accordion": host.script is not None,
    }
    assert {name for name, there in works.items() if not there} == {part} - ({"samplers"} if moved == "sd_samplers" else set())


def test_a_package_that_cannot_be_loaded_is_one_sentence(make_host, caplog, monkeypatch):
    host = make_host(load=False)
    monkeypatch.setattr(importlib.util, "spec_from_file_location", broken(importlib.util.spec_from_file_location))
    with caplog.at_level(logging.ERROR):
        host.load()
    assert host.script is None and "cannot be loaded (ImportError" in caplog.text and "Traceback" not in caplog.text


def broken(real):
    def spec_from_file_location(name, *args, **more):
        if name == "dpm_solver_ext":
            raise ImportError("a file is missing")
        return real(name, *args, **more)

    return spec_from_file_location


def test_metadata_can_be_read():
    import configparser

    config = configparser.ConfigParser()
    assert config.read(ROOT / "metadata.ini") and config["Extension"]["Name"] == "dpm-solver-ext"


LOAD = """
    import importlib.util, sys, time, types
    import torch, tqdm.auto
    for name in ("gradio", "gradio.context"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["gradio.context"].Context = None
    spec = importlib.util.spec_from_file_location("double", {host!r})
    double = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(double)
    host = double.Host()
    times = []
    for _ in range(9):  # every load is a whole one
        start = time.process_time()
        host.load()
        times.append(time.process_time() - start)
    assert host.script is not None and len(sys.modules["modules.sd_samplers"].all_samplers) == 6 + 14
    print(*times)
"""


def test_loads_in_50_ms_beyond_torch(tmp_path):
    """CPU time, with bytecode, as from a user's second start on; the least of nine, as a busy machine only adds."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | {"PYTHONPYCACHEPREFIX": str(tmp_path)}
    script = textwrap.dedent(LOAD).format(host=str(ROOT / "tests" / "webui" / "host.py"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    assert min(map(float, done.stdout.split())) < 0.05, done.stdout
