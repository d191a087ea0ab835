"""Writes locales/en/nodeDefs.json: the English texts of the nodes as they are in the code, for who translates them.

    .venv/bin/python tools/locales.py

The page shows an English user the same without the file; other languages are translated from it, and tests/comfy/test_locales.py holds it
to the nodes. Needs the real ComfyUI, which `make test` or `make demo` has put there.
"""

import asyncio
import importlib.util
import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "locales" / "en" / "nodeDefs.json"


def texts(nodes: dict) -> dict:
    """{node id: its texts} of loaded nodes, as the page reads them from a file."""
    return {node_id: _texts(node) for node_id, node in nodes.items()}


def _texts(node) -> dict:
    schema, spec = node.GET_SCHEMA(), node.INPUT_TYPES()
    inputs = {
        name: {"name": name, "tooltip": rest[0]["tooltip"]}
        for section in ("required", "optional")
        for name, (_, *rest) in spec.get(section, {}).items()
    }
    outputs = {
        str(i): {"name": name, "tooltip": tooltip}
        for i, (name, tooltip) in enumerate(zip(node.RETURN_NAMES, node.OUTPUT_TOOLTIPS, strict=True))
    }
    return {"display_name": schema.display_name, "description": schema.description, "inputs": inputs, "outputs": outputs}


def written(found: dict) -> str:
    """The file's content."""
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def _load(name: str, path: Path):
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def main() -> None:
    host = _load("dpm_ext_locales_host", ROOT / "demo" / "host.py")
    sys.argv = sys.argv[:1]
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        host.prepare_base(base, {"my-pack": ROOT})
        sys.path.insert(0, str(host.app_dir(ROOT)))
        sys.path.append(str(host.STUBS))
        from comfy.cli_args import args

        args.cpu, args.base_directory = True, str(base)
        import nodes  # ComfyUI's

        known = set(nodes.NODE_CLASS_MAPPINGS)
        assert asyncio.run(nodes.load_custom_node(str(base / "custom_nodes" / "my-pack"), known)), "ComfyUI could not load the pack"
        FILE.write_text(written(texts({k: v for k, v in nodes.NODE_CLASS_MAPPINGS.items() if k not in known})), encoding="utf-8")
    print(FILE)


if __name__ == "__main__":
    main()
