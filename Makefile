PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
UV     := 0.13.9

.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(STAMP): requirements.txt requirements-dev.txt requirements-report.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: call make with PYTHON=python3.11 or newer"; exit 2; }
	@$(PYTHON) -m venv $(VENV)
	@echo "installing the pinned requirements into $(VENV) ..."
	@# uv installs in a quarter of pip's time; where it cannot be had, pip does the same work.
	@if $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV) 2>/dev/null \
	    && $(BIN)/uv pip install --quiet --system-certs --python $(BIN)/python -r requirements-dev.txt; then :; \
	 else $(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt; fi
	@# Apart: with pyarrow beside it pandas stores strings another way, and the job runs without it.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(VENV)/report -r requirements-report.txt
	@touch $(STAMP)

run: $(STAMP) ## send 10,000 sample events through an embedded queue into an embedded Postgres
	@$(BIN)/python -m etl demo

test: $(STAMP) ## unit, integration and acceptance tests on embedded services
	@# On two cores; a file at a time, since some share what is costly to make.
	@$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(STAMP) ## style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(STAMP) ## static types
	@$(BIN)/mypy

bench: $(STAMP) ## measure everything again: bench/RESULTS.md (half an hour)
	@$(BIN)/python -m bench

chaos: $(STAMP) ## a tenth of each campaign of faults, each ending in a JSON line (minutes)
	@$(BIN)/python -m tests.chaos --share 0.1

chaos-long: $(STAMP) ## the campaigns at their full size; the lines go to docs/reliability-results.jsonl (hours)
	@$(BIN)/python -m tests.chaos --append docs/reliability-results.jsonl

bites: $(STAMP) ## plant known bugs in copies of the project and see the tests catch them (minutes)
	@$(BIN)/python -m tests.chaos.mutants

docs: $(STAMP) ## write the parts of README.md that are made from the code
	@$(BIN)/python -m docs.generate

notebook: $(STAMP) ## Jupyter on the embedded database with the sample data loaded
	@$(BIN)/python -m etl demo --notebook

clean: ## remove the environment, the embedded data and the caches
	rm -rf $(VENV) .embedded .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help run test lint types bench chaos chaos-long bites docs notebook clean
