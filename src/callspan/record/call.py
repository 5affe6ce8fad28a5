"""CallRecord: one call in one form for all providers and all ends."""

from __future__ import annotations

from itertools import repeat
from typing import Final, Literal, TypeAlias, TypeVar, get_args

import msgspec

from callspan.record.formats import FORMAT
from callspan.record.labels import user_of
from callspan.record.messages import LENGTH, Conversation, Message, ToolCall, normalised
from callspan.record.usage import Cost, Usage
from callspan.settings import Content

_T = TypeVar("_T")
NO_BODY: Final = msgspec.Raw(b"")
"""Stands for "no body kept". Compare by identity or truth of `bytes(...)`; never put another empty Raw."""
Part: TypeAlias = Literal["started", "requested", "ended", "answered"]
"""How much of a call a version of its record has, the least first, see `callspan.record.merging`."""
PARTS: Final[tuple[Part, ...]] = get_args(Part)
SeenIn: TypeAlias = Literal["call", "fetch", "webhook", "batch", "import"]
"""What a version of a call's record was made of."""
_OWN: Final = frozenset({"call", "import"})
"""Of these there is one version of the end."""
Outcome: TypeAlias = Literal["started", "in_progress", "success", "error", "timeout", "cancelled"]
"""How a call ended. `started` is written for streams only; readers show a dead one as `interrupted`. `in_progress`: the
provider still works on a background response; a later record of the same call says how that ended."""
FAILED: Final = frozenset({"error", "timeout"})
"""The outcomes of failed calls; cancelled and running calls have not failed."""
StreamEnd: TypeAlias = Literal["complete", "cut_off", "closed", "dropped", "error", "cancelled"]
"""How a stream ended: normally, without its terminal event, left early, by an error, or by cancellation.

`cut_off`: the body ended normally, but the provider had not signalled the end of the response. `dropped`: only in older
records, for `closed` by the garbage collector.
"""


def always_written(default: _T) -> _T:
    """Return a field of a record that JSON has even where it holds its default."""
    # A default that comes from a function is not left out; this one takes no frame of Python.
    field: _T = msgspec.field(default_factory=repeat(default).__next__)
    return field


def schema_field() -> int:
    """Return the field that states the schema version in every record."""
    return always_written(FORMAT)


class RateLimit(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One rate limit, from the response headers."""

    limit: int | None = None
    """What is allowed per period."""
    remaining: int | None = None
    """What is left of it."""
    reset_s: float | None = None
    """Seconds until it is full again, counted from the response."""


class RateLimits(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The rate limits of the last response that had them."""

    requests: RateLimit | None = None
    """Number of requests."""
    tokens: RateLimit | None = None
    """Tokens of input and output together."""
    input_tokens: RateLimit | None = None
    """Tokens of input."""
    output_tokens: RateLimit | None = None
    """Tokens of output."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One HTTP request within a call. Offsets count from the start of the call, monotonic."""

    number: int
    """1 for the first."""
    start_ns: int
    """Offset at which the request was sent."""
    headers_ns: int | None = None
    """Offset at which the response headers were received; None without a response."""
    status: int | None = None
    """HTTP status; None without a response."""
    error_kind: str | None = None
    """As `ErrorInfo.kind`; None if it did not fail."""
    error_type: str | None = None
    """As `ErrorInfo.type`; None if it did not fail."""
    request_id: str | None = None
    """The provider's id of the request, from the response headers."""
    retry_after_s: float | None = None
    """The wait in seconds that the response headers request."""
    planned_wait_s: float | None = None
    """The wait before the next attempt that the SDK decided on."""
    rate_limits: RateLimits | None = None
    """The rate limits in its response headers."""
    end_ns: int | None = None
    """Offset of its end: the headers of an error, an exception, or the end of the answer's body or stream."""
    wait_s: float | None = None
    """The actual time from its end to the start of the next attempt; None for the last."""


class Timing(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Times of a call. `start_ns` is Unix time; all others are monotonic offsets from it."""

    start_ns: int
    """Unix time in nanoseconds."""
    duration_ns: int | None = None
    """Start to end, all attempts, waits and the whole stream; None while it runs."""
    answer_ns: int | None = None
    """Offset of the start of the attempt that got the response, also an error; None when none did."""
    headers_ns: int | None = None
    """Offset at which the headers of the last response were received."""
    server_ns: int | None = None
    """Duration of the server's work on the last attempt, as it states it (`openai-processing-ms`)."""
    first_chunk_ns: int | None = None
    """Offset of the first chunk of a stream."""
    first_token_ns: int | None = None
    """Offset of the first chunk that carried content (text, reasoning, refusal, tool call)."""
    last_chunk_ns: int | None = None
    """Offset of the last chunk of a stream."""
    largest_gap_ns: int | None = None
    """Longest time between two chunks."""


class Request(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The request of a call."""

    model: str | None = None
    """The requested model, as sent."""
    stream: bool | None = None
    """Whether a stream was requested; None where that is unknown."""
    params: dict[str, object] = {}
    """Scalars and small settings as sent (temperature, max_tokens, ...); never messages or tools."""
    message_count: int | None = None
    """Number of messages or input items."""
    roles: list[str] | None = None
    """Roles of the messages in order, if the content setting keeps no body."""
    tool_names: list[str] | None = None
    """Names of the tools offered; None if the request has none."""
    compacted: bool = False
    """A compaction of the provider is among the messages: a summary of those before it."""
    continues: str | None = None
    """Id of the response before whose messages and answer the provider puts before those of this request:
    `previous_response_id` of the Responses API, `previous_message_id` of Anthropic's threads."""
    conversation_id: str | None = None
    """Id of the provider's conversation to which this call belongs (`conversation` of the Responses API)."""
    body_bytes: int | None = None
    """Size of the body as sent."""
    body: msgspec.Raw = NO_BODY
    """The exact JSON as sent, media by reference unless inlined."""


class Response(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The response, complete or the received part."""

    id: str | None = None
    """The provider's id of the response."""
    model: str | None = None
    """The model of the answer, as the provider names it."""
    created: int | None = None
    """When the provider created it, Unix seconds."""
    completed: int | None = None
    """Background responses only: when the provider was done, Unix seconds."""
    finish_reasons: list[str | None] = []
    """As the provider returns them, one per choice by index; None: the choice has none."""
    service_tier: str | None = None
    """The service tier that processed the request."""
    system_fingerprint: str | None = None
    """The provider's fingerprint of its backend configuration."""
    status: str | None = None
    """Responses API: queued, in_progress, completed, incomplete, failed, cancelled."""
    truncated: bool = False
    """The model stopped at a length limit."""
    refused: bool = False
    """The answer is a refusal, or a filter removed it."""
    compacted: bool = False
    """The provider compacted the conversation for this response, or left parts of it out, and says so."""
    unrecognized: bool = False
    """Nothing in the body belongs to the given API: content and usage are unknown, not empty."""
    body_bytes: int | None = None
    """Size of `body` in bytes."""
    body: msgspec.Raw = NO_BODY
    """The response as the endpoint returns it without streaming; a stream is folded into that form."""


class ErrorInfo(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The error of a call."""

    kind: str
    """The kind, the same for all SDKs: rate_limit, quota, timeout, connection, auth, permission, not_found, bad_input,
    context_length, content_filter, overloaded, server, parsing, cancelled, unknown."""
    type: str
    """`error.type` of the conventions: the provider's type or code, else the exception's class."""
    retryable: bool = False
    """Whether the same request may succeed later."""
    exception: str | None = None
    """Qualified class of the exception that the caller got; None if there was none."""
    message: str | None = None
    """The error's message."""
    code: str | None = None
    """The provider's error code."""
    param: str | None = None
    """The parameter of the request that the provider names."""
    status: int | None = None
    """HTTP status; None without a response."""
    request_id: str | None = None
    """The provider's id of the request."""
    frames: str | None = None
    """File, line and function of the last frames of the exception that left a session, timestep or operation."""
    body: object = None
    """The error body as received, truncated if large; None where the content setting keeps none."""


class ChunkNote(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Time and kind of one chunk. Its content is in the response."""

    offset_ns: int
    """Since the start of the call, monotonic."""
    event: str | None = None
    """Type of the event, as the provider names it; None if its events have no types (chat)."""
    choice: int | None = None
    """Index of its choice, output item or content block; None if it has none."""
    content: bool = False
    """Whether it carried text, reasoning, a refusal or a part of a tool call."""


class Stream(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The course of a stream."""

    end: StreamEnd
    """How the stream ended."""
    chunks: int = 0
    """Number of chunks received."""
    complete: bool = False
    """True if the provider's terminal event was received, however the stream ended."""
    last_event: str | None = None
    """Type of the last event, as the provider names it; None if its events have no types (chat)."""
    log: list[ChunkNote] = []
    """The first chunks in order; empty unless the setting `chunk_log` is set."""


class Place(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The session and timestep in which a call was made."""

    session_id: str | None = None
    """Id of the session; None: none."""
    session_name: str | None = None
    """Name of the session."""
    timestep_id: str | None = None
    """Id of the timestep; None: none."""
    timestep: int | None = None
    """Index of the timestep within its session, from 0."""


class SpanLink(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A link to another span."""

    trace_id: str
    """32 hex digits."""
    span_id: str
    """16 hex digits."""
    is_remote: bool = False
    """Whether its context came from another process."""


class Trace(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What few spans have: a record without it has a span whose parent, if any, is in the same process."""

    state: str | None = None
    """The `tracestate` of W3C; None: empty."""
    is_apart: bool = False
    """Whether its timestep's span is in another trace: else stores have the trace id of an event there alone."""
    is_parent_remote: bool = False
    """Whether the parent is a span of another process."""
    links: list[SpanLink] = []
    """The spans that it is linked to."""
    start_ns: int | None = None
    """When the span begins, Unix time in nanoseconds; None: with what it is the span of."""


class Redaction(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One value that was removed from a record, and by which processor."""

    what: str
    """A path such as `request.body` or `error.message`."""
    why: str
    """`secret`, `media`, `redactor`, `content`, `retention` or `size`; `redactor_failed`, `processor_failed` or
    `interrupted` where a processor could not finish and the content was withheld."""
    original_bytes: int | None = None
    """Size of the removed value in bytes."""
    sha256: str | None = None
    """Hex digest of the removed value, only for `content` and `retention`: equal values have equal digests."""


class CallRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="kind", tag="call"):
    """One call to a provider, with its retries and its complete stream.

    One function builds it for plain, streamed and failed calls. Absent fields are unknown. Immutable.

    Example:
        >>> with callspan.testing.capture() as seen:
        ...     _ = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        >>> (record,) = seen.records
        >>> record.text, record.outcome, record.usage.input_tokens
        ('Hello!', 'success', 9)
    """

    call_id: str
    """UUID version 7, also `llm.item_id` on the span; of a background response version 8, made of the provider and the
    response's id, so that every process has the same; of a line of a batch, of the batch's id and the line's; of a
    path without an adapter, of the answer's id."""
    schema_version: int = schema_field()
    """Version of the schema of records; readers reject other versions."""
    part: Part = always_written("ended")
    """`started`: its start; `requested`: the request of a call whose answer comes later; `ended`: its end, of such a
    call without its answer; `answered`: the answer of such a call. A later part replaces an earlier
    one, or is merged with it, see `callspan.record.merging`."""
    seen_in: SeenIn = "call"
    """`call`: the application's request; `fetch`: a request for a background response; `webhook`; `batch`: a line of a
    batch; `import`: a call whose times the application gives (`at=`)."""
    seen_ns: int | None = None
    """When this was read from the provider, or computed anew, Unix time: of two versions with the same part the later
    one counts. None: of the call's own request, a webhook or a batch."""
    first_seen_ns: int | None = None
    """When the call's end was first read, where that was before `seen_ns`."""
    provider: str = "unknown"
    """Provider name of the conventions (openai, anthropic, azure.ai.openai, aws.bedrock, ...)."""
    api: str = "unknown"
    """chat_completions, responses, completions, embeddings, decisions, messages, moderations, vector_store_search,
    images, image_edits, image_variations, transcriptions, translations or speech; the path of any other,
    without ids."""
    operation: str = always_written("chat")
    """chat, generate_content, text_completion, embeddings, decisions, moderation, retrieval or evaluation."""
    sdk: str | None = None
    """Name and version, such as `openai/3.51.0`."""
    server_address: str | None = None
    """Host of the base URL."""
    server_port: int | None = None
    """Port of the base URL."""
    trace_id: str | None = None
    """32 hex digits; None without a trace."""
    span_id: str | None = None
    """16 hex digits; None without a span."""
    parent_span_id: str | None = None
    """16 hex digits; None for the root of a trace."""
    sampled: bool | None = None
    """Whether the span was sampled; None without a span."""
    trace: Trace | None = None
    """What its span has of the trace beside these; None: nothing."""
    place: Place = Place()
    """The session and timestep in which it was made."""
    batch_id: str | None = None
    """The provider's id of the batch, or of the file with the results, that the call is a line of; else None."""
    custom_id: str | None = None
    """The application's id of that line."""
    service: str | None = None
    """Name of the service: that of the setting `service`, of OTEL_RESOURCE_ATTRIBUTES, or of the program."""
    host: str | None = None
    """Name of the host of the process."""
    pid: int | None = None
    """Id of the process."""
    request: Request = Request()
    """The request."""
    response: Response | None = None
    """The response; None if none was received."""
    usage: Usage | None = None
    """What the provider counted; None if it counted nothing."""
    cost: Cost | None = None
    """What the call cost; None where no price is known."""
    timing: Timing
    """The times."""
    attempts: list[Attempt] = []
    """Its HTTP requests, in order."""
    retries: int | None = None
    """Attempts of the SDK minus one; None when unknown."""
    rate_limits: RateLimits | None = None
    """The rate limits of the last response that had them."""
    rate_limited: bool | None = None
    """Whether any attempt got a 429; None when none was observed."""
    outcome: Outcome = always_written("success")
    """How it ended."""
    error: ErrorInfo | None = None
    """The error; None if there was none."""
    stream: Stream | None = None
    """The course of the stream; None for a plain call."""
    metadata: dict[str, object] = {}
    """Fields of `callspan.metadata(...)`, innermost value of each."""
    content_level: Content = "full"
    """The content setting that it was begun with, also for a later answer: `full`, `metadata` or `off`."""
    redactions: list[Redaction] = []
    """What was removed from the record, and why."""
    conversation: Conversation | None = None
    """Derived from the bodies by readers; absent in the spool."""

    @property
    def is_own(self) -> bool:
        """Whether it was read from a request of its own, or imported: it has a span of its own then."""
        return self.seen_in in _OWN

    @property
    def is_merged(self) -> bool:
        """Whether it is answered by another request than its own: several processes may write versions of it."""
        return not self.is_own or self.part == "answered" or self.outcome == "in_progress"

    @property
    def text(self) -> str | None:
        """Text of the first choice of the answer; None if there is none, or the record has no conversation."""
        return None if self._first is None else self._first.text

    @property
    def request_id(self) -> str | None:
        """The provider's id of the last attempt that has one."""
        return next((one.request_id for one in reversed(self.attempts) if one.request_id is not None), None)

    @property
    def user(self) -> str | None:
        """The end user: `user_id` of the metadata or session, else as sent to the provider."""
        return user_of(self.metadata, self.api, self.request.params)

    @property
    def finish_reason(self) -> str | None:
        """Why the model stopped, as the provider says it: of several choices the first that was cut by length."""
        known = [reason for reason in self.response.finish_reasons if reason is not None] if self.response else []
        if len(known) > 1:
            return next((reason for reason in known if normalised(reason) == LENGTH), known[0])
        return known[0] if known else None

    @property
    def is_cut_by_length(self) -> bool:
        """Whether an answer ended at the limit of tokens, though its outcome is success."""
        return (reason := self.finish_reason) is not None and normalised(reason) == LENGTH

    @property
    def is_cut_off(self) -> bool:
        """Whether its stream stopped without its end."""
        return self.stream is not None and self.stream.end == "cut_off"

    @property
    def tool_calls(self) -> list[ToolCall]:
        """Tool calls of the answer's first choice."""
        return [] if self._first is None else self._first.tool_calls

    @property
    def _first(self) -> Message | None:
        return self.conversation.output[0] if self.conversation is not None and self.conversation.output else None
