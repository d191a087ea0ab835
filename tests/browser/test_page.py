"""The page: plots that draw and follow, widgets that hide, templates, help, runs, and what is saved; two front ends, both renderings."""

import json
import os
import re

import numpy as np
import pytest

SAMPLER, SCHEDULER, ADVANCED, TUNE = (
    "DPMSolverSamplerExt",
    "DPMSolverSchedulerExt",
    "DPMSolverSamplerAdvancedExt",
    "DPMSolverTuneScheduleExt",
)
pytestmark = pytest.mark.slow


# Words of the node's progress text that are on two lines of it.
BROKEN = """() => {
  const shown = document.querySelector('.break-all'), walker = document.createTreeWalker(shown, NodeFilter.SHOW_TEXT);
  const range = document.createRange(), broken = [];
  for (let text; (text = walker.nextNode()); )
    for (const word of text.data.matchAll(/[^\\s-]+/g)) {
      range.setStart(text, word.index);
      range.setEnd(text, word.index + word[0].length);
      if (new Set([...range.getClientRects()].map((r) => Math.round(r.top))).size > 1) broken.push(word[0]);
    }
  return broken;
}"""


@pytest.fixture(scope="module")
def nodes(root):
    return root / "demo" / "pack" / "example_workflows" / "emoji_dpm_nodes.json"


def asked(server, **request):
    """What the server says to the plot's question, asked here."""
    status, found = server.tools.post_json(
        server.url + "/dpm_solver_ext/plan", {"scheduler": None, "sampler": None, "model": None, **request}
    )
    assert status == 200, found
    return found


def colours(pixels):
    """How many pixels have a saturated colour: dots, on a grey ground with grey lines."""
    return int((pixels.max(-1) - pixels.min(-1) > 60).sum())


@pytest.mark.parametrize("vue", [False, True], ids=["classic", "nodes2"])
def test_plot(page, server, nodes, vue):
    """It has a dot for each model call at the sigmas that the server plans, follows a change, and shows both axes."""
    page.open(nodes, vue)
    page.drawn(SCHEDULER, 8, "8 model calls")
    page.drawn(SAMPLER, 8, "8 model calls")
    before = page.pixels(SCHEDULER)
    assert colours(before) > 30
    page.change(SCHEDULER, "steps", 14)
    page.drawn(SCHEDULER, 14, "14 model calls")
    page.drawn(SAMPLER, 14, "14 model calls")  # of the same run
    after = page.pixels(SCHEDULER)
    assert after.shape == before.shape and (np.abs(after - before).max(-1) > 40).sum() > 100
    sigmas = [c["sigma"] for c in asked(server, scheduler={"schedule": "auto", "steps": 14})["calls"]]
    dots = page.dots(SCHEDULER)
    heights = np.array([y for _, y in dots])
    assert np.allclose(np.corrcoef(heights, sigmas)[0, 1], -1, atol=1e-6), "the sigma axis is linear, and up is more noise"
    page.page.mouse.click(*middle(page.box(SCHEDULER, "[data-axis=lam]")))
    lams = [c["lam"] for c in asked(server, scheduler={"schedule": "auto", "steps": 14})["calls"]]
    assert np.allclose(np.corrcoef([y for _, y in page.dots(SCHEDULER)], lams)[0, 1], -1, atol=1e-6)
    page.change(SAMPLER, "preset", "dpmpp_sde")
    page.drawn(SCHEDULER, 27)  # two calls a step, one in the last


def middle(box):
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_pointer(page, server, nodes):
    """The value under the pointer is that of the nearest call, also where the canvas is zoomed."""
    page.open(nodes)
    page.drawn(SCHEDULER, 8)
    page.js("() => { app.canvas.ds.scale = 1.4; app.canvas.ds.offset = [-200, 100]; app.canvas.setDirty(true, true) }")
    page.page.wait_for_timeout(300)
    chart, (x, _) = page.box(SCHEDULER), page.dots(SCHEDULER)[2]
    scale = chart["width"] / page.js(f"() => {page.plot(SCHEDULER)}.querySelector('.chart').clientWidth")
    page.page.mouse.move(chart["x"] + x * scale, chart["y"] + chart["height"] / 2)
    call = asked(server, scheduler={"schedule": "auto", "steps": 8})["calls"][2]
    said = page.text(SCHEDULER, "tip")
    assert "call 3" in said and f"σ {call['sigma']:.3g}" in said and f"order {call['order']:.3g}" in said
    assert call["measured"] and "slope measured" in said
    page.page.mouse.move(5, 500)
    page.wait(f"() => {page.plot(SCHEDULER)}.querySelector('.tip').hidden")


def test_start_and_final_rules_are_marked(page, nodes):
    """A third-order run has two steps of start-up, and the last step to sigma 0 is of first order."""
    page.open(nodes)
    page.change(SAMPLER, "preset", "dpmpp_3m")
    page.wait(f"() => {page.plot(SAMPLER)}.querySelector('.what').textContent.includes('order 3')")
    bands = page.js(f"() => [...{page.plot(SAMPLER)}.querySelectorAll('.part')].map((g) => g.getAttribute('class'))")
    assert bands == ["part start", "part final"]
    fills = page.js(f"() => [...{page.plot(SAMPLER)}.querySelectorAll('.dot')].map((d) => d.getAttribute('fill'))")
    assert len(set(fills)) > 2 and fills[-1] != fills[3], "dots are coloured by order"


def test_measured_slopes_are_marked(page, nodes):
    """A run that measures its slopes says so, with what that is; one of planned slopes does not."""
    page.open(nodes)
    page.drawn(SCHEDULER, 8)
    mark = f"() => {page.plot(SCHEDULER)}.querySelector('.mark')"
    assert page.js(f"() => [({mark})().offsetWidth > 20, ({mark})().textContent, ({mark})().title.startsWith('Measured in the run')]") == [
        True, "measured", True,
    ]  # fmt: skip
    page.change(SAMPLER, "preset", "dpmpp_2m")
    page.wait(f"() => ({mark})().offsetWidth === 0")


def test_every_colour_is_in_the_legend(page, server, nodes):
    """Whole orders have a dot of their colour each; blends a strip whose ends are the colours of the lowest and the highest of them."""
    page.open(nodes)
    page.drawn(SCHEDULER, 8)

    def fills():
        return page.js(f"() => [...{page.plot(SCHEDULER)}.querySelectorAll('.dot')].map((d) => d.getAttribute('fill'))")

    def legend(inner):
        return page.js(f"() => [...{page.plot(SCHEDULER)}.querySelectorAll('.legend {inner}')].map((e) => e.getAttribute('style') ?? '')")

    orders = [call["order"] for call in asked(server, scheduler={"schedule": "auto", "steps": 8})["calls"]]
    low, high = fills()[orders.index(min(orders))], fills()[orders.index(max(orders))]
    (strip,) = legend("b")
    assert f"90deg,{low}" in strip and strip.endswith(f"{high})") and any(order % 1 for order in orders)
    assert page.text(SCHEDULER, "legend").split() == ["order", f"{min(orders):.3g}{max(orders):.3g}"]
    page.change(SAMPLER, "preset", "dpmpp_sde")
    page.drawn(SCHEDULER, 15)
    assert {f"background:{fill}" for fill in fills()} == set(legend("i")) and legend("b") == []


def test_nothing_is_cut_off(page, nodes):
    """The words around the chart have the room they need in a node of its first width."""
    page.open(nodes)
    page.drawn(SCHEDULER, 8)
    page.js(f"() => {{ const n = {page.node(SCHEDULER)}; n.setSize([320, n.computeSize()[1]]) }}")
    room = "(e) => [e.scrollWidth - e.clientWidth, e.scrollHeight - e.clientHeight, e.textContent]"
    page.js(
        f"() => {{ const badge = {page.plot(SCHEDULER)}.querySelector('.badge'); badge.hidden = false; badge.textContent = 'as it ran' }}"
    )
    for part in ("title", "what", "note", "head", "mark"):
        wide, high, text = page.js(f"() => ({room})({page.plot(SCHEDULER)}.querySelector('.{part}'))")
        assert text and wide <= 1 and high <= 1, (part, text, wide, high)
    page.change(SAMPLER, "preset", "dpmpp_3m")
    page.wait(f"() => {page.plot(SAMPLER)}.querySelector('.what').textContent.includes('order 3')")
    inside = f"""() => [...{page.plot(SAMPLER)}.querySelectorAll('.caption')].map((t) => {{ const a = t.getBoundingClientRect(),
        b = {page.plot(SAMPLER)}.querySelector('.chart').getBoundingClientRect(); return a.left >= b.left && a.right <= b.right }})"""
    assert page.js(inside) == [True, True]


def test_a_sentence_in_place_of_a_plot(page, nodes):
    """What cannot be planned is said in the node; the next good value draws again."""
    page.open(nodes)
    page.drawn(SCHEDULER, 8)
    page.change(SCHEDULER, "schedule", "manual")
    page.change(SCHEDULER, "manual_sigmas", "3, 2, 5")
    page.wait(f"() => {page.plot(SCHEDULER)}.querySelector('.empty').textContent.includes('rise from 2 to 5')")
    page.change(SCHEDULER, "manual_sigmas", "9, 3, 1, 0")
    page.drawn(SCHEDULER, 3)


@pytest.mark.parametrize("vue", [False, True], ids=["classic", "nodes2"])
def test_dragging_a_manual_schedule(page, nodes, vue):
    """A dot goes with the pointer as far as its neighbours, its number in the text with it; one undo brings it back; the node stays."""
    page.open(nodes, vue)
    page.change(SCHEDULER, "schedule", "manual")
    page.change(SCHEDULER, "manual_sigmas", "12, 6, 3, 1, 0")
    page.drawn(SCHEDULER, 4)
    page.wait(f"() => {page.plot(SCHEDULER)}.querySelectorAll('.dot')[1].getAttribute('data-call') === '1'")
    page.step()
    text = f"() => {page.node(SCHEDULER)}.widgets.find((w) => w.name === 'manual_sigmas').value"
    place = f"() => [...{page.node(SCHEDULER)}.pos]"
    chart, dots, before = page.box(SCHEDULER), page.dots(SCHEDULER), page.js(place)
    scale = chart["width"] / page.js(f"() => {page.plot(SCHEDULER)}.querySelector('.chart').clientWidth")

    def at(dot, up=0.0):
        return chart["x"] + dots[dot][0] * scale, chart["y"] + (dots[dot][1] - up) * scale

    page.page.mouse.move(*at(1))
    page.page.mouse.down()
    for part in (0.25, 0.5):  # half of the way up to the first dot
        page.page.mouse.move(*at(1, part * (dots[1][1] - dots[0][1])))
    page.page.mouse.up()
    first, second, *rest = (float(v) for v in page.js(text).split(", "))
    assert (first, rest) == (12, [3, 1, 0]) and second == pytest.approx(9, abs=0.4) and page.js(place) == before
    page.wait(f"() => [...{page.plot(SCHEDULER)}.querySelectorAll('.dot')].length === 4")
    page.page.mouse.move(*at(2))
    page.page.mouse.down()
    page.page.mouse.move(*at(2, 400))  # far above its neighbour
    page.page.mouse.up()
    levels = [float(v) for v in page.js(text).split(", ")]
    assert levels == sorted(levels, reverse=True) and len(set(levels)) == 5 and levels[2] > 5
    page.js("() => app.extensionManager.workflow.activeWorkflow.changeTracker.undo()")
    page.wait(f"() => ({text})().endsWith(', 3, 1, 0')")


@pytest.mark.parametrize("vue", [False, True], ids=["classic", "nodes2"])
def test_hiding(page, nodes, vue):
    """Only what acts is shown, a setting that does harm stays in view, and what is saved or queued never changes by it."""
    page.open(nodes, vue)
    names = ["algorithm", "order", "method", "solver_type", "start", "final_rule"]
    prompt = "async () => (await app.graphToPrompt()).output"

    def shown():
        if not vue:
            return page.js(f"() => {page.node(SAMPLER)}.widgets.filter((w) => !w.hidden).map((w) => w.name)")
        rows = f"[...{page.node(SAMPLER)}.widgets.at(-1).element.closest('.lg-node-widgets').children]"
        return page.js(f"() => {rows}.filter((r) => r.offsetHeight > 0).map((r) => r.innerText.trim().split(/\\s/)[0])")

    before, queued = page.saved(), page.js(prompt)
    assert shown()[0] == "preset" and not set(shown()) & set(names)
    low = page.js(f"() => {page.node(SAMPLER)}.size[1]")
    page.change(SAMPLER, "preset", "custom")
    page.page.wait_for_timeout(300)
    assert set(names) <= set(shown())
    assert vue or page.js(f"() => {page.node(SAMPLER)}.size[1]") > low + 100, "the node makes room"
    page.change(SAMPLER, "method", "singlestep")
    page.page.wait_for_timeout(300)
    assert not {"start", "final_rule"} & set(shown()) and "order" in shown()
    page.change(SAMPLER, "method", "multistep")
    page.change(SAMPLER, "preset", "auto")
    page.page.wait_for_timeout(300)
    assert not set(shown()) & set(names)
    after = page.saved()
    of = {n["id"]: n.get("widgets_values") for n in before["nodes"]}
    assert {n["id"]: n.get("widgets_values") for n in after["nodes"]} == of
    assert page.js(prompt) == queued
    (own,) = (v["inputs"] for v in queued.values() if v["class_type"] == SAMPLER)
    assert [*own] == ["preset", *names], "all of it is queued, and the plot is no input"


def test_saved_workflow_comes_back(pinned, nodes):
    """Saved and loaded again a workflow is the same: values, the plot's axis, the nodes' sizes; one from before the plot keeps values."""
    pinned.open(nodes)
    old = {n["id"]: n["widgets_values"] for n in json.loads(nodes.read_text(encoding="utf-8"))["nodes"]}
    assert {n["id"]: n["widgets_values"] for n in pinned.saved()["nodes"]} == old
    pinned.change(SAMPLER, "preset", "custom")
    pinned.change(SAMPLER, "order", 3)
    pinned.change(SCHEDULER, "steps", 11)
    pinned.drawn(SCHEDULER, 11)
    pinned.page.mouse.click(*middle(pinned.box(SCHEDULER, "[data-axis=lam]")))
    first = pinned.saved()
    pinned.open(json.dumps(first))
    pinned.drawn(SCHEDULER, 11)
    again = pinned.saved()
    keep = ("id", "type", "widgets_values", "size", "properties")
    assert [{k: n.get(k) for k in keep} for n in again["nodes"]] == [{k: n.get(k) for k in keep} for n in first["nodes"]]
    pressed = f"() => {pinned.plot(SCHEDULER)}.querySelector('[aria-pressed=true]').dataset.axis"
    assert pinned.js(pressed) == "lam" and "order 3" in pinned.text(SCHEDULER, "what")


def test_a_widget_that_is_not_ours(page, nodes):
    """What the host or another pack puts into a node, as a line on how far a run is, is not asked of the server."""
    page.open(nodes)
    page.drawn(SCHEDULER, 8)
    page.js(f"() => {{ {page.node(SCHEDULER)}.addWidget('text', '$$node-text-preview', 'half of it', () => {{}}) }}")
    page.change(SCHEDULER, "steps", 5)
    page.drawn(SCHEDULER, 5)


def test_undo(page, nodes):
    """The page's undo brings back the value, and the plot follows."""
    page.open(nodes)
    page.drawn(SCHEDULER, 8)
    page.step()
    page.change(SCHEDULER, "steps", 17)
    page.step()
    page.drawn(SCHEDULER, 17)
    page.page.keyboard.press("Control+z")
    page.drawn(SCHEDULER, 8)


@pytest.mark.parametrize("vue", [False, True], ids=["classic", "nodes2"])
def test_themes(page, nodes, vue):
    """On a light ground the plot is light, and its text dark."""
    found = {}
    for palette in ("light", "dark"):
        page.open(nodes, vue, palette)
        page.drawn(SCHEDULER, 8)
        page.page.wait_for_timeout(300)
        found[palette] = page.pixels(SCHEDULER)
        text = page.js(f"() => getComputedStyle({page.plot(SCHEDULER)}.querySelector('.title')).color")
        assert (np.mean([int(v) for v in re.findall(r"\d+", text)[:3]]) < 100) == (palette == "light"), text
    assert found["dark"].mean() < 90 and found["light"].mean() > 160
    assert all(colours(picture) > 30 for picture in found.values())


def test_resizing(pinned, nodes):
    """A larger node has a larger plot, drawn anew to its size."""
    pinned.open(nodes)
    pinned.drawn(SCHEDULER, 8)
    small = pinned.dots(SCHEDULER)
    pinned.js(f"() => {{ {pinned.node(SCHEDULER)}.setSize([640, 700]); app.canvas.setDirty(true, true) }}")
    pinned.wait(f"() => {pinned.plot(SCHEDULER)}.querySelector('.chart').clientHeight > 300")
    pinned.page.wait_for_timeout(200)
    large = pinned.dots(SCHEDULER)
    assert large[-1][0] > 1.6 * small[-1][0] and large[-1][1] > 1.6 * small[-1][1]


@pytest.mark.parametrize("name", sorted(f for folder in ("example_workflows", "demo/pack/example_workflows") for f in os.listdir(
    os.path.join(os.path.dirname(__file__), "..", "..", folder)) if f.endswith(".json")))  # fmt: skip
def test_template(pinned, root, server, name):
    """The host lists it with its picture; it loads with every node and link, and is accepted up to the model's own files."""
    pack = "emoji-demo" if name.startswith("emoji") else "my-pack"
    folder = root / ("demo/pack" if pack == "emoji-demo" else "") / "example_workflows"
    assert name[:-5] in server.tools.get_json(server.url + "/api/workflow_templates")[pack]
    given = server.tools.get_json(f"{server.url}/api/workflow_templates/{pack}/{name}")
    assert given == json.loads((folder / name).read_text(encoding="utf-8"))
    pinned.open(folder / name)
    saved = pinned.saved()
    assert len(saved["links"]) == len(given["links"]) and not pinned.js("() => app.graph._nodes.some((n) => n.has_errors)")
    for node in saved["nodes"]:
        if node["type"].startswith("DPMSolver") and node["type"] in (SAMPLER, SCHEDULER, ADVANCED, TUNE):
            assert pinned.js("(id) => app.graph.getNodeById(id).widgets.some((w) => w.name === 'dpm_plan')", node["id"])
    kinds = {n["type"] for n in given["nodes"]}
    rects = pinned.js("() => app.graph._nodes.map((n) => [n.title, n.pos[0], n.pos[1] - 30, n.pos[0] + n.size[0], n.pos[1] + n.size[1]])")
    pairs = [(a, b) for i, a in enumerate(rects) for b in rects[i + 1 :]]
    overlap = [f"{a[0]} over {b[0]}" for a, b in pairs if a[1] < b[3] and b[1] < a[3] and a[2] < b[4] and b[2] < a[4]]
    assert overlap == [], "no node hides another"
    prompt = pinned.js("async () => (await app.graphToPrompt()).output")
    status, answer = server.tools.post_json(server.url + "/prompt", {"prompt": prompt})
    server.tools.post_json(server.url + "/queue", {"clear": True})
    server.tools.post_json(server.url + "/interrupt", {})
    if "CheckpointLoaderSimple" in kinds:
        wrong = {e["extra_info"]["input_name"] for n in answer["node_errors"].values() for e in n["errors"]}
        assert status == 400 and wrong == {"ckpt_name"}, answer
    else:
        assert status == 200, answer


@pytest.mark.parametrize("kind", [SAMPLER, ADVANCED, TUNE])
def test_help(pinned, server, kind):
    """The node's help opens in the page, with our text, and its tables are no wider than the side bar."""
    pinned.open(json.dumps({"last_node_id": 1, "last_link_id": 0, "nodes": [], "links": [], "groups": [], "config": {}, "version": 0.4}))
    pinned.js("() => { app.canvas.ds.scale = 1; app.canvas.ds.offset = [0, 0] }")
    pinned.js(f"() => {{ const n = LiteGraph.createNode('{kind}'); app.graph.add(n); n.pos = [900, 300]; app.canvas.selectNode(n) }}")
    button = pinned.page.locator("[data-testid=info-button], .help-button").first
    button.click()
    words = {SAMPLER: "the default we measured to be best", ADVANCED: "every option of the family", TUNE: "finds them on your own model"}
    pinned.page.get_by_text(words[kind]).first.wait_for(timeout=10_000)
    widths = pinned.js("() => [...document.querySelectorAll('table')].map((t) => [t.scrollWidth, t.parentElement.clientWidth])")
    assert widths and all(table <= room < 400 for table, room in widths), widths
    pinned.page.keyboard.press("Escape")


def test_run(page, server, nodes):
    """Run: both plots say that they show what ran, and go back to a preview at the next change, now on the model's levels."""
    page.open(nodes)
    page.drawn(SCHEDULER, 8)
    assert "Stable Diffusion" in page.text(SCHEDULER, "note")
    seed = int.from_bytes(os.urandom(4), "big")
    page.change("SamplerCustom", "noise_seed", seed)
    page.page.get_by_test_id("queue-button").or_(page.page.get_by_role("button", name="Run", exact=True)).first.click()
    for kind in (SAMPLER, SCHEDULER):
        page.wait(f"() => !{page.plot(kind)}.querySelector('.badge').hidden", seconds=60)
        assert page.text(kind, "badge") == "as it ran"
        page.drawn(kind, 8, "8 model calls")
    server.idle(60)
    page.change(SCHEDULER, "steps", 9)
    page.drawn(SCHEDULER, 9)
    assert page.js(f"() => {page.plot(SCHEDULER)}.querySelector('.badge').hidden")
    assert "Stable Diffusion" not in page.text(SCHEDULER, "note") and "the model's clock" in page.text(SCHEDULER, "note")


def test_tune_and_cancel(pinned, root, server):
    """Tune Schedule from the page: its bar moves, its plot shows the best steps so far, Cancel stops it, and what was measured is kept."""
    pinned.open(root / "demo" / "pack" / "example_workflows" / "emoji_dpm_tuned.json")
    pinned.change(TUNE, "cfg", 2.25)
    pinned.change(TUNE, "seeds", 6)
    pinned.change(TUNE, "budget", 1200)
    pinned.drawn(TUNE, 6)
    pinned.page.get_by_test_id("queue-button").or_(pinned.page.get_by_role("button", name="Run", exact=True)).first.click()
    shown = f"() => {pinned.plot(TUNE)}.querySelector('.badge')?.textContent === 'so far'"
    pinned.wait(shown, seconds=60)
    pinned.wait(f"() => {pinned.plot(TUNE)}.querySelector('.note').textContent.includes('error')", seconds=60)
    assert pinned.text(TUNE, "title") == "6 model calls"
    assert pinned.js(f"() => {pinned.plot(SAMPLER)}.querySelector('.badge').hidden"), "the connected sampler shows its own plan"
    pinned.drawn(TUNE, 6)
    done = pinned.js(f"() => {pinned.node(TUNE)}.progress")
    pinned.wait(f"(done) => {pinned.node(TUNE)}.progress > done", done, seconds=60)
    pinned.page.get_by_role("button", name="Cancel current run").click()
    server.idle(10)
    (last,) = list(server.tools.get_json(server.url + "/history").values())[-1:]
    assert last["status"]["messages"][-1][0] == "execution_interrupted"
    pinned.wait("() => document.querySelector('.break-all')?.textContent.includes('tuning stopped')")
    assert pinned.js(BROKEN) == [], "the page breaks lines anywhere"
    kept = [f.name for f in (server.base / "models" / "dpm_tuned").iterdir() if f.name.startswith("emoji_dpm_tuned")]
    assert kept, "the unfinished search, or the best of it, is in a file"
