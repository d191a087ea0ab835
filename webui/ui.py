"""The accordion: a script of the host that is always there, whose controls are the options."""

from typing import Any

import gradio as gr
from gradio.context import Context

from . import files, infotext
from .entries import BY_NAME as ENTRY
from .options import ATTRIBUTE, FILES, OPTIONS, given

TITLE = "DPM-Solver (ext)"
SAMPLER_IDS = ("txt2img_sampling", "img2img_sampling", "hr_sampler")  # elem_ids of the host's choices of a sampler
HINT = "<p>Choose a sampler whose name ends in (ext); its options appear here.</p>"


def visible(thresholding: Any, *samplers: Any) -> dict[str, bool]:
    """{option name, "hint", "refresh": whether it is shown} with this choice of thresholding and these samplers, of the first pass and of
    the hires fix."""
    chosen = [ENTRY[name] for name in samplers if isinstance(name, str) and name in ENTRY]
    acts = {option.name: any(option.acts(entry, thresholding) for entry in chosen) for option in OPTIONS}
    return {"hint": not chosen, **acts, "refresh": any(acts[name] for name in FILES)}


def make_script(base: Any, always: Any) -> Any:
    """Our script, made from the host's class `base`; `always` is what its `show` returns for scripts that need not be chosen."""

    class DPMSolverExt(base):
        """One of the WebUI's two tabs; the host makes one for each."""

        def __init__(self):
            self.samplers: list[Any] = []  # the host's choices of a sampler that this tab has
            self.shown: dict[str, Any] = {}  # our components, by the names of `visible`

        def title(self):
            return TITLE

        def show(self, is_img2img):
            return always

        def after_component(self, component, **kwargs):
            """The host calls it for every component of this tab. Its samplers come before the scripts unless the user has moved them."""
            if getattr(component, "elem_id", None) in SAMPLER_IDS and component not in self.samplers:
                self.samplers.append(component)
                if self.shown and len(self.samplers) == 1:
                    self._follow()

        def ui(self, is_img2img):
            """The controls, in the order of `OPTIONS`. Called more often than shown: the API asks for default values by it."""
            on = visible("off", *(sampler.value for sampler in self.samplers))
            with gr.Accordion(TITLE, open=False, elem_id=self.elem_id("accordion")):
                self.shown = {"hint": gr.HTML(HINT, visible=on["hint"])}
                controls = [_control(self, option, on[option.name]) for option in OPTIONS]
                self.shown |= {option.name: control for option, control in zip(OPTIONS, controls, strict=True)}
                button = gr.Button("Refresh the lists of files", visible=on["refresh"], elem_id=self.elem_id("refresh"))
                button.click(
                    fn=lambda: [gr.update(choices=files.names(name)) for name in FILES],
                    inputs=[],
                    outputs=[self.shown[name] for name in FILES],
                )
                self.shown["refresh"] = button
            self._follow()
            self.infotext_fields = [(control, option.key) for control, option in zip(controls, OPTIONS, strict=True)]
            self.paste_field_names = [option.key for option in OPTIONS]
            return controls

        def _follow(self):
            """Let what is shown follow the chosen samplers and thresholding, also those that the host restores from its saved defaults."""
            here = Context.root_block
            samplers = [s for s in self.samplers if here is not None and s._id in here.blocks]  # none of them, when the API asks
            shown = dict(self.shown)
            choices = [shown["thresholding"], *samplers]

            def changed(*names):
                on = visible(*names)
                return [gr.update(visible=on[name]) for name in shown]

            def restored(_value):  # the host calls it with the default that it restores, before the page is made
                on = visible(*(choice.value for choice in choices))
                for name, component in shown.items():
                    component.visible = on[name]

            for choice in choices if samplers else ():
                choice.change(fn=changed, inputs=choices, outputs=list(shown.values()), show_progress="hidden")
                if not hasattr(choice, "init_field"):
                    choice.init_field = restored

        def process(self, p, *args):
            """Hand the values to the run. The host swallows errors here; `options_of` checks them where it shows them."""
            infotext.forget(p)
            setattr(p, ATTRIBUTE, given(args))

    return DPMSolverExt


def _control(script: Any, option: Any, shown: bool) -> Any:
    common = {"label": option.label, "info": option.info, "elem_id": script.elem_id(option.name), "visible": shown}
    if option.name in FILES:  # a pasted name of a file that is not here stays to be seen, and the run says so
        return gr.Dropdown(choices=files.names(option.name), value=option.default, allow_custom_value=True, **common)
    if option.choices:
        return gr.Dropdown(choices=list(option.choices), value=option.default, **common)
    return gr.Slider(minimum=option.least, maximum=option.most, step=option.step, value=option.default, **common)
