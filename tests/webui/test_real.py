"""The double and our extension against the hosts' own files; skipped where there are none.

    DPM_SOLVER_EXT_HOSTS=/folder pytest tests/webui/test_real.py

with checkouts in /folder/a1111 (82a973c0), /folder/forge (dfdcbab6) and /folder/reforge (3b56b268): `modules`, and the k-diffusion and
backend folders of those that have them. `real.py` says what of a host runs there.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from dpm_solver_ext.tests.webui.host import ROOT, default_arguments
from dpm_solver_ext.tests.webui.processing import install
from dpm_solver_ext.tests.webui.test_options import ARGUMENTS
from dpm_solver_ext.tests.webui.test_registration import LABELS, NAMES
from dpm_solver_ext.tests.webui.test_sampling import ADAPTIVE
from dpm_solver_ext.tests.webui.test_tab import part
from dpm_solver_ext.tests.webui.venvs import python_of

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Should have t")]
FOLDER = os.environ.get("DPM_SOLVER_EXT_HOSTS", "")
KINDS = ("a1111", "forge", "reforge")


@pytest.fixture(scope="module", params=KINDS)
def real(request):
    checkout = Path(FOLDER) / request.param
    if not FOLDER or not checkout.is_dir():
        pytest.skip("set DPM_SOLVER_EXT_HOSTS to a folder with checkouts of the hosts")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "webui" / "real.py"), request.param, str(checkout)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return request.param, json.loads(done.stdout)


@pytest.fixture(scope="module")
def real_ui(real, tmp_path_factory):
    """What real_ui.py says in the gradio of that host."""
    kind, _ = real
    python = python_of("4.40.0" if kind == "forge" else "3.41.2")
    done = subprocess.run(
        [python, str(ROOT / "tests" / "webui" / "real_ui.py"), str(Path(FOLDER) / kind), str(tmp_path_factory.mktemp("host"))],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_the_hosts_own_loader_and_runner_take_the_accordion(real_ui):
    """Samplers and schedule types cannot be added there, without torch: a sentence each, and the rest is there."""
    assert [("samplers" in s, "schedule types" in s) for s in real_ui["said"]] == [(False, True), (True, False)]
    assert [report[:9] for report in real_ui["reports"]] == ["API error"], "which is asked for below"
    assert real_ui["scripts"] == ["DPM-Solver (ext)"] and real_ui["name"] == "dpm-solver (ext)"
    assert [value for _, value in real_ui["arguments"]] == [value for _, value, _ in ARGUMENTS]
    assert real_ui["places"] == [len(ARGUMENTS)] * 2 and real_ui["paste names"]
    assert real_ui["processed"] == {name: value for name, value, _ in ARGUMENTS} and real_ui["cleared"] == {}


def test_the_hosts_own_paste_brings_every_option_back(real_ui):
    """Those that the picture names, the others as their defaults; a picture of another sampler changes nothing."""
    defaults = {name: value for name, value, _ in ARGUMENTS}
    assert real_ui["pasted"] == {**defaults, "solver_type": "taylor", "eta": 0.35, "statistics": "a friend, his.safetensors"}
    assert set(real_ui["pasted other"].values()) == {"unchanged"}


def test_the_hosts_own_api_answers_422_and_reads_infotext(real_ui):
    """Only what the picture names is set; a request without arguments has the defaults."""
    said = real_ui["api"]
    assert said["status"] == 422 and said["body"]["errors"] == "eta is -1; type a number from 0 to 2, 1 as a rule."
    assert said["defaults"] == [value for _, value, _ in ARGUMENTS]
    names = [name for name, _, _ in ARGUMENTS]
    read = {names[int(i)]: value for i, value in said["from infotext"].items() if int(i) >= 0}  # others are the host's own
    assert read == {"solver_type": "taylor", "eta": 0.35, "statistics": "a friend, his.safetensors"}


def test_the_hosts_own_saved_defaults_bring_back_values_and_what_is_shown(real_ui):
    assert real_ui["restored eta"] == 0.25 and {"eta", "s_noise"} <= set(real_ui["restored"]) and "hint" not in real_ui["restored"]
    assert len(real_ui["config"]) == len(ARGUMENTS), "each control is saved under a path of its own"


def test_the_hosts_own_plot_has_an_axis_for_every_option(real):
    _, said = real
    labels, applied, label = said["axes"]
    assert len(labels) == len(set(labels)) == len(ARGUMENTS)
    assert applied == {"solver_type": "taylor"} and label == "[DPM-Solver] Fresh noise (eta): 0.5"


def test_entries_are_added_once_after_a_reload(real):
    _, said = real
    assert said["ours"] == NAMES and said["kept"] and said["labels"][-len(LABELS) :] == LABELS and said["script"]


def test_the_host_lists_what_it_is_told_as_what_it_would_find(real):
    """Its callbacks: the same file and the same name, which the user's order of callbacks goes by."""
    told, found = real[1]["listening"]
    assert told == found and [event for event, *_ in told] == ["callbacks_before_ui", "callbacks_infotext_pasted", "callbacks_ui_tabs"]


def test_schedule_details_are_those_of_the_double(real, make_host):
    """Which test_details.py holds against runs: the same words, and numbers but for rounding; text to image and image to image."""
    kind, said = real
    number = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
    for model, runs in said["runs"].items():
        install(make_host("forge" if kind == "forge" else "a1111", model))
        for name in NAMES:
            values = {"sampler": name, "scheduler": "DPM logSNR" if model == "const" else "Karras", "steps": 8, "strength": 0.75}
            for img2img, theirs in zip((False, True), runs[name]["details"], strict=True):
                mine = part("details").told(img2img, values, default_arguments())
                assert re.split(number, mine) == re.split(number, theirs), (model, name)
                found = [list(map(float, number.findall(text))) for text in (mine, theirs)]
                assert len(found[0]) > 1 or "adaptive" in name, "it has no table"
                assert found[0] == pytest.approx(found[1], rel=1e-2, abs=2e-3), (model, name)


def test_the_double_answers_names_as_the_host_does(real, host):
    """Our names are found; an unknown one and an alias silently become another sampler."""
    _, said = real
    sd = sys.modules["modules.sd_samplers"]
    assert all(found == [name, "Karras"] for name, found in said["found"].items())
    assert said["unknown"] == list(sd.get_sampler_and_scheduler("no such sampler", "no such schedule"))
    assert said["alias"] == list(sd.get_sampler_and_scheduler("k_dpmpp_2m_sde", "Automatic"))
    for data in sd.all_samplers:
        if data.name in said["built in"]:
            assert data.options == said["built in"][data.name]


def test_pictures_are_the_built_in_ones_in_the_host_itself(real):
    _, said = real
    for model in ("eps", "v"):
        runs = said["runs"][model]
        for built_in in ("DPM++ 2M", "DPM++ SDE", "DPM++ 2M SDE"):
            ours = runs[built_in.replace("DPM++", "DPM-Solver++") + " (ext)"]
            for values in ("values", "image to image"):
                difference = torch.tensor(runs[built_in][values]) - torch.tensor(ours[values])
                assert float(difference.abs().max()) < 1e-3, (model, built_in, values)


def test_a_batch_is_its_single_pictures_and_counts_hold_in_the_host_itself(real):
    _, said = real
    for runs in said["runs"].values():
        for name in NAMES:
            done, told, steps = runs[name]["counts"]
            assert steps == 8 and (name == ADAPTIVE or told * 0.8 < done <= told)
            assert runs[name]["batch"] < (1e-2 if name == ADAPTIVE else 1e-5), name  # whose items share their steps


def test_the_double_paints_what_the_host_paints(real, make_host):
    """Every entry, ours and built in, text to image and image to image: the same latent, counts and infotext."""
    kind, said = real
    for model, runs in said["runs"].items():
        host = make_host("forge" if kind == "forge" else "a1111", model)
        for name, run in runs.items():
            p = host.processing(name, "DPM logSNR" if model == "const" else "Karras", (7, 8), 8)
            picture = host.generate(p)
            told = host.sampler.model_wrap_cfg
            assert [told.step, told.total_steps, told.steps] == run["counts"], (model, name)
            assert p.extra_generation_params == run["infotext"], (model, name)
            part = host.generate(host.processing(name, p.scheduler, (7, 8), 8), latent=picture)
            # the stand-in for Forge's and reForge's models does without the rounding of k-diffusion's
            limit = 0.05 if name == ADAPTIVE else 1e-4 if kind == "a1111" else 1e-2
            for mine, theirs in ((picture, run["values"]), (part, run["image to image"])):
                assert float((mine.flatten()[:64] - torch.tensor(theirs)).abs().max()) < limit, (model, name)
        host.close()
