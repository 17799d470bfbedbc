# make benchmark   the main job: every installed domain, several solvers and budgets -> report/index.html
# make test        ruff, mypy, pytest, docs
# make docs        the documentation as a site in site/
# Each sets up .venv by itself; the second time it starts at once.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PROJECTS := core $(sort $(dir $(wildcard plugins/*/pyproject.toml))) benchmarks
MANIFESTS := constraints.txt $(addsuffix /pyproject.toml,$(patsubst %/,%,$(PROJECTS)))
WORKERS ?= auto

.PHONY: benchmark test lint types unit docs clean

benchmark: $(STAMP)
	$(BIN)/anydiff bench run --suite quick --out report

test: lint types unit docs

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

# Hundreds of processes are started, so everything is compiled once, also where the environment says to write no bytecode.
unit: $(STAMP)
	$(BIN)/python -m compileall -q core/src benchmarks/src $(wildcard plugins/*/src)
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist worksteal --durations=15
	OMP_NUM_THREADS=1 $(BIN)/pytest -m timing -n 0  # alone and last: seconds are asserted

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# torch first and alone, so that the tested version is there before anything asks for a newer one.
$(STAMP): $(MANIFESTS)
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		$(foreach project,$(PROJECTS),-e $(patsubst %/,%,$(project))) -r requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV) report site
