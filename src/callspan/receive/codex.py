"""Codex: reads the log events of the `codex` program.

| Event | Says |
| --- | --- |
| `codex.conversation_starts` | the provider |
| `codex.user_prompt` | the prompt, if asked for |
| `codex.api_request`, `codex.websocket_request` | that the head of an answer came, or why not; one for each attempt |
| `codex.sse_event` | that an event of the answer came; the last one states the tokens |
| `codex.tool_decision` | whether a tool may run |
| `codex.tool_result` | that it ran, with its arguments and result |

No event has an id of its call, nor a body. But a conversation sends one request at a time, and waits for all of its
tools before the next one; subagents are conversations of their own. So what comes belongs to the latest call of its
conversation. The id of a call is made of the conversation and the time of its first attempt, which are the same however
often an event comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec.structs import replace

from callspan.fail_open import fail_open
from callspan.lock_free import LRUCache
from callspan.process_identity import own_identity
from callspan.providers.error_kinds import FIRST_ERROR, error_info
from callspan.providers.openai.usage import usage_of
from callspan.providers.wire_json import count, integer, text
from callspan.receive.decoding import Attributes, LogEvent, duration_ns
from callspan.receive.senders import ProgramSession, Sender
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

SCOPE: Final = "codex."
"""The start of the names of events."""
_API: Final = "responses"
_ENDPOINTS: Final = (None, "/responses", "/responses/compact")
"""Those that answer with tokens. A request over a websocket names none."""
_PROVIDERS: Final = {"azure": "azure.ai.openai", "amazon bedrock": "aws.bedrock"}
_NAMES: Final = frozenset(
    {
        *("conversation_starts", "user_prompt", "api_request", "websocket_request", "sse_event", "tool_decision"),
        "tool_result",
    }
)
_PURPOSES: Final = {"/responses/compact": "compact"}
_APPROVED: Final = "approved"
_WITHHELD: Final = "[REDACTED]"
_MAX_CONVERSATIONS: Final = 256
_MAX_EVENTS: Final = 4096
_NOT_SENT: Final = [Redaction(what=what, why="not_received") for what in ("request.body", "response.body")]
_READ: Final = fail_open("read a log event of Codex")


class _Call:
    """What is known of a call so far."""

    def __init__(self, call_id: str) -> None:
        self.call_id = call_id
        self.attempts: list[LogEvent] = []
        self.first_token_ns: int | None = None
        self.completed: LogEvent | None = None
        self.failed: LogEvent | None = None
        self.is_over = False
        """Whether nothing more of it will come."""


class _Conversation:
    """One conversation, and its latest call."""

    def __init__(self, ident: str, sender: Sender, session: ProgramSession | None) -> None:
        self.ident, self.sender, self.session = ident, sender, session
        self.provider = "openai"
        self.call: _Call | None = None
        self.changed: list[_Call] = []
        """Calls of which more is known than was written."""
        self.tools: dict[str, LogEvent] = {}
        """Decisions on tools that have no result yet, by the id of the model's call of the tool."""


class Codex:
    """Makes records of log events. Not thread-safe."""

    def __init__(self) -> None:
        self._conversations: dict[str, _Conversation] = {}
        self._seen: LRUCache[str, object] = LRUCache(_MAX_EVENTS)
        """Events of which there is one record, so that what comes twice makes no second one."""

    def records(self, events: Iterable[LogEvent], sender: Sender) -> Iterator[Leveled]:
        """Yield the records of a batch of events."""
        for event in sorted(filter(is_read, events), key=lambda event: event.time_ns):
            with _READ:
                ident = text(event.attributes, "conversation.id") or ""
                if ident not in self._conversations:
                    yield from self._begin(ident, event, sender)
                conversation = self._conversations[ident]
                if conversation.session is not None:
                    conversation.session.go_on(event)
                yield from getattr(self, f"_{event.name.removeprefix(SCOPE)}")(event, conversation)
        for conversation in self._conversations.values():
            yield from _changed(conversation)

    def close(self, sender: Sender | None = None) -> Iterator[Leveled]:
        """Yield the records of all that waits, or waits for one sender, as nothing more will come, and the ends."""
        for ident, conversation in list(self._conversations.items()):
            if sender is None or conversation.sender is sender:
                yield from self._end(ident)

    def _begin(self, ident: str, event: LogEvent, sender: Sender) -> Iterator[Leveled]:
        session, place = None, _place(event, sender)
        if place.session_id == ident:
            session = ProgramSession(event, place, sender)
            yield session.start, sender.level
        self._conversations[ident] = _Conversation(ident, sender, session)
        if len(self._conversations) > _MAX_CONVERSATIONS:
            yield from self._end(next(iter(self._conversations)))

    def _end(self, ident: str) -> Iterator[Leveled]:
        conversation = self._conversations.pop(ident)
        yield from self._end_call(conversation)
        yield from _changed(conversation)
        if conversation.session is not None:
            outcome = "success" if conversation.call is None else _outcome(conversation.call)[1]
            session = replace(conversation.session.ended(), outcome=outcome)
            yield session, conversation.sender.level

    def _end_call(self, conversation: _Conversation) -> Iterator[Leveled]:
        """Note that nothing more of the latest call will come; yield its tools that were refused, or did not end."""
        decisions, conversation.tools = conversation.tools, {}
        for event in decisions.values():
            yield from self._tool(event, event, conversation)
        call = conversation.call
        if call is not None and not _is_answered(call):
            call.is_over = True
            conversation.changed.append(call)

    def _conversation_starts(self, event: LogEvent, conversation: _Conversation) -> Iterator[Leveled]:
        name = (text(event.attributes, "provider_name") or "openai").lower()
        conversation.provider = _PROVIDERS.get(name, name)
        yield from ()

    def _user_prompt(self, event: LogEvent, conversation: _Conversation) -> Iterator[Leveled]:
        prompt, ident = text(event.attributes, "prompt"), _ident(event)
        if prompt not in (None, _WITHHELD) and self._seen.is_first(ident):
            sender = conversation.sender
            place = _place(event, sender)
            message = MessageRecord(
                message_id=ident, session_id=place.session_id, timestep_id=place.timestep_id, timestep=place.timestep,
                message_type="question", sender="user", receiver="codex", time_ns=event.time_ns, content=prompt,
            )  # fmt: skip
            yield message, sender.level

    def _api_request(self, event: LogEvent, conversation: _Conversation) -> Iterator[Leveled]:
        if text(event.attributes, "endpoint") not in _ENDPOINTS or not self._seen.is_first(ident := _ident(event)):
            return
        call = conversation.call
        if call is None or not count(event.attributes, "attempt") or _is_answered(call):
            yield from self._end_call(conversation)
            call = conversation.call = _Call(ident)
        call.attempts.append(event)
        call.failed = None if _is_accepted(event) else event
        conversation.changed.append(call)

    _websocket_request = _api_request

    def _sse_event(self, event: LogEvent, conversation: _Conversation) -> Iterator[Leveled]:
        call, kind = conversation.call, text(event.attributes, "event.kind") or ""
        yield from ()
        if call is None or call.completed is not None or event.time_ns < call.attempts[-1].time_ns:
            return
        if kind.endswith(".delta") and call.first_token_ns is None:
            call.first_token_ns = event.time_ns
        elif "input_token_count" in event.attributes:
            call.completed, call.failed = event, None
            conversation.changed.append(call)
        elif "error.message" in event.attributes:
            call.failed = event
            conversation.changed.append(call)

    def _tool_decision(self, event: LogEvent, conversation: _Conversation) -> Iterator[Leveled]:
        if self._seen.is_first(_ident(event)):
            conversation.tools[text(event.attributes, "call_id") or ""] = event
        yield from ()

    def _tool_result(self, event: LogEvent, conversation: _Conversation) -> Iterator[Leveled]:
        decision = conversation.tools.pop(text(event.attributes, "call_id") or "", None)
        yield from self._tool(event, decision, conversation)

    def _tool(self, event: LogEvent, decision: LogEvent | None, conversation: _Conversation) -> Iterator[Leveled]:
        tool = _tool_record(event, conversation.sender, decision, conversation.call)
        if self._seen.is_first(tool.event_id):
            yield tool, conversation.sender.level


def _changed(conversation: _Conversation) -> Iterator[Leveled]:
    """Yield a version of each call of which more is known."""
    calls, conversation.changed = dict.fromkeys(conversation.changed), []
    for call in calls:
        with _READ:
            yield _call_record(call, conversation), conversation.sender.level


def is_read(event: LogEvent) -> bool:
    """Return whether an event is one of those that `Codex` reads."""
    return event.name.startswith(SCOPE) and event.name.removeprefix(SCOPE) in _NAMES


def _is_accepted(attempt: LogEvent) -> bool:
    status = integer(attempt.attributes, "http.response.status_code")
    return "error.message" not in attempt.attributes and (status is None or status < FIRST_ERROR)


def _is_answered(call: _Call) -> bool:
    return call.completed is not None


def _ident(event: LogEvent) -> str:
    """Return an id of what an event is about, the same however often it comes."""
    return response_call_id("codex", f"{text(event.attributes, 'conversation.id')} {event.name} {event.time_ns}")


def _place(event: LogEvent, sender: Sender) -> Place:
    return sender.place_of(event, Place(session_id=text(event.attributes, "conversation.id"), session_name="codex"))


def _call_record(call: _Call, conversation: _Conversation) -> CallRecord:
    """Return the version of a call's record that says what is known so far."""
    sender = conversation.sender
    first, last = call.attempts[0], call.attempts[-1]
    attributes, end = last.attributes, call.completed or call.failed
    part, outcome, error = _outcome(call)
    start_ns, answer_ns = _began_ns(first), _began_ns(last)
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
            duration_ns=None if end is None else end.time_ns - start_ns,
            answer_ns=answer_ns - start_ns,
            first_token_ns=None if call.first_token_ns is None else call.first_token_ns - start_ns,
        ),
        attempts=[_attempt(number, event, start_ns) for number, event in enumerate(call.attempts, 1)],
        retries=len(call.attempts) - 1,
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
    """Return the counters of an event as those of an answer of Responses."""
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


def _tool_record(event: LogEvent, sender: Sender, decision: LogEvent | None, call: _Call | None) -> EventRecord:
    """Return the record of a tool's run, or of the refusal of one."""
    attributes, place = event.attributes, _place(event, sender)
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
    return EventRecord(
        event_id=response_call_id("codex", f"{text(attributes, 'conversation.id')} {tool_call_id}"),
        session_id=place.session_id,
        timestep_id=place.timestep_id,
        timestep=place.timestep,
        call_id=None if call is None else call.call_id,
        event_type="tool",
        name=None if sender.level == "off" else text(attributes, "tool_name"),
        time_ns=event.time_ns - ran_ns,
        duration_ns=ran_ns,
        system=text(attributes, "agent_name"),
        data=data or None,
        tool_call_id=tool_call_id,
        error=error,
        metadata={
            name: value
            for name, key in (("decision", "decision"), ("decision_source", "source"))
            if (value := text(decided, key)) is not None
        },
        redactions=[Redaction(what="data.result", why="size")] if is_cut else [],
        trace_id=sender.trace_id,
        parent_span_id=sender.span_id,
    )
