"""The demo: the real ComfyUI with this extension and a small trained model; compares samplers at few steps, then stays up.

    .venv/bin/python demo/run.py [--once] [--port 8188]        (`make demo`, `make demo ONCE=1`)

Every cell of the comparison is a workflow run over HTTP with the same seeds: samplers and schedulers by the names a user picks in
KSampler. The error under a cell is the rms difference of pixel values (0..1) to the same pictures integrated to convergence.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import signal
import sys
import time
from pathlib import Path

import numpy as np
from host import HostError, Server, app_dir, fetch_image, object_info, port_taken, prepare_base, run_workflow
from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
OUT = HERE / "out"
STEPS = (6, 8, 12)
ROWS = (  # (sampler, scheduler, whose)
    ("euler", "normal", "built-in"),
    ("dpmpp_2m", "karras", "built-in"),
    ("uni_pc", "normal", "built-in"),
    ("deis", "beta", "built-in"),  # with the next the strongest built-ins here
    ("deis", "karras", "built-in"),
    ("dpmpp_2m_ext", "karras", "this pack"),
    ("dpmpp_3m_ext", "dpm_auto_ext", "this pack"),
    ("dpm_auto_ext", "dpm_auto_ext", "this pack"),
)
# 100 steps of it are 0.0006 rms from 200 steps of heun (399 evaluations): a twentieth of the smallest error here, deis' rows too.
REFERENCE = ("deis", "karras", 100)
PROMPTS = ("food-fruit", "face-smiling", "transport-ground", "plant-flower")
BATCH, SHOWN, SEED, GUIDANCE = 4, 2, 20260, 2.5
CELL, LABEL, PAD, CAPTION, TOP = 64, 190, 10, 22, 112  # pixels of the sheet


def workflow(sampler: str, scheduler: str, steps: int) -> tuple[dict, list[str]]:
    """(prompt in API format, ids of the output nodes, one per entry of PROMPTS)."""
    prompt: dict = {
        "model": {"class_type": "EmojiDemoModel", "inputs": {}},
        "negative": {"class_type": "EmojiDemoPrompt", "inputs": {"subgroup": "(anything)"}},
        "latent": {"class_type": "EmojiDemoLatent", "inputs": {"width": 32, "height": 32, "batch_size": BATCH}},
    }
    for i, subgroup in enumerate(PROMPTS):
        prompt[f"prompt{i}"] = {"class_type": "EmojiDemoPrompt", "inputs": {"subgroup": subgroup}}
        prompt[f"sample{i}"] = {
            "class_type": "KSampler",
            "inputs": {
                "model": ["model", 0],
                "positive": [f"prompt{i}", 0],
                "negative": ["negative", 0],
                "latent_image": ["latent", 0],
                "seed": SEED + i,
                "steps": steps,
                "cfg": GUIDANCE,
                "sampler_name": sampler,
                "scheduler": scheduler,
                "denoise": 1.0,
            },
        }
        prompt[f"decode{i}"] = {"class_type": "EmojiDemoDecode", "inputs": {"samples": [f"sample{i}", 0], "scale": 1}}
        prompt[f"show{i}"] = {"class_type": "PreviewImage", "inputs": {"images": [f"decode{i}", 0]}}
    return prompt, [f"show{i}" for i in range(len(PROMPTS))]


class Line:
    """One line of progress: rewritten in place on a terminal; elsewhere printed when complete, and every `EVERY` seconds until then."""

    EVERY = 5.0

    def __init__(self, head: str = ""):
        self.head, self.live, self.told = head, sys.stdout.isatty(), time.monotonic()

    def update(self, text: str) -> None:
        if self.live:
            print(f"\r\033[K{self.head}{text}", end="", flush=True)
        elif time.monotonic() - self.told > self.EVERY:
            self.told = time.monotonic()
            print(f"{self.head}{text}", flush=True)

    def done(self, text: str) -> None:
        print(f"\r\033[K{self.head}{text}" if self.live else f"{self.head}{text}", flush=True)


def paint(server: Server, sampler: str, scheduler: str, steps: int, line: Line) -> np.ndarray:
    """Run one cell: (len(PROMPTS), BATCH, 32, 32, 3) float64 in 0..1."""
    prompt, outputs = workflow(sampler, scheduler, steps)
    finished = set()

    def on_event(kind: str, data) -> None:
        if kind == "progress" and str(data.get("node", "")).startswith("sample"):
            if data["value"] >= data["max"]:
                finished.add(data["node"])
            part = 0 if data["node"] in finished else data["value"] / data["max"]
            line.update(f"{100 * (len(finished) + part) / len(PROMPTS):4.0f} %")

    run = run_workflow(server.url, prompt, on_event)
    pictures = [[fetch_image(server.url, image) for image in run.outputs[node]["images"]] for node in outputs]
    return np.array([[np.asarray(Image.open(io.BytesIO(p)).convert("RGB")) for p in row] for row in pictures]) / 255.0


def contact(pictures: np.ndarray, scale: int = CELL // 32) -> Image.Image:
    """The first SHOWN pictures of every prompt, prompts from left to right."""
    shown = pictures[:, :SHOWN].transpose(1, 2, 0, 3, 4)  # (SHOWN, 32, prompts, 32, 3)
    block = np.round(shown.reshape(SHOWN * 32, len(PROMPTS) * 32, 3) * 255).astype(np.uint8)
    return Image.fromarray(block.repeat(scale, 0).repeat(scale, 1))


def rms(pictures: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """(rms over all pictures, median of the pictures' own rms): a picture that turns into another one weighs on the first only."""
    each = np.mean((pictures - reference) ** 2, axis=(2, 3, 4))
    return float(np.sqrt(each.mean())), float(np.sqrt(np.median(each)))


def sheet(reference: np.ndarray, cells: dict, errors: dict, medians: dict) -> Image.Image:
    """The labelled comparison: a row per sampler, a column per number of steps, the converged pictures on top.

    `cells`, `errors` and `medians` are keyed by (row, steps).
    """
    width, height = len(PROMPTS) * CELL, SHOWN * CELL
    row = height + CAPTION + PAD
    canvas = Image.new("RGB", (LABEL + len(STEPS) * (width + PAD) + PAD, TOP + (len(ROWS) + 1) * row), "white")
    draw = ImageDraw.Draw(canvas)
    fonts = {size: ImageFont.load_default(size) for size in (12, 14, 20)}
    draw.text((PAD, 10), "DPM-Solver (ext) in ComfyUI: the same seeds, few steps", fill="black", font=fonts[20])
    note = f"guidance {GUIDANCE}; rms of pixel values 0..1 to the converged pictures, over {len(PROMPTS) * BATCH} emoji (half are shown)"
    draw.text((PAD, 40), note + "; median: of the pictures' own rms", fill="#555", font=fonts[12])
    draw.text((PAD, 56), "prompts: " + ", ".join(PROMPTS), fill="#555", font=fonts[12])
    y = TOP
    draw.text((PAD, y + 20), "converged", fill="black", font=fonts[14])
    draw.text((PAD, y + 40), f"{REFERENCE[0]} + {REFERENCE[1]}\n{REFERENCE[2]} steps", fill="#555", font=fonts[12])
    for column, steps in enumerate(STEPS):
        x = LABEL + column * (width + PAD)
        draw.text((x + 4, y - 26), f"{steps} steps", fill="black", font=fonts[14])
        canvas.paste(contact(reference), (x, y))  # above every column, so that the eye has it near
    for r, (sampler, scheduler, whose) in enumerate(ROWS):
        y = TOP + (r + 1) * row
        ours = whose != "built-in"
        if ours:
            draw.rectangle((0, y - 6, canvas.width, y + row - 7), fill="#eef5ff")
        draw.text((PAD, y + 20), sampler, fill="#0b4da2" if ours else "black", font=fonts[14])
        draw.text((PAD, y + 40), f"+ {scheduler}\n{whose}", fill="#555", font=fonts[12])
        for column, steps in enumerate(STEPS):
            x = LABEL + column * (width + PAD)
            canvas.paste(contact(cells[r, steps]), (x, y))
            best = errors[r, steps] < 5e-5 + min(errors[k, steps] for k in range(len(ROWS)))  # equal as printed
            text = f"rms {errors[r, steps]:.4f}  median {medians[r, steps]:.4f}" + ("  smallest rms" if best else "")
            draw.text((x + 4, y + height + 3), text, fill="#0a7a2f" if best else "#333", font=fonts[12])
    return canvas


def require_samplers(server: Server) -> None:
    """Fail with one sentence where the host does not offer what the comparison needs."""
    inputs = object_info(server.url, "KSampler")["input"]["required"]
    missing = {s for s, _, _ in ROWS} - set(inputs["sampler_name"][0]) | {s for _, s, _ in ROWS} - set(inputs["scheduler"][0])
    if missing:
        why = re.findall(r"^(?:\w+Error.*|Cannot import .*)$", server.log_text(), re.MULTILINE)
        cause = f" The host says: {why[-1]}" if any("dpm-solver-ext" in line for line in why) else ""
        names = ", ".join(sorted(missing))
        raise HostError(f"ComfyUI is up but KSampler does not list {names}: the extension did not load.{cause} Its log: {server.log}")
    if not object_info(server.url, "EmojiDemoModel"):
        raise HostError(f"ComfyUI is up but the demo's own nodes did not load; its log: {server.log}")


def compare(server: Server) -> Path:
    """Paint every cell and the reference, write PNGs, the sheet and results.json to OUT; returns the sheet's path."""
    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.glob("*.png"):  # of a run with other rows
        old.unlink()
    total = len(ROWS) * len(STEPS) + 1
    started = time.monotonic()

    def one(number: int, sampler: str, scheduler: str, steps: int) -> tuple[np.ndarray, Line, float]:
        line = Line(f"[{number:2d}/{total}] {sampler:13s} + {scheduler:13s} {steps:3d} steps  ")
        before = time.monotonic()
        pictures = paint(server, sampler, scheduler, steps, line)
        contact(pictures, 8).save(OUT / f"{sampler}+{scheduler}-{steps:03d}.png")
        return pictures, line, time.monotonic() - before

    reference, line, seconds = one(1, *REFERENCE)
    line.done(f"{seconds:5.1f} s  (the converged pictures)")
    cells, errors, medians = {}, {}, {}
    number = 1
    for steps in STEPS:
        for r, (sampler, scheduler, _) in enumerate(ROWS):
            number += 1
            cells[r, steps], line, seconds = one(number, sampler, scheduler, steps)
            errors[r, steps], medians[r, steps] = rms(cells[r, steps], reference)
            line.done(f"{seconds:5.1f} s  rms {errors[r, steps]:.4f}  median {medians[r, steps]:.4f}")
    path = OUT / "comparison.png"
    sheet(reference, cells, errors, medians).save(path)
    table = [
        {"sampler": s, "scheduler": c, "steps": n, "rms": errors[r, n], "median": medians[r, n]}
        for r, (s, c, _) in enumerate(ROWS)
        for n in STEPS
    ]
    (OUT / "results.json").write_text(json.dumps({"reference": REFERENCE, "prompts": PROMPTS, "cells": table}, indent=1), encoding="utf-8")
    print(f"\nrms error to the converged pictures, and the median picture's\n{'':32s}" + "".join(f"{n:>10d} steps" for n in STEPS))
    for r, (sampler, scheduler, whose) in enumerate(ROWS):
        mark = "*" if whose != "built-in" else " "
        print(f"{mark} {sampler + ' + ' + scheduler:30s}" + "".join(f"{errors[r, n]:9.4f} {medians[r, n]:.4f}" for n in STEPS))
    print(f"(* this pack; {time.monotonic() - started:.0f} s in all)\n")
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description="Start the real ComfyUI with this pack, compare samplers, stay up until Ctrl-C.")
    parser.add_argument("--once", action="store_true", help="end when the pictures are written")
    parser.add_argument("--port", type=int, default=8188, help="port of 127.0.0.1 (default 8188)")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a stopped demo stops its host
    started = time.monotonic()
    try:
        if port_taken(args.port):
            raise HostError(
                f"Port {args.port} is taken by another program (another ComfyUI?): stop it, or `make demo PORT={args.port + 1}`."
            )
        boot = Line()
        boot.update("copying ComfyUI out of its wheel")
        app = app_dir(ROOT)
        base = prepare_base(ROOT / ".comfy" / "demo", {"dpm-solver-ext": ROOT, "emoji-demo": HERE / "pack"})
        copied = base / "custom_nodes" / "emoji-demo"
        if not copied.is_symlink():  # a copy does not see the folder above it
            for name in ("emoji_model.py", "emoji.safetensors"):
                (copied / name).write_bytes((HERE / name).read_bytes())
        print("starting ComfyUI", flush=True)
        with Server(base, args.port, app=app, progress=boot.update) as server:
            boot.done(f"ComfyUI is up at {server.url} after {time.monotonic() - started:.0f} s; its log: {server.log}")
            require_samplers(server)
            path = compare(server)
            print(f"comparison sheet: {path}\npictures:         {OUT}")
            if args.once:
                return 0
            print(f"\nOpen {server.url} and choose Templates (on the left) > emoji-demo. Ctrl-C ends it.", flush=True)
            while server.process.poll() is None:
                time.sleep(0.5)
            raise HostError(f"ComfyUI ended by itself with code {server.process.returncode}; its log: {server.log}")
    except HostError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped")
        return 0


if __name__ == "__main__":
    sys.exit(main())
