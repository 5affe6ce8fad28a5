"""Claude Code: reads the log events of the `claude` program, which the claude-agent-sdk starts, too.

| Event | Says | Names |
| --- | --- | --- |
| `api_request_body` | one request was sent; also each one that is repeated after a failure | `request_body_id` |
| `api_request`, `api_error` | counters, cost and times of an answer; the error after all attempts | `request_id` |
| `api_refusal` | that the answer is a refusal | `request_id` |
| `api_response_body` | the answer | both |
| `tool_decision` | whether a tool may run | `tool_use_id`, `request_id` |
| `tool_result` | that it ran, with its arguments, without its result | the same |
| `subagent_completed` | an agent within the agent has ended | `agent_id` |

They come in batches, seconds apart, perhaps twice, in any order, and some may be missing. So the events of one purpose
and agent are kept, and after each batch `claude_calls` decides anew which belong to one call. Each changed call becomes
a version of its record. The record's id is made from the provider's request id; without one, from the id of the
request's body; else from the session, time and sequence of the event. It never changes: see `WrittenRecords`.

A request without an answer has no record yet. It waits: here, in bounded memory, and on disk, see `waiting`, or in the
program's own file. It failed if a later request with its purpose and agent was answered: with the same body it was an
attempt of the same call, else a call of its own. If nothing ever answers it, it is recorded too. Of equal requests at
once, any may turn out to be another call's once each has its answer. So the bodies of attempts, and of a request that
was recorded without an answer, are kept for a while.

`callspan receive` also keeps the events, see `history`: the next one goes on as if it were the same process.

The result of a tool is in the next request. Until then only `tool_start` is written.

No body is forgotten, and no file deleted, before `settle` is called: until then the records may not be written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Final

import msgspec

from callspan.providers import registry
from callspan.providers.wire_json import flag, items, objects, text
from callspan.receive.claude_calls import Lane, counters_in
from callspan.receive.claude_records import (
    ClaudeEvent,
    Counters,
    LoggedBody,
    ObservedCall,
    agent_record,
    call_id_from,
    call_record,
    place_of,
    tool_event_id,
    tool_record,
    tool_start,
    with_result,
)
from callspan.receive.decoding import Attributes, LogEvent
from callspan.receive.history import Entry, Names, ReadEvent, WrittenRecord, WrittenRecords
from callspan.receive.senders import ProgramSession, Sender
from callspan.receive.waiting import Leveled, assigned_id, leveled, record_in, waiting_id
from callspan.record.events import EventRecord
from callspan.record.interrupted import INTERRUPTED
from callspan.runtime.fail_open import fail_open
from callspan.runtime.lock_free import LRUCache

_NAMES: Final = frozenset(
    {
        *("api_request_body", "api_response_body", "api_request", "api_error", "api_refusal", "tool_decision"),
        "tool_result",
        "subagent_completed",
    }
)
SERVICE: Final = "claude-code"
_MAX_LANES: Final = 1024
_MAX_CALLS_OF_LANE: Final = 16
_MAX_TOOLS: Final = 1024
_MAX_KEYS: Final = 16_384
_MAX_WAITING: Final = 256
_MAX_WAITING_BYTES: Final = 64 << 20
_IDLE_NS: Final = 3600 * 10**9
_ACCEPTED: Final = "accept"
_OUTCOMES: Final = {
    "api_request_body": INTERRUPTED, "api_request": "success", "api_response_body": "success", "api_error": "error",
    "api_refusal": "success",
}  # fmt: skip
"""The outcome of a session by its last event of a call. A request that nothing follows was interrupted."""
_NO_CONTENT: Final = frozenset(
    {
        *("session.id", "event.sequence", "query_source", "agent_id", "agent.name", "prompt.id", "effort", "speed"),
        *("request_body_id", "request_id", "message.id", "body_length", "model", "anthropic.provider"),
        *("anthropic.custom_base_url", "input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_tokens"),
        *("cache_creation_5m_tokens", "cache_creation_1h_tokens", "cost_usd", "duration_ms", "ttft_ms", "attempt"),
        *("status_code", "server_fallback_hop", "error", "tool_use_id", "decision", "source", "tool_source"),
    }
)
"""The attributes of an event that are kept. The text of an error is processed before."""
_DIGEST, _STREAM, _MODELS, _TOKENS = (f"callspan.{name}" for name in ("digest", "stream", "models", "tokens"))
"""What is kept of a body."""
_READ: Final = fail_open("read a log event of Claude Code")


class ClaudeCode:
    """Makes records of log events. Not thread-safe."""

    def __init__(self, written: WrittenRecords | None = None) -> None:
        """`written` has the calls of all programs."""
        self._written = WrittenRecords() if written is None else written
        self._lanes: dict[tuple[object, ...], Lane] = {}
        """The calls of one purpose and agent, those with the newest events last."""
        self._seen: LRUCache[str, object] = LRUCache(_MAX_KEYS)
        """Events of calls, by their keys: an event that comes twice counts once."""
        self._decisions: LRUCache[str, Attributes] = LRUCache(_MAX_TOOLS)
        self._tools: dict[str, tuple[EventRecord, Sender]] = {}
        """Tools that wait for their result, by the id of the model's call."""
        self._recorded: LRUCache[str, object] = LRUCache(_MAX_TOOLS * 4)
        """The ids of recorded tools and agents; each has one version."""
        self._sessions: dict[str, ProgramSession] = {}
        """The program's own sessions, by id."""
        self._with_bodies: LRUCache[str, object] = LRUCache(_MAX_LANES)
        """Sessions that send requests with their bodies, by id."""
        self._is_continued = False
        """Whether another receiver will go on."""
        self._batch = _Batch()

    def records(self, events: Iterable[LogEvent], sender: Sender) -> Iterator[Leveled]:
        """Yield the records of a batch of events, each once; only calls may have further versions."""
        now_ns = 0
        for event in sorted(map(ClaudeEvent.of, filter(is_read, events)), key=attrgetter("order")):
            now_ns = event.time_ns
            with _READ:
                yield from self._session(event, sender)
                yield from getattr(self, f"_{event.name}")(event, sender)
        for lane in [*self._lanes.values()]:
            if lane in self._batch.lanes or not lane.is_whole:
                with _READ:
                    yield from self._calls(lane)
        yield from self._idle(now_ns)
        yield from self._evicted()

    def close(self, sender: Sender | None = None, *, is_final: bool = True) -> Iterator[Leveled]:
        """Yield records of everything that waits, of one sender or all, because no answer will come; then the ends.

        Not `is_final`: another receiver goes on. A request that waits is recorded as it is, and still waits, as do
        tools; if it may be that of an answer that has a record, it only waits.
        """
        for ident, (_, owner) in list(self._tools.items()):
            if is_final and (sender is None or owner is sender):
                yield from self._tool_without_result(ident)
        for lane in [*self._lanes.values()]:
            if sender is None or lane.sender is sender:
                with _READ:
                    yield from self._calls(lane, is_over=True, is_final=is_final)
        for ident, session in list(self._sessions.items()):
            if sender is None or session.sender is sender:
                yield self._sessions.pop(ident).ended(), session.sender.level

    def resume(self, events: Iterable[LogEvent], files: Mapping[str, Path], sender: Sender) -> None:
        """Go on where an earlier receiver ended: with the events that it read, and the files of what waited.

        Another one will go on after this one.
        """
        self._is_continued = True
        for event in filter(is_read, events):
            with _READ:
                self._restore(ClaudeEvent.of(event), files, sender)
        for lane in self._lanes.values():
            for call in self._named(lane.calls()):
                if call.waits and any(body.files is not None for body in call.sent):
                    lane.waiting.append(call)
                    call = _counters_alone(call)  # noqa: PLW2901 - what was written of it
                if call.request is not None and call.response is not None:
                    call.request.files = None
                if call.unsettled:
                    lane.unsettled.append(call)
                if {call.call_id}.issuperset(filter(None, map(self._written.id_of, call.keys))):
                    lane.note_written(call.event_keys, call.call_id)
        self._batch = _Batch()

    def waiting(self) -> Mapping[str, Callable[[], Leveled]]:
        """Return a function for each request and tool that waits in memory: it makes the record if nothing follows."""
        requests = {
            waiting_id(body.body_id): partial(self._if_unanswered, body, call.call_id, lane.sender)
            for lane in self._lanes.values()
            for call, bodies in (*((c, c.sent) for c in lane.waiting), *((c, c.unsettled) for c in lane.unsettled))
            for body in bodies
            if body.path is None and not body.is_written
        }
        tools = {
            waiting_id(tool.event_id): partial(leveled, tool, sender.level) for tool, sender in self._tools.values()
        }
        return requests | tools

    @property
    def written_as(self) -> Mapping[str, str]:
        """For each id in `waiting` that this batch has settled, the id of the call; "" for tools."""
        return self._batch.written_as

    @property
    def read(self) -> list[Entry]:
        """What was read and written in this batch, without content."""
        return self._batch.read

    def settle(self) -> None:
        """Forget the bodies that the records have, and delete their files: they are written."""
        batch, self._batch = self._batch, _Batch()
        for body in batch.bodies.values():
            if body.path is not None:
                with suppress(OSError):
                    body.path.unlink()
            body.inline = body.path = body.files = None
        for body in batch.unsettled:
            if body.path is not None:  # whoever finds the file later would take it for a call
                path, body.inline, body.path = body.path, body.content(), None
                with suppress(OSError):
                    path.unlink()

    def _session(self, event: ClaudeEvent, sender: Sender) -> Iterator[Leveled]:
        """Yield the start of a session of the program's own; note how it goes on."""
        ident = event.session_id
        if ident is None or (place := place_of(event, sender)).session_id != ident:
            return
        session = self._sessions.get(ident)
        if session is None:
            session = self._sessions[ident] = ProgramSession(event, place, sender)
            yield session.start, sender.level
        session.go_on(event, _OUTCOMES.get(event.name))

    def _idle(self, now_ns: int) -> Iterator[Leveled]:
        """Yield the ends of sessions without an event for long, and their requests; forget the oldest above a limit."""
        idle = [ident for ident, session in self._sessions.items() if session.last_ns < now_ns - _IDLE_NS]
        for ident in idle or list(self._sessions)[:-_MAX_LANES]:
            session = self._sessions.pop(ident)
            yield session.ended(), session.sender.level
        for key, lane in [*self._lanes.items()]:
            if lane.last_ns < now_ns - _IDLE_NS or len(self._lanes) > _MAX_LANES:
                del self._lanes[key]
                yield from self._calls(lane, is_over=True)

    def _api_request_body(self, event: ClaudeEvent, sender: Sender) -> Iterator[Leveled]:
        ident = event.request_body_id or event.own_key
        if not self._seen.is_first(f"request {ident}"):
            return
        lane = self._lane(event, sender)
        body = lane.requests[ident] = _body(ident, event, sender)
        self._with_bodies.put(event.session_id or "", event)
        self._note(event, body, waits_as=waiting_id(ident))
        if self._tools:
            yield from self._results_in(body)

    def _api_response_body(self, event: ClaudeEvent, sender: Sender) -> Iterator[Leveled]:
        ident = event.request_body_id or event.request_id or event.own_key
        if self._seen.is_first(f"answer {ident}"):
            body = self._lane(event, sender).answers[ident] = _body(ident, event, sender)
            self._note(event, body)
        yield from ()

    def _api_request(self, event: ClaudeEvent, sender: Sender) -> Iterator[Leveled]:
        key = _key_of_facts(event)
        if self._seen.is_first(key):
            self._lane(event, sender).facts[key] = event
            self._note(event)
        yield from ()

    _api_error = _api_request

    def _api_refusal(self, event: ClaudeEvent, sender: Sender) -> Iterator[Leveled]:
        # Another model has answered after one that the provider has left for it.
        if flag(event.attributes, "server_fallback_hop") is True:
            return iter(())
        return self._api_request(event, sender)

    def _tool_decision(self, event: ClaudeEvent, sender: Sender) -> Iterator[Leveled]:
        ident = event.tool_use_id
        if ident is not None:
            self._decisions.put(ident, event.attributes)
            self._note(event, waits_as=waiting_id(tool_event_id(event, sender)))
            if text(event.attributes, "decision") != _ACCEPTED:
                yield from self._ran(event, sender, event.attributes)

    def _tool_result(self, event: ClaudeEvent, sender: Sender) -> Iterator[Leveled]:
        decision = self._decisions.get(event.tool_use_id or "") or {}
        self._note(event, waits_as=waiting_id(tool_event_id(event, sender)))
        yield from self._ran(event, sender, decision)

    def _subagent_completed(self, event: ClaudeEvent, sender: Sender) -> Iterator[Leveled]:
        agent = agent_record(event, sender)
        self._note(event)
        if self._recorded.is_first(agent.event_id):
            yield agent, sender.level

    def _ran(self, event: ClaudeEvent, sender: Sender, decision: Attributes) -> Iterator[Leveled]:
        tool = tool_record(event, sender, decision)
        if tool.tool_call_id is None or not self._recorded.is_first(tool.event_id):
            return
        if self._with_bodies.get(event.session_id or "") is None:
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
        if self._is_continued:
            self._batch.read.append(WrittenRecord(tool.event_id, 0, [f"tool {tool.event_id}"]))
        return tool, sender

    def _results_in(self, body: LoggedBody) -> Iterator[Leveled]:
        """Yield the tools that have their results in a request."""
        for message in objects(registry.decoded(body.content()), "messages"):
            for part in objects(message, "content"):
                ident = text(part, "tool_use_id") or ""
                if ident in self._tools:
                    tool, sender = self._end_wait(ident)
                    yield with_result(tool, part.get("content")), sender.level

    def _lane(self, event: ClaudeEvent, sender: Sender) -> Lane:
        """Return the lane of an event, now the newest one, with its current sender."""
        key = (*event.purpose, sender.bodies, sender.place)
        lane = self._lanes.pop(key, None) or Lane(sender)
        self._lanes[key] = lane
        lane.sender, lane.last_ns = sender, max(lane.last_ns, event.time_ns)
        self._batch.lanes[lane] = None
        return lane

    def _note(self, event: ClaudeEvent, body: LoggedBody | None = None, *, waits_as: str = "") -> None:
        """Note for the history that an event was read. `waits_as`: the id of its request or tool, which may wait."""
        if self._is_continued:
            kept = {name: value for name, value in event.attributes.items() if name in _NO_CONTENT}
            kept |= {} if body is None else _kept_of(body)
            self._batch.read.append(ReadEvent(msgspec.structs.replace(event, attributes=kept), waits_as))

    def _restore(self, event: ClaudeEvent, files: Mapping[str, Path], sender: Sender) -> None:
        """Take an event that an earlier receiver read. What it wrote is written; what waited is in a file."""
        attributes = event.attributes
        match event.name:
            case "api_request_body":
                ident = event.request_body_id or event.own_key
                path = files.get(waiting_id(ident))
                call_ids = [self._written.id_of(f"{kind} {ident}") for kind in ("body", "attempt")]
                if path is None and not any(call_ids):
                    return  # It was not acknowledged.
                if path is not None and call_ids == [None, None] and assigned_id(path):
                    self._written.put(WrittenRecord(assigned_id(path), 0, [f"attempt {ident}"]))
                self._seen.put(f"request {ident}", event)
                body = LoggedBody(body_id=ident, event=event, waits_as=waiting_id(ident))
                body.files = None if path is None else files
                body.digest, body.is_stream = text(attributes, _DIGEST) or "", flag(attributes, _STREAM) is True
                self._lane(event, sender).requests[ident] = body
                self._with_bodies.put(text(attributes, "session.id") or "", event)
            case "api_response_body":
                ident = event.request_body_id or event.request_id or event.own_key
                self._seen.put(f"answer {ident}", event)
                body = self._lane(event, sender).answers[ident] = LoggedBody(body_id=ident, event=event)
                models = [model for model in items(attributes, _MODELS) if isinstance(model, str)]
                tokens = [number for number in items(attributes, _TOKENS) if isinstance(number, int)]
                body.counters = Counters(models=models, tokens=tokens) if tokens else None
            case "api_request" | "api_error" | "api_refusal":
                self._seen.put(_key_of_facts(event), event)
                self._lane(event, sender).facts[_key_of_facts(event)] = event
            case "subagent_completed":
                self._recorded.put(agent_record(event, sender).event_id, event)
            case _:
                self._restore_tool(event, files, sender)

    def _restore_tool(self, event: ClaudeEvent, files: Mapping[str, Path], sender: Sender) -> None:
        ident = event.tool_use_id or ""
        if event.name == "tool_decision":
            self._decisions.put(ident, event.attributes)
            if text(event.attributes, "decision") == _ACCEPTED:
                return
        event_id = tool_event_id(event, sender)
        self._recorded.put(event_id, event)
        path = None if self._written.id_of(f"tool {event_id}") else files.get(waiting_id(event_id))
        if path is not None and isinstance(tool := record_in(path), EventRecord):
            self._tools[ident] = tool, sender

    def _calls(self, lane: Lane, *, is_over: bool = False, is_final: bool = True) -> Iterator[Leveled]:
        """Yield a version of each call with events that are not yet in its record."""
        lane.waiting = []
        lane.is_whole = all(answer.is_whole for answer in lane.answers.values())
        for answer in lane.answers.values():
            _count(answer)
        calls = self._named(lane.calls())
        for call in calls:
            if call.waits and call.request is not None and not call.request.is_written and not (is_over and is_final):
                lane.waiting.append(call)
                if is_over and not call.may_be_answered:
                    yield self._interrupted(call, lane)
                if is_over or call.facts is None:
                    continue
                self._batch.written_as |= {waiting_id(body.body_id): call.call_id for body in call.sent}
                call = _counters_alone(call)  # noqa: PLW2901 - the same call, as far as it is over
            is_without_answer = call.request is not None and call.facts is not None and call.response is None
            call.is_without_answer = is_without_answer and is_final and (is_over or not self._is_continued)
            yield from self._version(call, lane, is_over=is_over)
        lane.unsettled = [call for call in calls if call.unsettled and call not in lane.waiting]
        if is_over and is_final:
            self._batch.forget(lane.unsettled)
            lane.unsettled = []
        lane.forget(_MAX_CALLS_OF_LANE)

    def _version(self, call: ObservedCall, lane: Lane, *, is_over: bool = False) -> Iterator[Leveled]:
        """Yield the record of a call, unless it was written with all that is known."""
        if call.response is not None and not call.response.is_whole:
            call = msgspec.structs.replace(call, response=None)
            if call.facts is None and not (is_over and call.sent):
                return
        keys = call.event_keys
        if lane.written.get(keys) == call.call_id:
            return
        record = call_record(call, lane.sender)
        if call.response is None and call.refusal is None and self._written.is_written(call.call_id):
            record = msgspec.structs.replace(record, response=None)  # An earlier version may have it.
        version = WrittenRecord(call.call_id, self._written.version(call.call_id, record.seen_ns or 0), call.keys)
        lane.note_written(keys, call.call_id)
        self._written.put(version)
        self._batch.take(call, version)
        yield msgspec.structs.replace(record, seen_ns=version.seen_ns), lane.sender.level

    def _interrupted(self, call: ObservedCall, lane: Lane) -> Leveled:
        """Return a version of a call that still waits, as the receiver ends."""
        record = call_record(call, lane.sender)
        version = WrittenRecord(call.call_id, self._written.version(call.call_id, record.seen_ns or 0), call.keys)
        self._written.put(version)
        self._batch.read.append(version)
        if not call.events:
            self._batch.written_as |= {waiting_id(body.body_id): call.call_id for body in call.sent}
        return msgspec.structs.replace(record, seen_ns=version.seen_ns), lane.sender.level

    def _named(self, calls: list[ObservedCall]) -> list[ObservedCall]:
        """Give its id to each call. Those with answers come first.

        As many requests as there are answers without a request of their own may be theirs. These get no record yet, see
        `ids_of`.
        """
        calls.sort(key=lambda call: not call.events)
        for call, ident in zip(calls, self._written.ids_of([_names_of(call) for call in calls]), strict=True):
            call.call_id = ident
        unanswered = [call for call in calls if not call.events]
        for call in unanswered:
            self._note_record(call)
        number = sum(not call.has_own_request for call in calls if call.events)
        unrecorded = [call for call in unanswered if not self._written.is_written(call.call_id)]
        for call in unrecorded[max(0, len(unrecorded) - number) :]:
            call.waits = call.may_be_answered = True
        return calls

    def _note_record(self, call: ObservedCall) -> None:
        """Note which record a request without an answer has after answers have left one to it or taken its own."""
        record_id = call.call_id if self._written.is_written(call.call_id) else ""
        if {self._written.id_of(key) or "" for key in call.keys} == {record_id}:
            return
        named = WrittenRecord(record_id, 0, call.keys)
        self._written.put(named)
        self._batch.read.append(named)
        self._batch.written_as |= {waiting_id(body.body_id): call.call_id for body in call.sent}

    def _if_unanswered(self, body: LoggedBody, call_id: str, sender: Sender) -> Leveled:
        return call_record(ObservedCall(call_id=call_id, request=body), sender), sender.level

    def _evicted(self) -> Iterator[Leveled]:
        """Yield the oldest requests as unanswered, and the oldest tools without a result, as far as too many wait.

        The bodies of recorded calls go first.
        """
        for ident in list(self._tools)[:-_MAX_TOOLS]:
            yield from self._tool_without_result(ident)
        lanes = self._lanes.values()
        waiting = [(call in lane.waiting, call.time_ns, call, lane) for lane in lanes for call in lane.kept]
        waiting.sort(key=itemgetter(0, 1))
        bodies = sum(len(call.sent) for *_, call, _ in waiting)
        size = sum(_size_of(call) for *_, call, _ in waiting)
        for is_unrecorded, _, call, lane in waiting:
            if bodies <= _MAX_WAITING and size <= _MAX_WAITING_BYTES:
                break
            bodies, size = bodies - len(call.sent), size - _size_of(call)
            if not is_unrecorded:
                lane.unsettled.remove(call)
                self._batch.forget([call])
                continue
            lane.waiting.remove(call)
            call.is_without_answer = call.facts is not None
            yield from self._version(call, lane, is_over=True)
            self._batch.forget([call])


class _Batch:
    """What the records of one batch say."""

    def __init__(self) -> None:
        self.lanes: dict[Lane, None] = {}
        """Those that have another event."""
        self.bodies: dict[str, LoggedBody] = {}
        """Requests and answers."""
        self.unsettled: list[LoggedBody] = []
        """Requests of written calls that may be of other calls."""
        self.written_as: dict[str, str] = {}
        self.read: list[Entry] = []

    def take(self, call: ObservedCall, version: WrittenRecord) -> None:
        """Note the bodies of a written call."""
        if call.request is not None and call.response is not None:
            self.bodies[f"request {call.request.body_id}"] = call.request
        self.unsettled += call.unsettled
        self.written_as |= {waiting_id(body.body_id): call.call_id for body in call.sent}
        if call.response is not None:
            self.bodies[f"answer {call.response.body_id}"] = call.response
        self.read.append(version)

    def forget(self, calls: Iterable[ObservedCall]) -> None:
        """Forget the bodies of requests, which will not be of other calls any more."""
        self.bodies |= {f"request {body.body_id}": body for call in calls for body in call.sent}


def _names_of(call: ObservedCall) -> Names:
    """Return the names of a call, and the id that it gets if it was not written under any of them."""
    keys = [key.partition(" ")[2] for key in (*call.id_keys, *call.body_keys)]
    new_id = call_id_from((keys or [event.own_key for event in call.events])[0])
    return Names(call.ranked_keys, new_id, call.request_keys, has_request=call.has_own_request)


def _key_of_facts(event: ClaudeEvent) -> str:
    return f"{event.name} {event.request_id or event.own_key}"


def _counters_alone(call: ObservedCall) -> ObservedCall:
    """Return a call's counters without its bodies, because the request still waits for the body of its answer."""
    return msgspec.structs.replace(call, request=None, retried=(), response=None)


def _count(answer: LoggedBody) -> None:
    """Note an answer's counters if nothing else joins it to the program's `api_request`."""
    has_id = answer.event.request_id is not None
    if not (has_id or answer.counters is not None or answer.is_written) and answer.is_whole:
        answer.counters = counters_in(registry.decoded(answer.content()), answer.event.model)


def _kept_of(body: LoggedBody) -> dict[str, object]:
    """Return the kept facts of a body that came with its event."""
    if body.event.name == "api_request_body":
        is_stream = flag(registry.decoded(body.content()), "stream") is True
        return {_DIGEST: body.content_digest(), _STREAM: is_stream}
    _count(body)
    return {} if body.counters is None else {_MODELS: body.counters.models, _TOKENS: body.counters.tokens}


def _size_of(call: ObservedCall) -> int:
    return sum(len(body.inline or b"") for body in call.sent)


def _body(ident: str, event: ClaudeEvent, sender: Sender) -> LoggedBody:
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
