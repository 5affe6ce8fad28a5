"""The test files that only `make nightly` runs, each with the number of processes that share its tests.

This is the only list of slow tests; `conftest.py` marks the tests of these files as `nightly`. Files with 0 processes
measure time, memory or the behaviour of a whole machine, and run alone.
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
    "tests/stores/test_faults.py": 0,
    "tests/stores/test_large_stores.py": 0,
    "tests/stores/test_outages.py": 0,
    "tests/view/test_browser.py": 0,
}
