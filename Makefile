# make run     boot Debian's riscv64 kernel to a shell; ARGS="-smp 2 -m 1G" passes options on
# make demo    boot the small guest that ships with ratite
# make check   format, lint, types, layers, fast tests (about a minute)
# make test    everything, boots included
# make bench   measurements beside the peers installed here; ARGS="soak --minutes 60" watches a guest
# make clean   remove what the above made in this directory

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=
PYTEST_ARGS ?=

.PHONY: run demo check test bench format clean help
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# make/make/p' Makefile

run: $(VENV)/.ratite
	@$(BIN)/ratite run --debian $(ARGS)

demo: $(VENV)/.ratite
	@$(BIN)/ratite run $(ARGS)

check: $(VENV)/.ratite-test
	$(BIN)/ruff format --check ratite tests bench
	$(BIN)/ruff check ratite tests bench
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -m "not boot and not slow" $(PYTEST_ARGS)

test: check
	$(BIN)/python -m pytest -q -m "boot or slow" $(PYTEST_ARGS)

bench: $(VENV)/.ratite-test
	$(BIN)/python -m bench $(ARGS)

format: $(VENV)/.ratite-test
	$(BIN)/ruff format ratite tests bench
	$(BIN)/ruff check --fix ratite tests bench

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find ratite tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are remade when the dependencies change.
$(VENV)/.ratite: pyproject.toml | $(VENV)/.made
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.ratite-test: pyproject.toml | $(VENV)/.made
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ $(VENV)/.ratite

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "ratite needs Python 3.11 or later (make PYTHON=python3.12)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "Python's venv module is missing: apt install python3-venv (as root)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@
