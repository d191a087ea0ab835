"""Make `.venv` and install what `make demo` and `make test` need. Standard library only; does nothing when all is there.

    python3 tools/venv.py [EXTRA ...]      extras of pyproject.toml, by default demo and test

The package itself is not installed: the tests and ComfyUI load the clone. `.venv/.installed` says which requirements and which Python the
venv was made from. It is removed before an installation and written after it, so an interrupted one is never taken for a finished one.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
BIN = os.path.join(VENV, "Scripts" if os.name == "nt" else "bin")
STAMP = os.path.join(VENV, ".installed")
LOG = os.path.join(VENV, "install.log")
OLDEST = (3, 11)  # numpy, scipy and transformers in the pinned versions


def unsuitable(version, has_venv):
    """One sentence when this Python cannot make the venv, else None. `version`: (major, minor, ...)."""
    if tuple(version[:2]) < OLDEST:
        found, oldest = ".".join(map(str, version[:2])), ".".join(map(str, OLDEST))
        return f"python3 is {found}, the demo and the tests need {oldest} or newer: name one, such as PYTHON=python3.12, after make."
    if not has_venv:
        return "This python3 has no venv module: install it (Debian, Ubuntu: apt install python3-venv) and run the same command again."
    return None


def has_venv():
    """Debian ships `venv` without `ensurepip`, and then a venv cannot be made."""
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return False
    return True


def requirements(pyproject, extras):
    """(requirements of the extras, requirements to install with --no-deps) out of the text of pyproject.toml."""
    import tomllib

    data = tomllib.loads(pyproject)
    known = data["project"]["optional-dependencies"]
    return [line for extra in extras for line in known[extra]], data["tool"]["dpm-solver-ext"]["no-deps"]


def fingerprint(wanted):
    """What the stamp holds: the requirements and the Python that they were installed for."""
    return hashlib.sha256(repr((wanted, sys.version_info[:3], sys.prefix)).encode()).hexdigest()


def stamped():
    try:
        with open(STAMP) as file:
            return file.read()
    except OSError:
        return ""


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def make_venv():
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True)


def pip(args, label):
    """Run pip with one short line per package, all of its output in .venv/install.log; its last lines when it fails."""
    command = [os.path.join(BIN, "python"), "-m", "pip", "install", "--progress-bar", "off", "--disable-pip-version-check"] + args
    start, tail, said, ended = time.time(), [], [label], threading.Event()

    def progress(text):
        said[:] = [text]
        say(f"  {time.time() - start:4.0f} s  {text}")

    def heartbeat():
        while not ended.wait(15):
            progress(said[0])

    with open(LOG, "a") as log:
        log.write(f"$ {' '.join(command)}\n")
        threading.Thread(target=heartbeat, daemon=True).start()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            for line in process.stdout:
                log.write(line)
                tail = tail[-14:] + [line]
                found = re.match(r"\s*(Collecting|Downloading|Installing collected packages)[ :]+(.*)", line)
                if found and found.group(1) == "Installing collected packages":
                    progress(f"unpacking {found.group(2).count(',') + 1} packages (the longest part)")
                elif found and (found.group(1) == "Collecting" or " MB)" in line):  # of the downloads only those that one waits for
                    progress(found.group(2).split(" (from")[0].split("/")[-1])
            code = process.wait()
        except BaseException:  # Ctrl-C: pip gets it too and ends by itself; wait, or it would write on behind our back
            process.terminate()
            process.wait()
            raise
        finally:
            ended.set()
    if code:
        sys.exit(f"{label} failed (pip exit {code}); the last lines, all of it in .venv/install.log:\n{''.join(tail)}")


def main(extras):
    problem = unsuitable(sys.version_info, has_venv())
    if problem:
        sys.exit(problem)
    with open(os.path.join(ROOT, "pyproject.toml"), encoding="utf-8") as file:
        wanted, no_deps = requirements(file.read(), extras)
    key = fingerprint((wanted, no_deps))
    if stamped() == key:
        return
    start = time.time()
    if os.path.exists(STAMP):
        os.remove(STAMP)
        say("requirements or python3 have changed")
    if os.path.isdir(VENV):
        if not os.path.exists(LOG):
            sys.exit("The folder .venv is not one that this project made: move it away, and run the same command again.")
        shutil.rmtree(VENV)  # an unfinished or outdated one: pip's cache makes the second time quick
    os.makedirs(VENV)
    with open(LOG, "w") as log:
        log.write(f"Python {sys.version}\n")
    say(f"making .venv and installing {len(wanted) + len(no_deps)} packages and what they need (2-3 minutes)")
    make_venv()
    pip(wanted, "installing the packages")
    pip(["--no-deps"] + no_deps, "installing " + " and ".join(no_deps))
    with open(STAMP + ".new", "w") as file:
        file.write(key)
    os.replace(STAMP + ".new", STAMP)
    say(f"installed in {time.time() - start:.0f} s")


if __name__ == "__main__":
    try:
        main(sys.argv[1:] or ["demo", "test"])
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command begins the installation again")
