"""The accordion in the gradio of both hosts: what it holds, what is shown for which sampler, what the API and pasting find."""

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from dpm_solver_ext.tests.webui.test_options import ARGUMENTS
from dpm_solver_ext.tests.webui.venvs import ROOT, VERSIONS, python_of

pytestmark = pytest.mark.slow
ALWAYS, STEPS = ["details", "final_sigma", "thresholding"], ["tuned", "refresh"]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """{gradio version: what tests/webui/gradio_page.py says}; both at once, as installing takes a minute each the first time."""

    def ask(version):
        models = tmp_path_factory.mktemp("models")
        env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {
            "GRADIO_ANALYTICS_ENABLED": "False",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        done = subprocess.run(
            [python_of(version), str(ROOT / "tests" / "webui" / "gradio_page.py"), str(models)], capture_output=True, text=True, env=env
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)

    with ThreadPoolExecutor() as pool:
        return dict(zip(VERSIONS, pool.map(ask, VERSIONS), strict=True))


@pytest.fixture(params=list(VERSIONS))
def page(request, pages):
    assert pages[request.param]["gradio"] == request.param
    return pages[request.param]


def test_without_torch(page):
    """The page is made before the model is; and nothing of the solvers' runs is loaded by it."""
    assert not page["torch"]


def test_controls_are_the_api_arguments_in_their_order(page):
    """The host casts what it reads from infotext by the type of a control's value: a float slider has a float."""
    assert [(key, value) for key, value in zip(page["pasted"], page["values"], strict=True)] == [(key, v) for _, v, key in ARGUMENTS]
    assert page["types"] == [type(value).__name__ for _, value, _ in ARGUMENTS]
    assert page["paste names"] == page["pasted"], "send to img2img takes them along"


def test_every_control_has_a_label_of_its_own_and_an_info_line(page):
    assert len(set(page["labels"])) == len(ARGUMENTS) and all(page["labels"])
    assert all(info and info.endswith(".") for info in page["infos"])
    assert len(set(page["elem ids"])) == len(page["elem ids"]) == len(ARGUMENTS) + 5, "the accordion, its row of two buttons and the text"


def test_one_accordion_closed_at_first(page):
    assert page["accordion open"] == [False] and page["at first"] == ["hint"]


def test_only_what_applies_to_the_chosen_sampler_is_shown(page):
    assert page["follows"] == {
        "DPM++ 2M": ["hint"],
        "DPM-Solver++ 2M (ext)": sorted([*ALWAYS, *STEPS, "final_rule", "solver_type"]),
        "DPM-Solver++ 2M SDE (ext)": sorted([*ALWAYS, *STEPS, "final_rule", "solver_type", "eta", "s_noise"]),
        "DPM-Solver-v3 (ext)": sorted([*ALWAYS, *STEPS, "final_rule", "solver_type", "statistics"]),
        "DPM-Solver adaptive (ext)": sorted([*ALWAYS, "solver_type", "rtol", "atol"]),
    }


def test_details_of_thresholding_are_shown_with_it(page):
    with_it = sorted([*page["follows"]["DPM-Solver++ 2M (ext)"], "threshold_max", "threshold_ratio"])
    assert page["follows thresholding"] == with_it


def test_a_hires_sampler_of_ours_shows_its_options(page):
    assert page["follows hires"] == page["follows"]["DPM-Solver++ 2M SDE (ext)"]


def test_a_sampler_that_the_host_restores_from_its_defaults_is_followed(page):
    """A ui_loadsave.py:49 sets the value without an event of the page, and calls `init_field`."""
    assert page["restored"] == page["follows"]["DPM-Solver++ 2M SDE (ext)"]


def test_samplers_that_the_user_has_moved_below_the_scripts(page):
    assert page["late"] == page["follows"]["DPM-Solver++ 2M SDE (ext)"]


def test_the_api_asks_for_the_controls_again(page):
    """A api.py:314: twice, outside the page."""
    assert page["again"]


def test_new_files_of_statistics_are_found_without_a_restart(page):
    found = [[c[0] if isinstance(c, list) else c for c in choices] for choices in page["refreshed"]]
    assert found == [["none", "new.safetensors"], ["none"]]
    assert page["choices"][[name for name, _, _ in ARGUMENTS].index("statistics")] == ["none"]


def test_the_button_for_schedule_details_reads_the_page(page):
    """One event, with the host's own components first; wherever the user has put them. Its text goes when another sampler is chosen."""
    options = [f"script_txt2img_dpm-solver_ext_{name}" for name, _, _ in ARGUMENTS]
    for place in ("txt2img", "late"):
        events, read, output, answer = page["details"][place]
        least = ["txt2img_sampling", "txt2img_scheduler", "txt2img_steps"]
        more = ["txt2img_hr-checkbox", "txt2img_hires_steps", "hr_sampler", "txt2img_denoising_strength"]
        assert events == 1 and read == [*least, *(more if place == "txt2img" else []), *options]
        assert output == ["script_txt2img_dpm-solver_ext_told"] and answer == ["<p>No sampler of this extension is chosen.</p>"]
    assert page["details"]["img2img"][1] == [
        "img2img_sampling",
        "img2img_scheduler",
        "img2img_steps",
        "img2img_denoising_strength",
        *options,
    ]
    assert page["details"]["wiped"] == ""


# --- the tab ----------------------------------------------------------------------------------------------------------------------------


def test_the_tab_has_a_name_and_every_control_of_it_a_label_an_info_line_and_an_id(page):
    tab = page["tab"]
    assert tab["title"] == ["DPM-Solver (ext)", "dpm_solver_ext"]
    assert len(set(tab["labels"])) == len(tab["labels"]) == len(set(tab["ids"])) == 25, "the host saves values by their labels"
    without = [label for label, info in tab["infos"].items() if not (info or "").endswith(".")]
    assert without == ["Files of", "Yes, delete this file"]
    assert tab["buttons"] == ["Stop", "Calibrate", "Tune", "Refresh", "Show what it holds", "Delete", "Draw"]
    assert not {"File", "Files of", "Yes, delete this file", "Sampler to tune for", "Its statistics, of DPM-Solver-v3"} & set(tab["kept"])


def test_a_run_is_followed_in_the_page(page):
    """In a running server of this gradio: looks at the run while it goes on, then its end; with the values that the page has at first."""
    looks, second = page["tab"]["looks"]
    assert page["tab"]["generators"] == [], "gradio 3 never ends those of a page that was closed, and Reload UI would hang"
    (style,) = page["tab"]["styles"]
    assert all(f"#dpm_solver_ext_{name} .pending" in style for name in ("status", "report")), "or the gradios fade it between two looks"
    assert page["tab"]["told"] == ["calibration"], "a second press begins no second run"
    assert len(looks) >= 3 and set(looks[:-1]) == {"<p>calibration: 5 of 9 model calls</p>"} and looks[-1] == "<p>done as told</p>"
    assert all(look.startswith("<p>This calibration was not started: one runs at a time") for look in second)
    assert len(second) >= 2 and second[-1].endswith("<p>done as told</p>"), "and is not kept waiting"


def test_pictures_with_the_hosts_pillow(page):
    """9.5, which has no letters of any size of its own: those of matplotlib, which gradio brings."""
    status, report, font, shape, dark = page["tab"]["drawn"]
    assert status == "" and report and font == "FreeTypeFont" and len(shape) == 3 and 0.005 < dark < 0.2
