"""Agents: the programs that this process starts, and the receiver for their telemetry.

The receiver starts with the first agent, at a port that the kernel picks: 4318 belongs to the user's own Collector. An
agent learns the address from its environment, with a token of its own, which identifies the session that started it.
Its children inherit none of this: the program keeps `OTEL_*` from its tools, hooks and servers.

If the application, its user or an administrator configured the program's telemetry, that wins. Then nothing comes here,
and the program is counted as not recorded.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from callspan.intercept.programs import CLAUDE, AgentProgram, named_session
from callspan.receive.body_files import (
    BodyFiles,
    abandoned,
    agents_in,
    events_of_files,
    is_continued,
    remove,
    waiting_in,
)
from callspan.receive.inbox import MAX_WAIT_S, Inbox, Write
from callspan.receive.senders import Sender
from callspan.receive.waiting import Process
from callspan.runtime import forks
from callspan.runtime.background import Worker, thread
from callspan.runtime.clock import monotonic_s
from callspan.runtime.fail_open import fail_open, log
from callspan.runtime.forks import in_child, late_attribute
from callspan.runtime.nothing import nothing

if TYPE_CHECKING:
    from callspan.receive.server import OtlpServer

ELSEWHERE: Final = "agent %s: its telemetry is set up elsewhere"
SILENT: Final = "agent %s: nothing came from it; it called no model, or its own settings send its telemetry elsewhere"
_MISSING: Final = 'The calls of agents are not recorded: pip install "callspan[cli]"'
_GRACE_S: Final = 1.0
"""Time for the last requests of an agent that has ended."""
_JOIN_S: Final = 2.0
_EXIT_S: Final = 8.0
"""Time for all of `close`. What is not written by then lies on disk, for the next process."""
_LOCKS: Final = 10
_LOCKED_S: Final = 0.1
_START: Final = fail_open("receive the telemetry of an agent")
_END: Final = fail_open("end the receiving from an agent")
_LEFT: Final = fail_open("read what an agent of an ended process left")
_ENDING: Final = Worker("callspan-agents", exit_timeout_s=0)  # `close` waits


class StartedAgent(NamedTuple):
    """What callspan adds to the start of an agent."""

    token: str | None
    """None if it sends its telemetry elsewhere."""
    variables: Mapping[str, str]
    """In addition to its environment."""
    arguments: Sequence[str] = ()
    """Before all others."""
    lock: int | None = None
    """A descriptor. Whoever has it open keeps other processes from reading the body files of this one."""


class _Agent(NamedTuple):
    sender: Sender
    name: str


class AgentReceiver:
    """The receiver of one process. Safe from any thread; never raises."""

    def __init__(self, write: Write, process: Process) -> None:
        """`process` returns a record as it may be written at a content level."""
        self._write, self._process = write, process
        self.unrecorded: Callable[[str], object] = nothing
        """Takes what will not be recorded."""
        self.silences: list[str] = []
        """Why nothing came from agents, each reason once."""
        self.root: Path | None = None
        """The root of the spool, which holds the waiting records; None without a spool."""
        self.has_body_files = True
        """Whether bodies may lie there in clear; otherwise they come in log lines."""
        self.calls = 0
        """Number of calls recorded until the last `close`."""
        self.refused: Counter[str] = Counter()
        """Numbers of requests that were not acknowledged until the last `close`, by reason."""
        self.unread: Counter[str] = Counter()
        """Numbers of unreadable parts of acknowledged requests until the last `close`, by kind."""
        self.renew()
        in_child(self, AgentReceiver.renew)
        forks.first_at_exit(self._close_at_exit)

    def renew(self) -> None:
        """Forget the server and its agents, as in a forked child."""
        self._lock = threading.Lock()
        self._server: OtlpServer | None = None
        self._thread: threading.Thread | None = None
        self._inbox: Inbox | None = None
        self._files: BodyFiles | None = None
        self._agents: dict[str, _Agent] = {}

    def start_agent(
        self,
        environment: Mapping[str, str],
        sender: Sender,
        program: AgentProgram = CLAUDE,
        arguments: Sequence[str] = (),
    ) -> StartedAgent | None:
        """Return what an agent with this environment and arguments needs to send here; None if it cannot send here."""
        with _START:
            if program.is_set_up(environment, arguments):
                self._note_silence(ELSEWHERE % program.name)
                return StartedAgent(None, named_session(sender, environment))
            server, lock = self._running(), None
            files = self._directory()
            may_lie_in_files = self.has_body_files and sender.level == "full"
            if program.has_body_files and may_lie_in_files and files is not None:
                sender, lock = files.add(sender), files.lock
            token = server.admit(sender)
            self._agents[token] = _Agent(sender, program.name)
            url = server.url(token)
            variables = program.variables(url, sender, environment)
            return StartedAgent(token, variables, program.arguments(url, sender), lock)
        return None

    def end_agent(self, token: str) -> None:
        """Record what an agent that has ended left unanswered, soon, on another thread."""
        _ENDING.put_later(_GRACE_S, lambda: self._end_agent(token))

    def _end_agent(self, token: str, until_s: float = math.inf) -> None:
        with _END:
            server, inbox, agent = self._server, self._inbox, self._agents.pop(token, None)
            if server is None or inbox is None or agent is None:
                return
            if token not in server.heard:
                self._note_silence(SILENT % agent.name)
            server.dismiss(token)
            bodies = agent.sender.bodies
            events = () if bodies is None else events_of_files(bodies)
            are_taken = inbox.take_events(events, agent.sender, limit_s=_rest_s(until_s))
            if inbox.close(agent.sender, limit_s=_rest_s(until_s)) and are_taken and bodies is not None:
                remove(bodies)

    def _close_at_exit(self) -> None:
        self.close(forks.exit_left_s(_EXIT_S))

    def close(self, limit_s: float | None = None) -> None:
        """Take what has arrived, record what waits, and stop, in 8 seconds by default."""
        until_s = monotonic_s() + (forks.within_exit_s(_EXIT_S) if limit_s is None else limit_s)
        with _END:
            server, running, inbox, files = self._server, self._thread, self._inbox, self._files
            if server is not None:
                server.stop()
            if running is not None:
                running.join(min(_JOIN_S, _rest_s(until_s)))
            if files is not None:
                _ENDING.drain(min(_JOIN_S, _rest_s(until_s)))
            for token in list(self._agents):
                self._end_agent(token, until_s)
            if inbox is not None:
                inbox.close(limit_s=_rest_s(until_s))
                self.calls += inbox.calls
                self.unread += inbox.unread
            if server is not None:
                self.refused += server.refused
            if files is not None:
                files.close()
            self.renew()

    def _running(self) -> OtlpServer:
        """Return the server, started with the first agent. Raises OSError, ImportError."""
        if self._server is not None:
            return self._server
        inbox = Inbox(self._write, self._note)
        try:
            server: OtlpServer = late_attribute("callspan.receive.server:OtlpServer")(inbox, 0, unrecorded=self._note)
        except ImportError:
            log(logging.WARNING, "%s", _MISSING)
            raise
        with self._lock:
            if self._server is None:
                self._server, self._inbox = server, inbox
            running = self._server
        if running is server:
            self._thread = thread(server.serve, "callspan-receive", stop=server.stop)
            self._thread.start()
        else:  # another thread was faster
            server.close()
        return running

    def _note_silence(self, reason: str) -> None:
        if reason not in self.silences:
            self.silences.append(reason)
        self.unrecorded(reason)

    def _note(self, what: str) -> None:
        self.unrecorded(what)

    def _directory(self) -> BodyFiles | None:
        """Return the directory of this process; have another thread read what ended processes left in theirs."""
        root = self.root
        if root is not None and self._files is None:
            with _START:
                files = self._files = BodyFiles(root)
                if self._inbox is not None:
                    self._inbox.waiting = files.waiting(self._process)
                _ENDING.put(lambda: record_all_left(root, self._write, lambda: self._files is files))
        return None if root is None else self._files


def _rest_s(until_s: float) -> float:
    """Return the time until a moment, at most a minute."""
    return max(0.0, min(MAX_WAIT_S, until_s - monotonic_s()))


def receiver_directory(root: Path, port: int, write: Write) -> BodyFiles:
    """Return the directory of the receiver at a port; 0: any. Record what others left in theirs before.

    Raises OSError.
    """
    record_all_left(root, write)
    name = f"receive-{port}"
    for _ in range(_LOCKS if port else 1):
        with suppress(BlockingIOError):
            return BodyFiles(root, name)
        time.sleep(_LOCKED_S)  # another process looks into it
    return BodyFiles(root)


def record_all_left(root: Path, write: Write, goes_on: Callable[[], bool] = lambda: True) -> None:
    """Write the records of what agents of ended processes left, as long as it `goes_on`."""
    with _LEFT:
        for directory in abandoned(root):
            if not goes_on():
                return
            if not is_continued(directory):
                record_left(directory, write)


def record_left(directory: Path, write: Write) -> None:
    """Write the records of what agents of an ended process left in a directory, and delete it."""
    inbox, is_written = Inbox(write), True
    for sender in agents_in(directory):
        if sender.bodies is not None:
            is_written &= inbox.take_events(events_of_files(sender.bodies), sender)
    is_written &= inbox.close()
    for path, record in waiting_in(directory):
        if not write(record, "full"):  # it was processed at its level
            is_written = False
            continue
        path.unlink(missing_ok=True)
    if is_written:
        remove(directory)
