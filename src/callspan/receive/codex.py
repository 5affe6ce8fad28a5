"""Codex: reads the log events of the `codex` program.

| Event | Says |
| --- | --- |
| `codex.conversation_starts` | the provider |
| `codex.user_prompt` | the prompt, if asked for |
| `codex.api_request`, `codex.websocket_request` | that the head of an answer came, or why not; one for each attempt |
| `codex.sse_event` | that an event of the answer came; the last one states the tokens |
| `codex.tool_decision` | whether a tool may run |
| `codex.tool_result` | that it ran, with its arguments and result |

No event has its call's id, nor a body. But a conversation sends one request at a time, and waits for all of its tools
before the next one; subagents are conversations of their own. So an event belongs to the call with the latest request
at that time. Events come in any order, perhaps twice: the newest of a conversation are kept, also on disk for the next
receiver, see `history`, and after each batch they are read anew, in order of time. A call's id is made from the
conversation and the time of its first event, and never changes: see `WrittenRecords`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import Final

from msgspec.structs import replace

from callspan.providers.error_kinds import FIRST_ERROR, error_info
from callspan.providers.openai.usage import usage_of
from callspan.providers.wire_json import count, integer, text
from callspan.receive.decoding import Attributes, LogEvent, attempt_number, duration_ns
from callspan.receive.history import Entry, Names, ReadEvent, WrittenRecord, WrittenRecords
from callspan.receive.senders import ProgramSession, Sender, tool_run
from callspan.receive.waiting import Leveled
from callspan.record.call import (
    Attempt,
    CallRecord,
    ErrorInfo,
    Outcome,
    Place,
    Redaction,
    Request,
    Response,
    Stage,
    Stream,
    Timing,
)
from callspan.record.events import EventRecord, MessageRecord
from callspan.record.ids import response_call_id
from callspan.record.interrupted import INTERRUPTED
from callspan.record.messages import parse_arguments
from callspan.runtime.fail_open import fail_open
from callspan.runtime.lock_free import LRUCache
from callspan.runtime.process_identity import own_identity

SCOPE: Final = "codex."
"""The start of the names of events."""
_API: Final = "responses"
_ENDPOINTS: Final = (None, "/responses", "/responses/compact")
"""The endpoints that answer with tokens. A request over a websocket names none."""
_PROVIDERS: Final = {"azure": "azure.ai.openai", "amazon bedrock": "aws.bedrock"}
_NAMES: Final = frozenset(
    {
        *("conversation_starts", "user_prompt", "api_request", "websocket_request", "sse_event", "tool_decision"),
        "tool_result",
    }
)
_ATTEMPTS: Final = (f"{SCOPE}api_request", f"{SCOPE}websocket_request")
_NO_CONTENT: Final = frozenset(
    {
        *("conversation.id", "provider_name", "model", "endpoint", "attempt", "duration_ms", "auth.request_id"),
        *("http.response.status_code", "error.message", "event.kind", "input_token_count", "output_token_count"),
        *("cached_token_count", "cache_write_token_count", "reasoning_token_count", "tool_token_count"),
        *("call_id", "decision", "source", "tool_name", "agent_name"),
    }
)
"""The attributes of an event that are kept. The text of an error is processed before."""
_PURPOSES: Final = {"/responses/compact": "compact"}
_APPROVED: Final = "approved"
_WITHHELD: Final = "[REDACTED]"
_MAX_CONVERSATIONS: Final = 256
_MAX_EVENTS: Final = 16_384
_MAX_CALLS: Final = 16
_MAX_TOOLS: Final = 256
_NOT_SENT: Final = [Redaction(what=what, why="not_received") for what in ("request.body", "response.body")]
_READ: Final = fail_open("read a log event of Codex")


class _Call:
    """What is known of a call so far."""

    def __init__(self) -> None:
        self.call_id = ""
        self.attempts: list[LogEvent] = []
        """Empty if none of them was received."""
        self.first_token_ns: int | None = None
        self.completed: LogEvent | None = None
        self.failed: LogEvent | None = None
        self.is_over = False
        """Whether nothing more of it will come."""

    @property
    def events(self) -> list[LogEvent]:
        """Its events but for deltas, in order of time."""
        ends = [event for event in (self.failed, self.completed) if event is not None and event not in self.attempts]
        return [*self.attempts, *ends]

    @property
    def names(self) -> Names:
        """Its names, and the id that it gets if it was not written under any of them."""
        keys = [_key(event) for event in self.events]
        attempts = len(self.attempts)
        return Names([keys[:attempts], keys[attempts:]], keys[0])


class _Conversation:
    """One conversation, its newest calls, and what was written of them."""

    def __init__(self, ident: str, sender: Sender, session: ProgramSession | None) -> None:
        self.ident, self.sender, self.session = ident, sender, session
        self.provider = "openai"
        self.events: dict[str, LogEvent] = {}
        """The events of calls, by their keys; only the first delta in a row is kept."""
        self.calls: list[_Call] = []
        """The calls that the events describe."""
        self.written: dict[str, tuple[object, ...]] = {}
        """What was written of each call."""
        self.is_changed = False
        self.tools: dict[str, LogEvent] = {}
        """Decisions on tools that have no result yet, by the id of the model's call of the tool."""

    @property
    def call(self) -> _Call | None:
        """The latest call."""
        return self.calls[-1] if self.calls else None

    def call_at(self, time_ns: int) -> _Call | None:
        """Return the call with the latest request at a time."""
        return next((call for call in reversed(self.calls) if call.events[0].time_ns <= time_ns), self.call)

    def add(self, event: LogEvent) -> bool:
        """Take an event of a call; return whether that adds something."""
        if _is_delta(event):
            before = [other for other in self.events.values() if other.time_ns <= event.time_ns]
            if not before or _is_delta(max(before, key=_order)):
                return False
        self.events[_key(event)] = event
        self.is_changed = True
        return True

    def read(self, written: WrittenRecords) -> None:
        """Compute the calls from the events again."""
        self.calls, self.is_changed = _calls_of(sorted(self.events.values(), key=_order)), False
        for call, ident in zip(self.calls, written.ids_of([call.names for call in self.calls]), strict=True):
            call.call_id = ident

    def forget(self) -> None:
        """Forget the oldest calls above the limit."""
        for call in self.calls[:-_MAX_CALLS]:
            last_ns = call.events[-1].time_ns
            self.events = {key: event for key, event in self.events.items() if event.time_ns > last_ns}
            self.written.pop(call.call_id, None)
        self.calls = self.calls[-_MAX_CALLS:]


class Codex:
    """Makes records of log events. Not thread-safe."""

    def __init__(self, written: WrittenRecords | None = None) -> None:
        """`written` has the calls of all programs."""
        self._written = WrittenRecords() if written is None else written
        self._conversations: dict[str, _Conversation] = {}
        self._seen: LRUCache[str, object] = LRUCache(_MAX_EVENTS)
        """Events that were read: an event that comes twice makes no second record."""
        self._is_continued = False
        """Whether another receiver will go on."""
        self.read: list[Entry] = []
        """What was read and written in this batch, without content."""

    def records(self, events: Iterable[LogEvent], sender: Sender) -> Iterator[Leveled]:
        """Yield the records of a batch of events."""
        # Tools belong to a call that may be in the same batch.
        for event in sorted(filter(is_read, events), key=lambda event: (not _is_of_call(event), _order(event))):
            with _READ:
                conversation = yield from self._conversation(event, sender)
                if conversation.session is not None:
                    conversation.session.go_on(event)
                if _is_of_call(event):
                    self._add(event, conversation)
                else:
                    yield from self._calls(conversation)
                    yield from getattr(self, f"_{event.name.removeprefix(SCOPE)}")(event, conversation)
        for conversation in self._conversations.values():
            yield from self._calls(conversation)
            yield from self._undone(conversation)

    def close(self, sender: Sender | None = None, *, is_final: bool = True) -> Iterator[Leveled]:
        """Yield records of everything that waits, of one sender or all, because nothing more will come; then the ends.

        Not `is_final`: another receiver goes on, and may get the results of tools.
        """
        for ident, conversation in list(self._conversations.items()):
            if sender is None or conversation.sender is sender:
                yield from self._end(ident, is_final=is_final)

    def resume(self, events: Iterable[LogEvent], sender: Sender) -> None:
        """Go on where an earlier receiver ended, with the events that it read; another one will go on after this."""
        self._is_continued = True
        for event in filter(is_read, events):
            with _READ:
                conversation = self._restored(event, sender)
                self._seen.put(_key(event), event)
                if _is_of_call(event):
                    conversation.add(event)
                elif event.name == f"{SCOPE}conversation_starts":
                    conversation.provider = _provider(event)
                elif event.name == f"{SCOPE}tool_decision":
                    conversation.tools[text(event.attributes, "call_id") or ""] = event
                elif event.name == f"{SCOPE}tool_result":
                    conversation.tools.pop(text(event.attributes, "call_id") or "", None)
                    self._seen.put(_tool_id(event), event)
        for conversation in self._conversations.values():
            conversation.read(self._written)
            conversation.written = {call.call_id: _state(call) for call in conversation.calls}

    def settle(self) -> None:
        """Forget what was read: it is written."""
        self.read = []

    def _conversation(self, event: LogEvent, sender: Sender) -> Generator[Leveled, None, _Conversation]:
        """Return the conversation of an event, after yielding the start of its session."""
        ident = text(event.attributes, "conversation.id") or ""
        conversation = self._conversations.get(ident)
        if conversation is None:
            conversation = self._conversations[ident] = _Conversation(ident, sender, None)
        if conversation.session is None and (place := _place(event, sender)).session_id == ident:
            conversation.session = ProgramSession(event, place, sender)
            yield conversation.session.start, sender.level
        if len(self._conversations) > _MAX_CONVERSATIONS:
            yield from self._end(next(iter(self._conversations)))
        return conversation

    def _restored(self, event: LogEvent, sender: Sender) -> _Conversation:
        ident = text(event.attributes, "conversation.id") or ""
        return self._conversations.setdefault(ident, _Conversation(ident, sender, None))

    def _end(self, ident: str, *, is_final: bool = True) -> Iterator[Leveled]:
        conversation = self._conversations.pop(ident)
        conversation.is_changed = True
        yield from self._calls(conversation, is_over=True)
        yield from self._undone(conversation, is_over=True, is_final=is_final)
        if conversation.session is not None:
            outcome = "success" if conversation.call is None else _outcome(conversation.call)[1]
            session = replace(conversation.session.ended(), outcome=outcome)
            yield session, conversation.sender.level

    def _undone(
        self, conversation: _Conversation, *, is_over: bool = False, is_final: bool = False
    ) -> Iterator[Leveled]:
        """Yield the tools that were refused before the latest call, and others if they will not end."""
        latest_ns = 0 if conversation.call is None else conversation.call.events[0].time_ns
        excess = len(conversation.tools) - _MAX_TOOLS
        for number, (ident, event) in enumerate(list(conversation.tools.items())):
            is_refused = not (text(event.attributes, "decision") or "").startswith(_APPROVED)
            if is_final or number < excess or (is_refused and (is_over or event.time_ns < latest_ns)):
                del conversation.tools[ident]
                yield from self._tool(event, event, conversation)

    def _add(self, event: LogEvent, conversation: _Conversation) -> None:
        if self._seen.get(_key(event)) is None and conversation.add(event):
            self._seen.put(_key(event), event)
            self._note(event)

    def _calls(self, conversation: _Conversation, *, is_over: bool = False) -> Iterator[Leveled]:
        """Yield a version of each call that has changed since it was written."""
        if not conversation.is_changed:
            return
        conversation.read(self._written)
        if is_over and conversation.call is not None and not _is_answered(conversation.call):
            conversation.call.is_over = True
        for call in conversation.calls:
            if conversation.written.get(call.call_id) != (state := _state(call)):
                record = _call_record(call, conversation)
                seen_ns = self._written.version(call.call_id, record.seen_ns or 0)
                version = WrittenRecord(call.call_id, seen_ns, [_key(event) for event in call.events])
                conversation.written[call.call_id] = state
                self._written.put(version)
                self.read.append(version)
                yield replace(record, seen_ns=seen_ns), conversation.sender.level
        conversation.forget()

    def _note(self, event: LogEvent) -> None:
        """Note for the history that an event was read."""
        if self._is_continued:
            kept = {name: value for name, value in event.attributes.items() if name in _NO_CONTENT}
            self.read.append(ReadEvent(replace(event, attributes=kept)))

    def _sse_event(self, _event: LogEvent, _conversation: _Conversation) -> Iterator[Leveled]:
        """Skip an event that says nothing of a call: its stream goes on, or its endpoint answers without tokens."""
        return iter(())

    _api_request = _websocket_request = _sse_event

    def _conversation_starts(self, event: LogEvent, conversation: _Conversation) -> Iterator[Leveled]:
        conversation.provider = _provider(event)
        self._note(event)
        yield from ()

    def _user_prompt(self, event: LogEvent, conversation: _Conversation) -> Iterator[Leveled]:
        prompt, ident = text(event.attributes, "prompt"), _key(event)
        if prompt not in (None, _WITHHELD) and self._seen.is_first(ident):
            self._note(event)
            sender = conversation.sender
            place = _place(event, sender)
            message = MessageRecord(
                message_id=ident, session_id=place.session_id, timestep_id=place.timestep_id, timestep=place.timestep,
                message_type="question", sender="user", receiver="codex", time_ns=event.time_ns, content=prompt,
            )  # fmt: skip
            yield message, sender.level

    def _tool_decision(self, event: LogEvent, conversation: _Conversation) -> Iterator[Leveled]:
        if self._seen.is_first(_key(event)):
            self._note(event)
            conversation.tools[text(event.attributes, "call_id") or ""] = event
        yield from ()

    def _tool_result(self, event: LogEvent, conversation: _Conversation) -> Iterator[Leveled]:
        decision = conversation.tools.pop(text(event.attributes, "call_id") or "", None)
        self._note(event)
        yield from self._tool(event, decision, conversation)

    def _tool(self, event: LogEvent, decision: LogEvent | None, conversation: _Conversation) -> Iterator[Leveled]:
        tool = _tool_record(event, conversation.sender, decision, conversation.call_at(event.time_ns))
        if self._seen.is_first(tool.event_id):
            yield tool, conversation.sender.level


def _calls_of(events: Iterable[LogEvent]) -> list[_Call]:
    """Return the calls of a conversation, by its events in order of time."""
    calls: list[_Call] = []
    for event in events:
        is_open = bool(calls) and not _is_answered(calls[-1])
        if _is_first(event, calls[-1] if is_open else None) or (not calls and not _is_delta(event)):
            if is_open:
                calls[-1].is_over = True
            calls.append(_Call())
            is_open = True
        if is_open:
            _add(calls[-1], event)
    return calls


def _is_first(event: LogEvent, before: _Call | None) -> bool:
    """Return whether an event begins a call. `before` is the call before if it has no answer yet.

    If two answers come without a request between them, the request of the second was not received. An attempt with a
    number that cannot be read is a further one if the last one failed.
    """
    if before is None:
        return event.name in _ATTEMPTS or _has_tokens(event)
    if event.name not in _ATTEMPTS or (number := attempt_number(event.attributes)):
        return False
    return number == 0 or "attempt" not in event.attributes or before.failed is None


def _add(call: _Call, event: LogEvent) -> None:
    if event.name in _ATTEMPTS:
        call.attempts.append(event)
        call.failed = None if _is_accepted(event) else event
    elif _is_delta(event):
        call.first_token_ns = call.first_token_ns or event.time_ns
    elif _has_tokens(event):
        call.completed, call.failed = event, None
    else:
        call.failed = event


def _state(call: _Call) -> tuple[object, ...]:
    """Return what a version of a call's record says, to be compared."""
    return (*(_key(event) for event in call.events), call.first_token_ns, call.is_over)


def _order(event: LogEvent) -> tuple[int, int]:
    """Return the sort key of an event: its time, then whether it can be the first one of a call."""
    return event.time_ns, 0 if event.name in _ATTEMPTS else 1 if _is_delta(event) else 2


def _is_of_call(event: LogEvent) -> bool:
    """Return whether an event says something of a call."""
    if event.name in _ATTEMPTS:
        return text(event.attributes, "endpoint") in _ENDPOINTS
    is_end = _has_tokens(event) or "error.message" in event.attributes
    return event.name == f"{SCOPE}sse_event" and (is_end or _is_delta(event))


def _has_tokens(event: LogEvent) -> bool:
    return "input_token_count" in event.attributes


def _is_delta(event: LogEvent) -> bool:
    return event.name == f"{SCOPE}sse_event" and (text(event.attributes, "event.kind") or "").endswith(".delta")


def _provider(event: LogEvent) -> str:
    name = (text(event.attributes, "provider_name") or "openai").lower()
    return _PROVIDERS.get(name, name)


def is_read(event: LogEvent) -> bool:
    """Return whether an event is one of those that `Codex` reads."""
    return event.name.startswith(SCOPE) and event.name.removeprefix(SCOPE) in _NAMES


def _is_accepted(attempt: LogEvent) -> bool:
    status = integer(attempt.attributes, "http.response.status_code")
    return "error.message" not in attempt.attributes and (status is None or status < FIRST_ERROR)


def _is_answered(call: _Call) -> bool:
    return call.completed is not None


def _key(event: LogEvent) -> str:
    """Return the key of an event, the same however often it comes."""
    return response_call_id("codex", f"{text(event.attributes, 'conversation.id')} {event.name} {event.time_ns}")


def _place(event: LogEvent, sender: Sender) -> Place:
    return sender.place_of(event, Place(session_id=text(event.attributes, "conversation.id"), session_name="codex"))


def _call_record(call: _Call, conversation: _Conversation) -> CallRecord:
    """Return the version of a call's record that says what is known so far."""
    sender = conversation.sender
    first, last = call.events[0], (call.attempts or call.events)[-1]
    attributes, end = last.attributes, call.completed or call.failed
    part, outcome, error = _outcome(call)
    start_ns, answer_ns = (_began_ns(first), _began_ns(last)) if call.attempts else (first.time_ns, None)
    seen_ns = max(event.time_ns for event in (last, end or last)) + call.is_over
    version = text(last.resource, "service.version")
    purpose = _PURPOSES.get(text(attributes, "endpoint") or "")
    return CallRecord(
        call_id=call.call_id,
        part=part,
        seen_in="import",
        seen_ns=seen_ns,
        provider=conversation.provider,
        api=_API,
        sdk="/".join(filter(None, ("codex", version))),
        trace_id=sender.trace_id,
        parent_span_id=sender.span_id,
        place=_place(last, sender),
        service=text(last.resource, "service.name"),
        process=own_identity() if outcome == "in_progress" else None,
        request=Request(model=text(attributes, "model"), conversation_id=conversation.ident, stream=True),
        response=None if call.completed is None else Response(),
        usage=None if call.completed is None else usage_of({"usage": _counters(call.completed.attributes)}),
        timing=Timing(
            start_ns=start_ns,
            duration_ns=None if end is None or answer_ns is None else end.time_ns - start_ns,
            answer_ns=None if answer_ns is None else answer_ns - start_ns,
            first_token_ns=None if call.first_token_ns is None else call.first_token_ns - start_ns,
        ),
        attempts=[_attempt(number, event, start_ns) for number, event in enumerate(call.attempts, 1)],
        retries=len(call.attempts) - 1 if call.attempts else None,
        outcome=outcome,
        error=error,
        stream=Stream(end="complete", complete=True) if call.completed is not None else None,
        metadata={**sender.metadata, **({} if purpose is None else {"purpose": purpose})},
        content_level=sender.level,
        redactions=_NOT_SENT if sender.level == "full" else [],
    )


def _outcome(call: _Call) -> tuple[Stage, Outcome, ErrorInfo | None]:
    if call.completed is not None:
        return "ended", "success", None
    if call.failed is not None:
        attributes = call.failed.attributes
        status = integer(attributes, "http.response.status_code")
        return "ended", "error", error_info(status=status, body=None, message=text(attributes, "error.message"))
    if call.is_over:
        message = "The program reported no end of this answer."
        return "ended", INTERRUPTED, ErrorInfo(kind="unknown", type=INTERRUPTED, retryable=None, message=message)
    return "started", "in_progress", None


def _began_ns(attempt: LogEvent) -> int:
    return attempt.time_ns - (duration_ns(attempt.attributes, "duration_ms") or 0)


def _attempt(number: int, event: LogEvent, start_ns: int) -> Attempt:
    return Attempt(
        number=number,
        start_ns=_began_ns(event) - start_ns,
        status=integer(event.attributes, "http.response.status_code"),
        request_id=text(event.attributes, "auth.request_id"),
        end_ns=event.time_ns - start_ns,
    )


def _counters(attributes: Attributes) -> dict[str, object]:
    """Return the counters of an event in the form of the usage in a Responses answer."""
    total = count(attributes, "tool_token_count")  # so named by the program
    details = {"cached_tokens": count(attributes, "cached_token_count")}
    counters: dict[str, object] = {
        "input_tokens": count(attributes, "input_token_count"),
        "input_tokens_details": details,
        "output_tokens": count(attributes, "output_token_count"),
        "output_tokens_details": {"reasoning_tokens": count(attributes, "reasoning_token_count")},
        "total_tokens": total,
    }
    if written := count(attributes, "cache_write_token_count"):
        details["cache_write_tokens"] = written
    return counters


def _tool_id(event: LogEvent) -> str:
    conversation_id, tool_call_id = (text(event.attributes, name) for name in ("conversation.id", "call_id"))
    return response_call_id("codex", f"{conversation_id} {tool_call_id}")


def _tool_record(event: LogEvent, sender: Sender, decision: LogEvent | None, call: _Call | None) -> EventRecord:
    """Return the record of a tool's run, or of the refusal of one."""
    attributes = event.attributes
    decided = {} if decision is None else decision.attributes
    ran_ns = duration_ns(attributes, "duration_ms") or 0
    verdict, output = text(decided, "decision"), text(attributes, "output")
    error = None
    if verdict is not None and not verdict.startswith(_APPROVED):
        error = ErrorInfo(kind="unknown", type="rejected", message=verdict)
    elif text(attributes, "success") == "false":
        error = ErrorInfo(kind="unknown", type="tool_error")
    is_cut = attributes.get("output_truncated") is True
    tool_call_id, arguments = text(attributes, "call_id"), parse_arguments(text(attributes, "arguments"))
    data = {name: value for name, value in (("arguments", arguments), ("result", output)) if value is not None}
    return replace(
        tool_run(_tool_id(event), event, sender, _place(event, sender), decided, ran_ns),
        call_id=None if call is None else call.call_id,
        system=text(attributes, "agent_name"),
        data=data or None,
        tool_call_id=tool_call_id,
        error=error,
        redactions=[Redaction(what="data.result", why="size")] if is_cut else [],
    )
