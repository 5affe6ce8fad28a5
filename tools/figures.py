"""Runs the tests that show figures and prints one table row for each, to be pasted into docs/durability.md.

`python tools/figures.py` runs all but those of time; `python tools/figures.py --timing` runs those of time, for which
the machine should have nothing else to do.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COUNTS = (
    "tests/spool/test_processes.py::test_many_kills_of_writers_and_shippers_lose_and_double_nothing",
    "tests/spool/test_processes.py::test_the_real_store_survives_many_kills_of_writers_and_shippers",
    "tests/spool/test_spool.py::TestDisks::test_a_full_disk_costs_counted_records_only",
    "tests/stores/test_delivery.py::test_a_store_on_a_full_disk_waits_and_gets_everything_once_there_is_space",
    "tests/stores/test_delivery.py::test_a_receiver_that_dies_again_and_again_gets_everything_it_had_not_acknowledged",
    "tests/stores/test_postgres.py::test_immediate_restarts_lose_and_double_nothing",
    "tests/stores/test_clickhouse.py::TestNetwork::test_a_server_that_fails_again_and_again_loses_and_doubles_nothing",
    "tests/stores/test_size.py::test_a_session_of_50_turns_takes_less_than_a_twelfth_of_its_plain_json",
)
TIMES = (
    "tests/spool/test_cost.py::test_an_append_costs_little_more_than_a_raw_write",
    "tests/stores/test_size.py::test_a_million_calls_are_summed_per_session_and_model_in_seconds",
)


def main(arguments: list[str]) -> int:
    """Run the tests one by one; return 1 if one fails."""
    failed = 0
    for test in TIMES if "--timing" in arguments else COUNTS:
        command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:randomly", "-p", "no:cacheprovider", test]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        rows = [line[line.index("| ") :] for line in done.stdout.splitlines() if "| " in line and line.endswith(" |")]
        print("\n".join(rows) or f"no figure of {test}:\n{done.stdout[-2000:]}", flush=True)
        if done.returncode:
            print(f"failed: {test}", flush=True)
            failed = 1
    return failed


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
