"""Venvs with the hosts' gradio: 3.41.2 (A1111, reForge) and 4.40.0 (Forge), which cannot share one, nor one with our torch's NumPy.

Made when a test first asks, in `.gradio/<version>` (about a minute and 0.3 GB each); `make clean` takes them away. Pins are those of the
hosts' requirements_versions.txt where gradio itself depends on them.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMON = ["httpx==0.24.1", "httpcore==0.15", "numpy<2", "pillow==9.5.0"]
VERSIONS = {
    "3.41.2": [*COMMON, "fastapi==0.94.0", "pydantic<2", "huggingface_hub<0.26"],
    "4.40.0": [*COMMON, "fastapi==0.104.1", "pydantic==2.8.2", "huggingface_hub==0.26.2"],
}


def python_of(version: str) -> str:
    """The interpreter of the venv with this gradio; made if it is not there, or of other requirements or another Python."""
    wanted = [f"gradio=={version}", *VERSIONS[version]]
    key = hashlib.sha256(repr((wanted, sys.version_info[:3], str(ROOT))).encode()).hexdigest()
    place = ROOT / ".gradio" / version
    stamp, python = place / ".installed", place / ("Scripts" if os.name == "nt" else "bin") / "python"
    if stamp.is_file() and stamp.read_text() == key:
        return str(python)
    shutil.rmtree(place, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    with tempfile.TemporaryFile("w+") as log:  # read only when it fails
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:", *wanted]
        if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode:
            log.seek(0)
            raise RuntimeError(f"gradio {version} cannot be installed:\n{log.read()[-2000:]}")
    stamp.write_text(key)
    return str(python)
