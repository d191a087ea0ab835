"""A WebUI's double with our extension in it (`host`), and the maker of others (`make_host`)."""

import sys
import types

import pytest


@pytest.fixture
def make_host(tmp_path, monkeypatch):
    """make_host(kind="a1111", model="eps", load=True) -> the double. gradio is a stand-in here: what needs it has tests of its own."""
    from dpm_solver_ext.tests.webui.host import Host, Model

    for name in ("gradio", "gradio.context"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["gradio.context"].Context = None  # type: ignore[attr-defined]
    made = []

    def make(kind="a1111", model="eps", load=True, **more):
        host = Host(kind, tmp_path)
        made.append(host)
        Model(host, model, **more)
        if load:
            host.load()
        return host

    yield make
    for host in reversed(made):
        host.close()


@pytest.fixture
def host(make_host):
    return make_host()
