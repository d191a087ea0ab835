# make demo, make test, make clean. A machine with python3 (3.11 or newer) and make is enough: the first run makes .venv and installs
# into it (2-3 minutes), later ones start at once.
PYTHON ?= python3
PORT ?= 8188
ARGS ?=
PY := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help venv demo test bench clean

help:
	@echo "make demo          the real ComfyUI with this pack: paints, compares, stays up at http://127.0.0.1:$(PORT) until Ctrl-C"
	@echo "make demo ONCE=1   the same, ends by itself; pictures in demo/out"
	@echo "make test          ruff, pyright, pytest; make test ARGS='tests/unit -k tape' for a part"
	@echo "make bench         errors against 18 pairs of peers, 10 minutes on two cores; QUICK=1 1 to 3; FULL=1 the whole grid, a day on two"
	@echo "                   cores, resumable (ARGS='--device cuda' with a GPU and many cores: 10 minutes)"
	@echo "make clean         removes .venv, .comfy, .gradio, demo/out and caches"
	@echo "PYTHON=python3.12 chooses the interpreter, PORT=8190 the demo's port"

venv:
	@$(PYTHON) tools/venv.py

demo: venv
	@$(PY) demo/run.py $(if $(ONCE),--once) --port $(PORT)

test: venv
	@echo "ruff";    $(PY) -m ruff check --quiet .
	@echo "pyright"; $(PY) -m basedpyright --pythonpath $(PY)
	@echo "pytest";  $(PY) -m pytest $(ARGS)

# The second line brings matplotlib; an extra more for tools/venv.py would make the venv anew.
bench: venv
	@$(PY) -c "import matplotlib" 2>/dev/null || $(PY) -m pip install --quiet --disable-pip-version-check \
		$$($(PY) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["bench"])')
	@$(PY) benchmarks/bench.py --size $(if $(QUICK),quick,$(if $(FULL),full,default)) $(ARGS)

clean:
	rm -rf .venv .comfy .gradio demo/out build dist .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
