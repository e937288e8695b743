PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint docs format
.DELETE_ON_ERROR:

.venv/installed: setup.py pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -e ".[dev]"
	touch $@

demo: .venv/installed
	rm -rf runs/digits
	$(BIN)/python -m sedona_tf.search --recipe recipes/digits.py --workdir runs/digits

test: .venv/installed lint docs
	$(BIN)/python -m pytest -n 2 --dist loadscope

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
