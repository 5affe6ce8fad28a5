"""Leftover: delivers to one store what ended processes have left for it, as a reading command does before it reads.

The records that other stores still lack stay where they are.
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
from callspan.spool.delivering import Delivered, Delivery
from callspan.spool.destination import Destination
from callspan.spool.directory import Target
from callspan.spool.losses import Loss, Losses, add_losses
from callspan.spool.segment import Segment

_MAX_FAILURES: Final = 3
_PAUSE_S: Final = 0.1
Progress: TypeAlias = Callable[[int], object]
"""Called with the number of records delivered so far."""


class Result(msgspec.Struct):
    """What was delivered."""

    delivered: int = 0
    rejected: int = 0
    damaged: int = 0
    directories: list[Path] = []
    """Those with records that were delivered."""
    error: str | None = None
    """Why the store took no more."""


def deliver(
    directories: Sequence[Path],
    target: Target,
    sink: Destination,
    *,
    timeout_s: float,
    progress: Progress | None = None,
) -> Result:
    """Deliver everything that waits for a store and that no running process holds; a failure is tried three times."""
    return _Deliverer(target, sink, time.monotonic() + timeout_s, progress).run(directories)


class _Deliverer:
    def __init__(self, target: Target, sink: Destination, deadline: float, progress: Progress | None) -> None:
        self._target, self._sink, self._deadline, self._progress = target, sink, deadline, progress
        self._delivery = Delivery(target.name, sink)
        self._is_open = False
        self._failures = 0
        self.result = Result()

    def run(self, directories: Sequence[Path]) -> Result:
        try:
            for directory in directories:
                before = self.result.delivered
                self._deliver_directory(directory)
                if self.result.delivered > before:
                    self.result.directories.append(directory)
        finally:
            self._sink.close()
        return self.result

    def _deliver_directory(self, directory: Path) -> None:
        key = self._target.key(directory.parent)
        for path in places.segments_in(directory):
            if not self._goes_on():
                return
            if (segment := places.adopt(path)) is not None:
                try:
                    if not segment.has(key, segment.size):
                        self._deliver_segment(segment, key)
                finally:
                    segment.release()

    def _deliver_segment(self, segment: Segment, key: str) -> None:
        while self._goes_on():
            attempt, done = Attempt(f"deliver records to {self._target.name}"), Delivered()
            with attempt:
                done = self._next_batch(segment, key)
            if attempt.error is not None:
                self._fail(attempt.error)
                continue
            self._failures, self.result.error = 0, None
            self.result.delivered += done.records
            self._count(segment.path.parent, done.rejected, done.damaged)
            if self._progress is not None:
                self._progress(self.result.delivered)
            if not done.has_more:
                return

    def _next_batch(self, segment: Segment, key: str) -> Delivered:
        if not self._is_open:
            self._sink.open()
            self._is_open = True
        return self._delivery.deliver(segment, key)

    def _goes_on(self) -> bool:
        return self._failures < _MAX_FAILURES and time.monotonic() < self._deadline

    def _fail(self, error: Exception) -> None:
        self._failures += 1
        self.result.error = without_passwords(f"{type(error).__name__}: {error}")
        self._is_open = False
        self._sink.close()
        time.sleep(_PAUSE_S)

    def _count(self, directory: Path, rejected: int, damaged: int) -> None:
        self.result.rejected += rejected
        self.result.damaged += damaged
        if rejected or damaged:
            now_ns, losses = time.time_ns(), Losses()
            losses.add("rejected", self._target.name, Loss(rejected, now_ns, now_ns)) if rejected else None
            losses.add("damaged", self._target.name, Loss(damaged, now_ns, now_ns)) if damaged else None
            add_losses(directory, losses)
