# `make` lists what can be done. Each target sets up what it needs, in .venv, from requirements.lock.

VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
# The interpreters to look for, best first: make test PYTHON=python3.12
PYTHON  ?= python3 python3.13 python3.12 python3.11
# Test processes at a time: make test WORKERS=4
WORKERS ?= 2
# What to test: make test TESTS=tests/core. By default all but the pages of the docs, whose examples `make check` runs.
TESTS   ?= --ignore=tests/docs
# Further options for pytest: make test OPTIONS='-k crash -x'
OPTIONS ?=

# Hash-checked wheels only: nothing is fetched that the lock does not name, no build runs that could fetch more.
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help setup demo test check lint types contracts examples format bench lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv, if it is not there or not up to date

demo: $(STAMP) ## break real things in a scratch folder and heal them
	@$(BIN)/remediation demo

test: $(STAMP) ## run all tests
	@$(BIN)/python -m pytest -n $(WORKERS) $(OPTIONS) $(TESTS)

check: lint types contracts examples ## all that the tests can't say

lint: $(STAMP) ## style and format
	@$(BIN)/ruff check .; checked=$$?; $(BIN)/ruff format --check . && exit $$checked

types: $(STAMP) ## mypy, strict
	@$(BIN)/mypy

contracts: $(STAMP) ## imports go down the floors only
	@$(BIN)/lint-imports --no-logo

examples: $(STAMP) ## run the examples in the docs
	@$(BIN)/python -m pytest -q -n $(WORKERS) tests/docs

format: $(STAMP) ## format, and mend what the linter can mend
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(STAMP) ## measure, against the raw floors of this machine
	@$(BIN)/python -m benchmarks

lock: ## choose new versions and write requirements.lock
	@$(find_python); "$$python" -m venv --clear build/lock
	@build/lock/bin/python -m pip --disable-pip-version-check --quiet install uv
	@{ \
	  echo '# Every version and hash that `make` installs, on each supported Python. Written by `make lock`.'; \
	  build/lock/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade \
	    --generate-hashes --no-header --no-emit-index-url --no-config --quiet; \
	} > build/requirements.lock
	@mv build/requirements.lock requirements.lock
	@rm -rf build/lock

clean: ## remove what the targets made
	@rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml requirements.lock
	@$(find_python); \
	echo "Setting up $(VENV) with $$("$$python" --version), once ..."; \
	"$$python" -m venv --clear $(VENV)
	@$(PIP) install --require-hashes --only-binary :all: -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@$(PIP) check
	@touch $@

# Sets $$python to the first interpreter that can make the environment, or ends with what is missing. A name on PATH
# proves little: a version manager's shim may refuse to run, and some systems ship `venv` without `ensurepip`.
define find_python
python=; lacking=; \
for candidate in $(PYTHON); do \
  "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
  if "$$candidate" -c 'import ensurepip, venv' 2>/dev/null; then python=$$candidate; break; fi; \
  lacking=$$candidate; \
done; \
if [ -z "$$python" ] && [ -n "$$lacking" ]; then \
  echo "$$lacking cannot make virtual environments: its modules venv and ensurepip are not complete." >&2; \
  echo "On Debian and Ubuntu: sudo apt-get install python3-venv. Then run make again." >&2; exit 1; \
elif [ -z "$$python" ]; then \
  echo "No Python 3.11 or newer was found; looked for: $(PYTHON)." >&2; \
  echo "Install one, or name it: make $(or $(MAKECMDGOALS),test) PYTHON=/path/to/python3" >&2; exit 1; \
fi
endef
