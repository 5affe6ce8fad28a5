"""Lines of batch results: another thread reads them, and the caller's does where too many bytes wait."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from callspan.observe import batch_lines
from callspan.observe.batch_lines import BLOCK_BYTES, LINES, LineReader, Seen

LINE = b"x" * 1023


def read_by_caller(blocks: int) -> int:
    """Bring so many blocks while the other thread is busy; return how many lines the thread that brings them read."""
    me, own = threading.get_ident(), 0
    waiting = threading.Event()

    def read(line: bytes) -> str:
        nonlocal own
        if threading.get_ident() == me:
            own += 1
        else:
            waiting.wait(10)
        return "success"

    ended: list[Counter[str]] = []
    reader = LineReader(Seen(), read, lambda counts, *_: ended.append(counts))
    for _ in range(blocks * BLOCK_BYTES // 1024):
        reader.add(LINE + b"\n")
    found = own
    waiting.set()
    reader.finish(complete=True)
    assert LINES.drain(30)
    assert [counts.total() for counts in ended] == [blocks * BLOCK_BYTES // 1024]
    return found


def test_the_caller_is_not_held_back_by_megabytes_of_lines() -> None:
    assert read_by_caller(200) == 0


def test_the_bytes_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all readings together: what goes beyond is read by the thread that brings it."""
    monkeypatch.setattr(batch_lines, "_MOST_WAITING", 8 * BLOCK_BYTES)
    assert read_by_caller(24) == pytest.approx(16 * BLOCK_BYTES // 1024, abs=2 * BLOCK_BYTES // 1024)
