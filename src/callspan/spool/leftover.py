"""Leftover: delivers the records left by ended processes to one store, as commands do before they read it.

Records that other stores still lack stay in the spool.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from callspan.fail_open import Attempt
from callspan.safe_urls import without_passwords
from callspan.spool import directory as places
from callspan.spool.delivering import BatchResult, Delivery, Destination
from callspan.spool.directory import Target
from callspan.spool.losses import Loss, Losses, add_losses
from callspan.spool.segment import Segment

_MAX_FAILURES: Final = 3
_PAUSE_S: Final = 0.1
_TIME_OVER: Final = "there was no time for more"
Progress: TypeAlias = Callable[[int], object]
"""Called with the number of records delivered so far."""


class Result(msgspec.Struct):
    """The result of a delivery."""

    delivered: int = 0
    rejected: int = 0
    damaged: int = 0
    directories: list[Path] = []
    """Directories from which records were delivered."""
    error: str | None = None
    """The error that ended the delivery, if any."""


def deliver(
    directories: Sequence[Path],
    target: Target,
    sink: Destination,
    *,
    timeout_s: float,
    progress: Progress | None = None,
) -> Result:
    """Deliver all records that wait for a store and that no running process holds; try three times on failure."""
    store = _Deliverer(Delivery(target.name, sink), time.monotonic() + timeout_s, progress)
    try:
        for directory in directories:
            before = store.result.delivered
            for path in places.segments_in(directory):
                store.deliver_all(path, target.key(directory.parent))
            if store.result.delivered > before:
                store.result.directories.append(directory)
    finally:
        sink.close()
    return store.result


class _Deliverer:
    def __init__(self, delivery: Delivery, deadline: float, progress: Progress | None) -> None:
        self._delivery, self._deadline, self._progress = delivery, deadline, progress
        self._failures = 0
        self.result = Result()

    def deliver_all(self, path: Path, key: str) -> None:
        if (segment := places.adopt(path)) is None:
            return
        try:
            has_more = segment.lacks(key)
            while has_more and self._may_continue():
                has_more = self._deliver(segment, key)
        finally:
            segment.release()

    def _may_continue(self) -> bool:
        if time.monotonic() < self._deadline:
            return self._failures < _MAX_FAILURES
        self.result.error = self.result.error or _TIME_OVER
        return False

    def _deliver(self, segment: Segment, key: str) -> bool:
        """Deliver a batch or note the error; return whether to try another one."""
        attempt, done = Attempt(f"deliver records to {self._delivery.store}"), BatchResult(has_more=True)
        with attempt:
            done = self._delivery.deliver(segment, key)
        if attempt.error is None:
            self._failures, self.result.error = 0, None
            self._count(segment.path.parent, done)
        else:
            self._failures += 1
            self.result.error = without_passwords(f"{type(attempt.error).__name__}: {attempt.error}")
            self._delivery.close()
            time.sleep(_PAUSE_S)
        return done.has_more

    def _count(self, directory: Path, done: BatchResult) -> None:
        self.result.delivered += done.records
        self.result.rejected += done.rejected
        self.result.damaged += done.damaged
        if self._progress is not None:
            self._progress(self.result.delivered)
        if done.lost:
            losses, now_ns = Losses(), time.time_ns()
            for kind, number in done.lost:
                losses.add(kind, self._delivery.store, Loss(number, now_ns, now_ns))
            add_losses(directory, losses)
