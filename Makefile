# Everything here works from a fresh clone: `make quickstart`, `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RESULTS ?= results
# Three processes for two cores, as a third of the time tests wait: for Ray, for other processes. A file to each at a
# time, in the order of tests/conftest.py.
THREE := -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: help quickstart test test-all bench docs check format clean

help:
	@echo "make quickstart   install, train the quickstart grid, print its table"
	@echo "make test         install, then lint, types and tests"
	@echo "make test-all     the same with the slow tests"
	@echo "make bench        every benchmark, one after the other: an hour or more"
	@echo "make docs         the docs as a site, in build/docs/site; fails on a broken link"
	@echo "make check        lint and types alone"
	@echo "make format       format the code"

quickstart: $(VENV)/.installed
	$(BIN)/gridrun launch grids/quickstart.yaml --results $(RESULTS)

test: check
	$(BIN)/python -m pytest $(THREE) -m "not slow"

test-all: check $(VENV)/.atheris
	$(BIN)/python -m pytest $(THREE)

bench: $(VENV)/.installed $(VENV)/.atheris
	@set -e; for one in benchmarks/[a-z]*.py; do echo "# $$one"; $(BIN)/python $$one; done

docs: $(VENV)/.installed-dev
	$(BIN)/python docs/site.py

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "gridrun needs Python 3.10 or newer; name one with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# Fuzzing along coverage needs it, and is left out where it does not install.
$(VENV)/.atheris: $(VENV)/.installed
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: atheris
	@touch $@
