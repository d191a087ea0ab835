"""Train the demo's emoji model on a CPU or GPU; interrupt and run again to go on.

    python demo/train.py --minutes 240                                   from nothing
    python demo/train.py --minutes 45 --lr 3e-4 --init demo/emoji.safetensors --out demo/out/new.safetensors
    python demo/train.py --evaluate demo/emoji.safetensors demo/out/new.safetensors

The last compares files: the loss at eight noise levels on the same images with the same noise, never used in training, and
a sheet of pictures of the same seeds. Progress is a line every few seconds; a checkpoint is written every `--save` seconds.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import time
from pathlib import Path

import emoji_data
import numpy as np
import torch
from emoji_model import CLASSES, SIGMA_DATA, UNCONDITIONAL, EmojiNet, denoise
from emoji_model import load as load_weights
from safetensors.torch import save_file
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
LICENCE = "weights: Apache-2.0; training images: Noto Color Emoji, Copyright Google, SIL Open Font License 1.1"
WARM_UP, EMA, DROP_LABEL, CLIP = 200, 0.9993, 0.15, 1.0
# Mirroring doubles the data; a mirrored letter or clock is wrong.
NOT_MIRRORED = {"alphanum", "av-symbol", "currency", "keycap", "punctuation", "time", "transport-sign", "warning", "zodiac"}
LEVELS = (0.03, 0.07, 0.17, 0.41, 1.0, 2.4, 6.0, 14.6)  # the noise levels of the comparison: the demo's sigma table
SHEET = "face-smiling,cat-face,heart,animal-mammal,food-fruit,transport-ground,plant-flower,clothing,food-sweet,sky & weather".split(",")


def draw_sigma(count: int, generator: torch.Generator) -> Tensor:
    """(count,) noise levels: mostly log-normal around 0.5, where the picture is decided; one in five log-uniform over 0.02..20."""
    bell = torch.randn(count, generator=generator) * 1.3 - 0.7
    flat = torch.rand(count, generator=generator) * math.log(1000) + math.log(0.02)
    return torch.where(torch.rand(count, generator=generator) < 0.2, flat, bell).exp()


def loss_of(net: nn.Module, x0: Tensor, noise: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
    """(B,) squared error with the EDM weight, which makes an untrained network's loss 1 at every noise level."""
    s = sigma.view(-1, 1, 1, 1)
    weight = (s**2 + SIGMA_DATA**2) / (s * SIGMA_DATA) ** 2
    return (weight * (denoise(net, x0 + s * noise, sigma, label) - x0) ** 2).mean(dim=(1, 2, 3))


def images_of(arrays: np.ndarray) -> Tensor:
    """(N, 3, H, W) fp32 in [-1, 1] from (N, H, W, 3) uint8."""
    return torch.from_numpy(arrays).permute(0, 3, 1, 2).float() / 127.5 - 1


def replace(path: Path, write) -> None:
    """Write beside `path` and rename: a reader, or a cut in the power, never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    write(beside)
    os.replace(beside, path)


def clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    arrays, labels, classes = emoji_data.load(args.font, args.groups)
    if len(classes) != CLASSES:
        raise SystemExit(f"This version of unicode-data and the font gives {len(classes)} subgroups; the network has {CLASSES} classes.")
    images, labels = images_of(arrays).to(args.device), torch.from_numpy(labels).to(args.device)
    may_mirror = torch.tensor([name not in NOT_MIRRORED for name in classes], device=args.device)[labels]
    net = EmojiNet().to(args.device)
    if args.init:
        weights, names = load_weights(args.init)
        if names != classes:
            raise SystemExit(f"{args.init} names other subgroups than the data.")
        net.load_state_dict(weights.state_dict())
    ema = copy.deepcopy(net).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(net.parameters(), lr=args.lr, betas=(0.9, 0.99), weight_decay=1e-4)
    generator = torch.Generator().manual_seed(args.seed)
    done, spent, running = 0, 0.0, None
    checkpoint = Path(args.work) / "checkpoint.pt"
    if checkpoint.exists() and not args.restart:
        state = torch.load(checkpoint, map_location=args.device, weights_only=True)
        net.load_state_dict(state["net"])
        ema.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"].cpu())
        done, spent, running = state["done"], state["spent"], state["running"]
        print(f"going on from {checkpoint}: {done} iterations, {clock(spent)} (--restart begins anew)", flush=True)

    def save() -> None:
        state = {"net": net.state_dict(), "ema": ema.state_dict(), "optimizer": optimizer.state_dict(), "generator": generator.get_state()}
        replace(checkpoint, lambda path: torch.save({**state, "done": done, "spent": spent, "running": running}, path))

    def export() -> None:
        facts = {
            "format": "pt",
            "classes": json.dumps(classes),
            "resolution": str(emoji_data.SIZE),
            "sigma_data": str(SIGMA_DATA),
            "prediction": "EDM preconditioning, x0; class 96 = unconditional",
            "training": f"{done} iterations of batch {args.batch}, {clock(spent)} on {args.device}, AdamW {args.lr:g} to 0 (cosine), "
            f"EMA {EMA}, {len(images)} images",
            "started_from": args.init_note or (Path(args.init).name if args.init else "nothing"),
            "license": LICENCE,
        }
        tensors = {key: value.half().contiguous().cpu() for key, value in ema.state_dict().items()}
        replace(Path(args.out), lambda path: save_file(tensors, str(path), facts))

    last_told = last_saved = before = time.monotonic()
    try:
        while True:
            # Progress in 0..1 drives the learning rate: by iterations or, on a busy machine, by the clock.
            progress = max(done / args.iterations if args.iterations else 0.0, spent / 60 / args.minutes if args.minutes else 0.0)
            if progress >= 1:
                break
            rate = args.lr * min(1.0, (done + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * progress))
            for group in optimizer.param_groups:
                group["lr"] = rate
            pick = torch.randint(len(images), (args.batch,), generator=generator).to(args.device)
            mirror = (torch.rand(args.batch, generator=generator) < 0.5).to(args.device) & may_mirror[pick]
            x0 = torch.where(mirror.view(-1, 1, 1, 1), images[pick].flip(-1), images[pick])
            dropped = (torch.rand(args.batch, generator=generator) < DROP_LABEL).to(args.device)
            label = torch.where(dropped, UNCONDITIONAL, labels[pick])
            noise = torch.randn(x0.shape, generator=generator).to(args.device)
            loss = loss_of(net, x0, noise, draw_sigma(args.batch, generator).to(args.device), label).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), CLIP)
            optimizer.step()
            done += 1
            decay = min(EMA, done / (done + 9)) if not args.init else EMA
            with torch.no_grad():
                torch._foreach_lerp_(list(ema.parameters()), list(net.parameters()), 1 - decay)
            running = loss.item() if running is None else 0.99 * running + 0.01 * loss.item()
            now = time.monotonic()
            spent, before = spent + now - before, now
            if now - last_told > args.tell:
                last_told = now
                left = spent * (1 - progress) / max(progress, 1e-9)
                print(f"iteration {done}  loss {running:.4f}  rate {rate:.1e}  {clock(spent)} spent, {clock(left)} left", flush=True)
            if now - last_saved > args.save:
                last_saved = now
                save()
    except KeyboardInterrupt:
        save()
        print(f"\nstopped after {done} iterations; run the same command to go on from {checkpoint}")
        return
    save()
    export()
    print(f"{args.out}: {done} iterations in {clock(spent)}, loss {running:.4f}")


@torch.no_grad()
def sample(net: EmojiNet, labels: Tensor, mean: Tensor, guidance: float = 2.5, steps: int = 24, seed: int = 0) -> Tensor:
    """(B, 3, 32, 32) by Heun's method on Karras' schedule over the demo's sigma range; the same noise for every network.

    `mean` (1, 3, 1, 1) is the mean colour of the data: at the demo's largest sigma the start still tells the brightness.
    """
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    sigmas = ((LEVELS[-1] ** (1 / 7)) * (1 - ramp) + LEVELS[0] ** (1 / 7) * ramp) ** 7
    sigmas = [*sigmas.tolist(), 0.0]
    x = torch.randn(len(labels), 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * sigmas[0] + mean

    def slope(x: Tensor, sigma: float) -> Tensor:
        both = torch.cat([labels, torch.full_like(labels, UNCONDITIONAL)])
        with_label, without = denoise(net, x.repeat(2, 1, 1, 1), torch.full((len(both),), sigma), both).chunk(2)
        return (x - (without + guidance * (with_label - without))) / sigma

    for now, then in zip(sigmas, sigmas[1:], strict=False):
        d = slope(x, now)
        x_euler = x + (then - now) * d
        x = x_euler if then == 0 else x + (then - now) * (d + slope(x_euler, then)) / 2
    return x


@torch.no_grad()
def evaluate(args: argparse.Namespace) -> None:
    from PIL import Image

    arrays, labels, classes = emoji_data.load(args.font, args.groups)
    generator = torch.Generator().manual_seed(args.seed + 1_000_003)
    pick = torch.randperm(len(arrays), generator=generator)[:512]
    images, labels = images_of(arrays)[pick], torch.from_numpy(labels)[pick]
    noise = torch.randn(images.shape, generator=generator)
    mean = images_of(arrays).mean(dim=(0, 2, 3)).view(1, 3, 1, 1)
    print(f"{'loss at sigma':28s}" + "".join(f"{s:8.2f}" for s in LEVELS) + "    mean", flush=True)
    for file in args.evaluate:
        net, names = load_weights(file)
        for title, label in (("", labels), (" (no label)", torch.full_like(labels, UNCONDITIONAL))):
            row = []
            for sigma in LEVELS:
                parts = [loss_of(net, images[i], noise[i], torch.full((len(i),), sigma), label[i]) for i in torch.arange(512).split(64)]
                row.append(torch.cat(parts).mean().item())
            print(f"{Path(file).name + title:28s}" + "".join(f"{v:8.4f}" for v in row) + f"{sum(row) / len(row):8.4f}", flush=True)
        rows = [sample(net, torch.full((8,), names.index(name)), mean) for name in SHEET if name in names]
        # Distance of a picture to the training image nearest to it: falls as pictures sharpen.
        near = torch.cat([torch.cdist(r.flatten(1), images_of(arrays).flatten(1)).min(dim=1).values for r in rows]) / math.sqrt(3072)
        sheet = torch.cat([torch.cat(list(r), dim=2) for r in rows], dim=1).clamp(-1, 1)
        pixels = ((sheet + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        out = Path(args.work) / (Path(file).stem + ".png")
        out.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(pixels)
        image.resize((image.width * 3, image.height * 3), Image.Resampling.NEAREST).save(out)
        print(f"{out}  (rms distance to the nearest training image, mean {near.mean():.4f})", flush=True)


def main() -> None:
    cores = os.cpu_count() or 1
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--minutes", type=float, default=0, help="train for this long; the learning rate follows the clock")
    p.add_argument("--iterations", type=int, default=0, help="train for this many iterations (default 25000 when --minutes is absent)")
    p.add_argument("--batch", type=int, default=32, help="images in an iteration")
    p.add_argument("--lr", type=float, default=1e-3, help="highest learning rate; it falls to 0 along a cosine")
    p.add_argument("--init", metavar="FILE", help="begin with these weights")
    p.add_argument("--init-note", default="", help="what those weights are, for the metadata")
    p.add_argument("--out", default=str(HERE / "out" / "emoji.safetensors"), help="where the averaged weights go (fp16)")
    p.add_argument("--work", default=str(HERE / "out" / "train"), help="folder of the checkpoint and the pictures")
    p.add_argument("--restart", action="store_true", help="ignore the checkpoint")
    p.add_argument("--evaluate", nargs="+", metavar="FILE", help="compare weights instead of training")
    p.add_argument("--font", default=emoji_data.FONT, help="NotoColorEmoji.ttf")
    p.add_argument("--groups", default=emoji_data.GROUPS, help="emoji-test.txt")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--threads", type=int, default=cores, help="CPU threads")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--tell", type=float, default=5, help="seconds between progress lines")
    p.add_argument("--save", type=float, default=60, help="seconds between checkpoints")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    if args.evaluate:
        evaluate(args)
        return
    if not args.minutes and not args.iterations:
        args.iterations = 25_000
    train(args)


if __name__ == "__main__":
    main()
