"""What callspan may cost, as ratios to a raw span or to the bare SDK measured in the same moments.

Bounds are well above what `make bench` shows: these tests are here to catch a step that got several times
slower, on any machine and under any load.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

_BENCH = Path(__file__).resolve().parents[2] / "bench"
_PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
from columns import columns
from rows import BARE, DEFAULT, FLOOR, SQLITE, SUPPRESSED, provider, rows
from timing import measure
column = next(column for column in columns() if column.name == sys.argv[2])
tracing = provider()
wanted = [row for row in rows(column, tracing) if row.name in (BARE, FLOOR, DEFAULT, SQLITE, SUPPRESSED)]
measured = measure(column, wanted, seconds=6, least=7)
low = {name: min(values) for name, values in measured.rounds.items()}
print(json.dumps({"bare": low[BARE], "floor": low[FLOOR], "default": low[DEFAULT], "sqlite": low[SQLITE],
                  "suppressed": low[SUPPRESSED]}))
"""


def costs(column: str) -> dict[str, Any]:
    """CPU nanoseconds per unit of each row: the least of its rounds, since load only ever adds."""
    command = [sys.executable, "-c", _PROGRAM, str(_BENCH), column]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("column", ["openai plain sync", "anthropic plain async"])
def test_a_plain_call_costs_a_few_raw_spans(column: str) -> None:
    """Spans only, both vocabularies, content on; then with every record handed to SQLite's spool."""
    cost = costs(column)
    floor = cost["floor"] - cost["bare"]
    assert cost["default"] - cost["bare"] <= 8 * floor
    assert cost["sqlite"] - cost["bare"] <= 12 * floor
    assert cost["suppressed"] - cost["bare"] <= 0.1 * cost["bare"]


@pytest.mark.parametrize(
    ("column", "part"), [("openai 500-chunk stream sync", 0.15), ("anthropic 500-event stream sync", 0.4)]
)
def test_a_chunk_costs_a_small_part_of_what_the_sdk_spends_on_it(column: str, part: float) -> None:
    """The call's own cost included, spread over its chunks."""
    cost = costs(column)
    assert cost["default"] - cost["bare"] <= part * cost["bare"]


def test_a_timestep_with_an_event_costs_a_few_raw_spans() -> None:
    cost = costs("session, timesteps with an event")
    assert cost["default"] <= 8 * cost["floor"]


def test_importing_costs_less_than_opentelemetry_and_instrumenting_starts_no_thread() -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import startup; s = startup.measure(3);"
        "print(s.import_ms / s.trace_ms, s.threads)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(_BENCH)], check=True, capture_output=True, text=True)
    ratio, threads = done.stdout.split()
    assert float(ratio) <= 2.5
    assert threads == "0"
