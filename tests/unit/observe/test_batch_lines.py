"""Lines of the results of a batch: when the last of them was read."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from callspan.observe.batch_lines import LINES, LineReader, Seen


@pytest.mark.parametrize("complete", [True, False])
def test_the_last_result_is_read_when_its_bytes_come_not_when_it_is_recorded(complete: bool) -> None:
    """A reader that breaks off may be closed long after."""
    over: list[tuple[int, bool, int]] = []

    def record(_: bytes) -> str:
        time.sleep(0.05)
        return "success"

    def ended(counts: Counter[str], are_all: bool, at_ns: int) -> None:
        over.append((counts.total(), are_all, at_ns))

    lines = LineReader(Seen(), record, ended)
    lines.add(b"{}\n{}\n")
    added_ns = time.time_ns()
    time.sleep(0.05)
    lines.finish(complete=complete)
    finished_ns = time.time_ns()
    assert LINES.drain(5)
    ((read, are_all, at_ns),) = over
    assert (read, are_all) == (2, complete)
    assert at_ns <= (finished_ns if complete else added_ns)
    assert not complete or at_ns > added_ns
