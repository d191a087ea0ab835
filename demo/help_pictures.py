"""Take the pictures of nodes for the help pages (web/docs) and the README (docs) from the page itself, in Debian's Chromium, with the
demo's host.

    python demo/thumbnails.py dpm_v3 dpm_tuned   first: makes the files that the two loading nodes show
    python demo/help_pictures.py [NAME ...]      all of them, or "nodes", "plot", "presets"

Each is a piece of the screen around one or more nodes, at the size in which the page shows them.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
from pathlib import Path

from host import Server, get_json, object_info, prepare_base
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from templates import EMOJI, EXTENSION, PRESET, SAMPLER_WIDGETS, SOCKETS, V3_WIDGETS, Canvas

HERE = Path(__file__).resolve().parent
HELP, DOCS = HERE.parent / "web" / "docs", HERE.parent / "docs"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync"]
SOCKETS |= {
    "DPMSolverLoadEMSExt": ([], [("ems", "DPM_EMS")]),
    "DPMSolverLoadTunedExt": ([("sampler", "SAMPLER")], [("sigmas", "SIGMAS"), ("sampler", "SAMPLER"), ("info", "STRING")]),
}
# (picture, workflow or None for the one of `loading`, the nodes on it)
PICTURES = (
    ("sampler.png", EMOJI / "emoji_dpm_nodes.json", ["DPMSolverSamplerExt"]),
    ("scheduler.png", EMOJI / "emoji_dpm_nodes.json", ["DPMSolverSchedulerExt"]),
    ("advanced.png", EXTENSION / "dpm_sde.json", ["DPMSolverSamplerAdvancedExt"]),
    ("calibrate.png", EMOJI / "emoji_dpm_v3.json", ["DPMSolverCalibrateExt", "DPMSolverSamplerExt"]),
    ("load_ems.png", None, ["DPMSolverLoadEMSExt", "DPMSolverSamplerExt"]),
    ("load_tuned.png", None, ["DPMSolverLoadTunedExt", "SamplerCustom"]),
)
# Brings nodes to a fixed place, at full size, and says where that is on the screen.
PLACE = """([kinds, x, y]) => {
  const nodes = kinds.map((kind) => app.graph._nodes.find((node) => node.type === kind));
  const [left, top] = [0, 1].map((k) => Math.min(...nodes.map((n) => n.pos[k])) - 30 * k);
  const [right, bottom] = [0, 1].map((k) => Math.max(...nodes.map((n) => n.pos[k] + n.size[k])));
  for (const node of app.graph._nodes) if (!nodes.includes(node)) node.pos = [node.pos[0] - 9000, node.pos[1]];
  app.canvas.ds.scale = 1;
  app.canvas.ds.offset = [x - left, y - top];
  app.canvas.setDirty(true, true);
  const box = app.canvas.canvas.getBoundingClientRect();
  return { x: box.x + x - 10, y: box.y + y - 25, width: right - left + 20, height: bottom - top + 35 };  // badges above
}"""


def loading(url: str) -> str:
    """A workflow with both loading nodes and what they go to."""

    def first(node: str) -> str:
        kind, *rest = object_info(url, node)["input"]["required"]["file"]
        return (kind if isinstance(kind, list) else rest[0]["options"])[0]

    canvas = Canvas("help")
    ems = canvas.add("DPMSolverLoadEMSExt", (0, 0), (300, 60), [first("DPMSolverLoadEMSExt")])
    canvas.add("DPMSolverSamplerExt", (340, 0), PRESET, [V3_WIDGETS[0], *SAMPLER_WIDGETS[1:]], ems=(ems, 0))
    steps = canvas.add("DPMSolverLoadTunedExt", (0, 500), (300, 130), [first("DPMSolverLoadTunedExt"), 0])
    wires = {"sampler": (steps, 1), "sigmas": (steps, 0)}
    canvas.add("SamplerCustom", (340, 500), (300, 280), [True, 20260, "fixed", 2.5], **wires)
    return json.dumps(
        {"nodes": canvas.nodes, "links": canvas.links, "groups": [], "config": {}, "extra": {}, "version": 0.4}
        | {"last_node_id": len(canvas.nodes), "last_link_id": len(canvas.links)}
    )


def take(page: Page, text: str, kinds: list[str], path: Path) -> None:
    """Load a workflow and save the piece of the screen with these nodes."""
    page.evaluate("(text) => app.loadGraphData(JSON.parse(text))", text)
    page.wait_for_timeout(1500)  # plots are asked for
    clip = page.evaluate(PLACE, [kinds, 450, 150])
    page.mouse.move(5, 900)
    page.wait_for_timeout(1000)
    save(seen(page, clip), path)


def save(shot: Image.Image, path: Path) -> None:
    shot.quantize(256, kmeans=2).save(path, optimize=True)  # without the means a few bright dots lose their colour to many greys
    print(path, shot.size, path.stat().st_size, "bytes", flush=True)


def seen(page: Page, clip: dict[str, float]) -> Image.Image:
    return Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")


def ran(page: Page, url: str, workflow: str, kinds: list[str], at: tuple[int, int]) -> dict[str, float]:
    """Run a workflow of the demo, with these nodes at a place of the canvas; where on the screen they are."""
    page.evaluate("(text) => app.loadGraphData(JSON.parse(text))", (EMOJI / workflow).read_text(encoding="utf-8"))
    page.wait_for_timeout(1500)
    clip = page.evaluate(PLACE, [kinds, *at])
    page.evaluate("() => app.queuePrompt(0)")
    while (queue := get_json(url + "/queue"))["queue_running"] or queue["queue_pending"]:
        page.wait_for_timeout(200)
    page.wait_for_timeout(1500)
    return clip


def plots(page: Page, url: str) -> None:
    """The plots as they ran, with the pointer on the third call: among their nodes for the README, the scheduler's alone for its help."""
    kinds = ["DPMSolverSamplerExt", "DPMSolverSchedulerExt", "SamplerCustom", "EmojiDemoDecode"]
    clip = ran(page, url, "emoji_dpm_nodes.json", kinds, (450, 150))
    inner = "app.graph._nodes.find((n) => n.type === 'DPMSolverSchedulerExt').widgets.find((w) => w.name === 'dpm_plan').element.shadowRoot"
    x, y, *box = page.evaluate(
        f"""() => {{ const [dot, box] = ['[data-call="2"]', '.box'].map((s) => {inner}.querySelector(s).getBoundingClientRect());
        return [dot.x + dot.width / 2, dot.y + dot.height / 2, box.x, box.y, box.width, box.height] }}"""
    )
    page.mouse.move(x, y)
    page.wait_for_timeout(500)
    save(seen(page, clip), DOCS / "plot.png")
    save(seen(page, dict(zip(("x", "y", "width", "height"), box, strict=True))), HELP / "plot.png")


def presets(page: Page, url: str) -> None:
    """The menu of a KSampler, whose model's family a run has told, and beside it what one click in it says and sets."""
    clip = ran(page, url, "emoji_dpm_auto.json", ["KSampler"], (1500, 290))
    page.mouse.click(clip["x"] + 90, clip["y"] + 45, button="right")
    page.get_by_text("DPM-Solver presets").first.hover()
    page.get_by_text("DPM-Solver presets").first.click()
    page.wait_for_timeout(500)
    clip |= {"width": 500, "height": 590}
    left = seen(page, clip)
    page.get_by_text("quality 12 (SD 1.5, SDXL)").first.click()
    page.wait_for_timeout(1500)
    right = seen(page, clip | {"y": 50})  # where the page has its messages
    both = Image.new("RGB", (left.width + right.width + 12, left.height), "white")
    both.paste(left, (0, 0))
    both.paste(right, (left.width + 12, 0))
    save(both, DOCS / "presets.png")


def main() -> None:
    parser = argparse.ArgumentParser(description="Take the pictures of nodes.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="nodes, plot, presets; all of them without any")
    only = parser.parse_args().names or ["nodes", "plot", "presets"]
    base = prepare_base(HERE.parent / ".comfy" / "demo", {"dpm-solver-ext": HERE.parent, "emoji-demo": HERE / "pack"})
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    with Server(base, progress=print) as server, sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=browser, args=FLAGS).new_page(viewport={"width": 2000, "height": 1300})
        page.goto(server.url, wait_until="domcontentloaded")
        page.wait_for_function("() => window.app?.graph && LiteGraph?.registered_node_types?.DPMSolverSchedulerExt", timeout=60_000)
        for file, workflow, kinds in PICTURES if "nodes" in only else ():
            take(page, loading(server.url) if workflow is None else workflow.read_text(encoding="utf-8"), kinds, HELP / file)
        if "plot" in only:
            plots(page, server.url)
        if "presets" in only:
            presets(page, server.url)


if __name__ == "__main__":
    main()
