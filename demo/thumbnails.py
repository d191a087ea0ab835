"""Paint the pictures of the templates, and those of the help pages that a run makes, with the demo's host and its model.

    python demo/thumbnails.py            all of them (two to four minutes on two cores)
    python demo/thumbnails.py NAME ...   those of these templates

Each card has a band with what the template is for and, below it, what is special about it, so that no two look alike in the browser of
templates, which shows them about 250 pixels wide. `cards.py` draws them; here is what is run for them.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import cards
from host import Server, fetch_image, prepare_base, run_workflow
from PIL import Image
from templates import LINES, MANUAL, PAIRS, SAMPLER_WIDGETS, TEMPLATES, V3_WIDGETS, calibrate_widgets, scheduler_widgets, tune_widgets

HERE = Path(__file__).resolve().parent
HELP = HERE.parent / "web" / "docs"
CFG, SEED = 2.5, 7
WIRES = {"model": ["m", 0], "positive": ["p", 0], "negative": ["n", 0], "latent_image": ["l", 0]}
DECODED = {"d": {"class_type": "EmojiDemoDecode", "inputs": {"samples": ["w", 0], "scale": 1}}}


def base_nodes(kind: str, batch: int) -> dict:
    """The model "m", prompts "p" and "n" and an empty latent "l", in the format of the API."""
    return {
        "m": {"class_type": "EmojiDemoModel", "inputs": {}},
        "p": {"class_type": "EmojiDemoPrompt", "inputs": {"subgroup": kind}},
        "n": {"class_type": "EmojiDemoPrompt", "inputs": {"subgroup": "(anything)"}},
        "l": {"class_type": "EmojiDemoLatent", "inputs": {"width": 32, "height": 32, "batch_size": batch}},
    }


def painted_nodes(sampler: str, scheduler: str, steps: int, to: str = "w", seed: int = SEED) -> dict:
    """A KSampler that paints into `to`."""
    widgets = {"seed": seed, "steps": steps, "cfg": CFG, "sampler_name": sampler, "scheduler": scheduler, "denoise": 1.0}
    return {to: {"class_type": "KSampler", "inputs": {**widgets, **WIRES}}}


def edited_nodes(kind: str) -> dict:
    """The nodes, in the format of the API, that encode latent "s" under prompt "p" and decode it as `kind` into "w"."""
    schedule = {"schedule": "auto", "steps": 20, "denoise": 1.0, "sigma_max": 0.0, "sigma_min": 0.0, "manual_sigmas": MANUAL}
    names = ("preset", "algorithm", "order", "method", "solver_type", "start", "final_rule")
    wires = {"model": ["m", 0], "negative": ["n", 0], "sampler": ["k", 0], "add_noise": False, "noise_seed": 0}
    return {
        "k": {"class_type": "DPMSolverSamplerExt", "inputs": dict(zip(names, SAMPLER_WIDGETS, strict=True))},
        "g": {"class_type": "DPMSolverSchedulerExt", "inputs": {**schedule, "model": ["m", 0], "final_sigma": "sigma_min"}},
        "f": {"class_type": "FlipSigmas", "inputs": {"sigmas": ["g", 0]}},
        "q": {"class_type": "EmojiDemoPrompt", "inputs": {"subgroup": kind}},
        "e": {
            "class_type": "SamplerCustom",
            "inputs": {**wires, "positive": ["p", 0], "sigmas": ["f", 0], "latent_image": ["s", 0], "cfg": 1.0},
        },
        "w": {
            "class_type": "SamplerCustom",
            "inputs": {**wires, "positive": ["q", 0], "sigmas": ["g", 0], "latent_image": ["e", 0], "cfg": 2.0},
        },
    }


def repainted_nodes(kind: str, row: int, inpaint: bool) -> dict:
    """The nodes, in the format of the API, that paint latent "s" anew into "w", as `kind`: more of it with each row, or its right half."""
    widgets = {"seed": 9, "steps": 12, "cfg": 2.5, "sampler_name": "dpm_auto_ext", "scheduler": "dpm_auto_ext"}
    wires = {"model": ["m", 0], "positive": ["q", 0], "negative": ["n", 0], "latent_image": ["h" if inpaint else "s", 0]}
    nodes = {
        "q": {"class_type": "EmojiDemoPrompt", "inputs": {"subgroup": kind}},
        "w": {"class_type": "KSampler", "inputs": {**widgets, **wires, "denoise": 1.0 if inpaint else (0.5, 0.75)[row - 1]}},
    }
    if inpaint:
        nodes |= {
            "a": {"class_type": "SolidMask", "inputs": {"value": 0.0, "width": 32, "height": 32}},
            "b": {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 16, "height": 32}},
            "c": {
                "class_type": "MaskComposite",
                "inputs": {"destination": ["a", 0], "source": ["b", 0], "x": 16, "y": 0, "operation": "add"},
            },
            "h": {"class_type": "SetLatentNoiseMask", "inputs": {"samples": ["s", 0], "mask": ["c", 0]}},
        }
    return nodes


def v3_nodes(steps: int, cfg: float) -> dict:
    """The nodes, in the format of the API, that calibrate the model and paint into "w" with the statistics."""
    wires = {"model": ["m", 0], "positive": ["p", 0], "negative": ["n", 0], "latent_image": ["l", 0]}
    measured = dict(
        zip(
            ("cfg", "samples", "nodes", "probes", "shape", "calibration_seed", "file_name"),
            calibrate_widgets(cfg, "emoji"),
            strict=True,
        )
    )
    names = ("preset", "algorithm", "order", "method", "solver_type", "start", "final_rule")
    schedule = ("schedule", "steps", "denoise", "sigma_max", "sigma_min", "manual_sigmas", "final_sigma")
    sampler = {"add_noise": True, "noise_seed": 7, "cfg": cfg, "sampler": ["k", 0], "sigmas": ["g", 0]}
    return {
        "c": {"class_type": "DPMSolverCalibrateExt", "inputs": measured | wires},
        "k": {"class_type": "DPMSolverSamplerExt", "inputs": dict(zip(names, V3_WIDGETS, strict=True)) | {"ems": ["c", 0]}},
        "g": {
            "class_type": "DPMSolverSchedulerExt",
            "inputs": dict(zip(schedule, scheduler_widgets(steps), strict=True)) | {"model": ["m", 0]},
        },
        "w": {"class_type": "SamplerCustom", "inputs": sampler | wires},
    }


def tuned_nodes(steps: int, cfg: float) -> dict:
    """The nodes, in the format of the API, that tune steps and paint into "w" with them."""
    wires = {"model": ["m", 0], "positive": ["p", 0], "negative": ["n", 0], "latent_image": ["l", 0]}
    names = ("preset", "algorithm", "order", "method", "solver_type", "start", "final_rule")
    widgets = ("cfg", "steps", "tune", "seeds", "budget", "tune_seed", "file_name")
    tuning = dict(zip(widgets, tune_widgets(cfg, steps, "emoji"), strict=True))
    tuning |= {"sampler": ["k", 0], "tune": "schedule and gains", "seeds": 12, "budget": 1500}  # a thumbnail need not be the best
    sampler = {"add_noise": True, "noise_seed": 7, "cfg": cfg, "sampler": ["t", 1], "sigmas": ["t", 0]}
    return {
        "k": {"class_type": "DPMSolverSamplerExt", "inputs": dict(zip(names, ["dpmpp_2m", *SAMPLER_WIDGETS[1:]], strict=True))},
        "t": {"class_type": "DPMSolverTuneScheduleExt", "inputs": tuning | wires},
        "w": {"class_type": "SamplerCustom", "inputs": sampler | wires},
    }


def compared_nodes() -> dict:
    """The node that compares, as "c"."""
    widgets = {"cfg": CFG, "seed": 20260, "samplers": PAIRS, "steps": "5, 8, 15", "reference_steps": 60}
    return {"c": {"class_type": "DPMSolverCompareExt", "inputs": widgets | WIRES}}


def curve_nodes() -> dict:
    """The node of the error curves, as "c"."""
    widgets = {"cfg": CFG, "seed": 20260, "samplers": LINES, "steps": "5, 7, 10, 14, 20, 28, 40", "reference_steps": 160}
    return {"c": {"class_type": "DPMSolverErrorCurveExt", "inputs": widgets | WIRES | {"final_sigma": "zero"}}}


class Painter:
    """Runs on the demo's host, each paid for once."""

    def __init__(self, url: str):
        self.url, self.known = url, {}

    def run(self, key: str, nodes: Callable[[], dict], image: list) -> list[Image.Image]:
        """The pictures on output `image` of a prompt; `key` names them."""
        if key not in self.known:
            prompt = nodes() | {"o": {"class_type": "PreviewImage", "inputs": {"images": image}}}
            found = run_workflow(self.url, prompt, timeout=900).outputs["o"]["images"]
            self.known[key] = [Image.open(io.BytesIO(fetch_image(self.url, i))).convert("RGB") for i in found]
        return self.known[key]

    def painted(self, kind: str, sampler="dpm_auto_ext", scheduler="dpm_auto_ext", steps=14, batch=4, seed=SEED) -> list[Image.Image]:
        key = f"{kind} {sampler} {scheduler} {steps} {batch} {seed}"
        return self.run(key, lambda: base_nodes(kind, batch) | painted_nodes(sampler, scheduler, steps, seed=seed) | DECODED, ["d", 0])

    def edited(self, kind: str, to: str) -> list[list[Image.Image]]:
        """Pictures, the noise they are encoded as, and what it is decoded to."""
        nodes = base_nodes(kind, 2) | painted_nodes("dpm_auto_ext", "dpm_auto_ext", 16, "s") | edited_nodes(to)
        found = []
        for what in "sew":
            decoded = {"d": {"class_type": "EmojiDemoDecode", "inputs": {"samples": [what, 0], "scale": 1}}}
            found.append(self.run(f"edit {kind} {to} {what}", lambda decoded=decoded: nodes | decoded, ["d", 0]))
        return found

    def repainted(self, kind: str, to: str, row: int, inpaint: bool) -> list[Image.Image]:
        nodes = base_nodes(kind, 2) | painted_nodes("dpm_auto_ext", "dpm_auto_ext", 16, "s") | repainted_nodes(to, row, inpaint) | DECODED
        return self.run(f"again {kind} {to} {row} {inpaint}", lambda: nodes, ["d", 0])

    def calibrated(self) -> tuple[Image.Image, list[Image.Image]]:
        """The plot of the statistics, and pictures that were painted with them."""
        nodes = base_nodes("food-fruit", 4) | v3_nodes(8, CFG) | DECODED
        plot = {"i": {"class_type": "DPMSolverEMSInfoExt", "inputs": {"ems": ["c", 0]}}}
        return self.run("ems", lambda: nodes | plot, ["i", 0])[0], self.run("v3", lambda: nodes, ["d", 0])

    def tuned(self) -> tuple[Image.Image, list[Image.Image]]:
        """The plot of a tuning, and pictures that were painted with its steps."""
        nodes = base_nodes("food-sweet", 4) | tuned_nodes(6, CFG) | DECODED
        return self.run("tuned plot", lambda: nodes, ["t", 3])[0], self.run("tuned", lambda: nodes, ["d", 0])

    def compared(self) -> Image.Image:
        return self.run("compare", lambda: base_nodes("food-fruit", 1) | compared_nodes(), ["c", 0])[0]

    def curve(self) -> Image.Image:
        return self.run("curve", lambda: base_nodes("food-fruit", 8) | curve_nodes(), ["c", 0])[0]


def content(name: str, at: Painter) -> Image.Image:
    """What stands under the band of this template's card."""
    what = name.removeprefix("emoji_")
    if what == "dpm_auto":
        if name != what:
            both = [at.painted("food-fruit", *pair, 8, 3) for pair in (("dpm_auto_ext", "dpm_auto_ext"), ("euler", "normal"))]
            return cards.rows(both, ["dpm_auto_ext, 8 steps", "euler, 8 steps"])
        return cards.widgets(at.painted("face-smiling")[0], [("sampler_name", "dpm_auto_ext"), ("scheduler", "dpm_auto_ext")])
    if what == "dpm_sdxl":
        return cards.sized(at.painted("food-sweet")[0], "1024")
    if what == "dpm_nodes":
        return cards.nodes(Image.open(HELP / "sampler.png"), Image.open(HELP / "scheduler.png"))
    if what == "dpm_sde":
        both = [at.painted("animal-bird", sampler, steps=24, batch=3) for sampler in ("dpmpp_2m_sde_ext", "unipc_ext")]
        return cards.rows(both, ["fresh noise on the way (eta 1)", "none (eta 0)"])
    if what == "dpm_edit":
        found = at.edited("heart", "food-fruit") if name != what else at.edited("face-smiling", "cat-face")
        return cards.chain(found, ["picture", "noise", "edited"])
    if what == "dpm_img2img":
        found = [at.painted("food-fruit", steps=16, batch=2), *(at.repainted("food-fruit", "heart", row, False) for row in (1, 2))]
        return cards.chain(found, ["picture", "denoise .5", ".75"])
    if what == "dpm_inpaint":
        return cards.masked(at.painted("heart", steps=16, batch=2)[1], at.repainted("heart", "food-sweet", 1, True)[1])
    if what == "dpm_flow":
        return cards.shifted(at.painted("plant-flower", batch=4)[:2])
    if what == "dpm_v3":
        return cards.over(*at.calibrated(), (0.0, 0.1, 0.58, 0.4))
    if what == "dpm_tuned":
        return cards.over(*at.tuned(), (0.0, 0.17, 0.49, 0.93))
    if what == "dpm_compare":
        return cards.whole(at.compared(), (0.12, 0.055, 1.0, 0.73))
    return cards.whole(at.curve(), (0.03, 0.13, 0.7, 0.93))


# {name without emoji_: (what the band says, what the small line below says, its colour)}
CARDS = {
    "dpm_auto": ("SD 1.5", "KSampler, two entries of its lists", cards.START),
    "dpm_sdxl": ("SDXL", "base model and finetunes, 16 steps", cards.START),
    "dpm_flow": ("SD3, Flux", "flow models, their shift is read", cards.START),
    "dpm_nodes": ("Every option", "two nodes and SamplerCustom", cards.OPTIONS),
    "dpm_sde": ("SDE samplers", "the same seed with and without noise", cards.OPTIONS),
    "dpm_img2img": ("Image to image", "denoise says how much is new", cards.PICTURE),
    "dpm_inpaint": ("Inpaint", "only under the mask", cards.PICTURE),
    "dpm_edit": ("Edit by encoding", "to noise and back, another prompt", cards.PICTURE),
    "dpm_v3": ("DPM-Solver-v3", "calibrated on your checkpoint", cards.OWN),
    "dpm_tuned": ("Tuned steps", "found for your checkpoint", cards.OWN),
    "dpm_compare": ("Compare samplers", "one seed, samplers and steps", cards.MEASURE),
    "dpm_curve": ("Error curves", "orders, measured on your model", cards.MEASURE),
}
EMOJI_CARDS = CARDS | {"dpm_auto": ("KSampler", "ours and a built-in at 8 steps", cards.START)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Paint the templates' pictures.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="templates; all of them without any")
    only = parser.parse_args().names
    base = prepare_base(HERE.parent / ".comfy" / "demo", {"dpm-solver-ext": HERE.parent, "emoji-demo": HERE / "pack"})
    with Server(base, progress=print) as server:
        painter = Painter(server.url)
        for folder, make in TEMPLATES:
            name = make().name
            if only and name not in only:
                continue
            demo = name.startswith("emoji_")
            card = cards.card(*(EMOJI_CARDS if demo else CARDS)[name.removeprefix("emoji_")], content(name, painter), demo)
            card.save(folder / f"{name}.jpg", quality=80, optimize=True, progressive=True)
            print(name, (folder / f"{name}.jpg").stat().st_size, "bytes", flush=True)
        for file, key in (("ems.png", "ems"), ("tuned.png", "tuned plot"), ("compare.png", "compare"), ("curve.png", "curve")):
            if key in painter.known:
                painter.known[key][0].quantize(128, Image.Quantize.MAXCOVERAGE).save(HELP / file, optimize=True)


if __name__ == "__main__":
    main()
