"""Agents: the programs that this process starts, and the receiver for their telemetry.

The receiver starts with the first agent, at a port that the kernel picks: 4318 belongs to the user's own Collector. An
agent learns the address from its environment, with a token of its own, which tells the session that started it. Its own
children inherit none of this: the program keeps `OTEL_*` from its tools, hooks and servers.

What the application, its user or an administrator set for the program's telemetry wins; then nothing comes here, which
is counted as not recorded.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from callspan import forks
from callspan.background import Worker, thread
from callspan.fail_open import fail_open, log
from callspan.forks import in_child, late_attribute
from callspan.receive.body_files import BodyFiles, abandoned, agents_in, events_of_files, remove
from callspan.receive.claude_records import Sender
from callspan.receive.inbox import Inbox, Write

if TYPE_CHECKING:
    from callspan.receive.server import OtlpServer

TELEMETRY: Final = "CLAUDE_CODE_ENABLE_TELEMETRY"
"""The program's switch. Set by anybody, their settings apply."""
ELSEWHERE: Final = "agent claude: its telemetry is set up elsewhere"
_CONTENT: Final = (
    "OTEL_LOG_RAW_API_BODIES", "OTEL_LOG_TOOL_DETAILS", "OTEL_LOG_TOOL_CONTENT", "OTEL_LOG_USER_PROMPTS",
    "OTEL_LOG_ASSISTANT_RESPONSES",
)  # fmt: skip
_PROXIES: Final = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
_NO_PROXY: Final = ("NO_PROXY", "no_proxy")
_MISSING: Final = 'The calls of agents are not recorded: pip install "callspan[cli]"'
_GRACE_S: Final = 1.0
"""Time for the last requests of an agent that has ended."""
_JOIN_S: Final = 2.0
_START: Final = fail_open("receive the telemetry of an agent")
_END: Final = fail_open("end the receiving from an agent")
_LEFT: Final = fail_open("read what an agent of an ended process left")
_ENDING: Final = Worker("callspan-agents")


class StartedAgent(NamedTuple):
    """An agent that is to send here."""

    token: str
    variables: Mapping[str, str]
    """What its environment needs in addition."""


class AgentReceiver:
    """The receiver of one process. Safe from any thread; never raises."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self.unrecorded: Callable[[str], object] = bool
        """Takes what will not be recorded."""
        self.root: Path | None = None
        """The root of the spool, below which bodies may lie; None: they come in log lines."""
        self.renew()
        in_child(self, AgentReceiver.renew)
        forks.first_at_exit(self.close)

    def renew(self) -> None:
        """Forget the server and its agents, as in a forked child."""
        self._lock = threading.Lock()
        self._server: OtlpServer | None = None
        self._inbox: Inbox | None = None
        self._files: BodyFiles | None = None
        self._agents: dict[str, Sender] = {}

    def start_agent(self, environment: Mapping[str, str], sender: Sender) -> StartedAgent | None:
        """Return what an agent needs to send here; None if it will not."""
        if environment.get(TELEMETRY):
            self.unrecorded(ELSEWHERE)
            return None
        with _START:
            server = self._running()
            if sender.level == "full" and (files := self._body_files()) is not None:
                sender = files.add(sender)
            token = server.admit(sender)
            self._agents[token] = sender
            return StartedAgent(token, variables(server.url(token), sender, environment))
        return None

    def end_agent(self, token: str) -> None:
        """Record what an agent that has ended left unanswered, soon, on another thread."""
        _ENDING.put_later(_GRACE_S, lambda: self._end_agent(token))

    def _end_agent(self, token: str) -> None:
        with _END:
            server, inbox, sender = self._server, self._inbox, self._agents.pop(token, None)
            if server is None or inbox is None or sender is None:
                return
            if server.heard.get(token) is None:
                self.unrecorded(ELSEWHERE)
            if sender.bodies is not None:
                inbox.take_events(list(events_of_files(sender.bodies)), sender)
            if inbox.close(sender) and sender.bodies is not None:
                remove(sender.bodies)

    def close(self) -> None:
        """Record what waits, and stop."""
        with _END:
            server, inbox, files = self._server, self._inbox, self._files
            for token in list(self._agents):
                self._end_agent(token)
            if inbox is not None:
                inbox.close()
            if files is not None:
                files.close()
            if server is not None:
                server.stop()
            self.renew()

    def _running(self) -> OtlpServer:
        """Return the server, started with the first agent. Raises OSError, ImportError."""
        if self._server is not None:
            return self._server
        inbox = Inbox(self._write)
        try:
            server: OtlpServer = late_attribute("callspan.receive.server:OtlpServer")(inbox, 0)
        except ImportError:
            log(logging.WARNING, "%s", _MISSING)
            raise
        with self._lock:
            if self._server is None:
                self._server, self._inbox = server, inbox
            running = self._server
        if running is server:
            thread(server.serve, "callspan-receive", stop=server.stop).start()
        else:  # another thread was faster
            server.close()
        return running

    def _body_files(self) -> BodyFiles | None:
        """Return where bodies may lie, after reading what ended processes left there."""
        root = self.root
        if root is not None and self._files is None:
            with _LEFT:
                for directory in abandoned(root):
                    record_left(directory, self._write)
            with _START:
                self._files = BodyFiles(root)
        return None if root is None else self._files


def record_left(directory: Path, write: Write) -> None:
    """Write the records of what agents of an ended process left in a directory, and delete it."""
    inbox = Inbox(write)
    for sender in agents_in(directory):
        if sender.bodies is not None:
            inbox.take_events(list(events_of_files(sender.bodies)), sender)
    if inbox.close():
        remove(directory)


def variables(url: str, sender: Sender, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which the `claude` program sends its log events to a URL, with content if permitted."""
    has_content = sender.level == "full"
    content = dict.fromkeys(_CONTENT, "0")
    if has_content:
        bodies = "1" if sender.bodies is None else f"file:{sender.bodies}"
        content |= {"OTEL_LOG_TOOL_DETAILS": "1", "OTEL_LOG_RAW_API_BODIES": bodies}
    return {
        TELEMETRY: "1",
        "OTEL_LOGS_EXPORTER": "otlp",
        # The switch turns these on too, where the application has set them for itself.
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "http/json",
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"{url}/v1/logs",
        "OTEL_LOGS_EXPORT_INTERVAL": "1000",
        **content,
        **_without_proxy(environment),
    }


def _without_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that keep loopback from a proxy, if there is one."""
    if not any(environment.get(name) for name in _PROXIES):
        return {}
    return {name: ",".join(filter(None, (environment.get(name), "127.0.0.1"))) for name in _NO_PROXY}
