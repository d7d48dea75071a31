# Everything that a new clone needs is a Python; the first target that needs VENV makes it.
# make setup PYTHON=python3.13 takes another one, with the pinned set of its version.
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= $(or $(wildcard $(BIN)/python),python3)
VERSION := $(or $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null),missing)
PINS := constraints/$(VERSION).txt
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(PINS)

.PHONY: help setup study studies test test-only core-only test-core test-matrix test-long calibrate lint types docs clean

help: ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/ready-$(VERSION) ## make .venv with the pinned set (about a minute)

$(VENV)/ready-$(VERSION): pyproject.toml $(PINS)
	@test "`$(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null`" = $(VERSION) \
	  || $(PYTHON) -m venv --clear $(VENV)
	$(PIP) -e '.[dev]'
	@touch $@

constraints/%.txt:
	@echo "$(PYTHON) is $(if $(filter missing,$*),not there,Python $*);" \
	  "cnnjax runs on 3.11 to 3.13: make setup PYTHON=python3.12" >&2; false

# PyTorch is an oracle of tests only. Where it does not install, they are skipped and say so.
$(VENV)/oracles-$(VERSION): $(VENV)/ready-$(VERSION)
	$(PIP) -e '.[oracles]' && touch $@ || echo "PyTorch did not install: its tests will be skipped"

study: setup ## run the degradation study on the embedded data, show table, verdict, report
	$(BIN)/cnnjax study run degradation

test: lint test-only ## lint, types, import contracts and the fast tests

test-only: setup $(VENV)/oracles-$(VERSION)
	$(BIN)/python -m pytest -n 2 --dist loadfile

core-only: types
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'core and not long'

test-core: ## types and the core of the tests on every other Python that is found, each in .venv-VERSION
	@$(call on_each,core-only,$(VERSION))

test-matrix: ## make test on every Python that is found, each in .venv-VERSION
	@$(call on_each,test)

# A shim of pyenv's that is not active is no Python: then pyenv's own folder is looked into.
define on_each
failed=; for v in 3.11 3.12 3.13; do \
  case "$$v" in "$2") continue;; esac; found=; \
  for p in python$$v "`pyenv root 2>/dev/null`"/versions/$$v.*/bin/python; do \
    "$$p" -c '' 2>/dev/null && { found=$$p; break; }; \
  done; \
  if [ -z "$$found" ]; then echo "Python $$v: not found, not tested"; continue; fi; \
  echo "Python $$v: $$found"; \
  $(MAKE) --no-print-directory $1 PYTHON="$$found" VENV=.venv-$$v || failed="$$failed $$v"; \
done; [ -z "$$failed" ] || { echo "failed on Python$$failed"; exit 1; }
endef

test-long: setup $(VENV)/oracles-$(VERSION) ## the long tests: kills, real data, full presets, the whole family
	$(BIN)/python -m pytest -n 0 -m long

studies: setup ## the quick preset of every study, into runs/studies, and an index of their verdicts
	@failed=; for name in `$(BIN)/python -c 'from cnnjax.cli.study import installed_studies as s; print(*s())'`; do \
	  echo "== $$name"; $(BIN)/cnnjax study run $$name --workdir runs/studies/$$name || failed="$$failed $$name"; \
	done; $(BIN)/cnnjax study index runs/studies; [ -z "$$failed" ] || { echo "failed:$$failed"; exit 1; }

calibrate: setup ## how often verdicts are false and intervals cover: simulated and trained null studies
	$(BIN)/python benchmarks/calibrate.py --seeds 8 12
	$(BIN)/python benchmarks/calibrate.py --seeds 16 20 --studies 500
	$(BIN)/python benchmarks/calibrate_trained.py

lint: types ## ruff, basedpyright, import-linter
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/lint-imports --no-cache

types: setup
	$(BIN)/basedpyright --level error --pythonpath $(BIN)/python

docs: setup ## write docs/reference/ and the notebook anew
	$(BIN)/cnnjax models --markdown > docs/reference/models.md
	$(BIN)/python docs/generate.py

clean: ## remove .venv, those of other Pythons, and runs/
	rm -rf .venv .venv-* runs
