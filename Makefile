PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint format
.DELETE_ON_ERROR:

.venv/installed: setup.py pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -e ".[dev]"
	touch $@

demo: .venv/installed
	rm -rf runs/digits
	$(BIN)/python -m sedona_tf.search --recipe recipes/digits.py --workdir runs/digits

test: .venv/installed lint
	$(BIN)/python -m pytest -n 2 --dist loadscope

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
