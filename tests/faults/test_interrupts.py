"""Interrupts at the executed lines of ours, see `interrupts.py`: the caller gets them, and no call is lost.

A sample; every line where `CALLSPAN_INTERRUPTS=all`, as in `make nightly`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HARNESS = Path(__file__).with_name("interrupts.py")
EVERY_LINE = os.environ.get("CALLSPAN_INTERRUPTS") == "all"
CANNOT_BE_TOLD_APART = "exception by SetAsyncExc"
COSTS = ("drops", "records not stored", "contexts left")
NEVER = ("contexts left", "next calls", "records not stored", "flushes")
FINE = ("points", "lost by the interpreter")
FEW = 0.02
"""Of all points, those at which an interrupt may still cost the span or the record; see `docs/durability.md`."""


def interrupted(*options: str) -> dict[str, dict[str, int]]:
    """Results by kind of interrupt. What cannot be told apart may cost telemetry, like any fault of ours."""
    done = subprocess.run([sys.executable, str(HARNESS), *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    results: dict[str, dict[str, int]] = found["results"]
    for kind, result in results.items():
        allowed = COSTS if kind == CANNOT_BE_TOLD_APART else ()
        assert not {name for name in result if name.startswith(NEVER) and name not in allowed}, (kind, found["faults"])
    told = [result for kind, result in results.items() if kind != CANNOT_BE_TOLD_APART]
    faults = sum(count for result in told for name, count in result.items() if name not in FINE)
    assert faults <= max(1, FEW * sum(result["points"] for result in told)), (results, found["faults"])
    return results


@pytest.mark.parametrize("use", ["openai sync stream", "anthropic async plain"])
def test_a_few_lines(use: str) -> None:
    interrupted("--uses", use, "--share", "0.004", "--seed", use, "--stored", "1")


@pytest.mark.slow
@pytest.mark.timeout(0 if EVERY_LINE else 600)
def test_lines_of_every_use() -> None:
    share = "1" if EVERY_LINE else "0.004"
    results = interrupted("--share", share, "--seed", "1")
    assert all(result["points"] >= 20 for result in results.values())
