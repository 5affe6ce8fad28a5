# Targets for development and CI. Each installs what it needs into .venv and changes nothing else.

# Each interpreter is run: a pyenv shim on the PATH may not work.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.callspan
EXTRAS := openai,anthropic,cli,cost,otlp
DEV_EXTRAS := $(EXTRAS),groq,together,fireworks,cerebras,google,bedrock,postgres,clickhouse,gymnasium
PYTEST := $(BIN)/python -m pytest
QUICK_TESTS := not nightly and not postgres and not clickhouse
# Compiled modules are kept, whatever the shell says: half of what it takes to collect the tests, and hundreds of processes.
export PYTHONDONTWRITEBYTECODE :=
OF_EXTRAS := tests/cli/test_run.py tests/cli/test_show.py tests/cli/test_usage.py tests/cost/test_dimensions.py tests/datasets/test_trajectories.py tests/sessions/test_gymnasium.py tests/view/test_server.py
# `make bench QUICK=--quick`, also bench-peers: less than two minutes.
QUICK :=

.PHONY: demo test test-core test-for check oldest postgres nightly docs path bench bench-peers clean

demo: $(STAMP)-demo  ## An agent in a small environment, offline; then its trace and its records
	@$(BIN)/callspan demo

# By files, which share browsers, stores and what their SDKs have built; three at once on two cores, since many wait for
# other processes, and no more, since each first collects all tests.
test: $(STAMP)-dev  ## The tests that a change needs; they need nothing but Python
	$(PYTEST) -n 3 --dist loadfile -m "$(QUICK_TESTS)"

test-core: $(STAMP)-dev  ## The same of the core: what runs in an application's process, up to the written record
	$(BIN)/python tools/tests_of.py core

test-for: $(STAMP)-dev  ## The same that a change of one file needs: make test-for FILE=src/callspan/record/merging.py
	$(BIN)/python tools/tests_of.py $(FILE)

check: $(STAMP)-dev  ## Lint, types, layers, documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --explicit-package-bases --no-incremental tests/docs/user_code.py
	$(BIN)/lint-imports
	$(BIN)/python tools/reference.py --check
	$(BIN)/python tools/public_names.py --check

oldest: $(STAMP)-dev  ## Capture and every extra with the oldest versions that pyproject.toml allows
	$(BIN)/python tools/environments.py sdks/floor
	.venv-sdks/floor/bin/python -m pytest -n 3 -m "$(QUICK_TESTS)" tests/calls $(OF_EXTRAS)
	.venv-sdks/floor-google/bin/python -m pytest -n 3 -m "$(QUICK_TESTS)" tests/calls/test_google*.py tests/otel/test_auto_instrumentation.py

postgres: $(STAMP)-dev  ## The tests that need a Postgres server: initdb on the PATH
	$(PYTEST) -n 2 -m "postgres and not nightly"
	$(BIN)/python tools/environments.py sdks/floor
	.venv-sdks/floor/bin/python -m pytest -n 2 -m "postgres and not nightly" tests/stores/test_contract.py

nightly: $(STAMP)-all  ## Everything there is, in some hours on two cores
	$(BIN)/python -m tools.nightly

docs: $(STAMP)-dev  ## The documents as a site, in .cache/site
	$(BIN)/python tools/environments.py site
	NO_MKDOCS_2_WARNING=1 .venv-site/bin/mkdocs build

path: $(STAMP)-dev  ## The files and functions that one call passes, in order
	@$(BIN)/python tools/call_path.py

bench: $(STAMP)-dev  ## What callspan costs, paired with the bare SDKs and a raw span
	$(BIN)/python bench/run.py $(QUICK)
	$(BIN)/python bench/run.py --instructions $(QUICK)

bench-peers: $(STAMP)-dev  ## The same beside others that trace these SDKs, each in an environment of its own
	$(BIN)/python bench/run_peers.py $(QUICK)
	$(BIN)/python bench/run_peers.py --instructions $(QUICK)

clean:  ## Remove what the targets above have made
	rm -rf .cache $(VENV) .venv-* .mypy_cache .ruff_cache .hypothesis

# By the Collector's own builder, in one to two minutes; needs Go.
.cache/otelcol/otelcol: tools/collector.yaml
	mkdir -p $(@D)
	go run go.opentelemetry.io/collector/cmd/builder@v0.155.0 --config tools/collector.yaml

# Debian's package, unpacked; needs apt-get.
.cache/prometheus/usr/bin/promtool:
	mkdir -p .cache/prometheus
	cd .cache/prometheus && apt-get download prometheus && dpkg -x prometheus_*.deb .

$(VENV)/pyvenv.cfg:
	@PYTHON="$(PYTHON)" tools/make_venv.sh $(VENV)

$(STAMP)-demo: $(VENV)/pyvenv.cfg pyproject.toml
	@tools/install.sh $(VENV) -e ".[$(EXTRAS)]"
	@touch $@

$(STAMP)-dev: $(VENV)/pyvenv.cfg pyproject.toml tools/requirements-dev.txt
	@tools/install.sh $(VENV) -e ".[$(DEV_EXTRAS)]" -r tools/requirements-dev.txt
	@touch $(STAMP)-demo $@

$(STAMP)-all: $(STAMP)-dev
	@tools/install.sh $(VENV) chdb claude-agent-sdk openai-codex grafana-foundation-sdk
	@touch $@
