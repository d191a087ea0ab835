"""The accordion: a script of the host that is always there, whose controls are the options."""

import contextlib
from typing import Any

import gradio as gr
from gradio.context import Context

from . import files, infotext
from .details import STYLE, part_of, told
from .entries import BY_NAME as ENTRY
from .options import ATTRIBUTE, FILES, OPTIONS, BadOption, given, options_of

TITLE = "DPM-Solver (ext)"
BUTTONS = {"details": "Show schedule details", "refresh": "Refresh the lists of files"}
HINT = "<p>Choose a sampler whose name ends in (ext); its options appear here.</p>"


def visible(thresholding: Any, *samplers: Any) -> dict[str, bool]:
    """{option name, "hint", "refresh", "details": whether it is shown} with this choice of thresholding and these samplers, of the first
    pass and of the hires fix."""
    chosen = [ENTRY[name] for name in samplers if isinstance(name, str) and name in ENTRY]
    acts = {option.name: any(option.acts(entry, thresholding) for entry in chosen) for option in OPTIONS}
    return {"hint": not chosen, **acts, "refresh": any(acts[name] for name in FILES), "details": bool(chosen)}


def make_script(base: Any, always: Any, version: str) -> Any:
    """Our script, made from the host's class `base`; `always` is what its `show` returns for scripts that need not be chosen; our
    `version` goes into the infotext."""

    class DPMSolverExt(base):
        """One of the WebUI's two tabs; the host makes one for each."""

        def __init__(self):
            self.parts: dict[str, Any] = {}  # the host's components of this tab that `details` reads, by its names
            self.samplers: list[Any] = []  # those of them that choose a sampler
            self.shown: dict[str, Any] = {}  # our components, by the names of `visible`
            self.asked = False  # whether the button for details has its event

        def title(self):
            return TITLE

        def show(self, is_img2img):
            return always

        def after_component(self, component, **kwargs):
            """The host calls it for every component of this tab. Its own come before the scripts unless the user has moved them."""
            part = part_of(getattr(component, "elem_id", None), "img2img" if self.is_img2img else "txt2img")
            if part is None or part in self.parts:
                return
            self.parts[part] = component
            if part in ("sampler", "hr_sampler"):
                self.samplers.append(component)
                if self.shown and len(self.samplers) == 1:
                    self._follow()
            if self.shown:
                self._ask()

        def ui(self, is_img2img):
            """The controls, in the order of `OPTIONS`. Called more often than shown: the API asks for default values by it."""
            on = visible("off", *(sampler.value for sampler in self.samplers))
            with gr.Accordion(TITLE, open=False, elem_id=self.elem_id("accordion")):
                self.shown = {"hint": gr.HTML(HINT, visible=on["hint"])}
                controls = [_control(self, option, on[option.name]) for option in OPTIONS]
                self.shown |= {option.name: control for option, control in zip(OPTIONS, controls, strict=True)}
                # a host puts scripts into a group, which leaves no gap between buttons and what is above them
                gr.HTML(f"<style>{STYLE} #{self.elem_id('buttons')} {{ --layout-gap: 8px; gap: 8px; margin-top: 8px }}</style>")
                with gr.Row(elem_id=self.elem_id("buttons")):
                    for name, words in BUTTONS.items():
                        self.shown[name] = gr.Button(words, visible=on[name], elem_id=self.elem_id(name))
                self.shown["refresh"].click(
                    fn=lambda: [gr.update(choices=files.names(name)) for name in FILES],
                    inputs=[],
                    outputs=[self.shown[name] for name in FILES],
                )
                self.told, self.asked = gr.HTML("", elem_id=self.elem_id("told")), False
            self._follow()
            self._ask()
            self.infotext_fields = [(control, option.key) for control, option in zip(controls, OPTIONS, strict=True)]
            self.paste_field_names = [option.key for option in OPTIONS]
            return controls

        def _follow(self):
            """Let what is shown follow the chosen samplers and thresholding, also those that the host restores from its saved defaults."""
            samplers = [sampler for sampler in self.samplers if _on_this_page(sampler)]
            shown = dict(self.shown)
            choices = [shown["thresholding"], *samplers]

            def changed(*names):
                on = visible(*names)
                return [*(gr.update(visible=on[name]) for name in shown), ""]

            def restored(_value):  # the host calls it with the default that it restores, before the page is made
                on = visible(*(choice.value for choice in choices))
                for name, component in shown.items():
                    component.visible = on[name]

            for choice in choices if samplers else ():
                choice.change(fn=changed, inputs=choices, outputs=[*shown.values(), self.told], show_progress="hidden")
                if not hasattr(choice, "init_field"):
                    choice.init_field = restored

        def _ask(self):
            """Give the button for details its event, once what it must read is on the page; what else is there by then it reads too."""
            parts = {name: part for name, part in self.parts.items() if _on_this_page(part)}
            needed = ("sampler", "steps", *["scheduler"] * _has_schedule_types(), *["strength"] * bool(self.is_img2img))
            if self.asked or not all(name in parts for name in needed):
                return
            img2img, names, count, self.asked = bool(self.is_img2img), tuple(parts), len(parts), True

            def details(*values):
                return told(img2img, dict(zip(names, values, strict=False)), values[count:])

            options = [self.shown[option.name] for option in OPTIONS]
            self.shown["details"].click(fn=details, inputs=[*parts.values(), *options], outputs=[self.told])

        def process(self, p, *args):
            """Hand the values to the run. The host swallows errors here; `options_of` checks them where it shows them.

            The infotext is written here for the host's params.txt, from which the paste arrow reads and which is made before sampling; by
            the sampler again when it runs.
            """
            infotext.forget(p)
            setattr(p, ATTRIBUTE, given(args))
            if (entry := ENTRY.get(getattr(p, "sampler_name", None))) is not None:
                with contextlib.suppress(BadOption):  # the sampler says it, where the user sees it
                    infotext.write(p, version, options_of(p, entry))

    return DPMSolverExt


def _on_this_page(component: Any) -> bool:
    """Not so of the page's own when the API asks for our controls: it does that outside of the page."""
    here = Context.root_block
    return here is not None and component._id in here.blocks


def _has_schedule_types() -> bool:
    try:
        from modules import sd_schedulers  # noqa: F401 - the host's; older ones have none
    except ImportError:
        return False
    return True


def _control(script: Any, option: Any, shown: bool) -> Any:
    common = {"label": option.label, "info": option.info, "elem_id": script.elem_id(option.name), "visible": shown}
    if option.name in FILES:  # a pasted name of a file that is not here stays to be seen, and the run says so
        return gr.Dropdown(choices=files.names(option.name), value=option.default, allow_custom_value=True, **common)
    if option.choices:
        return gr.Dropdown(choices=list(option.choices), value=option.default, **common)
    return gr.Slider(minimum=option.least, maximum=option.most, step=option.step, value=option.default, **common)
