"""The analytic model as nodes of a small pack for the server tests; the `server` fixture copies this beside analytic.py.

Ids and the base class are not literal on purpose: ComfyUI-Manager's scanner reads source text, and these are not nodes of the extension.
"""

import comfy.sample
import torch
from comfy_api.latest import ComfyExtension
from comfy_api.latest import io as api

from . import analytic

Base = getattr(api, "Comfy" + "Node")
PREFIX = "Analytic"


class Model(Base):
    @classmethod
    def define_schema(cls):
        return api.Schema(
            node_id=PREFIX + "Model",
            category="tests",
            inputs=[
                api.Combo.Input("kind", options=list(analytic.KINDS)),
                api.Float.Input("delay", default=0.0, min=0.0, max=60.0, tooltip="Seconds that every model call takes longer."),
                api.Int.Input("fresh", default=0, tooltip="Any other number makes the host build a new model instead of using its cache."),
            ],
            outputs=[api.Model.Output()],
        )

    @classmethod
    def execute(cls, kind, delay, fresh):
        patcher = analytic.build(kind)
        analytic.network(patcher).delay = delay
        return api.NodeOutput(patcher)


class Cond(Base):
    @classmethod
    def define_schema(cls):
        return api.Schema(
            node_id=PREFIX + "Cond", category="tests",
            inputs=[api.Float.Input("mu", default=0.75, min=-10.0, max=10.0)], outputs=[api.Conditioning.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, mu):
        return api.NodeOutput(analytic.cond(mu))


class Sigmas(Base):
    @classmethod
    def define_schema(cls):
        return api.Schema(
            node_id=PREFIX + "Sigmas", category="tests",
            inputs=[api.String.Input("text", default="10, 1, 0")], outputs=[api.Sigmas.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, text):
        return api.NodeOutput(torch.tensor([float(v) for v in text.split(",")]))


class Check(Base):
    """Puts into the history how far the latent is from the exact end of a run from `seed`'s noise to 0, and the sigmas of the calls."""

    @classmethod
    def define_schema(cls):
        return api.Schema(
            node_id=PREFIX + "Check",
            category="tests",
            is_output_node=True,
            inputs=[
                api.Model.Input("model"),
                api.Latent.Input("samples"),
                api.Int.Input("seed", default=0),
                api.Float.Input("cfg", default=1.0),
            ],
            outputs=[],
        )

    @classmethod
    def execute(cls, model, samples, seed, cfg):
        out, calls = samples["samples"], analytic.network(model).calls
        noise = comfy.sample.prepare_noise(torch.zeros_like(out), seed)
        sigmas = torch.tensor([calls[0]["sigma"], 0.0])
        rms = analytic.error(model, out, sigmas, noise, cfg=cfg)
        return api.NodeOutput(ui={"report": [{"rms": rms, "sigmas": [c["sigma"] for c in calls], "shape": list(out.shape)}]})


class Extension(ComfyExtension):
    async def get_node_list(self):
        return [Model, Cond, Sigmas, Check]


async def comfy_entrypoint():
    return Extension()
