"""The page in Chinese: what this pack draws by itself is in the page's language, and every text of it has one."""

import json
import re
from contextlib import contextmanager

import pytest

SAMPLER, SCHEDULER, ADVANCED = "DPMSolverSamplerExt", "DPMSolverSchedulerExt", "DPMSolverSamplerAdvancedExt"
pytestmark = pytest.mark.slow
# what stays as it is beside the names of widgets and of their values
NAMES = """Stable Diffusion Video SD SDXL SVD FLUX Flux Wan Chroma EDM VP UniPC DPM Solver
KSampler SamplerCustom ComfyUI sigmas benchmarks results bench md sigma"""
# the Chinese of a list of texts, by a copy of the module: the page stays as it is
SAID = """async (all) => {
  const { said, speak } = await import('/extensions/my-pack/lib/words.js?copy');
  speak(() => 'zh');
  return all.map((text) => said(text));
}"""
# every text in the trees of the plots, those that show when the pointer waits, and those that are read aloud
DRAWN = """() => app.graph._nodes.flatMap((n) => n.widgets ?? []).filter((w) => w.name === 'dpm_plan').flatMap((widget) => {
  const { shadowRoot } = widget.element;
  const found = [], walker = document.createTreeWalker(shadowRoot, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) if (walker.currentNode.parentElement.tagName !== 'STYLE') found.push(walker.currentNode.data.trim());
  for (const e of shadowRoot.querySelectorAll('*')) found.push(e.getAttribute('title'), e.getAttribute('aria-label'));
  return found.filter(Boolean);
})"""


@contextmanager
def chinese(page):
    """The page in Chinese; the setting is the user's, so it is the next page's too."""
    speak(page, "zh")
    try:
        yield
    finally:
        speak(page, "en")


def speak(page, language):
    """The host loads the workflow anew then: wait until no node is of the old one."""
    page.js("() => app.graph._nodes.forEach((node) => (node.old_language = true))")
    page.setting("Comfy.Locale", language)
    page.wait("() => app.graph._nodes.length && !app.graph._nodes.some((node) => node.old_language)")
    page.wait(f"() => {page.plot(SCHEDULER)}.querySelector('.dot')")


@pytest.fixture
def nodes(page, root):
    page.open(root / "demo" / "pack" / "example_workflows" / "emoji_dpm_nodes.json")
    page.drawn(SCHEDULER, 8)


@pytest.fixture(scope="module")
def inputs(server):
    """{node: {widget: the values to try}}: all of a list, and of a number its default, its ends and what lies between."""
    found = {}
    for kind in (SAMPLER, ADVANCED, SCHEDULER, "KSampler"):
        info = server.tools.get_json(f"{server.url}/object_info/{kind}")[kind]["input"]
        widgets = {**info["required"], **info.get("optional", {})}
        found[kind] = {name: values for name, (form, *rest) in widgets.items() if (values := tried(form, rest[0] if rest else {}))}
    return found


def tried(form, options):
    if isinstance(form, list) or form == "COMBO":
        return form if isinstance(form, list) else options["options"]
    if form not in ("INT", "FLOAT"):
        return []
    ends = [min(options[end], 400) for end in ("min", "max")] if form == "INT" else [options["min"], options["max"], 0.3, 1.5]
    return [options["default"], *ends]


@pytest.fixture(scope="module")
def english(inputs):
    """A function: the English words of a text that are neither names nor, `beside` them, those of widgets and of their values."""
    names = {*NAMES.split(), *(name for widgets in inputs.values() for name in widgets)}
    names |= {str(value) for widgets in inputs.values() for values in widgets.values() for value in values}
    known = {word for name in names for word in re.findall(r"[A-Za-z]+", name)} | {"ems", "nan", "fast"}

    def left(text, beside=True):
        return [
            word
            for word in re.findall(r"[A-Za-z]{2,}", text)
            if word not in (known if beside else (*NAMES.split(), "dpmsolver", "auto", "multistep"))
        ]

    return left


@pytest.mark.usefixtures("nodes")
def test_the_plot(page, english):
    """Nothing in the plots is English any more, with the pointer on a dot too; back in English all of it is."""
    with chinese(page):
        assert page.text(SCHEDULER, "title") == "8 次模型调用"
        chart, (x, y) = page.box(SCHEDULER), page.dots(SCHEDULER)[2]
        scale = chart["width"] / page.js(f"() => {page.plot(SCHEDULER)}.querySelector('.chart').clientWidth")
        page.page.mouse.move(chart["x"] + x * scale, chart["y"] + y * scale)
        page.wait(f"() => {page.plot(SCHEDULER)}.querySelector('.tip').textContent.includes('第 3 步')")
        drawn = page.js(DRAWN)
        assert len(drawn) > 40 and [(text, left) for text in drawn if (left := english(text, False))] == []
        page.change(SCHEDULER, "schedule", "manual")
        page.change(SCHEDULER, "manual_sigmas", "3, 2, 5")
        page.wait(f"() => {page.plot(SCHEDULER)}.querySelector('.empty').textContent.includes('请按递减排列')")
        page.change(SCHEDULER, "schedule", "auto")
        page.page.mouse.move(5, 500)
    assert [text for text in page.js(DRAWN) if re.search("[\u4e00-\u9fff]", text)] == []


@pytest.mark.usefixtures("nodes")
def test_presets(page, root, english):
    """The menu of a node, and the message with the reason; in the words that the settings have."""
    menu = f"() => app.extensions.find((e) => e.name === 'DPMSolverExt').getNodeMenuItems({page.node(SAMPLER)})[0]"
    with chinese(page):
        assert page.js(f"() => ({menu})().content") == "DPM-Solver 预设"
        labels = page.js(f"() => ({menu})().submenu.options.map((option) => option.content)")
        settings = json.loads((root / "locales" / "zh" / "settings.json").read_text(encoding="utf-8"))["DPMSolverExt_Preset"]["options"]
        assert set(labels) <= {*settings.values()} and len(labels) >= 3
        page.command("DPMSolverExt.fast.flow")
        message = page.page.locator(".p-toast-message, :has(> [data-testid=toast-close])").filter(has_text="快速 6").first
        message.wait_for(timeout=8000)
        text = message.inner_text()
        message.locator("button").first.click()
        message.wait_for(state="hidden")
    assert english(text) == [] and "撤销" in text


def test_every_text_of_the_server(pinned, server, inputs, english):
    """Whatever the server says of any value of a widget, alone or beside those that forbid it, and why a preset is as it is."""
    said, plan = set(), "/dpm_solver_ext/plan"
    free = {"algorithm": "dpmsolver++", "corrector": "none"}
    beside = [{}, free, *(free | {"method": method} for method in inputs[ADVANCED]["method"][1:]), free | {"eta": 0.5}, free | {"order": 1}]
    asked = [{"sampler": {"node": ADVANCED, **more, name: v}} for more in beside for name, vs in inputs[ADVANCED].items() for v in vs]
    asked += [{"sampler": {"node": SAMPLER, "preset": preset}} for preset in inputs[SAMPLER]["preset"]]
    plans = [{"scheduler": {"steps": 2}} | request for request in asked]
    plans += [{"scheduler": {name: value} | more} for name, vs in inputs[SCHEDULER].items() for value in vs for more in ({}, {"steps": 1})]
    manual = ("", "3", "a, 2", "3, 2, 5", "5, 5, 0", "-1, 0", "0, 1", "nan, 2", "1,5 1,2", "1, 2, 1", "9, 3, 1, 0")
    plans += [{"scheduler": {"schedule": "manual", "manual_sigmas": text}} for text in manual]
    plans += [{"scheduler": {"node": "BasicScheduler", "scheduler": "karras", "steps": n}, "model": ""} for n in (1, 9)]
    plans.append({"scheduler": {"schedule": "manual", "manual_sigmas": "1, 9"}, "sampler": {"node": ADVANCED, **free, "eta": 0.5}})
    for request in plans:
        status, found = server.tools.post_json(server.url + plan, {"scheduler": None, "sampler": None, "model": None, **request})
        assert status == 200, (request, found)
        said |= {found["error"]} if "error" in found else {found["solver"], found["source"], *found["notes"]}
    presets = server.tools.get_json(server.url + "/dpm_solver_ext/presets")
    said |= {preset[key] for preset in presets for key in ("label", "reason")}
    assert len(said) > 150
    words = pinned.js(SAID, [*said])
    assert [(text, rest) for text, word in zip(said, words, strict=True) if (rest := english(word))] == []


def test_every_text_in_the_code(pinned, root):
    """Each text that a module gives to `said` is in the list, or one that fits it; a translation has the parts of its English text."""
    code = "".join(f.read_text(encoding="utf-8") for f in (root / "web").rglob("*.js"))
    texts = [re.sub(r"\$\{[^}]*\}", "7", a or b) for a, b in re.findall(r'\bsaid\(\s*(?:"([^"]+)"|`([^`]+)`)', code)]
    assert len(texts) > 10
    translated = pinned.js(SAID, texts)
    words = pinned.js("async () => (await import('/extensions/my-pack/lib/words_zh.js')).ZH")
    assert [text for text, word in zip(texts, translated, strict=True) if word == text] == []
    for text, translation in words.items():
        parts = re.findall(r"\{(\d+)\}", text)
        assert parts == [str(i) for i in range(len(parts))] and sorted(parts) == sorted(re.findall(r"\{(\d+)\}", translation)), text
