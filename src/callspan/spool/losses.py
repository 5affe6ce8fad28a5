"""Losses: counts of lost records, in a file of fixed size in the spool directory.

They are summed in memory and written at most once a second. The file is created with the directory, so that a full disk
does not prevent it. It has two lines in the format of segments. Each write replaces the older one, so that a kill
during a write leaves the other intact.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from callspan.formatting import iso, plural
from callspan.runtime.background import Worker
from callspan.runtime.clock import monotonic_s
from callspan.runtime.fail_open import fail_open, log
from callspan.runtime.file_lock import unlock
from callspan.spool.segment import LINE_BYTES, line_of, lines_in, opened

if sys.platform != "win32":
    import fcntl

LOSSES_FILE: Final = "losses"
_HALF_BYTES: Final = 64 << 10
_EVERY_S: Final = 1.0
_WARN_S: Final = 60.0
_MAX_NAMES: Final = 24
_NAME_BYTES: Final = 160
"""Size limit of a name, so that all names fit into a line. A longer one lacks its middle: a path ends with its file."""
_OTHERS: Final = "others"
Kind: TypeAlias = Literal["dropped", "given_up", "rejected", "damaged", "unrecorded"]
_WARNINGS: Final[dict[Kind, str]] = {
    "dropped": "%s dropped for every store (%s) at %s",
    "given_up": "%s given up for %s, which lacks them: %s is at its cap, or its disk is full",
    "rejected": "%s rejected by %s, kept in %s/rejected.jsonl",
    "damaged": "%s damaged in %s of %s, and lost",
}
_LATER: Final = Worker("callspan-losses")
_SAY: Final = fail_open("report lost records on standard error")


class Loss(msgspec.Struct):
    """The number of lost records, with times."""

    count: int = 0
    first_ns: int = 0
    """Time of the first loss, Unix time."""
    last_ns: int = 0

    def add(self, other: Loss) -> None:
        """Add another loss."""
        self.count += other.count
        self.first_ns = min(self.first_ns or other.first_ns, other.first_ns or self.first_ns)
        self.last_ns = max(self.last_ns, other.last_ns)

    def __str__(self) -> str:
        """Return the count and the times."""
        return f"{plural(self.count, 'record')} from {iso(self.first_ns)} to {iso(self.last_ns)}"


class Losses(msgspec.Struct):
    """Losses by kind and name."""

    dropped: dict[str, Loss] = {}
    """Records that no store has, by reason."""
    given_up: dict[str, Loss] = {}
    """Records given up for one store, by that store; other stores have them."""
    rejected: dict[str, Loss] = {}
    """Records that can never be stored, by store; they are in `rejected.jsonl`."""
    damaged: dict[str, Loss] = {}
    """Damaged lines, by the store that did not get them."""
    unrecorded: dict[str, Loss] = {}
    """Requests without a record that may cost money, by method and path."""
    writes: int = 0
    """Number of writes of the file."""

    def add(self, kind: Kind, name: str, loss: Loss) -> None:
        """Add a loss. After 24 names of a kind, further ones are summed as `others`."""
        losses_by_name: dict[str, Loss] = getattr(self, kind)
        name = name.encode("ascii", "backslashreplace").decode()
        if len(name) > _NAME_BYTES:
            name = f"{name[: _NAME_BYTES // 2 - 3]}...{name[-_NAME_BYTES // 2 :]}"
        key = name if name in losses_by_name or len(losses_by_name) < _MAX_NAMES else _OTHERS
        losses_by_name.setdefault(key, Loss()).add(loss)

    def add_all(self, losses: Losses) -> None:
        """Add all of these losses."""
        for kind in _KINDS:
            for name, loss in getattr(losses, kind).items():
                self.add(kind, name, loss)


_KINDS: Final[tuple[Kind, ...]] = ("dropped", "given_up", "rejected", "damaged", "unrecorded")
_decode: Final = msgspec.json.Decoder(Losses).decode


def read_losses(directory: Path) -> Losses:
    """Return the losses of a directory; none if the file is missing or damaged."""
    return max(_written(directory), key=lambda losses: losses.writes, default=Losses())


def are_damaged(directory: Path) -> bool:
    """Return whether the file of a directory has no valid line."""
    return (directory / LOSSES_FILE).exists() and not _written(directory)


def _written(directory: Path) -> list[Losses]:
    try:
        lines = list(lines_in((directory / LOSSES_FILE).read_bytes(), 0))
        return [_decode(line.payload) for line in lines if line.payload]
    except (OSError, msgspec.MsgspecError):
        return []


def add_losses(directory: Path, losses: Losses) -> None:
    """Add losses to the file of a directory, which is created if missing. Raises OSError."""
    with opened(directory / LOSSES_FILE, os.O_RDWR | os.O_CREAT) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            total = read_losses(directory)
            total.add_all(losses)
            if os.fstat(descriptor).st_size != 2 * _HALF_BYTES:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, 2 * _line_of(total), 0)
            total.writes += 1
            os.pwrite(descriptor, _line_of(total), total.writes % 2 * _HALF_BYTES)
        finally:
            # Closing is not enough: a forked child may also have the file open.
            unlock(descriptor)


def _line_of(losses: Losses) -> bytes:
    return line_of(msgspec.json.encode(losses).ljust(_HALF_BYTES - LINE_BYTES))


class LossCounter:
    """Counts the losses of this process and logs warnings. Safe in any thread and signal handler."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        """The directory of the file."""
        self._unwritten: list[tuple[Kind, str, Loss, Path | None]] = []
        self._is_due = False
        """Whether a write was scheduled."""
        self._is_writing = False
        self._writing = threading.RLock()
        """Held during a write, so that `write` returns only once everything is written."""
        self._warned: dict[tuple[Kind, str], float] = {}
        self._total: defaultdict[tuple[Kind, str], int] = defaultdict(int)
        """The counts of this process by the names as they are given, not as the file has them.

        Unlike a Counter, it counts in one step, which neither a thread nor a signal handler interrupts.
        """

    def add(
        self, kind: Kind, name: str, count: int = 1, since_ns: int | None = None, *, directory: Path | None = None,
        tried: Sequence[Path] = (),
    ) -> None:  # fmt: skip
        """Count a loss, written within two seconds. `since_ns`: when its first record was recorded.

        `directory`: where the records were, if not in the one in use; `tried`: directories that could not take a
        record.
        """
        now_ns = time.time_ns()
        loss = Loss(count, since_ns or now_ns, now_ns)
        self._unwritten.append((kind, name, loss, directory))
        if kind in _WARNINGS:
            self._total[kind, name] += count
            self._warn(kind, name, tried or (directory or self.directory,))
        if not self._is_due or _LATER.is_idle:
            self._is_due = True
            _LATER.put_later(_EVERY_S, self._write_later)

    def totals(self, kind: Kind) -> dict[str, int]:
        """Return the counts of this process by name; none of a kind that is not logged."""
        return {name: count for (loss_kind, name), count in self._total.copy().items() if loss_kind == kind}

    def write(self) -> bool:
        """Write the counts; False on failure, and in a signal handler that interrupts a write."""
        with self._writing:
            if self._is_writing:  # the interrupted write holds the file lock
                return False
            try:
                self._is_writing = True
                self._write()
            except OSError:
                return False
            finally:
                self._is_writing = False
        return True

    def _write(self) -> None:
        while self._unwritten:
            # Other threads and signal handlers may append to the list during this.
            snapshot, losses = self._unwritten[:], Losses()
            directory, group = next(groupby(snapshot, itemgetter(3)))
            same_directory = list(group)
            for kind, name, loss, _ in same_directory:
                losses.add(kind, name, loss)
            self._count_in(directory, losses)
            del self._unwritten[: len(same_directory)]

    def _count_in(self, directory: Path | None, losses: Losses) -> None:
        """Add losses to the file of their directory; if that fails, to the file of the directory in use."""
        try:
            add_losses(directory or self.directory, losses)
        except OSError:
            if directory is None:
                raise
            add_losses(self.directory, losses)

    def report_unwritten(self) -> None:
        """Write the counts as the process ends; report them on standard error if that fails."""
        with _SAY:
            if not self.write():
                count = sum(loss.count for kind, _, loss, _ in self._unwritten if kind in ("dropped", "given_up"))
                if count:
                    sys.stderr.write(
                        f"callspan: lost {plural(count, 'record')}; the loss could not be written to a file\n"
                    )

    def _write_later(self) -> None:
        self._is_due = False
        self.write()

    def _warn(self, kind: Kind, name: str, directories: Sequence[Path]) -> None:
        now_s = monotonic_s()
        if now_s >= self._warned.get((kind, name), 0.0):
            self._warned[kind, name] = now_s + _WARN_S
            count = plural(self._total[kind, name], "record")
            log(logging.WARNING, _WARNINGS[kind], count, name, " or ".join(map(str, directories)))
