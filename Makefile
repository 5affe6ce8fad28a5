# Targets for development and CI. Each installs what it needs into .venv and changes nothing else.

# Each interpreter is run: a pyenv shim on the PATH may not work.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.callspan
EXTRAS := openai,anthropic,cli,cost,otlp,compare,view
DEV_EXTRAS := $(EXTRAS),groq,postgres,clickhouse,gymnasium
PYTEST := $(BIN)/python -m pytest
# Compiled modules are kept, whatever the shell says: half of what it takes to collect the tests, and hundreds of processes.
export PYTHONDONTWRITEBYTECODE :=
ONLY_QUICK := -m "not slow and not timing and not postgres and not clickhouse and not backend"
CORPUS_TESTS := tests/wire tests/stores/test_rebuild.py tests/unit/semconv/test_recorded.py
# `make bench QUICK=--quick`, also bench-peers and scale: less than two minutes, without writing results.
QUICK :=
# Of `make fuzz`; SEED of `make mutants` too.
CASES := 1000
SEED := 1
# Of `make mutants`: a pattern of mutants' names, the size of the sample (0: all) and the time limit.
ONLY := *
NUMBER := 400
MINUTES := 20

.PHONY: demo test test-all test-added coverage check documents alone older matrix mutants fuzz path peers newest frameworks trainers backend collector bench bench-peers bench-service scale nightly clean

demo: $(STAMP)-demo  ## An agent in a small environment, offline; then its trace and its records
	@$(BIN)/callspan demo

# Quick tests often wait for sockets and processes: four at once, also on two cores.
test: $(STAMP)-dev  ## The tests that need nothing but Python
	$(PYTEST) -n 3 $(ONLY_QUICK)

alone: $(STAMP)-dev  ## Each file of the quick tests in a process of its own: none needs what another imports or leaves
	@find tests -name "test_*.py" | xargs -P 2 -I @ sh -c \
	  'said=$$($(PYTEST) $$0 "$$1" @ 2>&1) || [ $$? = 5 ] || { echo "$$said"; exit 1; }' $(ONLY_QUICK)

test-all: test test-added  ## Every test: with Postgres, the embedded ClickHouse engine, a Collector, the wire corpus

test-added: $(STAMP)-all  ## What test-all adds to test
	CALLSPAN_SCALE=full $(PYTEST) -n 4 \
	  -m "(postgres or clickhouse or hypothesis) and not slow and not backend"
	$(PYTEST) -n 4 -m "not slow and not hypothesis and not postgres and not clickhouse" $(CORPUS_TESTS)
	$(PYTEST) -n 3 -m "slow and not backend and not timing"
	$(MAKE) older
	$(MAKE) collector
	$(BIN)/python tools/environments.py peers
	$(PYTEST) tests/otel/test_peers.py

coverage: $(STAMP)-all  ## How much of the source the quick tests reach; at least nine tenths
	$(PYTEST) -n 2 -m "not slow and not timing and not backend" \
	  --cov --cov-report=term:skip-covered --cov-fail-under=90

check: $(STAMP)-dev  ## Lint, types, layers, documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --explicit-package-bases --no-incremental tests/typing
	$(BIN)/lint-imports
	$(BIN)/python tools/schema.py --check
	$(BIN)/python tools/attributes.py --check
	$(BIN)/python tools/coverage.py --check
	$(BIN)/python tools/columns.py --check

older: $(STAMP)-dev  ## The capture tests on one older version of both SDKs
	$(BIN)/python tools/matrix.py --pair older

matrix: $(STAMP)-dev  ## The capture tests on four versions of both SDKs and every Python found; writes docs/matrix.md
	$(BIN)/python tools/matrix.py

path: $(STAMP)-dev  ## Which files and frames a plain call and a chunk run through; sizes of the package
	$(BIN)/python tools/call_path.py

mutants: $(STAMP)-dev  ## Whether the tests notice small changes in three packages: a sample; `make mutants NUMBER=0 ONLY='callspan.providers.hosts*'`
	@tools/install.sh $(VENV) "mutmut>=3.8,<4"
	$(BIN)/python tools/mutants.py --only '$(ONLY)' --number $(NUMBER) --minutes $(MINUTES) --seed $(SEED)

documents: $(STAMP)-dev  ## Every example of the documents, each in an environment installed as its page says
	CALLSPAN_SCALE=full $(PYTEST) tests/documents/test_examples.py

fuzz: $(STAMP)-dev  ## The same calls with and without callspan, hostile answers among them; `make fuzz CASES=10000 SEED=7`
	$(BIN)/python -m tests.fuzz --number $(CASES) --seed $(SEED)

bench: $(STAMP)-dev  ## What callspan costs, paired with the bare SDKs and a raw span
	$(BIN)/python bench/run.py $(QUICK)
	$(BIN)/python bench/run.py --instructions $(QUICK)

bench-peers: $(STAMP)-dev  ## The same beside others that trace these SDKs, each in an environment of its own
	$(BIN)/python bench/run_peers.py $(QUICK)

bench-service: $(STAMP)-dev  ## What a FastAPI service pays: CPU of a request, memory of a worker
	$(BIN)/python tools/environments.py service
	.venv-service/bin/python bench/service.py $(STORES)

scale: $(STAMP)-dev  ## Many streams, threads and processes at once, and a million calls with a dead store
	$(BIN)/python bench/scale.py $(QUICK)

peers: $(STAMP)-dev  ## Beside the real packages of others that instrument the same SDKs
	$(BIN)/python tools/environments.py peers
	$(PYTEST) tests/otel/test_peers.py

newest: $(STAMP)-dev  ## Whether the coverage table has every method of the newest openai and anthropic
	$(BIN)/python tools/environments.py newest
	.venv-newest/bin/python tools/coverage.py --installed

frameworks: $(STAMP)-dev  ## Frameworks on top of the SDKs, each in an environment of its own
	$(BIN)/python tools/environments.py frameworks
	$(PYTEST) tests/otel/test_frameworks.py tests/otel/test_celery.py

trainers: $(STAMP)-dev  ## Datasets as the trainers' own functions read them
	$(BIN)/python tools/environments.py trainers
	$(PYTEST) tests/datasets/test_trl.py

collector: $(STAMP)-dev  ## A real OpenTelemetry Collector and Prometheus, built by Go
	$(BIN)/python tools/collector.py
	$(PYTEST) -rs tests/otel/test_collector.py tests/otel/test_jaeger.py

backend: $(STAMP)-dev collector  ## The demo's telemetry through real backends, Phoenix besides those above, and back
	$(BIN)/python tools/environments.py backend
	$(PYTEST) tests/otel/test_backend.py

nightly: newest test-all alone coverage documents bench bench-peers matrix mutants peers frameworks trainers backend scale  ## Everything there is
	$(BIN)/python tools/matrix.py --fuzz 2600
	$(PYTEST) -m timing
	CALLSPAN_SCALE=full $(PYTEST) -n 2 -m slow tests/unit/test_patterns.py
	CALLSPAN_SCALE=full $(PYTEST) tests/stores/test_outages.py
	CALLSPAN_SCALE=full $(PYTEST) -n 3 tests/stores/test_beside_sqlite.py
	CALLSPAN_SCALE=full $(PYTEST) -m slow tests/stores/test_sql_examples.py
	CALLSPAN_SCALE=full $(PYTEST) tests/stores/test_large_readers.py
	$(BIN)/python bench/large_store.py .cache/large.db 1000000 100000 && $(BIN)/python bench/large_readers.py .cache/large.db
	$(BIN)/python bench/large_view.py .cache/large.db
	CALLSPAN_SCALE=full $(PYTEST) tests/stores/test_long_session.py
	CALLSPAN_SCALE=full $(PYTEST) tests/e2e/test_backlog.py tests/spool/test_cap.py
	CALLSPAN_SCALE=full $(PYTEST) -s tests/stores/test_soak.py
	CALLSPAN_SCALE=full $(PYTEST) -n 2 -m slow tests/stores/test_groups.py
	CALLSPAN_SCALE=full $(PYTEST) tests/otel/test_otlp_chaos.py
	CALLSPAN_SCALE=full $(PYTEST) tests/otel/test_erasure_chaos.py
	CALLSPAN_SCALE=full $(PYTEST) tests/intercept/test_loop_scripts.py
	CALLSPAN_SCALE=full $(PYTEST) -n 2 tests/intercept/test_socket_scripts.py
	CALLSPAN_SCALE=full $(PYTEST) tests/faults/test_websockets.py -k flat
	CALLSPAN_SCALE=full $(PYTEST) tests/faults/test_interrupts.py
	CALLSPAN_SCALE=full $(PYTEST) tests/faults/test_calls_in_signals.py
	CALLSPAN_SCALE=full $(PYTEST) -n 2 tests/faults/test_leaks.py

clean:  ## Remove what the targets above have made
	rm -rf .cache mutants $(VENV) .venv-matrix .venv-peers .venv-newest .venv-bench .venv-frameworks .venv-trainers .venv-backend .venv-documents .coverage* .mypy_cache .ruff_cache .hypothesis

$(VENV)/pyvenv.cfg:
	@PYTHON="$(PYTHON)" tools/make_venv.sh $(VENV)

$(STAMP)-demo: $(VENV)/pyvenv.cfg pyproject.toml
	@tools/install.sh $(VENV) -e ".[$(EXTRAS)]"
	@touch $@

$(STAMP)-dev: $(VENV)/pyvenv.cfg pyproject.toml tools/requirements-dev.txt
	@tools/install.sh $(VENV) -e ".[$(DEV_EXTRAS)]" -r tools/requirements-dev.txt
	@touch $(STAMP)-demo $@

$(STAMP)-all: $(STAMP)-dev
	@tools/install.sh $(VENV) chdb
	@touch $@
