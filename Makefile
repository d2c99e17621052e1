# For a second environment in addition to the first: make test VENV=.venv-oldest PYTHON=/usr/bin/python3
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
OPS    := $(VENV)/.installed-ops
UV     := 0.13.9
# The Postgres versions that `make test-matrix` uses: those of Debian's packages, or of PGDG's.
POSTGRES ?= $(wildcard /usr/lib/postgresql/*/bin)
# The templates of CloudFormation.
TEMPLATES := deploy/etl.yaml deploy/lambda/function.yaml

.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

$(STAMP): requirements.txt requirements-build.txt requirements-dev.txt requirements-report.txt pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: call make with PYTHON=python3.11 or newer"; exit 2; }
	@$(PYTHON) -m venv $(VENV)
	@echo "installing the pinned requirements into $(VENV) ..."
	@# uv needs a quarter of pip's time; if it cannot be installed, pip does the same work.
	@if $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV) 2>/dev/null \
	    && $(BIN)/uv pip install --quiet --system-certs --python $(BIN)/python -r requirements-dev.txt; then :; \
	 else $(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt; fi
	@# In a folder of its own: the job runs without pyarrow; if it is installed, pandas stores strings differently.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(VENV)/report -r requirements-report.txt
	@# The command etl, and the package from this folder.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

# What only the tests and the files in deploy/ need; the job does not.
$(OPS): $(STAMP) requirements-ops.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-ops.txt
	@touch $(OPS)

run: $(STAMP) ## load 10,000 sample events on embedded services
	@$(BIN)/python -m etl demo

test: $(OPS) ## run the tests (10 minutes on two cores)
	@# Four processes, since many tests wait; each takes whole files, whose tests share fixtures that are slow to make.
	@$(BIN)/python -m pytest -n 4 --dist loadfile -m "not long"

test-long: $(OPS) .venv-release/.installed ## run the tests that take longest (minutes)
	@$(BIN)/python -m pytest -n 3 --dist load -m long

test-matrix: $(OPS) ## run the tests with a database on each installed Postgres
	@test -n "$(POSTGRES)" || { echo "no Postgres in /usr/lib/postgresql: install it, or name folders with its programs: make test-matrix POSTGRES=..."; exit 2; }
	@set -e; for bin in $(POSTGRES); do echo "==== $$($$bin/postgres --version) ===="; \
	    EMBEDDED_POSTGRES_BIN=$$bin $(BIN)/python -m pytest -n 4 --dist loadfile -m "not long" tests/integration tests/acceptance tests/chaos; done

lint: $(STAMP) ## check style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(OPS) ## check static types
	@$(BIN)/mypy

deploy-lint: .venv-cfn/.installed .venv-checkov/.installed ## check the templates
	@.venv-cfn/bin/cfn-lint --include-checks I -- $(TEMPLATES)
	@.venv-checkov/bin/checkov --file $(TEMPLATES) --framework cloudformation --compact --quiet --skip-download

deploy-test: $(STAMP) .venv-ministack/.installed ## deploy it to an emulator of AWS, and run the job there
	@$(BIN)/python -m pytest tests/deploy

# An environment for each tool, since each needs other versions of the same packages.
.venv-%/.installed: requirements-%.txt
	@$(PYTHON) -m venv $(@D)
	@echo "installing $< into $(@D) ..."
	@if $(@D)/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV) 2>/dev/null \
	    && $(@D)/bin/uv pip install --quiet --system-certs --python $(@D)/bin/python -r $<; then :; \
	 else $(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<; fi
	@touch $@

bench: $(STAMP) ## measure again; write bench/RESULTS.md (an hour)
	@$(BIN)/python -m bench

chaos: $(STAMP) ## run a tenth of each campaign of faults (minutes)
	@$(BIN)/python -m tests.chaos --share 0.1

chaos-long: $(STAMP) ## run the whole campaigns and keep their results (hours)
	@$(BIN)/python -m tests.chaos --append docs/reliability-results.jsonl

bites: $(STAMP) ## plant known bugs; the tests must catch them (minutes)
	@$(BIN)/python -m tests.chaos.mutants

dist: $(STAMP) .venv-release/.installed ## make the wheel, the sdist and the SBOM in dist/
	@$(BIN)/python -m release $(if $(TAG),--tag $(TAG))

audit: .venv-release/.installed ## look for known vulnerabilities in what is pinned
	@.venv-release/bin/pip-audit --strict --disable-pip --no-deps -r requirements.txt -r requirements-report.txt

docs: $(STAMP) ## write the generated parts of the documents
	@$(BIN)/python -m docs.generate

dashboard: $(OPS) ## write deploy/grafana/etl.json
	@$(BIN)/python -m deploy.grafana.dashboard

notebook: $(STAMP) ## open Jupyter on the embedded Postgres, with sample data loaded
	@$(BIN)/python -m etl demo --notebook

clean: ## remove the environments, the embedded data and the caches
	rm -rf $(VENV) .venv-oldest .venv-cfn .venv-checkov .venv-ministack .venv-release dist .embedded .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help run test test-long test-matrix lint types deploy-lint deploy-test bench chaos chaos-long bites dist audit docs dashboard notebook clean
