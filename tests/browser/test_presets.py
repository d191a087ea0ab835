"""Presets, settings and commands on the page: what one click sets, that one undo takes it back, and that nothing loaded is touched."""

import json
import re

import pytest

SAMPLER, SCHEDULER, ADVANCED = "DPMSolverSamplerExt", "DPMSolverSchedulerExt", "DPMSolverSamplerAdvancedExt"
pytestmark = pytest.mark.slow
EMPTY = {"last_node_id": 0, "last_link_id": 0, "nodes": [], "links": [], "groups": [], "config": {}, "version": 0.4}
AUTO = {"sampler_name": "dpm_auto_ext", "scheduler": "dpm_auto_ext"}
ADD = "(kind) => { const n = LiteGraph.createNode(kind); app.graph.add(n); return Promise.resolve().then(() => n.id) }"


@pytest.fixture(scope="module")
def folder(root):
    return root / "demo" / "pack" / "example_workflows"


@pytest.fixture(scope="module", autouse=True)
def fresh(pinned):
    """A page without the marks of the runs before: the host writes a cancelled run's progress into whatever workflow is open."""
    pinned.load()


def select(page, code):
    page.js(f"() => {{ app.canvas.deselectAll(); app.canvas.select({code}) }}")


def toast(page, words):
    """Wait for a message with these words, and take it away."""
    found = page.page.locator(".p-toast-message, :has(> [data-testid=toast-close])").filter(has_text=words).first
    found.wait_for(timeout=8000)
    text = found.inner_text()
    found.locator("button").first.click()
    found.wait_for(state="hidden")
    return text


def test_one_click_on_a_ksampler(page, folder):
    """From its menu: steps, sampler and scheduler at once, with the measured reason; one Ctrl-Z brings all three back."""
    page.open(folder / "emoji_dpm_auto.json")
    other = "app.graph._nodes.filter((n) => n.type === 'KSampler')[1]"
    values = f"() => Object.fromEntries({other}.widgets.map((w) => [w.name, w.value]))"
    page.js(f"() => {{ for (const w of {other}.widgets) if (w.name === 'steps') w.value = 31 }}")
    page.step()
    before = page.js(values)
    place = page.js(f"() => app.canvas.ds.convertOffsetToCanvas([{other}.pos[0] + 90, {other}.pos[1] - 14])")
    box = page.js("() => { const b = app.canvas.canvas.getBoundingClientRect(); return [b.x, b.y] }")
    page.page.mouse.click(box[0] + place[0], box[1] + place[1], button="right")
    menu = page.page.get_by_text("DPM-Solver presets").first
    menu.hover()
    menu.click()
    page.page.get_by_text(re.compile(r"^quality 12 \(")).first.click()  # of its family, if an earlier test ran this model
    assert page.js(values) == before | AUTO | {"steps": 12}
    said = toast(page, "quality 12 (")
    assert "benchmarks/results/bench.md" in said and "12 model calls with auto" in said
    page.command("Comfy.Undo")
    page.wait(f"() => {other}.widgets.find((w) => w.name === 'steps').value === 31")
    assert page.js(values) == before


def test_the_menu_in_nodes_2(newest, folder):
    """The newer front end's own menu of a node has them, too; that of ComfyUI 0.3.75 shows nothing of any extension there."""
    newest.open(folder / "emoji_dpm_auto.json", vue=True)
    node = newest.js(f"() => String({newest.node('KSampler')}.id)")
    newest.page.locator(f"[data-node-id='{node}']").first.click(button="right", position={"x": 60, "y": 12})
    menu = newest.page.get_by_text("DPM-Solver presets").first
    menu.hover()
    menu.click()
    newest.page.get_by_text(re.compile(r"^exact 25 \(")).first.click()
    newest.wait(f"() => {newest.node('KSampler')}.widgets.find((w) => w.name === 'steps').value === 25")
    toast(newest, "exact 25")


def test_the_menu_of_commands(page):
    """The page's menu has all commands, under Extensions."""
    page.open(json.dumps(EMPTY))
    page.page.locator(".comfy-menu-button-wrapper, .comfyui-logo, [aria-label='Menu'], [data-testid=menu-button]").first.click()
    command = "DPM-Solver: add sampler and scheduler nodes"
    for word, inner in (("Extensions", "DPM-Solver (ext)"), ("DPM-Solver (ext)", command)):
        item = page.page.get_by_text(word, exact=True).first
        item.hover()
        page.page.wait_for_timeout(300)
        if not page.page.get_by_text(inner, exact=True).first.is_visible():
            item.click()  # one front end opens an inner menu by the pointer, one by a click
    page.page.get_by_text(command, exact=True).first.click()
    page.drawn(SCHEDULER, 12)
    assert page.js(f"() => !!{page.node(SAMPLER)}")


def test_one_click_on_our_nodes(page, folder):
    """As a command, with nothing selected: the only run there is, both of its nodes; the plot follows."""
    page.open(folder / "emoji_dpm_nodes.json")
    page.change(SAMPLER, "preset", "custom")  # with it the node has six widgets more, and another height
    page.change(SCHEDULER, "schedule", "karras")
    page.js("() => app.canvas.deselectAll()")
    page.step()
    page.command("DPMSolverExt.exact.sd")
    assert page.values(SCHEDULER)["steps"] == 25 and page.values(SCHEDULER)["schedule"] == "auto"
    assert page.values(SAMPLER)["preset"] == "auto"
    page.drawn(SCHEDULER, 25, "25 model calls")
    toast(page, "exact 25")
    page.command("Comfy.Undo")
    page.drawn(SCHEDULER, 8)
    assert page.values(SAMPLER)["preset"] == "custom" and page.values(SCHEDULER)["schedule"] == "karras"


def test_what_a_preset_cannot_set(pinned, folder):
    """Two runs and none selected: it asks; an input that is connected stays, and the message says so."""
    pinned.open(folder / "emoji_dpm_auto.json")
    pinned.js("() => app.canvas.deselectAll()")
    before = pinned.values("KSampler")
    pinned.command("DPMSolverExt.fast.sd")
    assert "Select the KSampler" in toast(pinned, "fast 6") and pinned.values("KSampler") == before
    pinned.open(json.dumps(EMPTY))
    pinned.js(
        "() => { const [n, k] = ['PrimitiveInt', 'KSampler'].map((kind) => LiteGraph.createNode(kind));"
        "app.graph.add(n); app.graph.add(k); n.connect(0, k, 'steps'); app.canvas.select(k) }"
    )
    pinned.command("DPMSolverExt.fast.sd")
    assert "connected or missing: steps" in toast(pinned, "fast 6")
    assert pinned.values("KSampler")["steps"] == 20 and pinned.values("KSampler")["sampler_name"] == "dpm_auto_ext"


def test_the_family_is_known_from_the_graph(pinned, folder):
    """Behind ModelSamplingSD3 the menu has the presets of flow models only, behind ModelSamplingDiscrete those of its kind."""
    pinned.open(folder / "emoji_dpm_auto.json")
    code = (
        "(kind) => { const k = app.graph._nodes.find((n) => n.type === 'KSampler'), m = LiteGraph.createNode(kind[0]); app.graph.add(m);"
        "if (kind[1]) m.widgets.find((w) => w.name === 'sampling').value = kind[1]; m.connect(0, k, 'model');"
        "const ours = app.extensions.find((e) => e.name === 'DPMSolverExt');"
        "return ours.getNodeMenuItems(k)[0].submenu.options.map((o) => o.content) }"
    )
    assert pinned.js(code, ["ModelSamplingSD3"]) == [f"{n} (SD3, Flux, Wan)" for n in ("fast 6", "quality 12", "exact 25")]
    assert [o.partition(" (")[2] for o in pinned.js(code, ["ModelSamplingDiscrete", "v_prediction"])] == ["v-prediction)"] * 3
    assert len(pinned.js(code, ["ModelSamplingDiscrete", "lcm"])) == 12, "nothing is known of it: all of them"


def test_preset_of_added_nodes(page, folder):
    """The setting acts on what is added by hand, not on a workflow that is loaded, in either of its formats, nor on undo."""
    page.setting("DPMSolverExt.Preset", "fast.flow")
    try:
        page.open(json.dumps(EMPTY))
        page.js(ADD, SCHEDULER)
        assert page.values(SCHEDULER)["steps"] == 6
        page.open(folder / "emoji_dpm_nodes.json")
        assert page.values(SCHEDULER)["steps"] == 8
        saved = page.saved()
        page.js("async () => { window.api_format = (await app.graphToPrompt()).output }")
        page.js("() => { app.loadApiJson(window.api_format, 'x'); delete window.api_format }")
        page.wait(f"() => {page.node(SCHEDULER)}")
        assert page.values(SCHEDULER)["steps"] == 8
        page.open(json.dumps(saved))
        assert page.values(SCHEDULER)["steps"] == 8 and page.values(SAMPLER)["preset"] == "auto"
    finally:
        page.setting("DPMSolverExt.Preset", "none")
    page.js("() => app.graph.clear()")
    page.js(ADD, SCHEDULER)
    assert page.values(SCHEDULER)["steps"] == 12


@pytest.mark.parametrize("vue", [False, True], ids=["classic", "nodes2"])
def test_without_plots(page, folder, vue):
    """The setting takes the plots away and gives them back, with their place; what is saved is the same."""
    page.open(folder / "emoji_dpm_nodes.json", vue)
    page.drawn(SCHEDULER, 8)
    shown = f"() => {page.plot(SCHEDULER)}.querySelector('.chart').getBoundingClientRect().height > 20"
    values = [(n["id"], n.get("widgets_values")) for n in page.saved()["nodes"]]
    height = page.js(f"() => {page.node(SCHEDULER)}.size[1]")
    page.command("DPMSolverExt.TogglePlot")
    try:
        page.wait(f"() => !({shown})()")
        if not vue:
            assert page.js(f"() => {page.node(SCHEDULER)}.size[1]") < height - 150
        assert [(n["id"], n.get("widgets_values")) for n in page.saved()["nodes"]] == values
        page.change(SCHEDULER, "steps", 9)
    finally:
        page.command("DPMSolverExt.TogglePlot")
    page.wait(shown)
    page.drawn(SCHEDULER, 9)


def test_a_workflow_made_with_plots_is_opened_without(page, folder):
    """The room of the plot goes with it, and comes back with it: nodes never grow over each other."""
    page.open(folder / "emoji_dpm_nodes.json")
    page.drawn(SCHEDULER, 8)
    heights = f"() => [{page.node(SCHEDULER)}.size[1], {page.node(SAMPLER)}.size[1]]"
    with_plots = page.js(heights)
    page.command("DPMSolverExt.TogglePlot")
    try:
        page.open(folder / "emoji_dpm_nodes.json")
        page.wait(f"() => ({heights})().every((h, i) => h < {with_plots}[i] - 150)")
        without = page.js(heights)
        workflow = page.saved()
    finally:
        page.command("DPMSolverExt.TogglePlot")
    page.wait(f"() => ({heights})().every((h, i) => Math.abs(h - {with_plots}[i]) < 2)")
    page.js(f"() => app.loadGraphData({json.dumps(workflow)})")  # saved without plots
    page.wait(f"() => ({heights})().every((h, i) => Math.abs(h - {with_plots}[i]) < 2)")
    assert all(a - b > 150 for a, b in zip(with_plots, without, strict=True))


def test_adding_both_nodes(pinned, folder):
    """The command puts them before the selected run, connected with its model, as one step of undo."""
    pinned.open(folder / "emoji_dpm_nodes.json")
    pinned.js(f"() => {{ app.graph.remove({pinned.node(SAMPLER)}); app.graph.remove({pinned.node(SCHEDULER)}) }}")
    pinned.step()
    select(pinned, pinned.node("SamplerCustom"))
    pinned.command("DPMSolverExt.AddNodes")
    pinned.drawn(SCHEDULER, 12)
    linked = pinned.js(
        f"() => [['SamplerCustom', 'sampler'], ['SamplerCustom', 'sigmas'], ['{SCHEDULER}', 'model']].map(([kind, name]) => {{"
        "const n = app.graph._nodes.find((n) => n.type === kind), l = n.inputs.find((i) => i.name === name).link;"
        "return l === null ? null : app.graph.getNodeById(app.graph.links.get(l).origin_id).type })"
    )
    assert linked == [SAMPLER, SCHEDULER, "EmojiDemoModel"]
    pinned.command("Comfy.Undo")
    pinned.wait(f"() => !{pinned.node(SAMPLER)} && !{pinned.node(SCHEDULER)}")


def test_texts(page, server, root):
    """Every command and setting has its text in both languages, under the page's own keys, and English says what the code says."""
    ours = page.js("() => app.extensionManager.command.commands.filter((c) => c.id.startsWith('DPMSolverExt')).map((c) => [c.id, c.label])")
    assert len(ours) == 14
    settings = page.js(
        "() => app.extensions.find((e) => e.name === 'DPMSolverExt').settings.map((s) => [s.id, s.name, s.tooltip, s.options ?? []])"
    )
    read = {
        (lang, name): json.loads((root / "locales" / lang / f"{name}.json").read_text(encoding="utf-8"))
        for lang in ("en", "zh") for name in ("commands", "settings")
    }  # fmt: skip
    assert read["en", "commands"] == {name.replace(".", "_"): {"label": label} for name, label in ours}
    assert list(read["zh", "commands"]) == list(read["en", "commands"])
    for name, text, tooltip, options in settings:
        english = read["en", "settings"][name.replace(".", "_")]
        assert english["name"] == text and english["tooltip"] == tooltip
        assert list(english.get("options", {}).values()) == [option["text"] for option in options]
        chinese = read["zh", "settings"][name.replace(".", "_")]
        assert [*chinese] == [*english] and list(chinese.get("options", {})) == list(english.get("options", {}))
    served = server.tools.get_json(server.url + "/i18n")["zh"]
    assert served["commands"]["DPMSolverExt_AddNodes"]["label"] == read["zh", "commands"]["DPMSolverExt_AddNodes"]["label"]


def test_the_about_page(page):
    """The badge with the pack's name and version leads to it."""
    page.command("Comfy.ShowSettingsDialog")
    page.page.get_by_text("About", exact=True).first.click()
    badge = page.page.locator("a[href*='dpm-solver-ext']").first
    badge.wait_for(timeout=8000)
    assert re.fullmatch(r"DPM-Solver \(ext\) v\d+\.\d+\.\d+", badge.inner_text().strip())
    page.page.keyboard.press("Escape")


def test_advanced_node_is_set_as_well(pinned):
    """A preset sets the options of the advanced node; options that no preset speaks of stay."""
    pinned.open(json.dumps(EMPTY))
    pinned.js(ADD, ADVANCED)
    pinned.change(ADVANCED, "algorithm", "dpmsolver++")
    pinned.change(ADVANCED, "eta", 0.5)
    pinned.change(ADVANCED, "threshold_ratio", 0.9)
    select(pinned, pinned.node(ADVANCED))
    pinned.command("DPMSolverExt.fast.sd")
    values = pinned.values(ADVANCED)
    assert values["algorithm"] == "dpmsolver-v" and values["eta"] == 0 and values["threshold_ratio"] == 0.9
