# make demo    train a flow and a multilevel density for φ⁴ on 8×8, sample, and write their reports
# make test    every check: lint, types, imports, docs, tests
# make slow    the tests that train and sample for minutes
# make bench   the benchmarks
# make docs    the documentation, into site/
# make clean   remove what the targets above made, the environment too; runs stay
#
# VENV chooses the folder of the environment, PYTHON the interpreter that makes it (3.11 or newer).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo test lint slow bench docs clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

# Two stamps, newer than the files that say what to install: one for users, one for developers.
define install
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@echo "Installing latflow into $(VENV): a minute or two the first time"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e $(1)
endef

$(VENV)/.installed: pyproject.toml constraints.txt
	$(call install,.)
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt
	$(call install,".[dev]")
	@touch $(VENV)/.installed $@

demo: $(VENV)/.installed
	$(BIN)/latflow run phi4-8x8 --out runs/phi4-8x8
	$(BIN)/latflow run phi4-8x8-multilevel --out runs/phi4-8x8-multilevel
	@echo "Reports: runs/phi4-8x8/report.html of a flow, runs/phi4-8x8-multilevel/report.html of a multilevel density"

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-logo

docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# a worker for each core; tests of one file stay together, since they share what it made once
test: lint docs
	$(BIN)/pytest -m "not slow" -n auto --dist loadfile

slow: $(VENV)/.installed-dev
	$(BIN)/pytest -m slow -n auto --dist loadfile

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/results.py

clean:
	test ! -f $(VENV)/pyvenv.cfg || rm -rf $(VENV)
	rm -rf site .pytest_cache .hypothesis .ruff_cache .import_linter_cache
