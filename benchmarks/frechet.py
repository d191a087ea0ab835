"""The Fréchet distance of the demo model's pictures to the emoji that it was trained on.

Features of a picture, the same for everybody: the network's middle block (128 channels on 8 x 8 places) on the picture with no noise added,
asked at σ = 0.1 without a class; mean and standard deviation of every channel over the places; the 32 leading principal axes of the
training set's. The distance is |m - m'|² + tr(S + S' - 2 (S S')^½) between the Gaussians of such features. Classes are drawn as often as
they are in the training set, the same classes and noise for every solver. The training set's mean, covariance, axes and class counts are
in emoji_features.npz; `python benchmarks/frechet.py` makes it anew, from the font that demo/emoji_data.py names.

With few pictures every distance is too large by about the same: "training set" in the table is as many training pictures, "converged" the
model's own pictures from Heun's method.
"""

import functools
import time
from pathlib import Path

import problems

FILE = Path(__file__).resolve().parent / "emoji_features.npz"
AXES, CHUNK, GUIDANCE, KIND = 32, 32, 1.5, "demo Fréchet, VP, guidance 1.5"
NAMES = (
    "dpm_auto_ext + dpm_auto_ext", "dpmpp_2m_ext + dpm_auto_ext", "dpmpp_2m_sde_ext + dpm_auto_ext", "dpmpp_2m + karras", "euler + beta",
    "ipndm + beta", "uni_pc_bh2 + normal", "dpmpp_2m_sde + karras",
)  # fmt: skip


def jobs(size: str, seed: int) -> list[tuple]:
    """Arguments of `row`."""
    if size == "quick":
        return []
    more = ("lms + beta", "deis + karras", "euler_ancestral + normal", "dpmpp_3m_sde_ext + dpm_auto_ext", "dpmpp_3m_sde + exponential")
    many, counts = (512, (5, 8, 15, 25)) if size == "full" else (128, (6, 10))
    names = [*NAMES, *(more if size == "full" else ()), "training set", *(["converged"] if size == "full" else [])]
    return [(KIND, n, many, seed, counts) for n in names]


def features(x):
    """(images, 256): of pictures centred on the mean colour, as the demo's latents are."""
    torch = problems.tools()[0]
    emoji, net, mean = problems.network()
    found = []
    hook = net.am.register_forward_hook(lambda module, args, out: found.append(torch.cat([out.mean((2, 3)), out.std((2, 3))], 1)))
    try:
        for part in x.float().split(64):
            part = part.clamp(-1 - mean, 1 - mean) + mean
            level, nothing = torch.full((len(part),), 0.1), torch.full((len(part),), emoji.UNCONDITIONAL)
            emoji.denoise(net, *(a.to(problems.DEVICE) for a in (part, level, nothing)))
    finally:
        hook.remove()
    return torch.cat(found).double().cpu().numpy()


@functools.cache
def known():
    import numpy as np

    return dict(np.load(FILE))


def on_axes(found):
    """(images, 32): features on the training set's principal axes."""
    law = known()
    return (found - law["centre"]) @ law["axes"]


def distance(y) -> float:
    """From pictures' features on the axes (images, 32) to the training set's."""
    import numpy as np

    law = known()
    mean, cov = y.mean(0), np.cov(y, rowvar=False)
    root = np.linalg.cholesky(cov + 1e-9 * np.eye(len(cov)))
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root.T @ law["cov"] @ root), 0)).sum()  # tr (S S')^½
    return float(((mean - law["mean"]) ** 2).sum() + np.trace(cov) + np.trace(law["cov"]) - 2 * cross)


def row(kind: str, name: str, many: int, seed: int, counts) -> dict:
    """Distances at every count, in the form of a row of the grid."""
    import numpy as np
    import pairs

    torch, _, library, kinds = problems.tools()
    started, law = time.time(), known()
    if name == "training set":
        pick = np.random.default_rng(seed).choice(len(law["training"]), many, replace=False)
        cells = [distance(law["training"][pick].astype(float))] * len(counts)
    else:
        generator = torch.Generator().manual_seed(problems.SEED + 7 + seed)
        weights = torch.from_numpy(law["classes"]).double()
        labels = torch.multinomial(weights, many, replacement=True, generator=generator)
        noise, cells = torch.randn(many, 3, 32, 32, generator=generator), []
        for count in counts:
            found = []
            for a, b in zip(noise.split(CHUNK), labels.split(CHUNK), strict=True):
                denoise = problems.guided(b, GUIDANCE)
                if name == "converged":
                    found.append(features(problems.fine_heun(denoise, a, 14.6, 0.0292, steps=30)))
                    continue
                made = problems.Problem(kind, kinds["VP"], library.VE, a, denoise, None)
                host = problems.Host(made, count)
                found.append(features(pairs.run(made, host, name, count)))
            cells.append(distance(on_axes(np.concatenate(found))))
            if name == "converged":
                cells = cells * len(counts)
                break
    errors = [[float(f"{v:.4g}")] for v in cells]
    return {"problem": kind, "pair": name, "counts": counts, "errors": errors, "seconds": round(time.time() - started, 2)}


def make() -> None:
    """emoji_features.npz from the training pictures."""
    import defaults
    import numpy as np

    torch = problems.tools()[0]
    data = defaults.load("emoji_data", problems.ROOT / "demo" / "emoji_data.py")
    images, labels, _ = data.load()
    x = torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1 - torch.tensor(defaults.MEAN).view(1, 3, 1, 1)
    found = features(x)
    centre = found.mean(0)
    axes = np.linalg.svd(found - centre, full_matrices=False)[2][:AXES].T.astype(np.float32)
    y = (found - centre) @ axes
    law = {"centre": centre, "axes": axes, "mean": y.mean(0), "cov": np.cov(y, rowvar=False)}
    law["classes"] = np.bincount(labels, minlength=problems.network()[0].CLASSES)
    np.savez_compressed(FILE, training=y.astype(np.float16), **law)
    share = y.var(0).sum() / found.var(0).sum()
    print(f"{FILE}: {len(images)} pictures, {AXES} axes hold {share:.0%} of the variance; to itself {distance(y):.4f}")


if __name__ == "__main__":
    make()
