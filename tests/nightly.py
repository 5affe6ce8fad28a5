"""Which files of tests `make nightly` runs and `make test` does not, each with how many processes share its tests.

The only list of slow tests; `conftest.py` gives those of these files the marker `nightly`. Files with no process of
their own (0) measure time, memory or a whole machine's behaviour, and have it for themselves.
"""

from __future__ import annotations

from typing import Final

FILES: Final[dict[str, int]] = {
    "tests/calls/test_budgets.py": 0,
    "tests/calls/test_drift.py": 2,
    "tests/calls/test_leaks.py": 2,
    "tests/calls/test_runtimes.py": 2,
    "tests/calls/test_websocket_processes.py": 2,
    "tests/datasets/test_trl.py": 0,
    "tests/otel/test_backends.py": 0,
    "tests/otel/test_fresh_environment.py": 0,
    "tests/otel/test_other_packages.py": 2,
    "tests/otel/test_servers.py": 0,
    "tests/stores/test_beside_sqlite.py": 2,
    "tests/stores/test_large_stores.py": 0,
    "tests/stores/test_outages.py": 0,
    "tests/stores/test_soak.py": 0,
    "tests/view/test_browser.py": 0,
}
