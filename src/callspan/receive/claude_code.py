"""Claude Code: reads the log events of the `claude` program, which the claude-agent-sdk starts, too.

| Event | Says | Names |
| --- | --- | --- |
| `api_request_body` | one request was sent; also each one that is repeated after a failure | `request_body_id` |
| `api_request`, `api_error` | counters, cost and times of an answer; the error after all attempts | `request_id` |
| `api_response_body` | the answer | both |
| `tool_decision` | whether a tool may run | `tool_use_id`, `request_id` |
| `tool_result` | that it ran, with its arguments, without its result | the same |
| `subagent_completed` | an agent within the agent has ended | `agent_id` |

They come in batches, seconds apart, perhaps twice, and some may be missing. So each batch writes what is known of the
calls it names, as a version of a record whose id is made of the provider's request id: what comes later, or again, is
a version of the same record. Only a request whose answer has not come has no such id. It waits: here, in bounded
memory, and on disk, see `waiting`, or in the file of the program. If nothing ever answers it, that is recorded too.

The program sends one request at a time for each purpose and agent (`_lane`). So what was sent before an answered
request, and waits, has failed: with the same body it was an attempt of the same call, else a call of its own. But if
counters came without the body of their answer, they state when its request was sent.

The result of a tool is in the next request. Until then only `tool_start` is written.

No body is forgotten, and no file deleted, before `settle` is called: until then the records may not be written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from callspan.fail_open import fail_open
from callspan.lock_free import LRUCache
from callspan.providers import registry
from callspan.providers.wire_json import integer, objects, text
from callspan.receive.claude_records import (
    LoggedBody,
    ObservedCall,
    agent_record,
    call_id_of,
    call_record,
    place_of,
    tool_record,
    tool_start,
    with_result,
)
from callspan.receive.decoding import Attributes, LogEvent
from callspan.receive.senders import ProgramSession, Sender
from callspan.receive.waiting import Leveled
from callspan.record.events import EventRecord
from callspan.record.ids import response_call_id
from callspan.record.interrupted import INTERRUPTED
from callspan.settings import Content

_NAMES: Final = frozenset(
    {
        *("api_request_body", "api_response_body", "api_request", "api_error", "tool_decision", "tool_result"),
        "subagent_completed",
    }
)
SERVICE: Final = "claude-code"
_MAX_CALLS: Final = 1024
_MAX_WAITING: Final = 256
_MAX_WAITING_BYTES: Final = 64 << 20
_SAME_TIME_NS: Final = 250_000_000
"""The program logs a request within some milliseconds of the time from which it measures the answer."""
_IDLE_NS: Final = 3600 * 10**9
_ACCEPTED: Final = "accept"
_OUTCOMES: Final = {
    "api_request_body": INTERRUPTED, "api_request": "success", "api_response_body": "success", "api_error": "error",
}  # fmt: skip
"""The outcome of a session by its last event of a call. A request that nothing follows was interrupted."""
_WAITING: Final = "waiting"
_READ: Final = fail_open("read a log event of Claude Code")


class ClaudeCode:
    """Makes records of log events. Not thread-safe."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[LoggedBody, Sender]] = {}
        """Requests without an answer, by their id, oldest first."""
        self._calls: LRUCache[str, ObservedCall] = LRUCache(_MAX_CALLS)
        self._settled: LRUCache[str, str] = LRUCache(_MAX_CALLS * 4)
        """The requests of written calls, by their id, so that what comes twice does not wait."""
        self._decisions: LRUCache[str, Attributes] = LRUCache(_MAX_CALLS)
        self._tools: dict[str, tuple[EventRecord, Sender]] = {}
        """Tools that wait for their result, by the id of the model's call."""
        self._recorded: LRUCache[str, object] = LRUCache(_MAX_CALLS * 4)
        """The ids of recorded tools and agents, of which there is one version."""
        self._sessions: dict[str, ProgramSession] = {}
        """The program's own, by id."""
        self._with_bodies: LRUCache[str, object] = LRUCache(_MAX_CALLS)
        """Sessions whose requests come with their bodies, by id."""
        self._unread: list[tuple[LogEvent, Sender]] = []
        """Answers whose files were not whole yet."""
        self._early: LRUCache[str, ObservedCall] = LRUCache(_MAX_CALLS)
        """Answered calls whose request has not come, by the id of its body."""
        self._batch = _Batch()

    def records(self, events: Iterable[LogEvent], sender: Sender) -> Iterator[Leveled]:
        """Yield the records of a batch of events, each once; only calls may have further versions."""
        unread, self._unread = self._unread[-_MAX_WAITING:], []
        for event, owner in unread:
            with _READ:
                yield from self._api_response_body(event, owner)
        now_ns = 0
        for event in sorted(filter(is_read, events), key=_order):
            now_ns = event.time_ns
            with _READ:
                yield from self._session(event, sender)
                yield from getattr(self, f"_{event.name}")(event, sender)
        for call in self._batch.calls.values():
            with _READ:
                yield call_record(call, sender), sender.level
        yield from self._idle_sessions(now_ns)
        yield from self._evicted()

    def close(self, sender: Sender | None = None) -> Iterator[Leveled]:
        """Yield the records of all that waits, or that waits for one sender, as no answer will come, and the ends."""
        for ident, (_, owner) in list(self._tools.items()):
            if sender is None or owner is sender:
                yield from self._tool_without_result(ident)
        for body, owner in [*self._waiting.values()]:
            if (sender is None or owner is sender) and body.body_id not in self._batch.bodies:
                content = body.content()
                others = [other for other in reversed(self._in_lane(body.event)) if other is not body]
                yield self._unanswered(body, owner, [other for other in others if other.content() == content])
        self._unread = [] if sender is None else [pair for pair in self._unread if pair[1] is not sender]
        for ident, session in list(self._sessions.items()):
            if sender is None or session.sender is sender:
                yield self._sessions.pop(ident).ended(), session.sender.level

    def waiting(self) -> Mapping[str, Callable[[], Leveled]]:
        """Return how to make the record of each request and tool that waits in memory, if nothing more comes of it."""
        requests = {
            waiting_id(ident): partial(self._if_unanswered, body, sender)
            for ident, (body, sender) in self._waiting.items()
            if body.inline is not None and ident not in self._batch.bodies
        }
        tools = {
            waiting_id(tool.event_id): partial(_leveled, tool, sender.level) for tool, sender in self._tools.values()
        }
        return requests | tools

    @property
    def written_as(self) -> Mapping[str, str]:
        """The ids of the calls in which requests of this batch are, by the ids of `waiting`; "" for tools."""
        return self._batch.written_as

    def settle(self) -> None:
        """Forget the bodies that the records have, and delete their files: they are written."""
        batch, self._batch = self._batch, _Batch()
        for body in batch.bodies.values():
            self._waiting.pop(body.body_id, None)
            self._settled.put(body.body_id, body.body_id)
        answers = (call.response for call in batch.calls.values() if call.response is not None)
        for body in (*batch.bodies.values(), *answers):
            if body.path is not None:
                with suppress(OSError):
                    body.path.unlink()
            body.inline = body.path = None

    def _session(self, event: LogEvent, sender: Sender) -> Iterator[Leveled]:
        """Yield the start of a session of the program's own; note how it goes on."""
        ident = text(event.attributes, "session.id")
        if ident is None or (place := place_of(event, sender)).session_id != ident:
            return
        session = self._sessions.get(ident)
        if session is None:
            session = self._sessions[ident] = ProgramSession(event, place, sender)
            yield session.start, sender.level
        session.go_on(event, _OUTCOMES.get(event.name))

    def _idle_sessions(self, now_ns: int) -> Iterator[Leveled]:
        """Yield the ends of sessions without an event for long; forget the oldest of too many."""
        idle = [ident for ident, session in self._sessions.items() if session.last_ns < now_ns - _IDLE_NS]
        for ident in idle or list(self._sessions)[:-_MAX_CALLS]:
            session = self._sessions.pop(ident)
            yield session.ended(), session.sender.level

    def _api_request_body(self, event: LogEvent, sender: Sender) -> Iterator[Leveled]:
        body_id = text(event.attributes, "request_body_id")
        if body_id is None or body_id in self._waiting or self._settled.get(body_id) is not None:
            return
        body = _body(body_id, event, sender)
        self._waiting[body_id] = body, sender
        self._with_bodies.put(text(event.attributes, "session.id") or "", event)
        if self._tools:
            yield from self._results_in(body)
        if (call := self._early.pop(body_id)) is not None:
            self._batch.calls[call.call_id] = call
            yield from self._answer(call, body, sender)

    def _api_request(self, event: LogEvent, _sender: Sender) -> Iterator[Leveled]:
        if (call := self._call(event)) is not None and call.facts is None:
            call.facts = event
            self._batch.calls[call.call_id] = call
        yield from ()

    def _api_response_body(self, event: LogEvent, sender: Sender) -> Iterator[Leveled]:
        body_id = text(event.attributes, "request_body_id")
        call = self._call(event, body_id)
        if call is None or call.response is not None:
            return
        response = _body(call.call_id, event, sender)
        if response.is_whole:
            call.response = response
        else:
            self._unread.append((event, sender))
        self._batch.calls[call.call_id] = call
        body, _ = self._waiting.get(body_id or "", (None, None))
        if body is not None and call.request is None:
            yield from self._answer(call, body, sender)
        elif body_id is not None and call.request is None:
            self._early.put(body_id, call)

    def _api_error(self, event: LogEvent, sender: Sender) -> Iterator[Leveled]:
        body = next((body for body in self._in_lane(event) if body.time_ns <= event.time_ns), None)
        call = self._call(event, None if body is None else body.body_id)
        if call is None or call.error is not None:
            return
        call.error = event
        self._batch.calls[call.call_id] = call
        if body is not None:
            yield from self._answer(call, body, sender)

    def _tool_decision(self, event: LogEvent, sender: Sender) -> Iterator[Leveled]:
        ident = text(event.attributes, "tool_use_id")
        if ident is not None:
            self._decisions.put(ident, event.attributes)
            if text(event.attributes, "decision") != _ACCEPTED:
                yield from self._ran(event, sender, event.attributes)

    def _tool_result(self, event: LogEvent, sender: Sender) -> Iterator[Leveled]:
        decision = self._decisions.get(text(event.attributes, "tool_use_id") or "") or {}
        yield from self._ran(event, sender, decision)

    def _subagent_completed(self, event: LogEvent, sender: Sender) -> Iterator[Leveled]:
        agent = agent_record(event, sender)
        if self._recorded.is_first(agent.event_id):
            yield agent, sender.level

    def _ran(self, event: LogEvent, sender: Sender, decision: Attributes) -> Iterator[Leveled]:
        tool = tool_record(event, sender, decision)
        if tool.tool_call_id is None or not self._recorded.is_first(tool.event_id):
            return
        if self._with_bodies.get(text(event.attributes, "session.id") or "") is None:
            yield tool, sender.level
        else:
            self._tools[tool.tool_call_id] = tool, sender
            yield tool_start(tool), sender.level

    def _tool_without_result(self, ident: str) -> Iterator[Leveled]:
        tool, sender = self._end_wait(ident)
        yield tool, sender.level

    def _end_wait(self, ident: str) -> tuple[EventRecord, Sender]:
        """Return a tool that waits no longer."""
        tool, sender = self._tools.pop(ident)
        self._batch.written_as[waiting_id(tool.event_id)] = ""
        return tool, sender

    def _results_in(self, body: LoggedBody) -> Iterator[Leveled]:
        """Yield the tools whose results a request has."""
        for message in objects(registry.decoded(body.content()), "messages"):
            for part in objects(message, "content"):
                ident = text(part, "tool_use_id") or ""
                if ident in self._tools:
                    tool, sender = self._end_wait(ident)
                    yield with_result(tool, part.get("content")), sender.level

    def _call(self, event: LogEvent, fallback: str | None = None) -> ObservedCall | None:
        call_id = call_id_of(event.attributes, fallback)
        return None if call_id is None else self._calls.setdefault(call_id, ObservedCall(call_id=call_id))

    def _answer(self, call: ObservedCall, body: LoggedBody, sender: Sender) -> Iterator[Leveled]:
        """Take a request that was answered, and what was sent before it in vain."""
        before = [earlier for earlier in self._in_lane(body.event) if earlier.time_ns <= body.time_ns]
        before = [earlier for earlier in before if earlier is not body]
        call.request = body
        content = body.content() if before else b""
        call.retried = [earlier for earlier in reversed(before) if earlier.content() == content]
        self._batch.take((*call.retried, body), call.call_id)
        for earlier in before:
            if earlier.body_id not in self._batch.bodies:
                yield self._unanswered(earlier, sender)

    def _in_lane(self, event: LogEvent) -> list[LoggedBody]:
        """Return the waiting requests of the same purpose and agent, newest first."""
        lane = _lane(event)
        return [
            body
            for body, _ in reversed(self._waiting.values())
            if body.body_id not in self._batch.bodies and _lane(body.event) == lane
        ]

    def _unanswered(self, body: LoggedBody, sender: Sender, repeated: Sequence[LoggedBody] = ()) -> Leveled:
        """Return the record of a request that failed, or was `repeated` and failed each time.

        Or of one of whose answer only the counters came.
        """
        attempts = [body, *repeated]
        call = self._counted(attempts[-1]) or ObservedCall(call_id=_unanswered_id(body))
        self._batch.take(attempts, call.call_id)
        call.request, call.retried = attempts.pop(), attempts
        return call_record(call, sender), sender.level

    def _if_unanswered(self, body: LoggedBody, sender: Sender) -> Leveled:
        return call_record(ObservedCall(call_id=_unanswered_id(body), request=body), sender), sender.level

    def _counted(self, body: LoggedBody) -> ObservedCall | None:
        """Return the call whose counters came without a body and state that it began as this request was sent."""
        lane = _lane(body.event)
        for _, call in self._calls.items():
            facts = call.facts
            if facts is None or call.request or call.response or _lane(facts) != lane:
                continue
            if abs(call.began_ns - body.time_ns) <= _SAME_TIME_NS:
                call.is_without_answer = True
                return call
        return None

    def _evicted(self) -> Iterator[Leveled]:
        """Yield the oldest requests as unanswered, and the oldest tools without a result, as far as too many wait."""
        for ident in list(self._tools)[:-_MAX_CALLS]:
            yield from self._tool_without_result(ident)
        waiting = [pair for pair in self._waiting.values() if pair[0].body_id not in self._batch.bodies]
        size = sum(len(body.inline or b"") for body, _ in waiting)
        while len(waiting) > _MAX_WAITING or size > _MAX_WAITING_BYTES:
            body, sender = waiting.pop(0)
            size -= len(body.inline or b"")
            yield self._unanswered(body, sender)


class _Batch:
    """What the records of one batch say."""

    def __init__(self) -> None:
        self.calls: dict[str, ObservedCall] = {}
        self.bodies: dict[str, LoggedBody] = {}
        self.written_as: dict[str, str] = {}

    def take(self, bodies: Iterable[LoggedBody], call_id: str) -> None:
        """Note in which call bodies are."""
        for body in bodies:
            self.bodies[body.body_id] = body
            self.written_as[waiting_id(body.body_id)] = call_id


def waiting_id(ident: str) -> str:
    """Return the id of a request or a tool that waits, which can name a file."""
    return response_call_id(_WAITING, ident)


def _unanswered_id(body: LoggedBody) -> str:
    return call_id_of({}, body.body_id) or body.body_id


def _leveled(tool: EventRecord, level: Content) -> Leveled:
    return tool, level


def _body(ident: str, event: LogEvent, sender: Sender) -> LoggedBody:
    """Return a body, which is in the event or in a file that it names."""
    inline = text(event.attributes, "body")
    path = Path(text(event.attributes, "body_ref") or "")
    # Another path may have been made up by anybody.
    is_own = inline is None and sender.bodies is not None and path.parent == sender.bodies
    content = None if is_own else (inline or "").encode()
    return LoggedBody(body_id=ident, event=event, inline=content, path=path if is_own else None)


def is_read(event: LogEvent) -> bool:
    """Return whether an event is one of those that `ClaudeCode` reads."""
    return event.name in _NAMES and text(event.resource, "service.name") == SERVICE


def _order(event: LogEvent) -> tuple[int, int]:
    return event.time_ns, integer(event.attributes, "event.sequence") or 0


def _lane(event: LogEvent) -> tuple[str | None, ...]:
    return tuple(text(event.attributes, name) for name in ("session.id", "query_source", "agent_id"))
