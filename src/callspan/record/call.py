"""CallRecord: one call, in the same form for every provider and every ending."""

from __future__ import annotations

from itertools import repeat
from operator import attrgetter
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar, get_args

import msgspec

from callspan.record.finish_reasons import APPROVAL, LENGTH, is_filtered, normalised
from callspan.record.formats import FORMAT
from callspan.record.labels import user_of
from callspan.record.messages import Conversation, Message, ToolCall, short_texts
from callspan.record.usage import Cost, Usage
from callspan.record.vocabulary import WIRE, CachedBy, ErrorKind, ErrorType, HostedTool, MetadataField, own_words
from callspan.runtime.forks import late_attribute
from callspan.settings import Content

_T = TypeVar("_T")
NO_BODY: Final = msgspec.Raw(b"")
"""The value of a body that was not kept. Compare by identity; never use another empty Raw."""
Stage: TypeAlias = Literal["started", "requested", "ended", "answered"]
"""The stage of a call when a version of its record was written, see `callspan.record.merging`."""
STAGES: Final[tuple[Stage, ...]] = get_args(Stage)
SeenIn: TypeAlias = Literal["call", "fetch", "webhook", "batch", "import"]
"""The source of a version of a call's record."""
_SINGLE_VERSION: Final = frozenset({"call", "import"})
JoinedBy: TypeAlias = Literal["seal", "kept", "tool", "history", "mention"]
"""How a call of a run is known to continue another one, from the strongest to the weakest."""
Outcome: TypeAlias = Literal["in_progress", "success", "error", "timeout", "cancelled", "interrupted", "unknown"]
"""How a call ended. `in_progress`: it has not, or the provider still works on a background response; a later version of
the record has its outcome. `interrupted`: so readers show it once its process is gone; `unknown`: once they
cannot know that, and it has shown no sign of life for an hour."""
Unanswered: TypeAlias = Literal["refused", "filtered", "not kept", "empty"]
"""Why an answer has no words of the model's: the model refused, a filter removed them, the content level keeps none, or
it has none."""
FAILED: Final = frozenset({"error", "timeout"})
"""The outcomes of failed calls; cancelled and running calls have not failed."""
FinishWord: TypeAlias = Literal["tool_calls", "length"]
StreamEnd: TypeAlias = Literal["complete", "cut_off", "closed", "error", "cancelled"]
"""How a stream ended: normally, cut off, closed early by the application, by an error, or by cancellation.

`cut_off`: the body ended without the provider's terminal event.
"""


def always_written(default: _T) -> _T:
    """Return a field that is encoded even if it holds its default."""
    # `omit_defaults` does not apply to a default factory; this one runs no Python code.
    field: _T = msgspec.field(default_factory=repeat(default).__next__)
    return field


def schema_field() -> int:
    """Return the field `schema_version` of every type of record."""
    return always_written(FORMAT)


class RateLimit(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One rate limit, from the response headers."""

    limit: int | None = None
    remaining: int | None = None
    reset_s: float | None = None
    """Seconds from the response until the quota is restored."""


class RateLimits(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The rate limits of the last response that had them."""

    requests: RateLimit | None = None
    tokens: RateLimit | None = None
    input_tokens: RateLimit | None = None
    output_tokens: RateLimit | None = None


class Attempt(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One HTTP request within a call. Offsets count from the start of the call, monotonic."""

    number: int
    start_ns: int
    headers_ns: int | None = None
    status: int | None = None
    error_kind: Annotated[str, own_words(ErrorKind)] | None = None
    error_type: str | None = None
    request_id: str | None = None
    retry_after_s: float | None = None
    """Wait requested by the response headers."""
    rate_limits: RateLimits | None = None
    end_ns: int | None = None
    """The end of the response body or stream, an error response, or an exception."""
    wait_s: float | None = None
    """Actual wait before the next attempt."""
    cost: Cost | None = None
    """What the provider stated for it, if another attempt followed. The cost of the call includes it."""
    may_be_billed: bool = False
    """Whether the provider may have billed it though it has stated no usage: it was sent and no response came, or its
    body ended before the usage that was to come."""


_MAY_BE_BILLED: Final = attrgetter("may_be_billed")


class Timing(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Times of a call. `start_ns` is Unix time; all others are monotonic offsets from it."""

    start_ns: int
    duration_ns: int | None = None
    """With all attempts, waits and the whole stream; None while the call runs."""
    answer_ns: int | None = None
    """Start of the attempt that received the last response, errors included."""
    headers_ns: int | None = None
    server_ns: int | None = None
    """Processing time of the last attempt as stated by the server (`openai-processing-ms`)."""
    first_chunk_ns: int | None = None
    first_token_ns: int | None = None
    """First content: text, reasoning, refusal or tool call."""
    last_chunk_ns: int | None = None
    largest_gap_ns: int | None = None


class IdHashes(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Hashes, of 52 bits, of ids in messages that a record does not have. By them the call can be joined to a run."""

    tools: list[int] = []
    """Of ids of tool calls, the last first."""
    seals: list[int] = []
    """Of signatures and encrypted reasoning, the last first."""
    containers: list[int] = []
    """Of the container in which the provider runs code."""


class Request(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The request of a call."""

    model: str | None = None
    stream: bool | None = None
    params: Annotated[dict[str, object], WIRE] = {}
    """Parameters as sent, without messages and tools."""
    message_count: int | None = None
    roles: list[str] | None = None
    """Roles of the messages in order, at the content level `metadata`."""
    tool_names: list[str] | None = None
    hosted_tools: list[HostedTool] | None = None
    """Types of its tools that the provider may run, without their dates, such as `web_search`; None without such
    tools."""
    cache_ttl: str | None = None
    """How long the prompt cache is asked to keep a part of it, such as `1h`, if the answer does not say how long its
    tokens are kept."""
    compacted: bool = False
    """Whether the messages contain the provider's summary of earlier messages."""
    continues: str | None = None
    """Id of the response that this request continues."""
    conversation_id: str | None = None
    returned: IdHashes | None = None
    """Below the content level `full`, outside of sessions: of the tool calls whose results it has last, or of its last
    seals, and of its container."""
    body_bytes: int | None = None
    body: msgspec.Raw = NO_BODY


class Response(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The response, or the received part of it."""

    id: str | None = None
    model: str | None = None
    created: int | None = None
    """Unix seconds."""
    completed: int | None = None
    """Unix seconds."""
    finish_reasons: list[str | None] = []
    """The provider's own, one for each choice."""
    finish: list[FinishWord | None] = []
    """Why each choice ended, if the provider's own word hides it: `tool_calls` of an answer that Gemini, Ollama or
    Cohere's first version has stopped, `length` of an interaction that is incomplete. Empty: their own words say it."""
    service_tier: str | None = None
    system_fingerprint: str | None = None
    status: str | None = None
    """Responses API: queued, in_progress, completed, incomplete, failed, cancelled."""
    truncated: bool = False
    """Whether the model stopped at a length limit."""
    refused: bool = False
    """Whether the model refused, or a filter removed the answer."""
    compacted: bool = False
    """Whether the provider shortened the conversation for this response."""
    cached: Annotated[str, own_words(CachedBy)] | None = None
    """The cache that served this answer, which nobody bought: the name of a gateway (`helicone`, `litellm`); `http`;
    `client`: one in the application, which says so; `repeated`: the answer equals an earlier one. Counters and cost are
    absent."""
    prompt_cache_miss: str | None = None
    """Why the prompt cache did not cover the compared request, in the provider's word, such as `system_changed`: the
    type of Messages' `diagnostics.cache_miss_reason`, the reason of `prompt_cache_diagnostics` in Responses."""
    prompt_cache_missed_tokens: int | None = None
    """Input tokens that the cache would otherwise have covered, by the provider's estimate."""
    prompt_cache_reusable_tokens: int | None = None
    """Tokens of the reusable prefix of the compared response; only Responses states them."""
    unrecognized: bool = False
    """Whether the body has none of the API's fields: content and usage are unknown."""
    unread: bool = False
    """Whether the application passed the answer on as raw bytes, which callspan does not read: content and usage are
    unknown."""
    unknown_finish: bool = False
    """Whether a finish reason is not in callspan's table, so that it may state an answer or a failure."""
    tools_unlisted: bool = False
    """Whether the provider could not list the tools of an MCP server, which the model then did not have."""
    issued: IdHashes | None = None
    """Below the content level `full`, outside of sessions: of its tool calls, seals and container."""
    body_bytes: int | None = None
    body: msgspec.Raw = NO_BODY

    @property
    def endings(self) -> list[str | None]:
        """Why each choice ended: `finish`, else the provider's own word."""
        if not self.finish:
            return self.finish_reasons
        return [word or own_word for word, own_word in zip(self.finish, self.finish_reasons, strict=False)]


class ErrorInfo(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The error of a call."""

    kind: Annotated[str, own_words(ErrorKind)]
    """The same for all SDKs: rate_limit, quota, timeout, connection, auth, permission, not_found, bad_input,
    context_length, content_filter, overloaded, server, parsing, cancelled, unknown."""
    type: Annotated[str, own_words(ErrorType)]
    """The provider's type or code, else the exception's class."""
    retryable: bool | None = False
    exception: str | None = None
    """Qualified class of the exception raised to the caller, if any."""
    message: str | None = None
    code: str | None = None
    param: str | None = None
    status: int | None = None
    request_id: str | None = None
    frames: str | None = None
    """Innermost frames (file, line, function) of an exception raised in a session, timestep or operation."""
    body: Annotated[object, WIRE] = None
    """The error body as received, or only its size if it is large; content."""


class ChunkNote(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Time and kind of one chunk, without its content."""

    offset_ns: int
    event: str | None = None
    """The provider's event type; chat has none."""
    choice: int | None = None
    """Index of its choice, output item or content block."""
    content: bool = False
    """Whether it carried text, reasoning, a refusal or part of a tool call."""


class Stream(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The end of a stream, and its chunks."""

    end: StreamEnd
    chunks: int = 0
    complete: bool = False
    """Whether the provider's terminal event was received, however the stream ended."""
    last_event: str | None = None
    """The provider's type of the last event; chat has none."""
    log: list[ChunkNote] = []


class Place(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The session and timestep that a call was made in."""

    session_id: str | None = None
    session_name: str | None = None
    timestep_id: str | None = None
    timestep: int | None = None
    inferred: bool = False
    """Whether the session is a run: the store found it by what the call continues. The call itself names none."""
    previous_call_id: str | None = None
    """The call of the run whose answer this call continues; None if it begins the run, or if that call was deleted."""
    joined_by: JoinedBy | None = None
    """How that is known: `seal` (a signature that came back unchanged), `kept` (a response or conversation that the
    provider keeps), `tool` (the id of a tool call), `history` (all earlier messages), `mention` (an id in a text)."""


class SpanLink(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A link to another span."""

    trace_id: str
    span_id: str
    is_remote: bool = False


class Trace(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Rare properties of a span. A record without it has a span with a local parent, or none, and no links."""

    state: str | None = None
    """The W3C `tracestate`, if not empty."""
    is_apart: bool = False
    """Whether the span is in another trace than its timestep's span."""
    is_parent_remote: bool = False
    links: list[SpanLink] = []
    scope_span_id: str | None = None
    """The span of the nearest scope, if it is not the parent: spans of the application, or a call, are in between."""


class Redaction(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One value that was removed from a record."""

    what: str
    """A path such as `request.body` or `error.message`."""
    why: str
    """`secret`, `media`, `redactor`, `content`, `retention` or `size`; `not_received` for what a program did not send;
    `redactor_failed`, `processor_failed` or `interrupted` if a processor could not finish and content was withheld."""
    original_bytes: int | None = None
    sha256: str | None = None
    """Hex digest of the removed value, for `content` and `retention` only."""


class CallRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="kind", tag="call"):
    """One call to a provider, with its retries and its whole stream. Immutable.

    Example:
        >>> with callspan.testing.capture() as seen:
        ...     _ = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        >>> (record,) = seen.records
        >>> record.text, record.outcome, record.usage.input_tokens
        ('Hello!', 'success', 9)
    """

    call_id: str
    """A UUID, also `llm.item_id` on the span."""
    schema_version: int = schema_field()
    """Version of the schema of records; readers reject other versions."""
    part: Stage = always_written("ended")
    """The stage of this version: `started` or `ended`. If the answer comes later: `requested`, `ended` (without the
    answer), `answered`. A call that was open as its process ended: `requested`. A later part replaces an earlier one
    or is merged with it."""
    seen_in: SeenIn = "call"
    """The source of this version: the application's request (`call`), a request for a background response (`fetch`), a
    `webhook`, a `batch` line, or `record_call` with `at=` (`import`)."""
    seen_ns: int | None = None
    """When this version was read from the provider; of versions with the same part the latest wins. One that was
    recomputed is a nanosecond later."""
    provider: str = "unknown"
    """The provider's name in the semantic conventions, such as `azure.ai.openai`."""
    api: str = "unknown"
    """The [format](records.md#calls-without-an-sdk) of its bodies, `realtime`, `live`, `realtime_translations` or
    `bidi_generate_content`; for any other endpoint its path without ids."""
    operation: str = always_written("chat")
    """The attribute `gen_ai.operation.name`."""
    sdk: str | None = None
    """Name and version of the SDK, such as `openai/3.51.0`."""
    server_address: str | None = None
    server_port: int | None = None
    trace_id: str | None = None
    span_id: str | None = None
    """Of its own span, if it has one; without a trace an id of callspan's own."""
    parent_span_id: str | None = None
    sampled: bool | None = None
    trace: Trace | None = None
    place: Place = Place()
    batch_id: str | None = None
    """The provider's id of the batch, or of its file of results."""
    custom_id: str | None = None
    service: str | None = None
    host: str | None = None
    pid: int | None = None
    process: str | None = None
    """Boot, pid namespace, pid and start time of its process, as stated by the kernel; then a digest of the machine."""
    request: Request = Request()
    response: Response | None = None
    usage: Usage | None = None
    cost: Cost | None = None
    timing: Timing
    attempts: list[Attempt] = []
    retries: int | None = None
    """Attempts of the SDK minus one."""
    rate_limits: RateLimits | None = None
    rate_limited: bool | None = None
    """Whether any attempt was answered with 429."""
    outcome: Outcome = always_written("success")
    error: ErrorInfo | None = None
    stream: Stream | None = None
    metadata: dict[MetadataField, object] = {}
    content_level: Content = "full"
    """The content level in force when the call began."""
    redactions: list[Redaction] = []
    conversation: Conversation | None = None
    """The messages of both bodies; where a record lacks them, they are derived from the bodies on access."""

    @property
    def is_own(self) -> bool:
        """Whether this version was written by the call's own request, or imported, and so has a span."""
        return self.seen_in in _SINGLE_VERSION

    @property
    def is_bought(self) -> bool:
        """Whether its tokens and cost count: no cache served the answer. Sums in SQL have the same condition."""
        return self.response is None or self.response.cached is None

    @property
    def is_merged(self) -> bool:
        """Whether another request reads the answer, so that several processes may write versions of the record."""
        is_of_provider = self.outcome == "in_progress" and not self.is_first_version
        return not self.is_own or self.part == "answered" or is_of_provider

    @property
    def is_answer_alone(self) -> bool:
        """Whether it is only the answer, fetched by another request, and lacks the call's own request."""
        return self.seen_in == "fetch" and not self.request.params

    @property
    def is_first_version(self) -> bool:
        """Whether it says only that the call has begun: it ends with its process, unlike a background response."""
        return self.part == "started" and self.response is None

    @property
    def model(self) -> str | None:
        """The model a call is grouped under: the requested one, else the one in the response."""
        return self.request.model or (self.response.model if self.response else None)

    @property
    def text(self) -> str | None:
        """Text of the first choice of the answer; None without a text or without a conversation in the record."""
        first = self._answer_message
        return None if first is None else first.text

    @property
    def request_id(self) -> str | None:
        """The provider's id of the last attempt that has one."""
        return next((attempt.request_id for attempt in reversed(self.attempts) if attempt.request_id is not None), None)

    @property
    def http_status(self) -> int | None:
        """The HTTP status of the error, else of the last attempt; None without a response."""
        if self.error is not None and self.error.status is not None:
            return self.error.status
        return self.attempts[-1].status if self.attempts else None

    @property
    def may_be_billed(self) -> int:
        """The number of attempts that the provider may have billed though it has stated no usage for them."""
        return sum(map(_MAY_BE_BILLED, self.attempts))

    @property
    def is_free(self) -> bool:
        """Whether it is known to have cost nothing: a cache answered, or it ended before an answer began.

        One that was cancelled must have sent no request. Sums in SQL have the same condition.
        """
        if self.may_be_billed:
            return False
        usage, is_unsent = self.usage, self.retries is not None and self.http_status is None
        has_begun = self.timing.first_token_ns is not None or (
            usage is not None and (usage.input_tokens, usage.output_tokens) != (None, None)
        )
        has_failed = self.outcome in FAILED or (self.outcome == "cancelled" and is_unsent)
        return not self.is_bought or (has_failed and not has_begun)

    @property
    def user_id(self) -> str | None:
        """The end user: `user_id` of the metadata, else the user sent to the provider."""
        return user_of(self.metadata, self.api, self.request.params)

    @property
    def finish_reason(self) -> str | None:
        """Why the answer ended: `response.finish`, else the provider's word; a choice cut by length decides."""
        answer = self.response
        reasons = [] if answer is None else answer.endings if answer.finish else answer.finish_reasons
        if len(reasons) > 1:
            reasons = [reason for reason in reasons if reason is not None]
            return next((reason for reason in reasons if normalised(reason) == LENGTH), next(iter(reasons), None))
        return reasons[0] if reasons else None

    @property
    def is_cut_by_length(self) -> bool:
        """Whether an answer ended at a token limit."""
        return (reason := self.finish_reason) is not None and normalised(reason) == LENGTH

    @property
    def unanswered(self) -> Unanswered | None:
        """Why its answer has no words of the model's; None if it has some, has not ended, or that is unknown."""
        if self.response is None or self.is_first_version:
            return None
        if self.response.refused:
            return "filtered" if is_filtered(self.finish_reason) else "refused"
        if self.content_level != "full":
            return "not kept"
        is_read = self.conversation is not None and self.outcome == "success" and self.finish_reason is not None
        return "empty" if is_read and not any(self.answer_texts or ()) else None

    @property
    def is_cut(self) -> bool:
        """Whether its answer lacks an end: it reached a token limit, or its stream has no terminal event."""
        return self.is_cut_by_length or self.is_cut_off

    @property
    def waits_for_approval(self) -> bool:
        """Whether the application must allow a tool before the provider runs it."""
        return self.finish_reason == APPROVAL

    @property
    def is_cut_off(self) -> bool:
        """Whether its stream ended without the provider's terminal event."""
        return self.stream is not None and self.stream.end == "cut_off"

    @property
    def answer_texts(self) -> list[str] | None:
        """The answer's parts as short texts, tool calls as `name(arguments)`, without reasoning; None without any."""
        conversation = self.conversation
        if conversation is None or not conversation.output:
            return None
        return [piece for message in conversation.output for piece in short_texts(message)]

    @property
    def tool_calls(self) -> list[ToolCall] | None:
        """Tool calls of the answer's first choice; None if there is no answer, or the record has no conversation."""
        first = self._answer_message
        return None if first is None else first.tool_calls

    @property
    def _answer_message(self) -> Message | None:
        conversation = self.conversation
        return conversation.output[0] if conversation is not None and conversation.output else None


def removed_from(record: CallRecord) -> set[str]:
    """Return the paths of the values that were removed from a record."""
    return {redaction.what for redaction in record.redactions}


_KEPT: Final[Any] = CallRecord.__dict__["conversation"]
"""The field itself."""
_NO_BODIES: Final = (NO_BODY, NO_BODY, "", None)
_last_derived: tuple[msgspec.Raw, msgspec.Raw, str, Conversation | None] = _NO_BODIES
"""A request body, response body and API, and the conversation last derived from them."""


def _conversation(record: CallRecord) -> Conversation | None:
    """Return the messages of a call as they were read with it, else derived from its bodies; None if it has neither.

    They are derived on access and never stored in the record, so that they always agree with its bodies.
    """
    conversation: Conversation | None = _KEPT.__get__(record)
    if conversation is not None or (record.request.body is NO_BODY and record.response is None):
        return conversation
    global _last_derived  # noqa: PLW0603 - the text, the tool calls and the messages of a record are read one by one
    request, response = record.request.body, NO_BODY if record.response is None else record.response.body
    last = _last_derived
    if request is last[0] and response is last[1] and record.api == last[2]:
        return last[3]
    derived: Conversation | None = late_attribute("callspan.providers.registry:conversation_of")(record)
    if type(request) is type(response) is msgspec.Raw:  # anything else may be changed in place
        _last_derived = (request, response, record.api, derived)
    return derived


setattr(CallRecord, "conversation", property(_conversation))  # noqa: B010 - a field cannot also be a property
