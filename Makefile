PYTHON ?= python3
BIN := .venv/bin

# Mount namespaces, for full disks and read-only folders, where a user may make them.
ISOLATED := $(shell unshare -Urm true 2>/dev/null && echo unshare -Urm --kill-child)

.PHONY: help demo test lint docs bench robust format
.DELETE_ON_ERROR:

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*  ## /make \1\t/p' $(MAKEFILE_LIST)

.venv/installed: setup.py pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -e ".[dev]"
	touch $@

demo: .venv/installed  ## a search on digits, 2.5 minutes, in runs/digits
	rm -rf runs/digits
	$(BIN)/python -m sedona_tf.search --recipe recipes/digits.py --workdir runs/digits

# Modules stay in their order: by number of tests, the long ones, which have few, would come last.
test: .venv/installed lint docs  ## lint, docs, and the default tests, two at a time
	$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

lint: .venv/installed  ## style, types, imports downwards
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

docs: .venv/installed  ## guides and reference, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: .venv/installed  ## short forms of the benchmarks, about 15 minutes; their headers have the long ones
	$(BIN)/python benchmarks/hypergradient.py --repeats 1
	$(BIN)/python benchmarks/decoupled.py speed --turns 1
	$(BIN)/python benchmarks/decoupled.py memory --turns 1
	$(BIN)/python benchmarks/check_predictions.py --turns 1 --backbones resnet18

robust: .venv/installed  ## hours of kills, damage, full disks, lost workers (KILLS, SEED, FLIPS, MINUTES, WARM_UP)
	$(ISOLATED) $(BIN)/python -m pytest -m robustness tests/robustness

format: .venv/installed  ## what lint asks for, as far as ruff can do it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
