# Everything that a new clone needs is python3; the first target that needs .venv makes it.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup study test test-long lint clean

help: ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: .venv/ready ## make .venv with the pinned set (about a minute)

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

study: setup ## run the degradation study on the embedded data, show table, verdict, report
	$(BIN)/cnnjax study run degradation

test: setup lint ## lint, types, import contracts and the fast tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-long: setup ## the long tests: kills, real data, full presets
	$(BIN)/python -m pytest -n 0 -m long

lint: setup ## ruff, basedpyright, import-linter
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/basedpyright --level error
	$(BIN)/lint-imports --no-cache

clean: ## remove .venv and runs/
	rm -rf .venv runs
