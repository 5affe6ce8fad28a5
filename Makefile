# What a person or a machine runs. Every target sets up what it needs in .venv; nothing else is touched.

# Asked, not looked up: a version manager's stand-in may be on the PATH and not work.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.callspan
EXTRAS := openai,anthropic,cli,cost,otlp
DEV_EXTRAS := $(EXTRAS),postgres,clickhouse,gymnasium
PYTEST := $(BIN)/python -m pytest

.PHONY: demo test test-all check bench nightly clean

demo: $(STAMP)-demo  ## An agent in a small environment, offline; then its trace and its records
	@$(BIN)/callspan demo

test: $(STAMP)-dev  ## The tests that need nothing but Python
	$(PYTEST) -n 2 -m "not slow and not postgres and not clickhouse and not backend"

test-all: $(STAMP)-all  ## Every test: with Postgres, the embedded ClickHouse engine, the wire corpus, coverage
	CALLSPAN_REQUIRE_ENGINES=1 $(PYTEST) -n 2 --cov --cov-report=term:skip-covered --cov-fail-under=90

check: $(STAMP)-dev  ## Lint, types, layers, documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_features.py
	$(BIN)/python tools/check_documents.py
	$(BIN)/python tools/tree.py --check

bench: $(STAMP)-dev  ## What callspan costs, paired with the bare SDKs and a raw span
	$(BIN)/python bench/run.py

nightly: test-all bench  ## Everything there is

clean:  ## Remove what the targets above have made
	rm -rf $(VENV) .coverage* .mypy_cache .ruff_cache .hypothesis

$(VENV)/pyvenv.cfg:
	@PYTHON="$(PYTHON)" tools/make_venv.sh $(VENV)

$(STAMP)-demo: $(VENV)/pyvenv.cfg pyproject.toml
	@tools/install.sh $(VENV) -e ".[$(EXTRAS)]"
	@touch $@

$(STAMP)-dev: $(STAMP)-demo tools/requirements-dev.txt
	@tools/install.sh $(VENV) -e ".[$(DEV_EXTRAS)]" -r tools/requirements-dev.txt
	@touch $@

$(STAMP)-all: $(STAMP)-dev
	@tools/install.sh $(VENV) chdb
	@touch $@
