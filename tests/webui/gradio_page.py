"""Run by test_ui.py in a venv with gradio and without torch: a page as the hosts make one, with our accordion, asked what it does.

Prints one JSON object. The page is that of A modules/ui.py: a tab's own Blocks rendered into another, the sampler's choice first, then the
scripts in a Group each; A modules/ui_loadsave.py sets saved values when all is made and calls `init_field`.
"""

import contextlib
import importlib.util
import inspect
import json
import logging
import sys
import threading
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SAMPLERS = ["DPM++ 2M", "DPM-Solver++ 2M (ext)", "DPM-Solver++ 2M SDE (ext)", "DPM-Solver-v3 (ext)", "DPM-Solver adaptive (ext)"]


USE = [f"dpm_solver_ext_{name}" for name in ("prompts", "negative", "cfg", "width", "height", "batch")]
TICK, ENDS = "dpm_solver_ext_tick", "dpm_solver_ext_ends"
CALIBRATION = [f"dpm_solver_ext_{name}" for name in ("samples", "nodes", "probes", "shape", "calibration_seed", "ems_name")]


class Script:
    is_img2img = False
    infotext_fields = paste_field_names = None

    def elem_id(self, name):
        return f"script_txt2img_dpm-solver_ext_{name}"


def load(models):
    """The package as scripts/dpm_solver_ext.py loads it; samplers and schedules have tests of their own, with torch."""
    import gradio  # noqa: F401

    for name in ("modules", "modules.paths", "modules.scripts", "modules.shared", "modules.sd_schedulers"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["modules"].sd_schedulers = sys.modules["modules.sd_schedulers"]
    sys.modules["modules.sd_schedulers"].schedulers = []
    sys.modules["modules"].shared = sys.modules["modules.shared"]
    sys.modules["modules"].paths = sys.modules["modules.paths"]
    sys.modules["modules"].scripts = sys.modules["modules.scripts"]
    sys.modules["modules.paths"].models_path = models
    spec = importlib.util.spec_from_file_location("dpm_solver_ext", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    package = sys.modules["dpm_solver_ext"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    from dpm_solver_ext.webui.ui import make_script

    return make_script(Script, object(), "0")


def page(make, saved=None, first=True, tab="txt2img"):
    """(the whole page, our script, its controls, the two choices of a sampler)."""
    import gradio as gr

    script = make()
    script.is_img2img = tab == "img2img"
    with gr.Blocks() as inner:

        def samplers():
            made = [gr.Dropdown(SAMPLERS, value=SAMPLERS[0], elem_id=f"{tab}_sampling")]
            made.append(gr.Dropdown(["Automatic", "Karras"], value="Automatic", elem_id=f"{tab}_scheduler"))
            made.append(gr.Slider(1, 150, value=20, elem_id=f"{tab}_steps"))
            if tab == "txt2img":
                made.append(gr.Checkbox(False, visible=False, elem_id="txt2img_hr-checkbox"))
                made.append(gr.Slider(0, 150, value=0, elem_id="txt2img_hires_steps"))
                made.append(gr.Dropdown(["Use same sampler", *SAMPLERS], value="Use same sampler", elem_id="hr_sampler"))
            made.append(gr.Slider(0, 1, value=0.75, elem_id=f"{tab}_denoising_strength"))
            for component in made:
                script.after_component(component)
            return [c for c in made if c.elem_id in (f"{tab}_sampling", "hr_sampler")]

        chosen = samplers() if first else None
        with gr.Group():
            controls = script.ui(script.is_img2img)
        chosen = chosen or samplers()
    with gr.Blocks() as demo:
        with gr.Tabs(), gr.TabItem(tab):
            inner.render()
    if saved:  # ui_loadsave.py:40
        chosen[0].value = saved
        if hasattr(chosen[0], "init_field"):
            chosen[0].init_field(saved)
    return demo, script, controls, chosen


def shown(script):
    return sorted(name for name, component in script.shown.items() if component.visible)


def main(models):
    import gradio as gr

    make = load(models)
    demo, script, controls, chosen = page(make)
    config = demo.config = demo.get_config_file()
    out = {
        "gradio": gr.__version__, "torch": "torch" in sys.modules,
        "labels": [c.label for c in controls], "infos": [c.info for c in controls],
        "types": [type(c.value).__name__ for c in controls], "values": [c.value for c in controls], "at first": shown(script),
        "choices": [[v[0] if isinstance(v, (tuple, list)) else v for v in getattr(c, "choices", None) or []] for c in controls],
        "elem ids": [c["props"].get("elem_id") for c in config["components"] if str(c["props"].get("elem_id")).startswith("script_")],
        "pasted": [label for _, label in script.infotext_fields], "paste names": script.paste_field_names,
    }  # fmt: skip
    out["accordion open"] = [c["props"]["open"] for c in config["components"] if c["type"] == "accordion"]
    out["follows"] = {name: follow(demo, script, chosen, name, "Use same sampler") for name in SAMPLERS}
    thresholding = script.shown["thresholding"]
    updates = answer(demo, thresholding, "change", ["dynamic_in_latent_space", SAMPLERS[1], "Use same sampler"])
    out["follows thresholding"] = sorted(name for name, update in zip(script.shown, updates[:-1], strict=True) if update["visible"])
    out["details"] = {"txt2img": details(demo, script), "wiped": updates[-1]}
    out["details"]["img2img"] = details(*page(make, tab="img2img")[:2])
    out["follows hires"] = follow(demo, script, chosen, SAMPLERS[0], SAMPLERS[2])
    Path(models, "dpm_ems").mkdir(exist_ok=True)
    Path(models, "dpm_ems", "new.safetensors").touch()
    out["refreshed"] = [update["choices"] for update in answer(demo, script.shown["refresh"], "click", [])]
    with gr.Blocks():  # the API asks for the controls twice more, outside the page
        again = [c.value for c in script.ui(False)]
        script.ui(False)
    out["again"] = again == out["values"]
    out["restored"] = shown(page(make, saved=SAMPLERS[2])[1])
    out["tab"] = tab(models)
    late, other, _, chosen = page(make, first=False)
    late.config = late.get_config_file()
    out["late"] = follow(late, other, chosen[:1], SAMPLERS[2])
    out["details"]["late"] = details(late, other)
    sys.stdout.write(json.dumps(out))


def tab(models):
    """The tab, rendered into a page as A ui.py:1147 does, asked and clicked in a running server."""
    import gradio as gr
    from dpm_solver_ext.webui import buttons
    from dpm_solver_ext.webui.tab import make_tab

    made, title, name = make_tab()
    with gr.Blocks() as demo:
        with gr.Tabs(), gr.TabItem(title, id=name):
            made.render()
    config = demo.get_config_file()
    hidden = {TICK, ENDS}
    parts = [c for c in config["components"] if c["props"].get("elem_id") not in hidden]
    inputs = [c for c in parts if c["type"] in ("textbox", "slider", "dropdown", "number", "radio", "checkbox")]
    out = {
        "title": [title, name],
        "labels": [c["props"]["label"] for c in inputs],
        "infos": {c["props"]["label"]: c["props"].get("info") for c in inputs},
        "ids": [c["props"].get("elem_id") for c in inputs],
        "kept": [c.label for c in demo.blocks.values() if getattr(c, "label", None) and not getattr(c, "do_not_save_to_config", False)],
        "buttons": [c["props"]["value"] for c in config["components"] if c["type"] == "button"],
        "styles": [
            c["props"]["value"] for c in config["components"] if c["type"] == "html" and "<style>" in (c["props"].get("value") or "")
        ],
    }
    fns = demo.fns.values() if isinstance(demo.fns, dict) else demo.fns
    out["generators"] = [f.fn.__name__ for f in fns if f is not None and inspect.isgeneratorfunction(f.fn)]
    out["drawn"] = drawn(buttons, models)
    told = []

    def run(watch, do):
        """In place of a run, which needs torch: three looks, then an end."""
        watch.text = "calibration: 5 of 9 model calls"
        watch.outcome = None, "done as told"
        threading.Timer(1.5, watch.ended.set).start()
        told.append(watch.what)

    buttons.run, buttons.POLL = run, 0.05
    with contextlib.redirect_stdout(sys.stderr):
        out["looks"] = in_a_server(demo, config)
    out["told"] = told
    return out


def drawn(buttons, models):
    """What Show makes of statistics, with the Pillow of the hosts: its letters, and the picture's size and share of dark places."""
    import numpy as np
    from dpm_solver_ext.plots.sheet import _font
    from dpm_solver_ext.solvers.ems_calibrate import calibrate
    from dpm_solver_ext.solvers.ems_file import save_ems
    from dpm_solver_ext.solvers.path import VE

    made = calibrate(lambda x, s: x / (1 + s * s), VE, (4, 8, 8), sigma_max=14.6, sigma_min=0.03, samples=2, nodes=8, kind="channel")
    Path(models, "dpm_ems").mkdir(exist_ok=True)
    save_ems(made, Path(models, "dpm_ems", "猫.safetensors"))
    status, report, picture = buttons.said(buttons.inspected)("statistics for DPM-Solver-v3", "猫.safetensors")
    Path(models, "dpm_ems", "猫.safetensors").unlink()
    image = picture.get("value")
    return [status, "channel statistics" in report, type(_font(24)).__name__, list(image.shape), float(np.mean(image.min(2) < 128))]


def ids(demo, dependency):
    return [getattr(demo.blocks[number], "elem_id", None) for number in dependency["inputs"]]


def in_a_server(demo, config):
    """What two pages are told, one after the other, when Calibrate is pressed on both."""
    import gradio as gr

    demo.queue(64)  # as webui.py does
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, show_api=False)
    try:
        from gradio_client import Client

        options = {"verbose": False} if gr.__version__.startswith("4") else {"serialize": False, "verbose": False}
        (place,) = [i for i, d in enumerate(config["dependencies"]) if ids(demo, d) == [TICK, *USE, *CALIBRATION]]
        (again,) = [i for i, d in enumerate(config["dependencies"]) if ids(demo, d) == [None, TICK, ENDS]]
        values = [0, "a lighthouse", *(demo.blocks[n].value for n in config["dependencies"][place]["inputs"][2:])]
        pages = [Client(url, **options) for _ in range(2)]
        told = [[page.predict(*values, fn_index=place)] for page in pages]
        for page, looks in zip(pages, told, strict=True):  # as a page does: whenever tick is another, a look
            while isinstance(looks[-1][0], (int, float)):
                looks.append(page.predict(looks[-1][0], 0, fn_index=again))
        return [[status for _, _, status, *_ in looks[:-1]] for looks in told]
    finally:
        demo.close()


def answer(demo, component, event, values):
    """What the server answers to an event of the page. gradio 3 lists functions by place, gradio 4 by number."""
    for place, dependency in enumerate(demo.config["dependencies"]):
        new = "trigger" not in dependency
        if [component._id, event] in (
            [list(t) for t in dependency["targets"]] if new else [[t, dependency["trigger"]] for t in dependency["targets"]]
        ):
            found = demo.fns[dependency["id"] if new else place].fn(*values)
            return found if isinstance(found, list) else [found]
    raise LookupError(f"{component} has no {event}")


def follow(demo, script, chosen, *names):
    updates = answer(demo, chosen[0], "change", ["off", *names])
    return sorted(name for name, update in zip(script.shown, updates[:-1], strict=True) if update["visible"])


def details(demo, script):
    """[events of the button for schedule details, what they read by elem_id, their output's, the answer without a host to ask]."""
    config = demo.config = demo.get_config_file()
    clicks = [
        d
        for d in config["dependencies"]
        if any(script.shown["details"]._id == (t[0] if isinstance(t, (list, tuple)) else t) for t in d["targets"])
    ]
    read = ids(demo, clicks[0])
    answered = answer(demo, script.shown["details"], "click", [demo.blocks[number].value for number in clicks[0]["inputs"]])
    return [len(clicks), read, [demo.blocks[number].elem_id for number in clicks[0]["outputs"]], answered]


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main(sys.argv[1])
