"""Write the workflow templates: those of the extension (for any checkpoint) and those of the demo (for the emoji model).

    python demo/templates.py

The pictures of the same names are painted by demo/thumbnails.py.
A template is listed by ComfyUI under the pack that has it in `example_workflows/`. The extension's own use nothing but ComfyUI's
nodes and ours; the demo's need the emoji pack and therefore lie in its folder.
"""

from __future__ import annotations

import json
import uuid
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXTENSION, EMOJI = HERE.parent / "example_workflows", HERE / "pack" / "example_workflows"
# Name and type of the sockets of every node in use: (inputs that are links, outputs).
SOCKETS = {
    "CheckpointLoaderSimple": ([], [("MODEL", "MODEL"), ("CLIP", "CLIP"), ("VAE", "VAE")]),
    "CLIPTextEncode": ([("clip", "CLIP")], [("CONDITIONING", "CONDITIONING")]),
    "EmptyLatentImage": ([], [("LATENT", "LATENT")]),
    "KSampler": (
        [("model", "MODEL"), ("positive", "CONDITIONING"), ("negative", "CONDITIONING"), ("latent_image", "LATENT")],
        [("LATENT", "LATENT")],
    ),
    "SamplerCustom": (
        [
            ("model", "MODEL"),
            ("positive", "CONDITIONING"),
            ("negative", "CONDITIONING"),
            ("sampler", "SAMPLER"),
            ("sigmas", "SIGMAS"),
            ("latent_image", "LATENT"),
        ],
        [("output", "LATENT"), ("denoised_output", "LATENT")],
    ),
    "VAEDecode": ([("samples", "LATENT"), ("vae", "VAE")], [("IMAGE", "IMAGE")]),
    "VAEEncode": ([("pixels", "IMAGE"), ("vae", "VAE")], [("LATENT", "LATENT")]),
    "LoadImage": ([], [("IMAGE", "IMAGE"), ("MASK", "MASK")]),
    "SetLatentNoiseMask": ([("samples", "LATENT"), ("mask", "MASK")], [("LATENT", "LATENT")]),
    "ImageCompositeMasked": ([("destination", "IMAGE"), ("source", "IMAGE"), ("mask", "MASK")], [("IMAGE", "IMAGE")]),
    "EmptySD3LatentImage": ([], [("LATENT", "LATENT")]),
    "ModelSamplingSD3": ([("model", "MODEL")], [("MODEL", "MODEL")]),
    "FlipSigmas": ([("sigmas", "SIGMAS")], [("SIGMAS", "SIGMAS")]),
    "SaveImage": ([("images", "IMAGE")], []),
    "PreviewImage": ([("images", "IMAGE")], []),
    "MarkdownNote": ([], []),
    "DPMSolverSamplerExt": ([("ems", "DPM_EMS")], [("sampler", "SAMPLER")]),
    "DPMSolverSamplerAdvancedExt": ([("ems", "DPM_EMS")], [("sampler", "SAMPLER")]),
    "DPMSolverCalibrateExt": (
        [("model", "MODEL"), ("positive", "CONDITIONING"), ("negative", "CONDITIONING"), ("latent_image", "LATENT")],
        [("ems", "DPM_EMS"), ("file", "STRING")],
    ),
    "DPMSolverEMSInfoExt": ([("ems", "DPM_EMS")], [("plot", "IMAGE"), ("summary", "STRING")]),
    "DPMSolverTuneScheduleExt": (
        [
            ("model", "MODEL"),
            ("positive", "CONDITIONING"),
            ("negative", "CONDITIONING"),
            ("latent_image", "LATENT"),
            ("sampler", "SAMPLER"),
            ("positive_2", "CONDITIONING"),
            ("positive_3", "CONDITIONING"),
            ("positive_4", "CONDITIONING"),
        ],
        [("sigmas", "SIGMAS"), ("sampler", "SAMPLER"), ("info", "STRING"), ("plot", "IMAGE")],
    ),
    "PreviewAny": ([("source", "*")], []),
    "DPMSolverCompareExt": (
        [
            ("model", "MODEL"),
            ("positive", "CONDITIONING"),
            ("negative", "CONDITIONING"),
            ("latent_image", "LATENT"),
            ("vae", "VAE"),
            ("sampler", "SAMPLER"),
            ("sigmas", "SIGMAS"),
        ],
        [("grid", "IMAGE"), ("images", "IMAGE"), ("table", "STRING")],
    ),
    "DPMSolverErrorCurveExt": (
        [
            ("model", "MODEL"),
            ("positive", "CONDITIONING"),
            ("negative", "CONDITIONING"),
            ("latent_image", "LATENT"),
            ("sampler", "SAMPLER"),
        ],
        [("plot", "IMAGE"), ("table", "STRING"), ("csv", "STRING")],
    ),
    "DPMSolverSchedulerExt": ([("model", "MODEL")], [("sigmas", "SIGMAS"), ("info", "STRING")]),
    "EmojiDemoModel": ([], [("model", "MODEL")]),
    "EmojiDemoPrompt": ([], [("conditioning", "CONDITIONING")]),
    "EmojiDemoLatent": ([], [("latent", "LATENT")]),
    "EmojiDemoDecode": ([("samples", "LATENT")], [("image", "IMAGE")]),
}
# Sizes of our nodes with their plots, in a preset and with the options in view, and what stands under a sampler's node.
PRESET, SCHEDULE, ADVANCED, TUNING, UNDER = (320, 270), (320, 410), (320, 640), (340, 620), 330
# Widgets in the order of the nodes' inputs; the last is DPM-Solver++(2M) SDE.
SAMPLER_WIDGETS = ["auto", "dpmsolver++", 2, "multistep", "dpmsolver", "corrected", "smooth"]
SDE_WIDGETS = [
    *("dpmsolver++", 2, "multistep", "dpmsolver", "official", "smooth", "none", 1.0, 1.0, "sde", 0.0, 0.0),
    *("off", 0.995, 1.0, 0.05, 0.0078, 0.0, 1000, 1.0, "full", "auto"),
]
V3_WIDGETS = ["dpm_solver_v3", *SAMPLER_WIDGETS[1:]]
MANUAL = "14.6, 6.5, 2.9, 1.3, 0.5, 0"


def scheduler_widgets(steps: int, final: str = "zero") -> list:
    """Those of DPM-Solver Scheduler (ext): the auto schedule."""
    return ["auto", steps, 1.0, 0.0, 0.0, MANUAL, final]


def calibrate_widgets(cfg: float, name: str) -> list:
    """Those of Calibrate DPM-Solver-v3 (ext), at their defaults but for the guidance and the file's name."""
    return [cfg, 16, 20, 1, "radial", 0, name]


def tune_widgets(cfg: float, steps: int, name: str) -> list:
    """Those of Tune Schedule (ext), at their defaults but for the guidance, the steps and the file's name."""
    return [cfg, steps, "schedule, gains and solver", 32, 0, 0, name]


class Canvas:
    """A workflow in the front end's file format, built node by node."""

    def __init__(self, name: str):
        self.name, self.nodes, self.links = name, [], []

    def add(self, kind: str, pos: tuple[int, int], size: tuple[int, int], widgets=(), title: str = "", **links) -> dict:
        """Place a node; `links` names an input and gives (node, output index)."""
        inputs, outputs = SOCKETS[kind]
        node = {
            "id": len(self.nodes) + 1,
            "type": kind,
            "pos": list(pos),
            "size": list(size),
            "flags": {},
            "order": len(self.nodes),
            "mode": 0,
            "inputs": [{"name": name, "type": of, "link": None} for name, of in inputs],
            "outputs": [{"name": name, "type": of, "links": []} for name, of in outputs],
            "properties": {} if kind == "MarkdownNote" else {"Node name for S&R": kind},
            "widgets_values": list(widgets),
        }
        if title:
            node["title"] = title
        for name, (source, slot) in links.items():
            index = [i["name"] for i in node["inputs"]].index(name)
            number = len(self.links) + 1
            self.links.append([number, source["id"], slot, node["id"], index, source["outputs"][slot]["type"]])
            node["inputs"][index]["link"] = number
            source["outputs"][slot]["links"].append(number)
        self.nodes.append(node)
        return node

    def write(self, folder: Path) -> Path:
        """Save as `folder`/`name`.json; the same template always gives the same file."""
        folder.mkdir(parents=True, exist_ok=True)
        graph = {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, "dpm-solver-ext/" + self.name)),
            "revision": 0,
            "last_node_id": len(self.nodes),
            "last_link_id": len(self.links),
            "nodes": self.nodes,
            "links": self.links,
            "groups": [],
            "config": {},
            "extra": {"ds": {"scale": 0.8, "offset": [150, 240]}},
            "version": 0.4,
        }
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(graph, indent=1) + "\n", encoding="utf-8")
        return path


def emoji_base(canvas: Canvas, note: str) -> tuple[dict, dict, dict, dict]:
    """Model, two prompts and a latent at the left; returns them."""
    model = canvas.add("EmojiDemoModel", (0, 0), (270, 60))
    positive = canvas.add("EmojiDemoPrompt", (0, 110), (270, 60), ["food-fruit"], title="Positive")
    negative = canvas.add("EmojiDemoPrompt", (0, 220), (270, 60), ["(anything)"], title="Negative")
    latent = canvas.add("EmojiDemoLatent", (0, 330), (270, 110), [32, 32, 8])
    canvas.add("MarkdownNote", (0, 490), (270, 130), [note])
    return model, positive, negative, latent


def emoji_ksampler() -> Canvas:
    canvas = Canvas("emoji_dpm_auto")
    note = (
        "The same seed and 8 steps for both samplers. At the top **dpm_auto_ext** with the scheduler of the same name; "
        "below a built-in. Change `sampler_name`, `scheduler` and `steps` and look at the details."
    )
    model, positive, negative, latent = emoji_base(canvas, note)
    for row, (sampler, scheduler) in enumerate((("dpm_auto_ext", "dpm_auto_ext"), ("euler", "normal"))):
        y = 530 * row
        widgets = [20260, "fixed", 8, 2.5, sampler, scheduler, 1.0]
        wires = {"model": (model, 0), "positive": (positive, 0), "negative": (negative, 0), "latent_image": (latent, 0)}
        sampled = canvas.add("KSampler", (330, y), (300, 480), widgets, title=f"KSampler: {sampler}", **wires)
        decoded = canvas.add("EmojiDemoDecode", (690, y), (230, 60), [8], samples=(sampled, 0))
        canvas.add("SaveImage", (980, y), (480, 480), [f"emoji_{sampler}"], images=(decoded, 0))
    return canvas


def emoji_nodes() -> Canvas:
    canvas = Canvas("emoji_dpm_nodes")
    note = (
        "**DPM-Solver Sampler (ext)** gives a SAMPLER and **DPM-Solver Scheduler (ext)** gives SIGMAS. "
        "Set `preset` to `custom` to let the widgets below it act; hover over one to read what it does."
    )
    model, positive, negative, latent = emoji_base(canvas, note)
    sampler = canvas.add("DPMSolverSamplerExt", (330, 0), PRESET, SAMPLER_WIDGETS)
    sigmas = canvas.add("DPMSolverSchedulerExt", (330, UNDER), SCHEDULE, scheduler_widgets(8), model=(model, 0))
    wires = {"model": (model, 0), "positive": (positive, 0), "negative": (negative, 0), "sampler": (sampler, 0), "sigmas": (sigmas, 0)}
    sampled = canvas.add("SamplerCustom", (710, 0), (300, 480), [True, 20260, "fixed", 2.5], latent_image=(latent, 0), **wires)
    decoded = canvas.add("EmojiDemoDecode", (1070, 0), (230, 60), [8], samples=(sampled, 0))
    canvas.add("SaveImage", (1360, 0), (480, 480), ["emoji_nodes"], images=(decoded, 0))
    return canvas


def edit(canvas: Canvas, x: int, model: dict, negative: dict, prompts: tuple[dict, dict], picture: dict, steps: int, cfg: float) -> dict:
    """Schedule, its reverse, the encoding and the decoding SamplerCustom from column x on; returns the last, whose latent is the result."""
    sampler = canvas.add("DPMSolverSamplerExt", (x, 0), PRESET, SAMPLER_WIDGETS)
    sigmas = canvas.add("DPMSolverSchedulerExt", (x, UNDER), SCHEDULE, scheduler_widgets(steps, "sigma_min"), model=(model, 0))
    flipped = canvas.add("FlipSigmas", (x, 800), (320, 40), sigmas=(sigmas, 0))
    wires = {"model": (model, 0), "negative": (negative, 0), "sampler": (sampler, 0)}
    encoded = canvas.add(
        "SamplerCustom", (x + 380, 0), (300, 280), [False, 0, "fixed", 1.0], title="Encode: picture to noise",
        positive=(prompts[0], 0), sigmas=(flipped, 0), latent_image=(picture, 0), **wires,
    )  # fmt: skip
    return canvas.add(
        "SamplerCustom", (x + 380, 330), (300, 480), [False, 0, "fixed", cfg], title="Decode: noise to the new picture",
        positive=(prompts[1], 0), sigmas=(sigmas, 0), latent_image=(encoded, 0), **wires,
    )  # fmt: skip


def emoji_edit() -> Canvas:
    canvas = Canvas("emoji_dpm_edit")
    note = (
        "Hearts become fruit. They are painted, **encoded** as noise under their own prompt (rising sigmas, no noise added, cfg 1), "
        "and decoded under another prompt. With the same prompt and cfg 1 they come back as they were."
    )
    model, positive, negative, latent = emoji_base(canvas, note)
    positive["widgets_values"] = ["heart"]
    other = canvas.add("EmojiDemoPrompt", (0, 670), (270, 60), ["food-fruit"], title="Positive of the new picture")
    wires = {"model": (model, 0), "positive": (positive, 0), "negative": (negative, 0), "latent_image": (latent, 0)}
    painted = canvas.add("KSampler", (330, 0), (300, 280), [20260, "fixed", 16, 2.5, "dpm_auto_ext", "dpm_auto_ext", 1.0], **wires)
    shown = canvas.add("EmojiDemoDecode", (330, 330), (230, 60), [8], samples=(painted, 0))
    canvas.add("PreviewImage", (330, 440), (300, 300), images=(shown, 0))
    result = edit(canvas, 690, model, negative, (positive, other), painted, 20, 2.0)
    decoded = canvas.add("EmojiDemoDecode", (1430, 0), (230, 60), [8], samples=(result, 0))
    canvas.add("SaveImage", (1430, 110), (480, 480), ["emoji_edit"], images=(decoded, 0))
    return canvas


def v3(canvas: Canvas, x: int, base: tuple[dict, dict, dict, dict], steps: int, cfg: float) -> dict:
    """From column x on: calibration, its picture, and the SamplerCustom that samples with it, which is returned."""
    model, positive, negative, latent = base
    wires = {"model": (model, 0), "positive": (positive, 0), "negative": (negative, 0), "latent_image": (latent, 0)}
    measured = canvas.add("DPMSolverCalibrateExt", (x, 0), (320, 290), calibrate_widgets(cfg, canvas.name), **wires)
    info = canvas.add("DPMSolverEMSInfoExt", (x, 390), (320, 50), ems=(measured, 0))
    canvas.add("PreviewImage", (x, 800), (700, 590), title="The statistics", images=(info, 0))
    canvas.add("PreviewAny", (x + 760, 800), (300, 590), title="What they were made for", source=(info, 1))
    sampler = canvas.add("DPMSolverSamplerExt", (x + 380, 0), PRESET, V3_WIDGETS, ems=(measured, 0))
    sigmas = canvas.add("DPMSolverSchedulerExt", (x + 380, UNDER), SCHEDULE, scheduler_widgets(steps), model=(model, 0))
    return canvas.add(
        "SamplerCustom", (x + 760, 0), (300, 480), [True, 20260, "fixed", cfg], sampler=(sampler, 0), sigmas=(sigmas, 0), **wires
    )


def tuned(canvas: Canvas, x: int, base: tuple[dict, dict, dict, dict], steps: int, cfg: float) -> dict:
    """From column x on: a sampler, the tuning of its steps, its picture, and the SamplerCustom that uses them, which is returned."""
    model, positive, negative, latent = base
    wires = {"model": (model, 0), "positive": (positive, 0), "negative": (negative, 0), "latent_image": (latent, 0)}
    sampler = canvas.add("DPMSolverSamplerExt", (x, 0), PRESET, ["dpmpp_2m", *SAMPLER_WIDGETS[1:]])
    found = canvas.add(
        "DPMSolverTuneScheduleExt", (x + 380, 0), TUNING, tune_widgets(cfg, steps, canvas.name), sampler=(sampler, 0), **wires
    )
    canvas.add("PreviewImage", (x, 680), (700, 420), title="The steps", images=(found, 3))
    canvas.add("PreviewAny", (x + 780, 680), (320, 420), title="What was gained", source=(found, 2))
    return canvas.add(
        "SamplerCustom", (x + 780, 0), (300, 480), [True, 20260, "fixed", cfg], sampler=(found, 1), sigmas=(found, 0), **wires
    )


def emoji_tuned() -> Canvas:
    canvas = Canvas("emoji_dpm_tuned")
    note = (
        "**Tune Schedule** finds the best 6 steps for this model, kind of emoji and CFG (two to four minutes on a CPU), saves them under "
        "`models/dpm_tuned`, and costs nothing the next time. Cancel keeps what is measured."
    )
    base = emoji_base(canvas, note)
    sampled = tuned(canvas, 330, base, 6, 2.5)
    decoded = canvas.add("EmojiDemoDecode", (1470, 0), (230, 60), [8], samples=(sampled, 0))
    canvas.add("SaveImage", (1470, 110), (480, 480), ["emoji_tuned"], images=(decoded, 0))
    return canvas


def emoji_v3() -> Canvas:
    canvas = Canvas("emoji_dpm_v3")
    note = (
        "**Calibrate** measures the model once (half a minute on a CPU), saves the statistics under `models/dpm_ems`, and costs nothing "
        "the next time. **dpm_solver_v3** then paints with them, here in 6 steps. Cancel keeps what is measured."
    )
    base = emoji_base(canvas, note)
    sampled = v3(canvas, 330, base, 6, 2.5)
    decoded = canvas.add("EmojiDemoDecode", (1450, 0), (230, 60), [8], samples=(sampled, 0))
    canvas.add("SaveImage", (1450, 110), (480, 480), ["emoji_v3"], images=(decoded, 0))
    return canvas


def checkpoint_base(canvas: Canvas, note: str, empty: bool = True) -> tuple[dict, dict, dict, dict]:
    """Checkpoint, two prompts and, if `empty`, a latent of any Stable Diffusion model."""
    loader = canvas.add("CheckpointLoaderSimple", (0, 0), (320, 100), ["v1-5-pruned-emaonly.safetensors"])
    text = "a lighthouse on a cliff at sunset, oil painting"
    positive = canvas.add("CLIPTextEncode", (380, 0), (320, 130), [text], title="Positive", clip=(loader, 1))
    negative = canvas.add("CLIPTextEncode", (380, 180), (320, 130), ["blurry, text"], title="Negative", clip=(loader, 1))
    latent = canvas.add("EmptyLatentImage", (380, 360), (320, 110), [512, 512, 1]) if empty else {}
    canvas.add("MarkdownNote", (0, 360), (320, 110), [note])
    return loader, positive, negative, latent


def checkpoint_ksampler() -> Canvas:
    canvas = Canvas("dpm_auto")
    note = "Choose your checkpoint. **dpm_auto_ext** is the default of this pack, as sampler and as scheduler; start with 12 to 20 steps."
    loader, positive, negative, latent = checkpoint_base(canvas, note)
    wires = {"model": (loader, 0), "positive": (positive, 0), "negative": (negative, 0), "latent_image": (latent, 0)}
    sampled = canvas.add("KSampler", (760, 0), (320, 480), [20260, "fixed", 14, 7.0, "dpm_auto_ext", "dpm_auto_ext", 1.0], **wires)
    decoded = canvas.add("VAEDecode", (1140, 0), (210, 50), samples=(sampled, 0), vae=(loader, 2))
    canvas.add("SaveImage", (1410, 0), (480, 480), ["dpm_auto"], images=(decoded, 0))
    return canvas


def checkpoint_nodes() -> Canvas:
    canvas = Canvas("dpm_nodes")
    note = "Choose your checkpoint. All options are on the two DPM-Solver nodes; `preset` = `custom` lets the widgets below it act."
    loader, positive, negative, latent = checkpoint_base(canvas, note)
    sampler = canvas.add("DPMSolverSamplerExt", (760, 0), PRESET, SAMPLER_WIDGETS)
    sigmas = canvas.add("DPMSolverSchedulerExt", (760, UNDER), SCHEDULE, scheduler_widgets(14), model=(loader, 0))
    wires = {"model": (loader, 0), "positive": (positive, 0), "negative": (negative, 0), "sampler": (sampler, 0), "sigmas": (sigmas, 0)}
    sampled = canvas.add("SamplerCustom", (1140, 0), (300, 480), [True, 20260, "fixed", 7.0], latent_image=(latent, 0), **wires)
    decoded = canvas.add("VAEDecode", (1500, 0), (210, 50), samples=(sampled, 0), vae=(loader, 2))
    canvas.add("SaveImage", (1770, 0), (480, 480), ["dpm_nodes"], images=(decoded, 0))
    return canvas


def checkpoint_sde() -> Canvas:
    canvas = Canvas("dpm_sde")
    note = (
        "Choose your checkpoint. The same seed with and without fresh noise: at the top **SDE-DPM-Solver++(2M)** from the advanced node "
        "(its `eta` says how much noise), below **unipc**."
    )
    loader, positive, negative, latent = checkpoint_base(canvas, note)
    sigmas = canvas.add("DPMSolverSchedulerExt", (380, 530), SCHEDULE, scheduler_widgets(24), model=(loader, 0))
    rows = (
        ("sde", "DPMSolverSamplerAdvancedExt", SDE_WIDGETS),
        ("unipc", "DPMSolverSamplerExt", ["unipc", *SAMPLER_WIDGETS[1:]]),
    )
    for row, (name, kind, widgets) in enumerate(rows):
        y = 700 * row
        sampler = canvas.add(kind, (760, y), ADVANCED if row == 0 else PRESET, widgets)
        wires = {"model": (loader, 0), "positive": (positive, 0), "negative": (negative, 0), "sigmas": (sigmas, 0)}
        sampled = canvas.add(
            "SamplerCustom", (1140, y), (300, 480), [True, 20260, "fixed", 6.0], sampler=(sampler, 0), latent_image=(latent, 0), **wires
        )
        decoded = canvas.add("VAEDecode", (1500, y), (210, 50), samples=(sampled, 0), vae=(loader, 2))
        canvas.add("SaveImage", (1770, y), (480, 480), [f"dpm_{name}"], images=(decoded, 0))
    return canvas


def checkpoint_edit() -> Canvas:
    canvas = Canvas("dpm_edit")
    note = (
        "Choose your checkpoint and a picture of its size. It is **encoded** as noise under a prompt that describes it, then decoded "
        "under one that says what it shall be. Keep both prompts alike but for the change. On flow models set `sigma_max` to 0.999."
    )
    loader, positive, negative, _ = checkpoint_base(canvas, note, empty=False)
    other = canvas.add(
        "CLIPTextEncode", (380, 360), (320, 130), ["a lighthouse on a cliff in winter, oil painting"], title="Positive of the new picture",
        clip=(loader, 1),
    )  # fmt: skip
    image = canvas.add("LoadImage", (0, 530), (320, 340), ["example.png", "image"])
    picture = canvas.add("VAEEncode", (380, 540), (320, 50), pixels=(image, 0), vae=(loader, 2))
    result = edit(canvas, 760, loader, negative, (positive, other), picture, 30, 2.0)
    decoded = canvas.add("VAEDecode", (1500, 0), (210, 50), samples=(result, 0), vae=(loader, 2))
    canvas.add("SaveImage", (1500, 110), (480, 480), ["dpm_edit"], images=(decoded, 0))
    return canvas


def checkpoint_v3() -> Canvas:
    canvas = Canvas("dpm_v3")
    note = (
        "Choose your checkpoint. **Calibrate** measures it once for this CFG (the log says the cost), saves the statistics under "
        "`models/dpm_ems`, and costs nothing the next time. **dpm_solver_v3** paints with them in few steps."
    )
    base = checkpoint_base(canvas, note)
    sampled = v3(canvas, 760, base, 8, 7.0)
    decoded = canvas.add("VAEDecode", (1880, 0), (210, 50), samples=(sampled, 0), vae=(base[0], 2))
    canvas.add("SaveImage", (1880, 110), (480, 480), ["dpm_v3"], images=(decoded, 0))
    return canvas


def checkpoint_tuned() -> Canvas:
    canvas = Canvas("dpm_tuned")
    note = (
        "Choose your checkpoint. **Tune Schedule** finds the best 6 steps for it, this prompt and CFG, saves them under "
        "`models/dpm_tuned`, and costs nothing the next time. The first time costs as much as 300 to 560 pictures of 20 steps; Cancel, "
        "and the next run goes on."
    )
    base = checkpoint_base(canvas, note)
    sampled = tuned(canvas, 760, base, 6, 7.0)
    decoded = canvas.add("VAEDecode", (1900, 0), (210, 50), samples=(sampled, 0), vae=(base[0], 2))
    canvas.add("SaveImage", (1900, 110), (480, 480), ["dpm_tuned"], images=(decoded, 0))
    return canvas


def checkpoint_img2img() -> Canvas:
    canvas = Canvas("dpm_img2img")
    note = (
        "Choose your checkpoint and a picture. `denoise` on the scheduler says how much of it is made anew: 0.3 keeps the picture, 0.7 its "
        "layout. All `steps` are taken in that part, so 8 to 12 do."
    )
    loader, positive, negative, _ = checkpoint_base(canvas, note, empty=False)
    image = canvas.add("LoadImage", (0, 530), (320, 340), ["example.png", "image"])
    picture = canvas.add("VAEEncode", (380, 360), (320, 50), pixels=(image, 0), vae=(loader, 2))
    sampled = from_picture(canvas, loader, positive, negative, picture, 0.55)
    decoded = canvas.add("VAEDecode", (1500, 0), (210, 50), samples=(sampled, 0), vae=(loader, 2))
    canvas.add("SaveImage", (1770, 0), (480, 480), ["dpm_img2img"], images=(decoded, 0))
    return canvas


def from_picture(canvas: Canvas, loader: dict, positive: dict, negative: dict, picture: dict, denoise: float) -> dict:
    """Our two nodes and the SamplerCustom that paints over a picture's latent, which is returned."""
    sampler = canvas.add("DPMSolverSamplerExt", (760, 0), PRESET, SAMPLER_WIDGETS)
    widgets = scheduler_widgets(12)
    widgets[2] = denoise
    sigmas = canvas.add("DPMSolverSchedulerExt", (760, UNDER), SCHEDULE, widgets, model=(loader, 0))
    wires = {"model": (loader, 0), "positive": (positive, 0), "negative": (negative, 0), "sampler": (sampler, 0), "sigmas": (sigmas, 0)}
    return canvas.add("SamplerCustom", (1140, 0), (300, 480), [True, 20260, "fixed", 7.0], latent_image=(picture, 0), **wires)


def checkpoint_inpaint() -> Canvas:
    canvas = Canvas("dpm_inpaint")
    note = (
        "Choose your checkpoint and a picture, right-click it and paint a mask (*Open in MaskEditor*): only that part is made anew, and "
        "the rest comes out as it was. The prompt says what shall be there."
    )
    loader, positive, negative, _ = checkpoint_base(canvas, note, empty=False)
    image = canvas.add("LoadImage", (0, 530), (320, 340), ["example.png", "image"])
    picture = canvas.add("VAEEncode", (380, 360), (320, 50), pixels=(image, 0), vae=(loader, 2))
    masked = canvas.add("SetLatentNoiseMask", (380, 460), (320, 50), samples=(picture, 0), mask=(image, 1))
    sampled = from_picture(canvas, loader, positive, negative, masked, 0.9)
    decoded = canvas.add("VAEDecode", (1500, 0), (210, 50), samples=(sampled, 0), vae=(loader, 2))
    merged = canvas.add(
        "ImageCompositeMasked", (1500, 110), (210, 150), [0, 0, False], destination=(image, 0), source=(decoded, 0), mask=(image, 1)
    )
    canvas.add("SaveImage", (1770, 0), (480, 480), ["dpm_inpaint"], images=(merged, 0))
    return canvas


def checkpoint_flow() -> Canvas:
    canvas = Canvas("dpm_flow")
    note = (
        "For rectified flow models with all parts in one file, such as SD3.5. The scheduler reads the model's shift, so nothing has to be "
        "set: connect the model. CFG 4 to 5; for Flux 1, and the guidance in its own node."
    )
    loader, positive, negative, _ = checkpoint_base(canvas, note, empty=False)
    loader["widgets_values"] = ["sd3.5_medium_incl_clips_t5xxlfp8scaled.safetensors"]
    latent = canvas.add("EmptySD3LatentImage", (380, 360), (320, 110), [1024, 1024, 1])
    shifted = canvas.add("ModelSamplingSD3", (0, 150), (320, 60), [3.0], model=(loader, 0))
    sampler = canvas.add("DPMSolverSamplerExt", (760, 0), PRESET, SAMPLER_WIDGETS)
    sigmas = canvas.add("DPMSolverSchedulerExt", (760, UNDER), SCHEDULE, scheduler_widgets(16), model=(shifted, 0))
    wires = {"model": (shifted, 0), "positive": (positive, 0), "negative": (negative, 0), "sampler": (sampler, 0), "sigmas": (sigmas, 0)}
    sampled = canvas.add("SamplerCustom", (1140, 0), (300, 480), [True, 20260, "fixed", 4.5], latent_image=(latent, 0), **wires)
    decoded = canvas.add("VAEDecode", (1500, 0), (210, 50), samples=(sampled, 0), vae=(loader, 2))
    canvas.add("SaveImage", (1770, 0), (480, 480), ["dpm_flow"], images=(decoded, 0))
    return canvas


PAIRS = "dpm_auto_ext + dpm_auto_ext\ndpmpp_2m + karras\nuni_pc + simple\neuler + normal"


def compared(canvas: Canvas, x: int, base: tuple[dict, dict, dict, dict], cfg: float, **vae) -> Canvas:
    """From column x on: the comparison, its picture and its table."""
    model, positive, negative, latent = base
    wires = {"model": (model, 0), "positive": (positive, 0), "negative": (negative, 0), "latent_image": (latent, 0), **vae}
    found = canvas.add("DPMSolverCompareExt", (x, 0), (340, 420), [cfg, 20260, "fixed", PAIRS, "5, 8, 15", 60], **wires)
    canvas.add("SaveImage", (x + 400, 0), (900, 900), [canvas.name], images=(found, 0))
    canvas.add("PreviewAny", (x, 480), (340, 300), title="The numbers", source=(found, 2))
    return canvas


def emoji_compare() -> Canvas:
    canvas = Canvas("emoji_dpm_compare")
    note = (
        "**Compare Samplers** paints one seed with each sampler of the list at 5, 8 and 15 steps, and says how far each is from the end. "
        "Write your own rows; change `cfg` and `seed`."
    )
    return compared(canvas, 330, emoji_base(canvas, note), 2.5)


def checkpoint_compare() -> Canvas:
    canvas = Canvas("dpm_compare")
    note = (
        "Choose your checkpoint. **Compare Samplers** paints one seed with each sampler of the list at 5, 8 and 15 steps, and says how far "
        "each is from the end: choose by looking, on your own model."
    )
    base = checkpoint_base(canvas, note)
    return compared(canvas, 760, base, 7.0, vae=(base[0], 2))


LINES = "dpm_auto_ext + dpm_auto_ext\nunipc_ext + karras\ndpmpp_2m + karras\neuler + karras"


def measured(canvas: Canvas, x: int, base: tuple[dict, dict, dict, dict], cfg: float) -> Canvas:
    """From column x on: the error curves, their picture and their numbers."""
    model, positive, negative, latent = base
    wires = {"model": (model, 0), "positive": (positive, 0), "negative": (negative, 0), "latent_image": (latent, 0)}
    widgets = [cfg, 20260, "fixed", LINES, "5, 7, 10, 14, 20, 28, 40", 160, "zero"]
    found = canvas.add("DPMSolverErrorCurveExt", (x, 0), (340, 420), widgets, **wires)
    canvas.add("SaveImage", (x + 400, 0), (900, 700), [canvas.name], images=(found, 0))
    canvas.add("PreviewAny", (x, 480), (340, 220), title="The numbers", source=(found, 1))
    return canvas


def emoji_curve() -> Canvas:
    canvas = Canvas("emoji_dpm_curve")
    note = (
        "**Error Curve** runs each sampler at every number of steps and shows how fast its error falls: the steeper, the higher its order. "
        "Here over 8 pictures (two to four minutes on a CPU)."
    )
    return measured(canvas, 330, emoji_base(canvas, note), 2.5)


def checkpoint_curve() -> Canvas:
    canvas = Canvas("dpm_curve")
    note = (
        "Choose your checkpoint. **Error Curve** runs each sampler at every number of steps and shows how fast its error falls on your own "
        "model. It costs as much as 37 pictures of 20 steps; `final_sigma` = `sigma_min` shows the true orders."
    )
    return measured(canvas, 760, checkpoint_base(canvas, note), 7.0)


def checkpoint_sdxl() -> Canvas:
    canvas = Canvas("dpm_sdxl")
    note = (
        "For SDXL and its finetunes: choose your checkpoint. **auto** reads the noise levels of the model. On the base model also try "
        "`schedule` = `ays_sdxl` with 10 steps on the same seed."
    )
    loader, positive, negative, latent = checkpoint_base(canvas, note)
    loader["widgets_values"], latent["widgets_values"] = ["sd_xl_base_1.0.safetensors"], [1024, 1024, 1]
    sampler = canvas.add("DPMSolverSamplerExt", (760, 0), PRESET, SAMPLER_WIDGETS)
    sigmas = canvas.add("DPMSolverSchedulerExt", (760, UNDER), SCHEDULE, scheduler_widgets(16), model=(loader, 0))
    wires = {"model": (loader, 0), "positive": (positive, 0), "negative": (negative, 0), "sampler": (sampler, 0), "sigmas": (sigmas, 0)}
    sampled = canvas.add("SamplerCustom", (1140, 0), (300, 480), [True, 20260, "fixed", 6.0], latent_image=(latent, 0), **wires)
    decoded = canvas.add("VAEDecode", (1500, 0), (210, 50), samples=(sampled, 0), vae=(loader, 2))
    canvas.add("SaveImage", (1770, 0), (480, 480), ["dpm_sdxl"], images=(decoded, 0))
    return canvas


TEMPLATES = (
    (EMOJI, emoji_ksampler),
    (EMOJI, emoji_nodes),
    (EMOJI, emoji_edit),
    (EXTENSION, checkpoint_ksampler),
    (EXTENSION, checkpoint_nodes),
    (EXTENSION, checkpoint_sde),
    (EXTENSION, checkpoint_edit),
    (EMOJI, emoji_v3),
    (EXTENSION, checkpoint_v3),
    (EMOJI, emoji_tuned),
    (EXTENSION, checkpoint_tuned),
    (EXTENSION, checkpoint_img2img),
    (EXTENSION, checkpoint_inpaint),
    (EXTENSION, checkpoint_flow),
    (EMOJI, emoji_compare),
    (EXTENSION, checkpoint_compare),
    (EMOJI, emoji_curve),
    (EXTENSION, checkpoint_curve),
    (EXTENSION, checkpoint_sdxl),
)


def main() -> None:
    for folder, make in TEMPLATES:
        print(make().write(folder))


if __name__ == "__main__":
    main()
