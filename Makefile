# Everything that a new clone needs is python3; the first target that needs .venv makes it.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup study test test-long lint docs clean

help: ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: .venv/ready ## make .venv with the pinned set (about a minute)

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# PyTorch is an oracle of tests only. Where it does not install, they are skipped and say so.
.venv/oracles: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	  -e '.[oracles]' && touch $@ || echo "PyTorch did not install: its tests will be skipped"

study: setup ## run the degradation study on the embedded data, show table, verdict, report
	$(BIN)/cnnjax study run degradation

test: setup .venv/oracles lint ## lint, types, import contracts and the fast tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-long: setup .venv/oracles ## the long tests: kills, real data, full presets, the whole family
	$(BIN)/python -m pytest -n 0 -m long

lint: setup ## ruff, basedpyright, import-linter
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/basedpyright --level error
	$(BIN)/lint-imports --no-cache

docs: setup ## write docs/models.md anew
	$(BIN)/cnnjax models --markdown > docs/models.md

clean: ## remove .venv and runs/
	rm -rf .venv runs
