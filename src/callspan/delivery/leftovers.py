"""Leftovers: delivers to a store the records left by ended processes, as commands do before they read it.

Records that other stores still lack stay in the spool. Lists the records that still wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from callspan.delivery.store_sink import StoreSink, store_of
from callspan.record.call import CallRecord
from callspan.record.codec import NO_RECORD, decode, encode
from callspan.runtime.clock import monotonic_s
from callspan.runtime.fail_open import Guard
from callspan.runtime.safe_urls import error_text
from callspan.settings import Settings
from callspan.settings_loader import load
from callspan.spool import directory as spool_files
from callspan.spool.delivering import DATA_ERRORS, BatchResult, Delivery, Destination, Rejected
from callspan.spool.directory import Target, WaitingSegment
from callspan.spool.losses import Loss, Losses, add_losses
from callspan.spool.segment import Segment
from callspan.stores.spools import directories_for, roots_for, target_of
from callspan.stores.urls import find_store

TIMEOUT_S: Final = 30.0
"""Time limit in seconds before a store is read."""
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
    """Directories that delivered records came from."""
    error: str | None = None
    """The error that ended the delivery, if any."""


def deliver(
    url: str, *, other_urls: Sequence[str] = (), timeout_s: float = TIMEOUT_S, progress: Progress | None = None
) -> Result:
    """Deliver the records that wait for a store, unless a running process holds them.

    Includes those that wait for it together with the stores in `other_urls`.
    Raises SettingError for an invalid URL.
    """
    settings = load(warn=False)
    store, segments = store_of(url, settings), spool_files.left_segments_in(directories_for(url, other_urls, settings))
    if not segments:
        return Result()
    target = target_of(find_store(url))  # also has the other name that earlier records may wait under
    return Leftovers(target, StoreSink(store, settings.prices), timeout_s, progress).deliver(segments)


def store_waiting(url: str, ends: Mapping[Path, int], timeout_s: float = TIMEOUT_S) -> str | None:
    """Store what running processes have not yet delivered to a store, up to these sizes of segments; return an error.

    These processes deliver it themselves later, with their own prices, and reject what the store does not accept.
    Raises SettingError for an invalid URL.
    """
    settings, target = load(warn=False), target_of(find_store(url))
    waiting = spool_files.waiting_payloads(ends, lambda directory: target.key(directory.parent))
    payloads = map(_provisional, waiting)
    deadline, guard = monotonic_s() + timeout_s, Guard(f"store the waiting records of {target.name}")
    with guard, closing(StoreSink(store_of(url, settings), settings.prices)) as sink:
        batch = [*islice(payloads, sink.batch_records)]
        if batch:
            sink.open()
        while batch:
            if monotonic_s() > deadline:
                return _TIME_OVER
            _store(sink, batch)
            batch = [*islice(payloads, sink.batch_records)]
    return None if guard.error is None else f"{type(guard.error).__name__}: {error_text(guard.error)}"


def _provisional(payload: bytes) -> bytes:
    """Return an older version of a call, which its own process replaces later, perhaps with other prices."""
    with suppress(*NO_RECORD):
        record = decode(payload)
        if isinstance(record, CallRecord):
            return encode(msgspec.structs.replace(record, seen_ns=(record.seen_ns or 0) - 1))
    return payload


def _store(sink: StoreSink, payloads: Sequence[bytes]) -> None:
    """Store what the store accepts."""
    try:
        sink.deliver(payloads)
    except (Rejected, *DATA_ERRORS):
        for payload in payloads if len(payloads) > 1 else ():
            _store(sink, [payload])


class Leftovers:
    """The records left by ended processes for one store. Their delivery is tried three times on failure."""

    def __init__(self, target: Target, sink: Destination, timeout_s: float, progress: Progress | None = None) -> None:
        self._target, self._progress = target, progress
        # The last try bisects a batch, or one record would block all others for every command.
        self._delivery = Delivery(target.name, sink, max_failures=_MAX_FAILURES - 1)
        self._deadline = monotonic_s() + timeout_s
        self._failures = 0
        self._result = Result()

    def deliver(self, segments: Sequence[Path]) -> Result:
        """Deliver all records in these segments, and delete the segments that every store has."""
        with closing(self._delivery):
            for path in segments:
                self._deliver_all(path)
        return self._result

    def _deliver_all(self, path: Path) -> None:
        if (segment := spool_files.adopt(path)) is None:
            return
        key = self._target.key(path.parent.parent)
        try:
            has_more = segment.has_pending(key)
            while has_more and self._may_continue():
                has_more = self._deliver(segment, key)
        finally:
            segment.release()

    def _may_continue(self) -> bool:
        if monotonic_s() < self._deadline:
            return self._failures < _MAX_FAILURES
        self._result.error = self._result.error or _TIME_OVER
        return False

    def _deliver(self, segment: Segment, key: str) -> bool:
        """Deliver a batch or note the error; return whether to try another one."""
        guard, batch = Guard(f"deliver records to {self._target.name}"), BatchResult(has_more=True)
        with guard:
            batch = self._delivery.deliver(segment, key)
        if guard.error is None:
            self._failures, self._result.error = 0, None
            self._count(segment.path.parent, batch)
        else:
            self._failures += 1
            self._result.error = f"{type(guard.error).__name__}: {error_text(guard.error)}"
            self._delivery.close()
            time.sleep(_PAUSE_S)
        return batch.has_more

    def _count(self, directory: Path, batch: BatchResult) -> None:
        result, now_ns = self._result, time.time_ns()
        result.delivered += batch.records
        result.rejected += batch.lost["rejected"]
        result.damaged += batch.lost["damaged"]
        if batch.records and directory not in result.directories:
            result.directories.append(directory)
        if self._progress is not None:
            self._progress(result.delivered)
        if batch.lost:
            losses = Losses()
            for kind, number in batch.lost.items():
                losses.add(kind, self._target.name, Loss(number, now_ns, now_ns))
            add_losses(directory, losses)


def waiting(url: str, other_urls: Sequence[str] = (), settings: Settings | None = None) -> list[WaitingSegment]:
    """Return the segments with records that wait for a store, also together with the stores in `other_urls`.

    Raises SettingError for an invalid URL.
    """
    target, directories = target_of(find_store(url)), directories_for(url, other_urls, settings)
    return [
        segment for directory in directories for segment in spool_files.waiting(directory, target.key(directory.parent))
    ]


def other_directories(urls: Sequence[str]) -> Iterator[Path]:
    """Yield the directories with segments that a process with exactly these stores would not deliver."""
    targets = [target_of(find_store(url)) for url in urls]
    for directory in spool_files.directories_in(roots_for(urls)):
        own_keys = {target.key(directory.parent) for target in targets}
        if not spool_files.keys_of(directory) <= own_keys and spool_files.segments_in(directory):
            yield directory
