"""The page's modules hold to the types that their comments give, as TypeScript reads them."""

import json
import shutil
import subprocess

import pytest

TYPESCRIPT = "5.9.3"
OPTIONS = {
    "checkJs": True, "allowJs": True, "noEmit": True, "strict": True, "target": "es2022", "module": "es2022", "types": [],
    "moduleResolution": "bundler", "lib": ["es2023", "dom", "dom.iterable"], "skipLibCheck": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def compiler(root):
    """TypeScript's compiler, unpacked once under .comfy; it is one package without dependencies."""
    place = root / ".comfy" / f"typescript-{TYPESCRIPT}"
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("no node on this machine: install node.js to check the page's types")
    if not (place / "package" / "lib" / "tsc.js").is_file():
        place.mkdir(parents=True, exist_ok=True)
        name = subprocess.run(
            ["npm", "pack", "--silent", f"typescript@{TYPESCRIPT}"], cwd=place, capture_output=True, text=True, check=True
        )
        shutil.unpack_archive(place / name.stdout.split()[-1], place, "gztar", filter="data")
    return place / "package" / "lib" / "tsc.js"


def test_types(compiler, root, tmp_path):
    """No error in any of our modules; a misspelt property of a plan, in a file beside them, is the only one, so the check is one."""
    files = [str(f) for f in (root / "web").rglob("*.js")]
    assert len(files) >= 5 and all("// @ts-check" in (root / "web" / f).read_text(encoding="utf-8") for f in files)
    plan = f'/** @param {{import("{root}/web/lib/plot").Plan}} plan */'
    (tmp_path / "wrong.js").write_text(f"// @ts-check\n{plan}\nexport const calls = (plan) => plan.cals.length;\n")
    config = {"compilerOptions": OPTIONS, "files": [*files, str(tmp_path / "wrong.js")]}
    (tmp_path / "tsconfig.json").write_text(json.dumps(config))
    done = subprocess.run(["node", compiler, "-p", tmp_path / "tsconfig.json"], capture_output=True, text=True, timeout=240)
    errors = [line for line in done.stdout.splitlines() if "error TS" in line]
    assert len(errors) == 1 and "wrong.js" in errors[0] and "cals" in errors[0], done.stdout


def test_no_module_of_ours_touches_what_is_shared(root):
    """No prototype, no global and no console in any of them."""
    for file in (root / "web").rglob("*.js"):
        text = file.read_text(encoding="utf-8")
        for word in (".prototype", "console.", "globalThis", "window.app", "eval(", "document.head", "document.body", "localStorage"):
            assert word not in text, f"{file.name} has {word}"
