"""Interrupts at the executed lines of callspan (`interrupts.py`): the caller gets them, and no call is lost.

A sample; every line where `CALLSPAN_INTERRUPTS=all`, as in `make nightly`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

from tests.faults.interrupts import KINDS, Signalled, TimeIsUpError, time_is_up

ROOT = Path(__file__).parents[2]
HARNESS = "tests.faults.interrupts"
EVERY_LINE = os.environ.get("CALLSPAN_INTERRUPTS") == "all"
AMBIGUOUS = "exception by SetAsyncExc"
LOST = (
    "lost by the interpreter", "in a task that nobody awaits", "at the first instruction of a block's end",
    "swallowed by the SDK",
)  # fmt: skip
"""Where Python or an SDK gives it to nobody, or before anything of callspan's runs; see `docs/durability.md`."""
NEVER = ("next runs", "flushes")


def interrupted(*options: str) -> dict[str, dict[str, int]]:
    """Results by kind of interrupt. What cannot be distinguished may cost telemetry, like any bug in callspan."""
    command = [sys.executable, "-m", HARNESS, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    results: dict[str, dict[str, int]] = found["results"]
    for kind, result in results.items():
        faults = {name for name in result if name not in ("points", *LOST)}
        if kind == AMBIGUOUS:
            faults = {name for name in faults if name.startswith(NEVER)}
        assert not faults, (kind, result, found["faults"])
    return results


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_few_lines() -> None:
    uses = ("openai sync stream", "openai sync background", "anthropic async plain", "agent sync blocks")
    interrupted("--uses", *uses, "--share", "0.004", "--seed", "1", "--stored", "1")


class Block:
    """A context manager like any other."""

    ended = False

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.ended = True


def test_python_may_raise_before_the_first_instruction_of_a_blocks_end() -> None:
    block, before = Block(), signal.signal(signal.SIGUSR2, time_is_up)
    try:
        with pytest.raises(TimeIsUpError) as raised, block:
            Signalled()[signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert not block.ended
    assert any(entry.name == "__exit__" for entry in raised.traceback)


def test_python_does_not_raise_what_is_raised_in_the_callback_of_a_weak_reference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda given: lost.append(given.exc_type))

    def collected(_: object) -> None:
        raise KeyboardInterrupt

    block = Block()
    reference = weakref.ref(block, collected)
    del block
    assert reference() is None
    assert lost == [KeyboardInterrupt]


def test_what_is_thrown_into_a_thread_has_no_frame_of_a_handler() -> None:
    thrown = KINDS[AMBIGUOUS]

    def throw() -> None:
        thrown.trigger[thrown.of]
        "".join(())  # the interpreter looks for it after a call

    with pytest.raises(TimeIsUpError) as raised:
        throw()
    assert {str(entry.path) for entry in raised.traceback} == {__file__}


@pytest.mark.slow
@pytest.mark.timeout(0 if EVERY_LINE else 600)
def test_lines_of_every_use() -> None:
    share = "1" if EVERY_LINE else "0.004"
    results = interrupted("--share", share, "--seed", "1")
    assert all(result["points"] >= 20 for result in results.values())
