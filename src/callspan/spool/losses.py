"""Losses: what a spool directory lost, or never had, counted in one file that needs no room on a full disk.

`losses.json` is created with the directory, fills whole pages, and is rewritten in place under a lock on itself. A loss
is on disk when the record is given up; where the file is locked or cannot be written, as soon as it can be.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from callspan.background import Worker
from callspan.fail_open import fail_open, log
from callspan.file_lock import try_lock, unlock
from callspan.formatting import iso, plural
from callspan.spool.segment import make_private

LOSSES_FILE: Final = "losses.json"
_PAGE: Final = 4096
_FLAGS: Final = os.O_RDWR | os.O_CREAT
_POLL_S: Final = 0.001
_AT_ONCE_S: Final = 0.005
"""How long a caller waits for the lock; then the loss is written by a background thread."""
_AFTERWARDS_S: Final = 5.0
_AGAIN_S: Final = 1.0
_READS: Final = 3
MOST_PATHS: Final = 64
"""How many paths of calls without a record are counted by their names."""
OTHER_PATHS: Final = "other paths"
"""Stands for the paths beyond those."""
Fate: TypeAlias = Literal["given_up", "dropped", "without_bodies"]
"""Lost for one store; lost for all; stored without its bodies."""
_TEXTS: Final[dict[Fate, str]] = {
    "given_up": "%s for %s given up: %s is at its cap, and that store fails or cannot keep up (%s)",
    "dropped": "%s for every store dropped (%s) at %s: %s",
    "without_bodies": "%s are stored without their bodies (%s): %s is nearly at its cap (%s)",
}
_LATER: Final = Worker("callspan-losses")
_WRITE: Final = fail_open("count lost records beside the spool")
_FIRST_S: Final = 1.0
_QUIET_S: Final = 5.0
"""A burst of losses has ended after this time without another one."""
_WARN_S: Final = 60.0


class _Timing(msgspec.Struct, frozen=True):
    start_ns: int = 0


class Lost(msgspec.Struct):
    """A lost record, as far as it is counted."""

    kind: str = ""
    part: str = "ended"
    outcome: str | None = None
    timing: _Timing = _Timing()
    start_ns: int | None = None
    end_ns: int | None = None
    time_ns: int | None = None
    found_ns: int = msgspec.field(default_factory=time.time_ns)

    @property
    def at_ns(self) -> int:
        """The record's own time, Unix time."""
        # Of its start: the times of one record are the same whenever they are read.
        return self.timing.start_ns or self.start_ns or self.time_ns or self.found_ns

    @property
    def counted_as(self) -> str | None:
        """`calls`, `sessions` or `timesteps`; None for other records, and for what is not the end of one of these.

        If only the start of a call or session is lost, it is complete once its end is stored.
        """
        if self.kind == "call":
            return "calls" if self._is_end_of_call() else None
        return _SCOPES.get(self.kind) if self.end_ns is not None else None

    def _is_end_of_call(self) -> bool:
        return self.part != "started" and self.outcome not in _RUNNING


_RUNNING: Final = frozenset({"started", "in_progress"})
_SCOPES: Final = {"session": "sessions", "timestep": "timesteps"}


def lost_record(payload: bytes) -> Lost:
    """Return what is counted of a record; a payload that is no record counts as one of now."""
    try:
        return _lost_of(payload)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return Lost()


_lost_of: Final = msgspec.json.Decoder(Lost).decode


class Loss(msgspec.Struct):
    """Records that were lost for one reason, or to one store."""

    name: str
    """Name of the store or of the reason."""
    records: int = 0
    """All of them: also starts, events, messages, rewards and amendments."""
    calls: int = 0
    sessions: int = 0
    timesteps: int = 0
    first_ns: int = 0
    """Time of the earliest record, Unix time: its own, not that of its loss."""
    last_ns: int = 0

    def add(self, other: Loss) -> None:
        """Add the counts of another loss."""
        self.records += other.records
        self.calls += other.calls
        self.sessions += other.sessions
        self.timesteps += other.timesteps
        self.first_ns = min(self.first_ns or other.first_ns, other.first_ns or self.first_ns)
        self.last_ns = max(self.last_ns, other.last_ns)

    def what(self) -> str:
        """Return the counts as text, such as `755 calls, 2 steps and 9 other records`."""
        named = ((self.calls, "call"), (self.sessions, "session"), (self.timesteps, "step"))
        parts = [plural(number, noun) for number, noun in named if number]
        others = self.records - self.calls - self.sessions - self.timesteps
        if others or not parts:
            parts.append(plural(others, "other record" if parts else "record"))
        return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))

    def when(self) -> str:
        """Return the times of the records as text."""
        return f"from {iso(self.first_ns)} to {iso(self.last_ns)}"


def loss_of(name: str, lost: Lost) -> Loss:
    """Return the loss of one record."""
    loss = Loss(name, 1, first_ns=lost.at_ns, last_ns=lost.at_ns)
    if lost.counted_as is not None:
        setattr(loss, lost.counted_as, 1)
    return loss


class Occasions(msgspec.Struct):
    """How often something happened that may have cost something."""

    times: int = 0
    last_ns: int = 0
    """When it last did, Unix time."""
    error: str = ""
    """Type of the last exception, where one was the cause."""

    @classmethod
    def one(cls, error: str = "") -> Occasions:
        """Return one of now."""
        return cls(1, time.time_ns(), error)

    def added_to(self, other: Occasions) -> Occasions:
        """Return both together."""
        last_ns = max(self.last_ns, other.last_ns)
        return Occasions(self.times + other.times, last_ns, other.error or self.error)


class Losses(msgspec.Struct):
    """The losses of a spool directory since its creation."""

    given_up: dict[str, Loss] = {}
    """Losses of one store each, by its key, because the spool was at its cap or on a full disk."""
    dropped: dict[str, Loss] = {}
    """Losses of all stores, by reason."""
    without_bodies: dict[str, Loss] = {}
    """Records that were stored without their bodies, by reason."""
    threads: dict[str, Occasions] = {}
    """How often background threads of any process, by name, were ended by an exception, and started again."""
    unrecorded: dict[str, Loss] = {}
    """Requests that may cost money and left no record, by method and path, with when they were made."""

    def note(self, fate: Fate, key: str, loss: Loss) -> None:
        """Add a loss; `key`: the store's key, or the reason."""
        _add_to(getattr(self, fate), key, loss)

    def add(self, other: Losses) -> None:
        """Add the losses of another object."""
        for fate, key, loss in other.each():
            self.note(fate, key, loss)
        for name, death in other.threads.items():
            self.threads[name] = self.threads.get(name, Occasions()).added_to(death)
        for path, loss in other.unrecorded.items():
            is_named = path in self.unrecorded or len(self.unrecorded.keys() - {OTHER_PATHS}) < MOST_PATHS
            _add_to(self.unrecorded, path if is_named else OTHER_PATHS, loss)

    def each(self) -> Iterator[tuple[Fate, str, Loss]]:
        """Yield each loss with what became of the records, and the store's key or the reason."""
        yield from (("given_up", key, loss) for key, loss in self.given_up.items())
        yield from (("dropped", key, loss) for key, loss in self.dropped.items())
        yield from (("without_bodies", key, loss) for key, loss in self.without_bodies.items())

    def all(self) -> list[Loss]:
        """Return all losses of records."""
        return [loss for fate, _, loss in self.each() if fate != "without_bodies"]

    def __bool__(self) -> bool:
        """Return whether there is anything."""
        return bool(self.given_up or self.dropped or self.without_bodies or self.threads)


def _add_to(known: dict[str, Loss], key: str, loss: Loss) -> None:
    if key in known:
        known[key].add(loss)
    else:
        known[key] = msgspec.structs.replace(loss)


def read_losses(directory: Path) -> Losses:
    """Return the losses of a directory; empty if the file is missing or damaged."""
    for _ in range(_READS):
        with suppress(OSError, msgspec.MsgspecError):
            path = directory / LOSSES_FILE
            return _decode(path.read_bytes()) if path.exists() else Losses()
        time.sleep(_POLL_S)  # perhaps it is being rewritten
    return Losses()


def create_losses(directory: Path) -> None:
    """Create the file if the directory has none, so that a full disk does not stop it later. Raises OSError."""
    if not (directory / LOSSES_FILE).exists():
        add_losses(directory, Losses())


def add_losses(directory: Path, losses: Losses) -> None:
    """Add to the file of a directory. Raises OSError, TimeoutError among them, where it is locked for long."""
    _move_to_disk(directory, deque([losses]), _AFTERWARDS_S)


def _move_to_disk(directory: Path, parts: deque[Losses], timeout_s: float) -> None:
    """Add the parts to the file and remove them; who holds the file's lock removes. Raises OSError."""
    with _opened(directory, time.monotonic() + timeout_s) as descriptor:
        before = _read(descriptor)
        try:
            known = _decode(before)
        except msgspec.MsgspecError:
            known = Losses()
        taken = len(parts)
        for number in range(taken):
            known.add(parts[number])
        data = msgspec.json.encode(known)
        size = max(len(before), -(-(len(data) + 1) // _PAGE) * _PAGE)
        try:
            _write(descriptor, data.ljust(size - 1) + b"\n")
        except OSError:
            # A larger file than before may need room; its old content does not.
            _write(descriptor, before)
            os.ftruncate(descriptor, len(before))
            raise
        for _ in range(taken):
            parts.popleft()


_decode_losses: Final = msgspec.json.Decoder(Losses).decode


def _decode(data: bytes) -> Losses:
    return _decode_losses(data) if data.strip() else Losses()


@contextmanager
def _opened(directory: Path, deadline: float) -> Iterator[int]:
    """Open the file and hold its lock."""
    while True:
        descriptor = _open(directory)
        try:
            while not try_lock(descriptor):
                if time.monotonic() >= deadline:
                    raise TimeoutError(f"{directory / LOSSES_FILE} is locked by another process")
                time.sleep(_POLL_S)
            try:
                if os.fstat(descriptor).st_nlink:
                    yield descriptor
                    return
                # Someone deleted or replaced it meanwhile.
            finally:
                unlock(descriptor)
        finally:
            os.close(descriptor)


def _open(directory: Path) -> int:
    try:
        return os.open(directory / LOSSES_FILE, _FLAGS, 0o600)
    except FileNotFoundError:
        make_private(directory)
        return os.open(directory / LOSSES_FILE, _FLAGS, 0o600)


def _read(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    parts = []
    while part := os.read(descriptor, 1 << 20):
        parts.append(part)
    return b"".join(parts)


def _write(descriptor: int, data: bytes) -> None:
    os.lseek(descriptor, 0, os.SEEK_SET)
    if os.write(descriptor, data) < len(data):
        raise OSError("the disk is full")


class LossLog:
    """Counts the losses of one process on disk, and warns of them: soon, each minute, and at the end of each burst.

    Safe from any thread; never raises.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._unwritten: deque[Losses] = deque()
        self._unsaid: deque[Losses] = deque()
        self._write_is_due = self._warning_is_due = False
        self._try_at = self._warn_at = self._quiet_at = 0.0

    def drop(self, reason: str, payload: bytes) -> None:
        """Count a record that no store will get."""
        losses = Losses()
        losses.note("dropped", reason, loss_of(reason, lost_record(payload)))
        self.count(losses)
        self.warn(losses)

    def create(self) -> None:
        """Create the file; where that is impossible now, the first loss tries again."""
        try:
            create_losses(self._directory)
        except OSError:
            return

    def strip(self, reason: str, payload: bytes) -> None:
        """Count a record that is stored without its bodies, on disk a moment later: the record itself says so too."""
        losses = Losses()
        losses.note("without_bodies", reason, loss_of(reason, lost_record(payload)))
        self.count_later(losses)
        self.warn(losses)

    def note_death(self, thread: str, error: str) -> None:
        """Count that a background thread was ended by an exception."""
        self.count(Losses(threads={thread: Occasions.one(error)}))

    def count(self, losses: Losses) -> None:
        """Count losses on disk at once if that is possible; no warning."""
        self._unwritten.append(losses)
        if time.monotonic() < self._try_at or not self._write(_AT_ONCE_S):
            self._write_later()

    def count_later(self, losses: Losses) -> None:
        """Count losses on disk a moment later; no warning."""
        self._unwritten.append(losses)
        self._write_later()

    def finish(self, timeout_s: float = _AGAIN_S) -> None:
        """Write what is not written yet, and warn at once."""
        if self._unwritten and not self._write(timeout_s):
            self._write_later()
        self._warn(at_once=True)

    def _write(self, timeout_s: float) -> bool:
        """Write what is not written yet; False if that must be repeated."""
        try:
            if self._unwritten:
                _move_to_disk(self._directory, self._unwritten, timeout_s)
        except OSError:
            self._try_at = time.monotonic() + _AGAIN_S
            return False
        return True

    def _write_later(self) -> None:
        if not self._write_is_due:
            self._write_is_due = True
            _LATER.put_later(_AGAIN_S, self._write_again)

    def _write_again(self) -> None:
        self._write_is_due = False
        written = False
        with _WRITE:
            written = self._write(_AFTERWARDS_S)
        if not written:
            self._write_later()

    def warn(self, losses: Losses) -> None:
        """Warn of losses: soon, or with those that follow."""
        self._unsaid.append(losses)
        self._quiet_at = time.monotonic() + _QUIET_S
        if not self._warning_is_due:
            self._warning_is_due = True
            _LATER.put_later(_FIRST_S, self._warn)

    def _warn(self, *, at_once: bool = False) -> None:
        """Warn of what was lost since the last warning, if that was long ago or nothing more is being lost."""
        self._warning_is_due = False
        now = time.monotonic()
        if not self._unsaid:
            return
        if now < min(self._warn_at, self._quiet_at) and not at_once:
            self._warning_is_due = True
            _LATER.put_later(min(self._warn_at, self._quiet_at) - now, self._warn)
            return
        self._warn_at = now + _WARN_S
        for fate, _, loss in _all_of(self._unsaid).each():
            log(logging.WARNING, _TEXTS[fate], loss.what(), loss.name, self._directory, loss.when())


def _all_of(parts: deque[Losses]) -> Losses:
    """Take and return the sum of the parts; other threads may add and take too."""
    total = Losses()
    for _ in range(len(parts)):
        with suppress(IndexError):
            total.add(parts.popleft())
    return total
