"""A real ComfyUI server and its page in Debian's Chromium, for the tests of this folder: one server, one page for each front end.

Chromium is taken from the machine; where there is none and apt-get can be used, it is installed, else the tests are skipped. The second
front end is the newest one that starts with ComfyUI 0.3.75; its files are served to the page in place of the host's own.
"""

import importlib.util
import json
import mimetypes
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from urllib.parse import urlparse

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NEWER = "1.58.1"  # of comfyui-frontend-package; the pinned one is that of ComfyUI 0.3.75
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-features=LocalNetworkAccessChecks",  # the last for a page whose files do not come over the network
)  # fmt: skip
# all nodes into view at once, where the page's own command glides there; then two frames, in which they are drawn
FIT = """async () => {
  const boxes = app.graph._nodes.map((n) => [n.pos[0], n.pos[1] - 30, n.pos[0] + n.size[0], n.pos[1] + n.size[1]]);
  if (!boxes.length) return;
  const [left, top, right, bottom] = [0, 1, 2, 3].map((i) => Math[i < 2 ? 'min' : 'max'](...boxes.map((b) => b[i])));
  app.canvas.ds.fitToBounds([left - 60, top - 60, right - left + 120, bottom - top + 120]);
  app.canvas.setDirty(true, true);
  for (let i = 0; i < 2; i++) await new Promise((done) => requestAnimationFrame(done));
}"""
DEMO = ROOT / "demo" / "pack" / "example_workflows"


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def chromium():
    """The path of the browser."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if not found and shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        for command in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
            subprocess.run(["apt-get", "-qq", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        found = shutil.which("chromium")
    if not found:
        pytest.skip("no chromium on this machine: install it (Debian: apt install chromium) to run the tests of the page")
    return found


@pytest.fixture(scope="session")
def newer():
    """The static files of the newer front end, unpacked once under .comfy."""
    place = ROOT / ".comfy" / f"frontend-{NEWER}"
    if not (place / "static" / "index.html").is_file():
        shutil.rmtree(place, ignore_errors=True)
        wheels = place.with_name(place.name + ".wheel")
        command = ["download", "-q", "--disable-pip-version-check", "--no-deps", "-d", wheels, f"comfyui-frontend-package=={NEWER}"]
        subprocess.run([sys.executable, "-m", "pip", *command], check=True, stdout=subprocess.DEVNULL)
        (wheel,) = wheels.glob("*.whl")
        fresh = place.with_name(place.name + ".new")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(fresh, [n for n in archive.namelist() if "/static/" in n and not n.endswith(".map")])
        shutil.rmtree(wheels)
        (fresh / "comfyui_frontend_package").rename(place)
        shutil.rmtree(fresh)
    return (place / "static").resolve()  # .comfy may be a link


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """ComfyUI with this repository as custom_nodes/my-pack and the demo's model."""
    tools = load("dpm_ext_test_browser_tools", ROOT / "demo" / "host.py")
    base = tools.prepare_base(tmp_path_factory.mktemp("page") / "base", {"my-pack": ROOT, "emoji-demo": ROOT / "demo" / "pack"})
    (base / "input" / "example.png").write_bytes((DEMO / "emoji_dpm_nodes.jpg").read_bytes())
    with tools.Server(base, app=tools.app_dir(ROOT), env={"OMP_NUM_THREADS": "1"}) as running:
        running.tools, running.idle = tools, lambda seconds: idle(running, seconds)
        yield running


def idle(server, seconds):
    """Wait until nothing runs and nothing waits. (Playwright takes the promise of an asynchronous function for a true value.)"""
    end = time.monotonic() + seconds
    while (queue := server.tools.get_json(server.url + "/queue"))["queue_running"] or queue["queue_pending"]:
        assert time.monotonic() < end, "the queue does not come to its end"
        time.sleep(0.1)


class Page:
    """ComfyUI's page with the few questions that the tests ask it."""

    def __init__(self, page, url):
        self.page, self.url = page, url
        self.said = []
        page.on("console", lambda message: self.said.append((message.text, message.location.get("url", ""))))
        page.on("pageerror", lambda error: self.said.append((str(error), error.stack or "")))
        page.on("requestfailed", lambda request: self.said.append((f"failed: {request.failure}", request.url)))
        self.load()

    def load(self):
        """Open the page, or open it anew: what runs have left in it is gone, such as the host's lines on their progress."""
        self.page.goto(self.url, wait_until="domcontentloaded")
        ready = "() => window.app?.graph && window.app?.canvas && window.LiteGraph?.registered_node_types?.DPMSolverSchedulerExt"
        self.page.wait_for_function(ready, timeout=60_000)

    def js(self, code, argument=None):
        return self.page.evaluate(code, argument)

    def wait(self, code, argument=None, seconds=15):
        self.page.wait_for_function(code, arg=argument, timeout=1000 * seconds)

    def setting(self, name, value):
        self.js("([n, v]) => app.extensionManager.setting.set(n, v)", [name, value])

    def open(self, workflow, vue=False, palette="dark"):
        """Load a workflow (a path, or the text of one) as the page itself does, and bring all of it into view."""
        self.setting("Comfy.VueNodes.Enabled", vue)
        self.setting("Comfy.ColorPalette", palette)
        text = workflow.read_text(encoding="utf-8") if isinstance(workflow, Path) else workflow
        self.js("(text) => app.loadGraphData(JSON.parse(text))", text)
        self.wait("(n) => app.graph._nodes.length === n", len(json.loads(text)["nodes"]))
        self.js(FIT)
        self.page.wait_for_timeout(100)

    def command(self, name):
        self.js("(name) => app.extensionManager.command.execute(name)", name)

    def step(self):
        """What was changed until now is one step of the page's undo, as after an edit by hand."""
        self.page.wait_for_timeout(300)  # the page begins to keep steps of a workflow some time after it was loaded
        self.js("() => { app.canvas.emitBeforeChange(); app.canvas.emitAfterChange() }")

    def values(self, kind):
        """The widgets of the first node of this kind."""
        return self.js(f"() => Object.fromEntries({self.node(kind)}.widgets.map((w) => [w.name, w.value]))")

    def saved(self):
        return json.loads(self.js("() => JSON.stringify(app.graph.serialize())"))

    def node(self, kind):
        """A JavaScript expression for the first node of this kind."""
        return f"app.graph._nodes.find((n) => n.type === '{kind}')"

    def change(self, kind, name, value):
        """A widget's value, as an edit of it sets it."""
        found = f"{self.node(kind)}.widgets.find((w) => w.name === name)"
        self.js(f"([name, value]) => {{ const w = {found}; w.value = value; w.callback?.(value) }}", [name, value])

    def plot(self, kind):
        """A JavaScript expression for the tree inside of the plot of this node."""
        return f"{self.node(kind)}.widgets.find((w) => w.name === 'dpm_plan').element.shadowRoot"

    def dots(self, kind):
        code = f"() => [...{self.plot(kind)}.querySelectorAll('.dot')].map((d) => [+d.getAttribute('cx'), +d.getAttribute('cy')])"
        return self.js(code)

    def text(self, kind, part):
        return self.js(f"() => {self.plot(kind)}.querySelector('.{part}').textContent.trim()")

    def drawn(self, kind, count, title=None):
        """Wait until the plot has as many dots."""
        self.wait(f"(n) => {self.plot(kind)}.querySelectorAll('.dot').length === n", count)
        assert title is None or self.text(kind, "title") == title

    def box(self, kind, inner=".chart"):
        found = self.js(f"() => JSON.stringify({self.plot(kind)}.querySelector('{inner}').getBoundingClientRect())")
        return {key: json.loads(found)[key] for key in ("x", "y", "width", "height")}

    def pixels(self, kind):
        """The plot's chart as the screen shows it: RGB bytes (height, width, 3)."""
        import io

        import numpy as np
        from PIL import Image

        return np.asarray(Image.open(io.BytesIO(self.page.screenshot(clip=self.box(kind)))).convert("RGB")).astype(int)

    def ours(self):
        """What the page complained of that has to do with this pack."""
        # the host tries to reach its makers, and help in every language; it does not wait for the answer when it saves a setting
        outside = ("comfy.org", "api.comfy", "/docs/", "/api/settings/")
        said = [(text, where) for text, where in self.said if not any(name in text + where for name in outside)]
        return [(text, where) for text, where in said if "my-pack" in text + where or "dpm" in (text + where).lower()]


OPEN = []  # Playwright and its browser


@pytest.fixture(scope="session")
def browser(chromium):
    """Chromium, for this folder."""
    from playwright.sync_api import sync_playwright

    playwright = sync_playwright().start()
    OPEN.append(playwright)
    OPEN.append(playwright.chromium.launch(executable_path=chromium, headless=True, args=list(FLAGS)))
    return OPEN[-1]


def pytest_runtest_teardown(item, nextitem):
    """Close it with the folder's last test: while Playwright runs, nothing else in this thread may start an event loop, as other folders'
    tests do. (A fixture of scope "package" lives on without an `__init__.py` here.)"""
    if nextitem is None or HERE not in nextitem.path.parents:
        while OPEN:
            last = OPEN.pop()
            last.stop() if hasattr(last, "stop") else last.close()


@pytest.fixture(scope="session")
def pinned(browser, server):
    """The page of the front end that ComfyUI 0.3.75 pins."""
    return Page(browser.new_page(viewport={"width": 1900, "height": 1150}), server.url)


@pytest.fixture(scope="session")
def newest(browser, server, newer):
    """The page of a newer front end."""
    page = browser.new_page(viewport={"width": 1900, "height": 1150})

    def static(route):
        path = urlparse(route.request.url).path
        file = (newer / path.strip("/")).resolve() if path != "/" else newer / "index.html"
        if route.request.method == "GET" and newer in file.parents and file.is_file():
            route.fulfill(body=file.read_bytes(), content_type=mimetypes.guess_type(file.name)[0] or "application/octet-stream")
        else:
            route.continue_()

    page.route(f"{server.url}/**", static)
    return Page(page, server.url)


@pytest.fixture(params=["pinned", "newest"])
def page(request):
    """Either page."""
    return request.getfixturevalue(request.param)
