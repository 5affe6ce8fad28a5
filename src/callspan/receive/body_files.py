"""Body files: where agents put the bodies of their requests and answers until records have them.

A log line holds some 60 KB, and an agent's requests soon exceed that. The files are in clear, before any redactor, so
their directories are private (0700), beside the spool, one for each agent, and deleted with it. Requests that came in
log lines wait beside them, as processed records. A process holds a lock on its own directory, and the kernel releases
the lock however the process ends. The next process reads what a killed one left.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Final

import msgspec

from callspan.intercept.programs import SESSION
from callspan.providers import registry
from callspan.providers.wire_json import text
from callspan.receive.claude_code import ClaudeCode
from callspan.receive.decoding import LogEvent
from callspan.receive.foreign_files import content_of, status_of
from callspan.receive.history import Entry, History, ReadSpan, WrittenRecord, entries_in, replace_entries
from callspan.receive.senders import Sender
from callspan.receive.waiting import Process, WaitingRecords, records_in
from callspan.record.call import CallRecord
from callspan.record.codec import decode
from callspan.record.events import EventRecord, Record
from callspan.runtime.file_lock import make_private, try_lock
from callspan.runtime.forks import in_child

NAME: Final = "agents"
"""The directory below the root of a spool."""
_LOCK: Final = "lock"
_WAITING: Final = "waiting"
"""The directory of waiting records, inside a process's directory."""
_HISTORY: Final = "history.jsonl"
"""What the next receiver at the same port needs to go on. Only the directory of `callspan receive` has it."""
_CONTINUED_S: Final = 3600.0
"""How long such a directory waits for the next one."""
_SENDER: Final = "sender.json"
_INDEX: Final = "index.jsonl"
"""Written by the program: a line for each answer, with the ids of the call and the names of its files."""
_REQUEST: Final = ".request.json"
_SESSION_IDS: Final = ("session.id", "conversation.id")
_INDEXED: Final = {"session_id": "session.id", "query_source": "query_source", "model": "model"}
_decode_sender: Final = msgspec.json.Decoder(Sender).decode


class BodyFiles:
    """The directories of the agents of this process."""

    def __init__(self, root: Path, name: str | None = None) -> None:
        """Make a directory below `root`, the root of the spool. Raises OSError if that fails.

        With a `name`, continue the directory that an ended process with this name left.
        """
        self._directory = root / NAME / (name or f"{os.getpid()}-{os.urandom(6).hex()}")
        make_private(self._directory)
        self.lock = _open_lock(self._directory)
        if not try_lock(self.lock):  # taken for an abandoned one
            os.close(self.lock)
            raise OSError(errno.EAGAIN, "it is locked", str(self._directory))
        in_child(self, BodyFiles.abandon)

    def waiting(self, process: Process) -> WaitingRecords:
        """Return the records that wait in this process."""
        return WaitingRecords(self._directory / _WAITING, process)

    def history(self) -> History:
        """Return what the next process with the name needs to go on."""
        return History(self._directory / _HISTORY)

    def add(self, sender: Sender) -> Sender:
        """Return the sender with a directory of its own."""
        directory = self._directory / os.urandom(6).hex()
        directory.mkdir(0o700)
        descriptor = os.open(directory / _SENDER, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(sender))
        return msgspec.structs.replace(sender, bodies=directory)

    def close(self) -> None:
        """Give up the directory; delete it, unless an agent still has one in it, or another process goes on with it."""
        has_agents = any(entry.name not in (_LOCK, _WAITING, _HISTORY) for entry in self._directory.iterdir())
        has_records = any(True for _ in waiting_in(self._directory))
        os.close(self.lock)
        if not (has_agents or has_records or entries_in(self._directory / _HISTORY)):
            remove(self._directory)

    def abandon(self) -> None:
        """Leave the lock to the parent, in a forked child."""
        with suppress(OSError):
            os.close(self.lock)


def _open_lock(directory: Path) -> int:
    return os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def remove(directory: Path) -> None:
    """Delete a directory with all that is in it."""
    shutil.rmtree(directory, ignore_errors=True)


def abandoned(root: Path) -> Iterator[Path]:
    """Yield the directories of ended processes below the root of a spool; each is locked while it is in use."""
    directories: list[Path] = []
    with suppress(OSError):
        directories = sorted((root / NAME).iterdir())
    for directory in directories:
        with suppress(OSError):
            descriptor = _open_lock(directory)
            try:
                if try_lock(descriptor):
                    yield directory
            finally:
                os.close(descriptor)


def is_continued(directory: Path) -> bool:
    """Return whether the next receiver at the same port may go on with a directory."""
    with suppress(OSError):
        return time.time() - (directory / _HISTORY).stat().st_mtime < _CONTINUED_S
    return False


def waiting_in(directory: Path) -> Iterator[tuple[Path, Record]]:
    """Yield the files of an ended process with the records that waited in it."""
    return records_in(directory / _WAITING)


def left_files(directory: Path) -> Iterator[Path]:
    """Yield the files of an ended process that have content: bodies, and records that waited."""
    yield from (path for path in directory.rglob("*.json") if path.name != _SENDER)
    yield from (path for path, _ in waiting_in(directory))


def erase(root: Path, is_erased: Callable[[Record], bool]) -> None:
    """Delete what ended processes left of erased records below the root of a spool. Raises OSError.

    Running processes soon record what they have there, and a store refuses records of what was erased.
    """
    for directory in abandoned(root):
        for path, record in waiting_in(directory):
            if is_erased(record):
                path.unlink()
        _erase_history(directory / _HISTORY, is_erased)
        for sender in agents_in(directory):
            if sender.bodies is not None:
                _erase_bodies(sender, sender.bodies, is_erased)


def _erase_history(path: Path, is_erased: Callable[[Record], bool]) -> None:
    entries = entries_in(path)
    kept = [entry for entry in entries if not is_erased(_named_by(entry))]
    if len(kept) < len(entries):
        replace_entries(path, kept)


def _named_by(entry: Entry) -> Record:
    """Return a record of the session or call that an entry names."""
    if isinstance(entry, WrittenRecord):
        return EventRecord(event_id=entry.record_id, event_type="", time_ns=0, call_id=entry.record_id)
    if isinstance(entry, ReadSpan):
        record = decode(bytes(entry.record)) if bytes(entry.record) else None
        if isinstance(record, CallRecord):
            return msgspec.structs.replace(record, call_id=entry.call_id)
        return EventRecord(event_id="", event_type="", time_ns=0)
    event = entry.event
    names = (text(event.resource, SESSION), *(text(event.attributes, name) for name in _SESSION_IDS))
    return EventRecord(event_id="", event_type="", time_ns=0, session_id=next(filter(None, names), None))


def _erase_bodies(sender: Sender, agent: Path, is_erased: Callable[[Record], bool]) -> None:
    for _, events in groupby(events_of_files(agent), lambda event: text(event.attributes, "request_body_id")):
        files = list(events)
        reader = ClaudeCode()
        records = [*reader.records(files, sender), *reader.close()]
        if any(is_erased(record) for record, _ in records):
            for event in files:
                Path(text(event.attributes, "body_ref") or "").unlink(missing_ok=True)
    if not list(agent.glob(f"*{_REQUEST}")):
        remove(agent)


def agents_in(directory: Path) -> Iterator[Sender]:
    """Yield the agents of an ended process."""
    for agent in sorted(directory.iterdir()):
        with suppress(OSError, msgspec.MsgspecError):
            sender = _decode_sender(content_of(agent / _SENDER))
            yield msgspec.structs.replace(sender, bodies=agent)


def events_of_files(agent: Path) -> Iterator[LogEvent]:
    """Yield events that name the files in an agent's directory: the bodies of calls that it has not reported.

    An agent that was killed, or reports elsewhere, leaves them. Raises OSError if the disk hangs.
    """
    lines = map(registry.decoded, content_of(agent / _INDEX).splitlines())
    answers = {text(line, "request_file"): line for line in lines}
    for file in sorted(agent.glob(f"*{_REQUEST}")):
        answer = answers.get(file.name)
        attributes: dict[str, object] = {name: text(answer, key) for key, name in _INDEXED.items()}
        attributes["request_body_id"] = file.name.removesuffix(_REQUEST)
        if (request := _event("api_request_body", attributes, file)) is None:
            continue
        yield request
        response = agent / (text(answer, "response_file") or "")
        ids = {"request_id": text(answer, "request_id"), "message.id": text(answer, "message_id")}
        answered = _event("api_response_body", attributes | ids, response) if response.parent == agent else None
        if answered is not None:
            yield answered


def _event(name: str, attributes: dict[str, object], file: Path) -> LogEvent | None:
    """Return the event of a body in a regular file; None for anything else. Raises OSError if the disk hangs."""
    status = status_of(file)
    if status is None:
        return None
    stated = {key: value for key, value in attributes.items() if value is not None} | {"body_ref": str(file)}
    return LogEvent(name=name, time_ns=status.st_mtime_ns, attributes=stated, resource={"service.name": "claude-code"})
