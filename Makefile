# make demo    train a flow and a multilevel density for φ⁴ on 8×8, sample, and write their reports
# make test    every check: lint, types, imports, docs, tests
# make slow    the tests that train and sample for minutes
# make mutants small faults, put into a copy of the code one at a time: at least 95 % must fail their tests
# make faults  kill runs 200 times at random moments, damage each file of one, and compare what is found
# make bench   the benchmarks
# make gpu     on a machine with a GPU, ten minutes: its tests, its benchmarks, a table of the papers, into RESULTS.md
# make docs    the documentation, into site/
# make release-check  build, install without an index in a fresh environment, run the quick preset there
# make clean   remove what the targets above made, the environment too; runs stay
#
# VENV chooses the folder of the environment, PYTHON the interpreter that makes it (3.11 or newer).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo test lint slow mutants faults bench gpu docs release-check clean

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
# each worker has one core: the threads of several would wait for each other
test slow: export OMP_NUM_THREADS = 1

test: $(VENV)/.installed-dev
	$(MAKE) -j2 lint docs
	$(BIN)/pytest -m "not slow" -n auto --dist loadfile --no-loadscope-reorder

slow: $(VENV)/.installed-dev
	$(BIN)/pytest -m slow -n auto --dist loadfile

# tests/mutate.py --help has the options: which faults, how many at once
mutants: $(VENV)/.installed-dev
	$(BIN)/python tests/mutate.py

# children are forked from a process that has no thread of its own
faults: $(VENV)/.installed-dev
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m faults $(FAULTS)

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/results.py

gpu: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/gpu.py

# outside of the checkout, so that nothing but what was built is found
release-check:
	@set -e; place=$$(mktemp -d); trap 'rm -rf "$$place"' EXIT; \
	echo "Building in $$place"; \
	$(PYTHON) -m venv "$$place/builder"; \
	"$$place/builder/bin/pip" install --quiet --disable-pip-version-check hatchling; \
	"$$place/builder/bin/python" -m hatchling build -d "$$place/dist" >/dev/null; \
	mkdir "$$place/sdist"; tar -xzf "$$place"/dist/latflow-*.tar.gz -C "$$place/sdist" --strip-components=1; \
	(cd "$$place/sdist" && "$$place/builder/bin/python" -m hatchling build -t wheel -d "$$place/wheels" >/dev/null); \
	echo "Fetching what it stands on"; \
	"$$place/builder/bin/pip" download --quiet --disable-pip-version-check -c constraints.txt -d "$$place/wheels" \
	    "$$place"/wheels/latflow-*.whl; \
	$(PYTHON) -m venv "$$place/venv"; \
	echo "Installing without an index"; \
	"$$place/venv/bin/pip" install --quiet --disable-pip-version-check --no-index --find-links "$$place/wheels" latflow; \
	cp CHANGELOG.md "$$place"; cd "$$place"; \
	version=$$(venv/bin/latflow --version); top=$$(sed -n 's/^## \[\([^]]*\)\].*/\1/p' CHANGELOG.md | head -1); \
	venv/bin/latflow run phi4-quick --out run; \
	venv/bin/latflow export run chains.json.gz; \
	case "$$top" in \
	    Unreleased) echo "$$version works, with changes since that are not released";; \
	    "$${version#latflow }") echo "$$version is ready to be released";; \
	    *) echo "expected $$version on top of CHANGELOG.md, found $$top" >&2; exit 1;; \
	esac

clean:
	test ! -f $(VENV)/pyvenv.cfg || rm -rf $(VENV)
	rm -rf site .pytest_cache .hypothesis .ruff_cache .import_linter_cache
