"""Take the pictures of nodes for the help pages (web/docs) from the page itself, in Debian's Chromium, with the demo's host.

    python demo/thumbnails.py dpm_v3 dpm_tuned   first: makes the files that the two loading nodes show
    python demo/help_pictures.py

Each is a piece of the screen around one or more nodes, at the size in which the page shows them.
"""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

from host import Server, object_info, prepare_base
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from templates import EMOJI, EXTENSION, PRESET, SAMPLER_WIDGETS, SOCKETS, V3_WIDGETS, Canvas

HERE = Path(__file__).resolve().parent
HELP = HERE.parent / "web" / "docs"
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
  return { x: box.x + x - 10, y: box.y + y - 10, width: right - left + 20, height: bottom - top + 20 };
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
    shot = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
    shot.quantize(96).save(path, optimize=True)
    print(path, shot.size, path.stat().st_size, "bytes", flush=True)


def main() -> None:
    base = prepare_base(HERE.parent / ".comfy" / "demo", {"dpm-solver-ext": HERE.parent, "emoji-demo": HERE / "pack"})
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    with Server(base, progress=print) as server, sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=browser, args=FLAGS).new_page(viewport={"width": 2000, "height": 1300})
        page.goto(server.url, wait_until="domcontentloaded")
        page.wait_for_function("() => window.app?.graph && LiteGraph?.registered_node_types?.DPMSolverSchedulerExt", timeout=60_000)
        for file, workflow, kinds in PICTURES:
            take(page, loading(server.url) if workflow is None else workflow.read_text(encoding="utf-8"), kinds, HELP / file)


if __name__ == "__main__":
    main()
