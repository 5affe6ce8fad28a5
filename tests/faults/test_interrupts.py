"""Interrupts at executed lines (`interrupts.py`): the caller gets them, nothing is doubled, what follows is whole.

A sample; every line at full scale.
"""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

from tests.faults.interrupt_uses import AGENT, USES
from tests.faults.interrupts import AMBIGUOUS, KINDS, Signalled, TimeIsUpError, time_is_up
from tests.scale import scaled

ROOT = Path(__file__).parents[2]
HARNESS = "tests.faults.interrupts"
MODES = [
    "plain", "stream", "create", "retrieve", "upload", "batch", "results", "hosted-stream", "hosted-list", "websocket",
]  # fmt: skip
"""Requests whose interruption must not be felt later: every 13th line."""
LOST = 0.01
"""Of the points, at most: what an end computes comes before the token that lets it run once."""
OTHERS = {"other endpoints": ("speech", "transcript", "fallback", "fallback-stream"), "agents": tuple(AGENT)}
"""Every 52nd."""


def interrupted(*options: str) -> None:
    command = [sys.executable, "-m", HARNESS, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout, done.stderr[-8000:]
    found: dict[str, Any] = json.loads(done.stdout)
    assert not found["faults"], "\n".join(found["faults"])
    assert done.returncode == 0, done.stderr[-8000:]
    assert all(sum(kind["points"] for kind in kinds.values()) >= 5 for kinds in found["results"].values()), found
    assert share_lost(found["results"]) <= LOST, found


def share_lost(results: dict[str, dict[str, dict[str, int]]]) -> float:
    """Return the share of points at which a call lost its span or record to what can be known as an interrupt."""
    counts = [one for kinds in results.values() for kind, one in kinds.items() if kind != AMBIGUOUS]
    lost = sum(one.get("lost at an instruction of callspan", 0) for one in counts)
    return lost / sum(one.get("points", 0) for one in counts)


FAULTY = f"""
from types import SimpleNamespace
from {HARNESS} import main
run = SimpleNamespace(use=SimpleNamespace(name="plain"), found={{}}, faults=["one"])
main.__globals__["measure"] = lambda *_: [run]
main()
"""


def test_the_exit_code_says_whether_there_are_faults() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTY], capture_output=True, check=False, cwd=ROOT)
    assert (done.returncode, json.loads(done.stdout)["faults"]) == (1, ["one"])


def uses_of(*modes: str) -> list[str]:
    return [name for name in USES if name in modes or name.split()[-1] in modes]


@pytest.mark.timeout(scaled(600, 0))
@pytest.mark.parametrize("mode", MODES)
def test_lines_of_each_mode(mode: str) -> None:
    interrupted("--every", scaled("52", "13"), "--seed", "1", "--uses", *uses_of(mode))


@pytest.mark.timeout(scaled(600, 0))
@pytest.mark.parametrize("group", OTHERS)
def test_lines_of_others(group: str) -> None:
    interrupted("--every", scaled("208", "52"), "--seed", "1", "--uses", *uses_of(*OTHERS[group]))


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


class Closing(io.RawIOBase):
    """A file object that is written in Python, as that of a socket."""

    def close(self) -> None:
        super().close()


@pytest.mark.skipif(sys.flags.dev_mode, reason="Python reports it then")
def test_python_discards_what_is_thrown_into_a_thread_as_a_file_object_is_collected() -> None:
    thrown, lost = KINDS[AMBIGUOUS], Closing()
    thrown.trigger[thrown.of]
    del lost


def test_what_is_thrown_into_a_thread_has_no_frame_of_a_handler() -> None:
    thrown = KINDS[AMBIGUOUS]

    def throw() -> None:
        thrown.trigger[thrown.of]
        "".join(())  # the interpreter looks for it after a call

    with pytest.raises(TimeIsUpError) as raised:
        throw()
    assert {str(entry.path) for entry in raised.traceback} == {__file__}
