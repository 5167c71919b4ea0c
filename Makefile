# saccade: `make serve` and `make test` need only Python >= 3.11 and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
SERVE  ?= --preload picodet-s

.DEFAULT_GOAL := help
.PHONY: help serve test test-all test-models check format bench lock docs clean

help:  ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

serve: $(VENV)/.core  ## Install what is needed and serve on http://127.0.0.1:8000 (SERVE="--models DIR" for your own models)
	@$(BIN)/saccade serve $(SERVE)

test: $(VENV)/.dev  ## Run the quick tests, three at a time, for many of them wait
	$(BIN)/python -m pytest -n 3 --dist worksteal

test-all: $(VENV)/.dev  ## Run the heavy tests: real clients, services, a browser, conversions, soak; in two lanes that end together (what fails is tried once more, alone)
	$(BIN)/python tests/lanes.py

test-models: $(VENV)/.dev  ## Run the longest tests: models of real size, every architecture, real models on Ray
	$(BIN)/python -m pytest -m exhaustive --durations=25

check: $(VENV)/.dev  ## Lint, format check and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev  ## Put the code into the house's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev  ## Time the default model on this machine (benchmarks/README.md lists the rest)
	$(BIN)/saccade bench

docs: $(VENV)/.dev  ## Write the generated parts of the documentation anew
	$(BIN)/python docs/generate.py

lock: $(VENV)/.dev  ## Pin every library anew, with hashes
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-find-links --upgrade \
	  --python-version 3.11 pyproject.toml --group build --output-file requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-find-links --upgrade \
	  --python-version 3.11 pyproject.toml --group build --group dev --extra hub --extra onnxruntime --extra redis \
	  --extra postgres --constraint requirements.lock --output-file requirements-dev.lock

clean:  ## Remove everything that was installed or built here
	rm -rf $(VENV) .envs .cache dist build .mypy_cache .ruff_cache .pytest_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "saccade needs Python 3.11 or newer; found %s. Choose one with: make PYTHON=/path/to/python3" % sys.version.split()[0])'
	@echo "Making a Python environment in $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.core: requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing the libraries (pinned, checked by hash) ..."
	@$(PIP) install --quiet --require-hashes --requirement requirements.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.core | $(BIN)/python
	@echo "Installing the libraries for tests (pinned, checked by hash) ..."
	@$(PIP) install --quiet --require-hashes --requirement requirements-dev.lock
	@touch $@
