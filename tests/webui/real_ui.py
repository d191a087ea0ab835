"""Run by test_real.py in a venv with a host's gradio: our accordion made, saved, pasted into and asked by the host's own files.

    GRADIO_PYTHON tests/webui/real_ui.py CHECKOUT FOLDER

The host's script loader, script runner, infotext and saved defaults (`OWN`) are its own; the rest is stand-ins. Without torch the samplers
and schedule types cannot be added: the rest must work all the same. Prints one JSON object.
"""

import importlib
import json
import logging
import sys
import types
from pathlib import Path

from standins import Opts, StandIns  # run as a script: the folder is on sys.path

OWN = (
    "scripts",
    "script_loading",
    "script_callbacks",
    "infotext_utils",
    "infotext_versions",
    "ui_loadsave",
    "ui_components",
    "util",
    "api",
    "api.api",
)
SAMPLERS = ["DPM++ 2M", "DPM-Solver++ 2M (ext)", "DPM-Solver++ 2M SDE (ext)"]
PICTURE = """a lighthouse
Negative prompt: fog
Steps: 20, Sampler: DPM-Solver++ 2M SDE (ext), Schedule type: Karras, CFG scale: 7.0, Seed: 5, Size: 512x512, DPM-Solver ext: 0.1.0, \
DPM-Solver solver type: taylor, DPM-Solver eta: 0.35, DPM-Solver statistics: "a friend, his.safetensors", Version: 1.10.1"""


def start(checkout, folder):
    sys.path.insert(0, str(checkout))
    sys.meta_path.insert(0, StandIns(checkout, OWN, ("modules", "modules_forge", "backend", "ldm_patched", "piexif")))
    import modules

    shared = modules.shared = importlib.import_module("modules.shared")
    shared.opts = Opts(infotext_styles="Ignore", infotext_skip_pasting=[], data_labels={})
    shared.cmd_opts = Opts(no_prompt_history=True)
    paths = importlib.import_module("modules.paths")
    paths.script_path = paths.data_path = paths.models_path = str(folder)
    importlib.import_module("modules.paths_internal").script_path = str(folder)
    importlib.import_module("modules.paths_internal").cwd = str(folder)
    importlib.import_module("modules.timer").startup_timer = types.SimpleNamespace(record=lambda *args: None)
    reports = []
    errors = importlib.import_module("modules.errors")
    errors.report = lambda text, **more: reports.append(f"{text}: {sys.exc_info()[1]}")
    errors.display = lambda error, text: reports.append(f"{text}: {error}")
    importlib.import_module("modules.prompt_parser").parse_prompt_attention = lambda text: []
    extensions = importlib.import_module("modules.extensions")
    extensions.find_extension = lambda path: None

    def list_files(name, ending):
        scripts = importlib.import_module("modules.scripts")
        return [scripts.ScriptFile(str(root), f.name, str(f)) for f in (root / name).glob("*" + ending)]

    root = Path(__file__).resolve().parents[2]
    metadata = types.SimpleNamespace(get_script_requirements=lambda *args: [])
    ours = types.SimpleNamespace(
        canonical_name="dpm-solver-ext", is_builtin=False, path=str(root), list_files=list_files, metadata=metadata
    )
    extensions.extensions, extensions.active = [], lambda: [ours]
    models = importlib.import_module("modules.api.models")
    for name in ("ScriptArg", "ScriptInfo"):
        setattr(models, name, type(name, (types.SimpleNamespace,), {}))
    importlib.import_module("modules.scripts_auto_postprocessing").create_auto_preprocessing_script_data = lambda: []
    post = importlib.import_module("modules.scripts_postprocessing")
    post.ScriptPostprocessing, post.ScriptPostprocessingRunner = type("ScriptPostprocessing", (), {}), type("Runner", (), {})
    return reports


def page(runner, infotext, saved):
    """A tab as modules/ui.py makes it."""
    import gradio as gr

    runner.initialize_scripts(False)
    with gr.Blocks() as demo:
        runner.prepare_ui()
        for component in (
            gr.Dropdown(SAMPLERS, value=SAMPLERS[0], label="Sampling method", elem_id="txt2img_sampling"),
            gr.Dropdown(["Use same sampler", *SAMPLERS], value="Use same sampler", label="Hires sampling method", elem_id="hr_sampler"),
        ):
            runner.after_component(component, elem_id=component.elem_id)
        runner.setup_ui()
        prompt, button = gr.Textbox(label="Prompt"), gr.Button("Paste")
        fields = [(prompt, "Prompt"), *runner.infotext_fields]
        infotext.add_paste_fields("txt2img", None, fields)
        click = button.click
        pastes = []
        button.click = lambda fn=None, **more: pastes.append((fn, more)) or None
        infotext.connect_paste(button, fields, prompt, None, "txt2img")
        button.click = click
    if saved:
        load = importlib.import_module("modules.ui_loadsave").UiLoadsave(saved)
        load.add_block(demo, "txt2img")
        load.dump_defaults()
    return pastes[0][0], fields


def api_answers(runner, option_class):
    """What the host's API makes of our exception, of our controls and of an infotext."""
    from fastapi import FastAPI
    from fastapi.testclient import TestClient
    from pydantic import BaseModel

    api = importlib.import_module("modules.api.api")
    app = FastAPI()
    api.api_middleware(app)

    @app.post("/sdapi/v1/txt2img")
    def txt2img():
        raise option_class("eta is -1; type a number from 0 to 2, 1 as a rule.")

    answer = TestClient(app, raise_server_exceptions=False).post("/sdapi/v1/txt2img")

    class Request(BaseModel):
        infotext: str
        override_settings: dict = {}

    script = runner.alwayson_scripts[0]
    found = {}
    api.Api.apply_infotext(None, Request(infotext=PICTURE), "txt2img", script_runner=runner, mentioned_script_args=found)
    defaults = api.Api.init_default_script_args(None, runner)
    return {
        "status": answer.status_code, "body": answer.json(), "defaults": defaults[script.args_from : script.args_to],
        "from infotext": {i - script.args_from: value for i, value in found.items()},
    }  # fmt: skip


def main(checkout, folder):
    reports = start(Path(checkout), Path(folder))
    import gradio as gr

    scripts, infotext = importlib.import_module("modules.scripts"), importlib.import_module("modules.infotext_utils")
    importlib.import_module("modules.ui")
    said = []
    logging.getLogger("dpm_solver_ext").addHandler(
        type("Keep", (logging.Handler,), {"emit": lambda self, r: said.append(r.getMessage())})()
    )
    logging.getLogger("dpm_solver_ext").propagate = False
    for _ in range(2):  # Reload UI
        said.clear()
        scripts.load_scripts()
    runner = scripts.scripts_txt2img
    paste, fields = page(runner, infotext, None)
    script = runner.alwayson_scripts[0]
    options = sys.modules["dpm_solver_ext.webui.options"].OPTIONS
    out = {"gradio": gr.__version__, "said": said, "scripts": [s.title() for s in runner.alwayson_scripts], "name": script.name}
    out["arguments"] = [[a.label, getattr(a, "value", None)] for a in script.api_info.args]
    out["places"] = [script.args_to - script.args_from, len(runner.inputs) - script.args_from]
    out["paste names"] = runner.paste_field_names == [option.key for option in options]
    for name, text in (("pasted", PICTURE), ("pasted other", "a cat\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 5, Size: 512x512")):
        answer = dict(zip([key for _, key in fields], paste(text), strict=True))
        out[name] = {option.name: answer[option.key].get("value", "unchanged") for option in options}

    class P:
        script_args = [0, *(option.default for option in options)]
        extra_generation_params = {"DPM-Solver eta": 0.1}

    p = P()
    p.script_args = (0,) * script.args_from + (*P.script_args[1:],)
    runner.process(p)
    out["processed"], out["cleared"] = p.dpm_solver_ext, p.extra_generation_params
    out["api"] = api_answers(runner, sys.modules["dpm_solver_ext.webui.options"].BadOption)
    saved = Path(folder) / "ui-config.json"
    page(scripts.ScriptRunner(), infotext, str(saved))
    config = json.loads(saved.read_text())
    key = next(k for k in config if k.endswith("Sampling method/value"))
    eta = next(k for k in config if "Fresh noise" in k and k.endswith("/value"))
    saved.write_text(json.dumps({**config, key: SAMPLERS[2], eta: 0.25}))
    again = scripts.ScriptRunner()
    page(again, infotext, str(saved))
    shown = again.alwayson_scripts[0].shown
    out["restored"] = sorted(name for name, component in shown.items() if component.visible)
    out["restored eta"] = shown["eta"].value
    out["config"] = sorted(k.rpartition("/")[0] for k in config if k.startswith("customscript/dpm_solver_ext.py/") and k.endswith("/value"))
    out["reports"] = reports
    sys.stdout.write(json.dumps(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
