"""Claude Code's records: what its log events say of a call, a tool and an agent, as records."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

import msgspec

from callspan.providers import registry
from callspan.providers.anthropic.messages import usage
from callspan.providers.base import NOT_RECOGNIZED
from callspan.providers.error_kinds import error_info
from callspan.providers.wire_json import count, integer, objects, text
from callspan.receive.decoding import MAX_VALUES, Attributes, LogEvent, attempt_number, duration_ns
from callspan.receive.foreign_files import content_of, status_of
from callspan.receive.senders import Sender, tool_run
from callspan.receive.waiting import record_in
from callspan.record.call import Attempt, CallRecord, ErrorInfo, Place, Redaction, Request, Response, Stream, Timing
from callspan.record.codec import encode_json, exact_json
from callspan.record.events import TOOL_START, EventRecord, start_id
from callspan.record.foreign_json import has_more_values
from callspan.record.ids import response_call_id
from callspan.record.interrupted import INTERRUPTED
from callspan.record.messages import parse_arguments
from callspan.record.tree import SUBAGENT_ID
from callspan.record.usage import Usage
from callspan.runtime.clock import monotonic_s
from callspan.semconv.records_from_spans import ForeignSpan, call_of

API: Final = "messages"
SCOPE_OF_SPANS: Final = "com.anthropic.claude_code.tracing"
_PROVIDERS: Final = {"firstParty": "anthropic", "bedrock": "aws.bedrock", "vertex": "gcp.vertex_ai"}
_ANTHROPIC: Final = "anthropic"
_HOST: Final = "api.anthropic.com"
_NOT_OF_THE_WIRE: Final = "betas"
"""A member of logged requests that the program sends as a header."""
_COUNTERS: Final[Mapping[str, tuple[str, ...]]] = {
    "input_tokens": ("input_tokens",),
    "output_tokens": ("output_tokens",),
    "cache_read_tokens": ("cache_read_input_tokens",),
    "cache_creation_tokens": ("cache_creation_input_tokens",),
    "cache_creation_5m_tokens": ("cache_creation", "ephemeral_5m_input_tokens"),
    "cache_creation_1h_tokens": ("cache_creation", "ephemeral_1h_input_tokens"),
}
"""Counters of the program's events, with their path in a usage object of Messages."""
_METADATA: Final = {"query_source": "purpose", "agent.name": "agent", "agent_id": "agent_id"}
"""Attributes that are fields of callspan's metadata. The query source names compaction, titles and subagents."""
_EXTRA: Final = {"prompt.id": "prompt_id", "effort": "effort", "cost_usd": "stated_cost_usd"}
_ACCEPTED: Final = "accept"
_NORMAL: Final = "normal"
_AGENT_TOOLS: Final = frozenset({"Agent", "Task"})
"""Tools that start an agent."""
_AGENT_ID: Final = re.compile(r"\bagentId: (\w+)")
_FILE_S: Final = 0.5
_POLL_S: Final = 0.01
_SUCCESS: Final = "success"
_REFUSED: Final = "refusal"
"""The stop reason of a refusal."""
_DIGEST_LENGTH: Final = 16
_LOST: Final = "not_received"
_UNANSWERED: Final = ErrorInfo(
    kind="unknown", type=INTERRUPTED, retryable=None, message="The program reported no answer to this request."
)


class Counters(msgspec.Struct, frozen=True, kw_only=True):
    """The usage in an answer's body, in the program's counters."""

    models: list[str]
    """As requested and as answered."""
    tokens: list[int]


class ClaudeEvent(LogEvent, frozen=True, kw_only=True, dict=True):
    """A log event of Claude Code. Names are looked up when they are first needed, and once."""

    @classmethod
    def of(cls, event: LogEvent) -> ClaudeEvent:
        """Return the event with its names."""
        return cls(
            name=event.name,
            time_ns=event.time_ns,
            attributes=event.attributes,
            resource=event.resource,
            received_s=event.received_s,
        )

    @cached_property
    def session_id(self) -> str | None:
        """The program's own session."""
        return text(self.attributes, "session.id")

    @cached_property
    def request_id(self) -> str | None:
        """The id that the provider gave to the answer."""
        return text(self.attributes, "request_id")

    @cached_property
    def request_body_id(self) -> str | None:
        """The id that the program gave to the request."""
        return text(self.attributes, "request_body_id")

    @cached_property
    def tool_use_id(self) -> str | None:
        """The id of the model's tool call."""
        return text(self.attributes, "tool_use_id")

    @cached_property
    def model(self) -> str | None:
        """The requested model."""
        return text(self.attributes, "model")

    @cached_property
    def service(self) -> str | None:
        """The name of the program."""
        return text(self.resource, "service.name")

    @cached_property
    def purpose(self) -> tuple[str | None, ...]:
        """Session, purpose and agent, which tell apart the requests that are sent one at a time."""
        return self.session_id, text(self.attributes, "query_source"), text(self.attributes, "agent_id")

    @cached_property
    def order(self) -> tuple[int, int]:
        """The sort key of an event: its time, then its number within the process."""
        return self.time_ns, integer(self.attributes, "event.sequence") or 0

    @cached_property
    def own_key(self) -> str:
        """The key of an event, the same however often it is sent.

        Its sequence number alone is not enough: it restarts in each process, and a process may continue a session.
        """
        time_ns, sequence = self.order
        return f"{self.session_id} {time_ns} {sequence}"

    @cached_property
    def size(self) -> int:
        """The length of the body, if the event has one."""
        return count(self.attributes, "body_length") or 0


class LoggedBody(msgspec.Struct, eq=False, kw_only=True):
    """The body of one request to the provider, or of its answer."""

    body_id: str
    """The id of the request."""
    event: ClaudeEvent
    inline: bytes | None = None
    """Its body, if it came with the event; None too once it was written."""
    path: Path | None = None
    """The file with its body, which stays until the call is written."""
    files: Mapping[str, Path] | None = None
    """The files of what waits, if it is a request of which an earlier receiver has put a record into one of them."""
    waits_as: str = ""
    """Its id in `files`. The file may get another name meanwhile."""
    digest: str = ""
    """A hash of the body; empty until it is needed."""
    counters: Counters | None = None
    """An answer's counters, if nothing else joins it to the program's `api_request`."""
    is_stream: bool = False
    """Whether a stream was requested; known once the body was read."""

    @property
    def time_ns(self) -> int:
        """When it was logged: a request as it is sent, an answer at its end."""
        return self.event.time_ns

    @property
    def is_whole(self) -> bool:
        """Whether the program has put all of it into its file."""
        return self.path is None or _is_whole(self.path, self.event.size)

    @property
    def is_written(self) -> bool:
        """Whether a record has it."""
        return self.inline is None and self.path is None and self.files is None

    def content(self) -> bytes:
        """Return its body; empty if it was not received, is no file of callspan's, was written, or costs too much."""
        content = self.inline or b""
        if self.path is not None:
            content = _whole_file(self.path, self.event.size, self.event.received_s + _FILE_S)
        return b"" if has_more_values(content, MAX_VALUES) else content

    def record(self) -> CallRecord | None:
        """Return the record that an earlier receiver made of it, or None."""
        path = None if self.files is None else self.files.get(self.waits_as)
        record = None if path is None else record_in(path)
        return record if isinstance(record, CallRecord) else None

    def content_digest(self) -> str:
        """Return a hash of the body. After the body is written, only an already computed hash is right."""
        self.digest = self.digest or hashlib.sha256(self.content()).hexdigest()[:_DIGEST_LENGTH]
        return self.digest

    def has_content_of(self, other: LoggedBody) -> bool:
        """Return whether two bodies are the same."""
        return self.event.size == other.event.size and self.content_digest() == other.content_digest()


class ObservedCall(msgspec.Struct, eq=False, kw_only=True):
    """A call, put together from the events so far."""

    call_id: str = ""
    retried: Sequence[LoggedBody] = ()
    """Attempts before the last one, which failed."""
    request: LoggedBody | None = None
    facts: ClaudeEvent | None = None
    """`api_request`: counters, cost and times."""
    error: ClaudeEvent | None = None
    refusal: ClaudeEvent | None = None
    """`api_refusal`: the answer was a refusal."""
    response: LoggedBody | None = None
    """`api_response_body`."""
    keys_of_facts: tuple[str, ...] = ()
    """The keys of `facts`, `error` and `refusal`."""
    waits: bool = False
    """Whether the body of its answer may still come."""
    may_be_answered: bool = False
    """Whether a recorded answer without a request of its own may be that of this call."""
    may_be_split: bool = False
    """Whether its counters may be another request's, and its own request an attempt of the call after it."""
    is_without_answer: bool = False
    """Whether only its counters came, because the body of its answer was lost."""

    @property
    def has_answer(self) -> bool:
        """Whether an event says that the model has answered."""
        return not (self.facts is None and self.response is None and self.refusal is None)

    @property
    def has_own_request(self) -> bool:
        """Whether its request was received and stays its own whatever comes later."""
        return self.request is not None and not self.may_be_split

    @property
    def events(self) -> list[ClaudeEvent]:
        """The events of its end; events that say more come first."""
        response = None if self.response is None else self.response.event
        return [event for event in (self.facts, self.error, response, self.refusal) if event is not None]

    @property
    def sent(self) -> list[LoggedBody]:
        """The requests, oldest first."""
        return [*self.retried, *([] if self.request is None else [self.request])]

    @property
    def unsettled(self) -> list[LoggedBody]:
        """The requests that may be of other calls: attempts, and one without the body of its answer."""
        return self.sent if self.response is None else [*self.retried]

    @property
    def event_keys(self) -> frozenset[str]:
        """The keys of its events."""
        requests = [f"request {body.body_id}" for body in self.sent]
        return frozenset([*requests, *self.answer_keys, *self.keys_of_facts])

    @property
    def id_keys(self) -> list[str]:
        """Its names if the provider gave an id to its answer."""
        ids = dict.fromkeys([event.request_id for event in self.events])
        return [f"id {ident}" for ident in ids if ident]

    @property
    def body_keys(self) -> list[str]:
        """Its names if bodies were received."""
        ids = dict.fromkeys([body.body_id for body in (self.response, self.request) if body is not None])
        return [f"body {ident}" for ident in ids]

    @property
    def answer_keys(self) -> list[str]:
        """The name that it has once its answer's body is in its record."""
        return [] if self.response is None else [f"answer {self.response.body_id}"]

    @property
    def keys(self) -> list[str]:
        """All names of this call that no other call has."""
        attempts = [f"attempt {body.body_id}" for body in self.retried]
        return [*self.id_keys, *self.answer_keys, *self.body_keys, *attempts, *self.keys_of_facts]

    @property
    def ranked_keys(self) -> list[Sequence[str]]:
        """The names of its end by rank; the less certain ones come later."""
        return [self.id_keys, self.answer_keys, self.keys_of_facts] if self.events else []

    @property
    def request_keys(self) -> list[str]:
        """The names of its requests, the more certain ones first."""
        return [*self.body_keys, *(f"{kind} {body.body_id}" for body in self.sent for kind in ("attempt", "body"))]

    @property
    def time_ns(self) -> int:
        """The time of its first event."""
        return min([*[event.time_ns for event in self.events], *[body.time_ns for body in self.sent]])


def _whole_file(path: Path, size: int, until_s: float) -> bytes:
    """Return the content of a file of at least `size` bytes; empty if it cannot be read, see `content_of`.

    The program logs a body while it still writes the file, so the file may be absent or shorter for a moment. Waits for
    it until `until_s`, a limit shared by all files that a request names.
    """
    while not _is_whole(path, size) and monotonic_s() < until_s:
        time.sleep(_POLL_S)
    return content_of(path)


def _is_whole(path: Path, size: int) -> bool:
    try:
        status = status_of(path)
    except TimeoutError:
        return False
    return status is not None and status.st_size >= size


def call_id_of(event: ClaudeEvent) -> str | None:
    """Return the id of the call of an event, derived from the provider's request id; None without it."""
    return None if event.request_id is None else call_id_from(event.request_id)


def call_id_from(ident: str) -> str:
    """Return the id of a call, derived from an id that the provider or the program gave to it."""
    return response_call_id(_ANTHROPIC, ident)


def call_record(call: ObservedCall, sender: Sender) -> CallRecord:
    """Return the record of a call with all that is known so far. A later version says more."""
    events, sent = call.events, call.sent
    main = events[0] if events else sent[-1].event
    attributes = main.attributes
    request, redactions = _request(call, main)
    response, counters, error, response_redactions = _response(call)
    timing = _timing(call, sent)
    status = integer(attributes, "status_code")
    if call.error is not None and call.facts is None:
        message = text(attributes, "error")
        error = error_info(status=status, body=None, message=message, request_id=main.request_id)
    is_unanswered = not events
    is_answered = call.has_answer
    is_stream = any(body.is_stream for body in sent)
    failed_before = max(len(call.retried), (attempt_number(attributes) or 1) - 1)
    return CallRecord(
        call_id=call.call_id,
        part="ended" if is_unanswered else "answered",
        seen_in="import",
        seen_ns=max(event.time_ns for event in (*events, main)) + len(events) + len(sent),
        provider=_provider(attributes),
        api=API,
        sdk=_program(main.resource),
        server_address=_server(attributes),
        trace_id=sender.trace_id,
        parent_span_id=sender.span_id,
        place=place_of(main, sender),
        service=main.service,
        request=request,
        response=response,
        usage=counters or (None if call.response is not None and call.response.is_written else _usage(attributes)),
        timing=timing,
        attempts=_attempts(sent, timing, status, main.request_id),
        retries=failed_before if sent or call.error is not None else None,
        outcome=INTERRUPTED if is_unanswered else _SUCCESS if error is None else "error",
        error=_UNANSWERED if is_unanswered else error,
        stream=Stream(end="complete", complete=True) if is_answered and is_stream else None,
        metadata=_metadata(attributes, sender),
        content_level=sender.level,
        redactions=[*redactions, *response_redactions],
    )


def place_of(event: ClaudeEvent, sender: Sender) -> Place:
    """Return the session that started the program, else the program's own."""
    return sender.place_of(event, Place(session_id=event.session_id, session_name=event.service))


def _timing(call: ObservedCall, sent: Sequence[LoggedBody]) -> Timing:
    """Return the times of a call: it begins with its first attempt, while its facts describe only the last one."""
    last = call.facts or call.error or (call.refusal if call.response is None else call.response.event)
    end_ns = None if last is None else last.time_ns
    took_ns = None if last is None else duration_ns(last.attributes, "duration_ms")
    if end_ns is not None and took_ns is not None:
        answer_ns = end_ns - took_ns
    else:
        answer_ns = sent[-1].time_ns if sent else end_ns or 0
    start_ns = min([answer_ns, *(body.time_ns for body in sent)])
    has_start = took_ns is not None or bool(sent)
    took_ns = None if end_ns is None or not has_start else end_ns - start_ns
    ttft_ns = None if call.facts is None else duration_ns(call.facts.attributes, "ttft_ms")
    first_ns = None if ttft_ns is None else answer_ns - start_ns + ttft_ns
    return Timing(
        start_ns=start_ns,
        duration_ns=took_ns,
        answer_ns=answer_ns - start_ns,
        first_token_ns=None if first_ns is None or took_ns is None or first_ns > took_ns else first_ns,
    )


def _attempts(sent: Sequence[LoggedBody], timing: Timing, status: int | None, request_id: str | None) -> list[Attempt]:
    """Return the attempts; only the last one's status and id are stated, and only if it failed."""
    starts = [body.time_ns - timing.start_ns for body in sent[:-1]]
    last = Attempt(
        number=len(starts) + 1,
        start_ns=timing.answer_ns or 0,
        status=status,
        request_id=request_id,
        end_ns=timing.duration_ns,
    )
    return [*(Attempt(number=number, start_ns=start_ns) for number, start_ns in enumerate(starts, 1)), last]


def _request(call: ObservedCall, main: ClaudeEvent) -> tuple[Request, list[Redaction]]:
    """Return the request; without a body if it was not received whole, or was written before."""
    # Attempts have the same body, and one of them may have been written before.
    sent = next((body for body in reversed(call.sent) if not body.is_written), call.request)
    request = Request(model=main.model, conversation_id=main.session_id)
    if sent is not None and (record := sent.record()) is not None:
        sent.is_stream = record.request.stream is True
        return record.request, list(record.redactions)
    content = b"" if sent is None else sent.content()
    if sent is None or not isinstance(body := registry.decoded(content), dict):
        speed = text(main.attributes, "speed")
        params: dict[str, object] = {"speed": speed} if speed not in (None, _NORMAL) else {}
        return msgspec.structs.replace(request, params=params), _not_received("request.body", sent)
    if body.pop(_NOT_OF_THE_WIRE, None) is not None:
        content = encode_json(body)
    sent.is_stream = body.get("stream") is True
    endpoint = registry.by_api(API)
    read = (endpoint and endpoint.request(body)) or request
    fields = {
        "conversation_id": request.conversation_id,
        "stream": sent.is_stream,
        "body_bytes": len(content),
        "body": msgspec.Raw(exact_json(content, body)),
    }
    return msgspec.structs.replace(read, **fields), []


def _response(call: ObservedCall) -> tuple[Response | None, Usage | None, ErrorInfo | None, list[Redaction]]:
    if not call.has_answer or (call.response is not None and call.response.is_written):
        return None, None, None, []
    content = b"" if call.response is None else call.response.content()
    body, endpoint = registry.decoded(content), registry.by_api(API)
    if not isinstance(body, dict) or endpoint is None:
        message_id = None if call.response is None else text(call.response.event.attributes, "message.id")
        lost = [Redaction(what="response.body", why=_LOST)] if call.is_without_answer else []
        refused = call.refusal is not None
        response = Response(id=message_id, finish_reasons=[_REFUSED] if refused else [], refused=refused)
        return response, None, None, lost or _not_received("response.body", call.response)
    info = endpoint.response_info(body) or NOT_RECOGNIZED
    encoded = exact_json(content, body)
    response = msgspec.structs.replace(info.response, body_bytes=len(encoded), body=msgspec.Raw(encoded))
    return response, info.usage, info.error, []


def _not_received(what: str, body: LoggedBody | None) -> list[Redaction]:
    """Return the note of a body that was cut to the size of a log line, or lost with its file."""
    if body is None or body.is_written:
        return []
    return [Redaction(what=what, why="size", original_bytes=count(body.event.attributes, "body_length"))]


def _usage(attributes: Attributes) -> Usage | None:
    """Return the usage of an event, from its counters in the form of a Messages answer."""
    counters: dict[str, object] = {}
    for name, (key, *inner) in _COUNTERS.items():
        if (value := count(attributes, name)) is None:
            continue
        if inner:
            lifetimes = counters.setdefault(key, {})
            if isinstance(lifetimes, dict):
                lifetimes[inner[0]] = value
        else:
            counters[key] = value
    return usage(counters)


def _metadata(attributes: Attributes, sender: Sender) -> dict[str, object]:
    metadata = {field: attributes[name] for name, field in _METADATA.items() if attributes.get(name) is not None}
    extra = {field: attributes[name] for name, field in _EXTRA.items() if attributes.get(name) is not None}
    given = sender.metadata.get("extra")
    extra = {**(given if isinstance(given, dict) else {}), **extra}
    return {**sender.metadata, **metadata, **({"extra": extra} if extra else {})}


def _provider(attributes: Attributes) -> str:
    provider = text(attributes, "anthropic.provider") or _ANTHROPIC
    return _PROVIDERS.get(provider, provider)


def _server(attributes: Attributes) -> str | None:
    is_custom = attributes.get("anthropic.custom_base_url")
    return _HOST if is_custom is False and _provider(attributes) == _ANTHROPIC else None


def _program(resource: Attributes) -> str | None:
    return "/".join(filter(None, (text(resource, "service.name"), text(resource, "service.version")))) or None


def _ms(attributes: Attributes, name: str) -> int:
    """Return a duration in nanoseconds; 0 if it is not stated."""
    return duration_ns(attributes, name) or 0


def tool_event_id(event: ClaudeEvent, sender: Sender) -> str:
    """Return the id of the record of a tool's run."""
    return f"{call_id_of(event) or place_of(event, sender).session_id}-{event.tool_use_id}"


def tool_record(event: ClaudeEvent, sender: Sender, decision: Attributes) -> EventRecord:
    """Return the record of a tool's run, without its result, which only the next request to the model has."""
    attributes, duration_ns = event.attributes, _ms(event.attributes, "duration_ms")
    has_failed = text(attributes, "success") == "false" or attributes.get("success") is False
    decided = text(decision, "decision") or text(attributes, "decision")
    if decided is not None and decided != _ACCEPTED:
        error = ErrorInfo(kind="unknown", type="rejected", message=text(decision, "source"))
    elif has_failed:
        kind = text(attributes, "error_type") or "tool_error"
        error = ErrorInfo(kind="unknown", type=kind, message=text(attributes, "error"))
    else:
        error = None
    arguments = parse_arguments(text(attributes, "tool_input") or text(attributes, "tool_parameters"))
    return msgspec.structs.replace(
        tool_run(tool_event_id(event, sender), event, sender, place_of(event, sender), decision, duration_ns),
        call_id=call_id_of(event),
        system=text(attributes, "agent.name") or text(attributes, "agent_id"),
        data=None if arguments is None else {"arguments": arguments},
        tool_call_id=event.tool_use_id,
        error=error,
    )


def tool_start(tool: EventRecord) -> EventRecord:
    """Return the event that says that a tool has run, until its result is known."""
    return msgspec.structs.replace(tool, event_id=start_id(tool.event_id), event_type=TOOL_START, duration_ns=None)


def with_result(tool: EventRecord, result: object) -> EventRecord:
    """Return a tool's run with the result that the model got, and with the id of the agent that it started."""
    data = tool.data if isinstance(tool.data, dict) else {}
    agent_id = _started_agent(result) if tool.name in _AGENT_TOOLS else None
    metadata = tool.metadata if agent_id is None else {**tool.metadata, SUBAGENT_ID: agent_id}
    return msgspec.structs.replace(tool, data={**data, "result": result}, metadata=metadata)


def _started_agent(result: object) -> str | None:
    """Return the id that the program adds after the agent's own words, or says as it starts an agent; None without."""
    texts = [result] if isinstance(result, str) else [text(part, "text") or "" for part in objects(result)]
    ids = [match for part in texts for match in _AGENT_ID.findall(part)]
    return ids[-1] if ids else None


def agent_record(event: ClaudeEvent, sender: Sender) -> EventRecord:
    """Return the record of a subagent that has ended."""
    attributes, duration_ns, place = event.attributes, _ms(event.attributes, "duration_ms"), place_of(event, sender)
    return EventRecord(
        event_id=f"{place.session_id}-{text(attributes, 'agent_id')}",
        session_id=place.session_id,
        timestep_id=place.timestep_id,
        timestep=place.timestep,
        event_type="agent",
        name=text(attributes, "agent_type"),
        time_ns=event.time_ns - duration_ns,
        duration_ns=duration_ns,
        metadata={
            name: attributes[name]
            for name in ("agent_id", "total_tokens", "total_tool_uses", "model")
            if attributes.get(name) is not None
        },
        trace_id=sender.trace_id,
        parent_span_id=sender.span_id,
    )


def call_of_span(span: ForeignSpan, sender: Sender) -> CallRecord | None:
    """Return the version of a call's record that a span of the program gives. Its log events say more, and win."""
    record, attributes = call_of(span), span.attributes
    request_id = text(attributes, "request_id")
    if record is None or record.response is None or request_id is None:
        return None
    return msgspec.structs.replace(
        record,
        call_id=response_call_id(_ANTHROPIC, request_id),
        part="answered",
        seen_in="import",
        seen_ns=1,
        api=API,
        sdk=span.service,
        place=record.place if sender.place.session_id is None else sender.place,
        response=msgspec.structs.replace(record.response, id=None),
        usage=_usage(attributes),
        retries=attempt - 1 if (attempt := attempt_number(attributes)) else None,
        metadata=_metadata(attributes, sender),
        content_level=sender.level,
    )
