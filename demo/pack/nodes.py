"""Nodes of the emoji demo (V3)."""

from __future__ import annotations

import comfy.model_management
import torch
from comfy_api.latest import ComfyExtension, io

from . import model

CATEGORY = "DPM-Solver (ext)/emoji demo"
ANYTHING = "(anything)"  # the unconditional label, for the negative input


class EmojiDemoModel(io.ComfyNode):
    """Loads the model that comes with the demo."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmojiDemoModel",
            display_name="Load Emoji Model (demo)",
            category=CATEGORY,
            description="A class-conditional diffusion model of 32x32 emoji (1.75 M parameters) on the noise levels of Stable Diffusion.",
            inputs=[],
            outputs=[io.Model.Output(display_name="model", tooltip="An epsilon-prediction model for any sampler and scheduler.")],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(model.build())


class EmojiDemoPrompt(io.ComfyNode):
    """A kind of emoji as CONDITIONING: (1, 1, classes + 1) weights, so that the host's nodes that average conditionings blend kinds."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmojiDemoPrompt",
            display_name="Emoji Prompt (demo)",
            category=CATEGORY,
            description="What to paint. Use (anything) for the negative input; ConditioningAverage blends two kinds.",
            inputs=[
                io.Combo.Input(
                    "subgroup",
                    options=[*model.CLASSES, ANYTHING],
                    default="food-fruit",
                    tooltip="The Unicode subgroup the emoji shall belong to; (anything) leaves it open.",
                )
            ],
            outputs=[io.Conditioning.Output(display_name="conditioning", tooltip="For the positive or negative input of a sampler.")],
        )

    @classmethod
    def execute(cls, subgroup: str) -> io.NodeOutput:
        weights = torch.zeros(1, 1, len(model.CLASSES) + 1)
        weights[..., model.UNCONDITIONAL if subgroup == ANYTHING else model.CLASSES.index(subgroup)] = 1.0
        return io.NodeOutput([[weights, {}]])


class EmojiDemoLatent(io.ComfyNode):
    """An empty latent of the demo model's size."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmojiDemoLatent",
            display_name="Empty Emoji Latent (demo)",
            category=CATEGORY,
            description="Where sampling starts: latents of three channels, one per pixel.",
            inputs=[
                io.Int.Input(
                    "width", default=32, min=16, max=256, step=4, tooltip="Pixels. The model knows 32; other sizes give odd pictures."
                ),
                io.Int.Input(
                    "height", default=32, min=16, max=256, step=4, tooltip="Pixels. The model knows 32; other sizes give odd pictures."
                ),
                io.Int.Input("batch_size", default=4, min=1, max=256, tooltip="How many emoji to paint at once."),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="Zeros, which the host takes for an empty picture.")],
        )

    @classmethod
    def execute(cls, width: int, height: int, batch_size: int) -> io.NodeOutput:
        zeros = torch.zeros(batch_size, 3, height, width, device=comfy.model_management.intermediate_device())
        return io.NodeOutput({"samples": zeros})


class EmojiDemoEncode(io.ComfyNode):
    """A picture as a latent, for image to image and inpainting."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmojiDemoEncode",
            display_name="Emoji Encode (demo)",
            category=CATEGORY,
            description="Shrinks a picture to the demo model's size; with denoise below 1 the sampler starts from it.",
            inputs=[
                io.Image.Input("image", tooltip="Any picture; it is averaged down, its aspect ratio is not kept."),
                io.Int.Input("size", default=32, min=16, max=256, step=4, tooltip="Pixels on a side. The model knows 32."),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="The picture, for the latent input of a sampler.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, size: int) -> io.NodeOutput:
        pixels = image[..., :3].movedim(-1, 1) * 2 - 1
        pixels = torch.nn.functional.interpolate(pixels, size=(size, size), mode="area")
        return io.NodeOutput({"samples": pixels})


class EmojiDemoDecode(io.ComfyNode):
    """A latent of the demo model as pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmojiDemoDecode",
            display_name="Emoji Decode (demo)",
            category=CATEGORY,
            description="Turns the sampler's latent into pictures, enlarged without smoothing.",
            inputs=[
                io.Latent.Input("samples", tooltip="The latent that a sampler gave with the emoji model."),
                io.Int.Input("scale", default=8, min=1, max=32, tooltip="How many pixels of the picture one pixel of the model becomes."),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="RGB pictures in 0..1.")],
        )

    @classmethod
    def execute(cls, samples: dict, scale: int) -> io.NodeOutput:
        pixels = ((samples["samples"].float() + 1) / 2).clamp(0, 1)
        pixels = pixels.repeat_interleave(scale, dim=-1).repeat_interleave(scale, dim=-2)
        return io.NodeOutput(pixels.movedim(1, -1))


class EmojiDemoExtension(ComfyExtension):
    """What the host asks for the list of nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [EmojiDemoModel, EmojiDemoPrompt, EmojiDemoLatent, EmojiDemoEncode, EmojiDemoDecode]


async def comfy_entrypoint() -> EmojiDemoExtension:
    return EmojiDemoExtension()
