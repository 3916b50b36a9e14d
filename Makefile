# The commands that people expect. `make` alone lists them.
#
# Everything is installed into .venv, from the lock files and nothing else; a stamp in it says what is done already.

.DEFAULT_GOAL := help
.NOTPARALLEL:

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
           --no-emit-index-url --no-annotate

# More words for the programs: make run UP_ARGS=…, make test PYTEST_ARGS="-k ledger", make bench BENCH_ARGS=…
UP_ARGS ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=

.PHONY: help run test check fmt bench docs lock clean anew

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: $(VENV)/.runtime $(VENV)/.muelle ## install what is needed and start Muelle here, until Ctrl-C
	@exec $(BIN)/muelle up $(UP_ARGS)

test: $(VENV)/.dev $(VENV)/.muelle ## all tests; those that need a server which is not here are skipped by name
	@$(BIN)/pytest -n 2 $(PYTEST_ARGS)

check: $(VENV)/.dev $(VENV)/.muelle ## lint, format, types, and who may import whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(VENV)/.dev ## mend format and lint where that can be done by itself
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(VENV)/.dev $(VENV)/.muelle ## measure, as ratios against floors and peers
	@$(BIN)/python -m bench $(BENCH_ARGS)

docs: $(VENV)/.dev $(VENV)/.muelle ## write the pages that are made from the code
	$(BIN)/muelle config docs > $(VENV)/settings.md
	mv $(VENV)/settings.md docs/settings.md

lock: $(VENV)/.uv ## resolve the lock files again, after a change to pyproject.toml
	$(COMPILE) pyproject.toml -o requirements.lock
	$(COMPILE) pyproject.toml --group dev -c requirements.lock -o requirements-dev.lock

clean: ## remove .venv and everything else that these commands made
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.runtime: requirements.lock $(VENV)/.made
	@echo "installing what Muelle needs to run"
	@$(PIP) install --require-hashes --no-deps -r requirements.lock
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.made
	@echo "installing what Muelle needs to run, to be tested and to be checked"
	@$(PIP) install --require-hashes --no-deps -r requirements-dev.lock
	@touch $@ $(VENV)/.runtime

$(VENV)/.muelle: pyproject.toml $(VENV)/.made
	@$(PIP) install --no-deps --editable .
	@touch $@

$(VENV)/.uv: $(VENV)/.made
	@$(PIP) install uv
	@touch $@

# A .venv that was made by hand will do. One whose Python has gone, as after an upgrade of the system, is made anew.
$(VENV)/.made: $(if $(realpath $(BIN)/python),,anew)
	@if $(BIN)/python -m pip --version >/dev/null 2>&1; then touch $@; exit; fi; \
	for python in python3.13 python3.12 python3.11 python3; do \
	  if "$$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "making $(VENV) with $$("$$python" --version)"; \
	    "$$python" -m venv --clear $(VENV) && touch $@; exit; \
	  fi; \
	done; \
	echo "Muelle needs Python 3.11 or newer with its venv module, and there is none on the PATH." >&2; \
	echo "On Debian 12 or Ubuntu 24.04: apt install python3 python3-venv" >&2; \
	exit 1
