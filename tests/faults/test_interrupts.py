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

ROOT = Path(__file__).parents[2]
HARNESS = "tests.faults.interrupts"
EVERY_LINE = os.environ.get("CALLSPAN_INTERRUPTS") == "all"
CANNOT_BE_TOLD_APART = "exception by SetAsyncExc"
LOST = ("lost by the interpreter", "in a task that nobody awaits", "at the first instruction of a block's end")
"""Where Python itself gives an interrupt to nobody, or before anything of callspan's runs; see `docs/durability.md`."""
NEVER = ("next runs", "flushes")


def interrupted(*options: str) -> dict[str, dict[str, int]]:
    """Results by kind of interrupt. What cannot be told apart may cost telemetry, like any fault of ours."""
    command = [sys.executable, "-m", HARNESS, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    results: dict[str, dict[str, int]] = found["results"]
    for kind, result in results.items():
        faults = {name for name in result if name not in ("points", *LOST)}
        if kind == CANNOT_BE_TOLD_APART:
            faults = {name for name in faults if name.startswith(NEVER)}
        assert not faults, (kind, result, found["faults"])
    return results


@pytest.mark.timeout(600)
def test_a_few_lines() -> None:
    uses = ("openai sync stream", "anthropic async plain", "agent sync blocks")
    interrupted("--uses", *uses, "--share", "0.004", "--seed", "1", "--stored", "1")


@pytest.mark.slow
@pytest.mark.timeout(0 if EVERY_LINE else 600)
def test_lines_of_every_use() -> None:
    share = "1" if EVERY_LINE else "0.004"
    results = interrupted("--share", share, "--seed", "1")
    assert all(result["points"] >= 20 for result in results.values())
