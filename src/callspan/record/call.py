"""CallRecord: one call in one form for all providers and all ends, with its finish reasons."""

from __future__ import annotations

from functools import lru_cache
from itertools import repeat
from typing import Final, Literal, TypeAlias, TypeVar

import msgspec

from callspan.record.labels import user_of
from callspan.record.messages import Conversation, Message, ToolCall
from callspan.record.usage import Cost, Usage

_T = TypeVar("_T")


STOP: Final = "stop"
LENGTH: Final = "length"
TOOL_CALLS: Final = "tool_calls"
CONTENT_FILTER: Final = "content_filter"

_WORDS: Final[dict[str, str]] = {
    "stop": STOP,
    "completed": STOP,
    "complete": STOP,
    "end": STOP,
    "end_turn": STOP,
    "stop_sequence": STOP,
    "eos": STOP,
    "eos_token": STOP,
    "end_of_turn": STOP,
    "finish_reason_stop": STOP,
    "length": LENGTH,
    "max_tokens": LENGTH,
    "max_output_tokens": LENGTH,
    "max_completion_tokens": LENGTH,
    "max_length": LENGTH,
    "model_length": LENGTH,
    "model_context_window_exceeded": LENGTH,
    "tool_calls": TOOL_CALLS,
    "tool_call": TOOL_CALLS,
    "tool_use": TOOL_CALLS,
    "function_call": TOOL_CALLS,
    "content_filter": CONTENT_FILTER,
    "content_filtered": CONTENT_FILTER,
    "refusal": CONTENT_FILTER,
    "safety": CONTENT_FILTER,
    "recitation": CONTENT_FILTER,
    "guardrail_intervened": CONTENT_FILTER,
}


@lru_cache(maxsize=64)
def normalised(reason: str) -> str:
    """Return `stop`, `length`, `tool_calls` or `content_filter` for known finish reasons.

    Case-insensitive. Other values are returned unchanged.
    """
    return _WORDS.get(reason) or _WORDS.get(reason.lower(), reason)


SCHEMA_VERSION: Final = 1
"""Schema version of all records; readers reject other versions."""


def always_written(default: _T) -> _T:
    """Return a field of a record that JSON has even where it holds its default."""
    # A default that comes from a function is not left out; this one takes no frame of Python.
    field: _T = msgspec.field(default_factory=repeat(default).__next__)
    return field


def schema_field() -> int:
    """Return the field that states the schema version in every record."""
    return always_written(SCHEMA_VERSION)


NO_BODY: Final = msgspec.Raw(b"")
"""Stands for "no body kept". Compare by identity or truth of `bytes(...)`; never put another empty Raw."""

Outcome: TypeAlias = Literal["started", "in_progress", "success", "error", "timeout", "cancelled"]
"""How a call ended. `started` is written for streams only; readers show a dead one as `interrupted`. `in_progress`: the
provider still works on a background response; a later record of the same call says how that ended."""

StreamEnd: TypeAlias = Literal["complete", "cut_off", "closed", "dropped", "error", "cancelled"]
"""How a stream ended: normally, without its terminal event, by a close, by garbage collection, by an error, or by
cancellation. `cut_off`: the body ended normally, but the provider had not signalled the end of the response."""


class RateLimit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One rate limit, from the response headers."""

    limit: int | None = None
    remaining: int | None = None
    reset_s: float | None = None
    """Seconds until it is full again, counted from the response."""


class RateLimits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The rate limits of the last response that had them."""

    requests: RateLimit | None = None
    tokens: RateLimit | None = None
    input_tokens: RateLimit | None = None
    output_tokens: RateLimit | None = None


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One HTTP request within a call. Offsets count from the start of the call, monotonic."""

    number: int
    """1 for the first."""
    start_ns: int
    headers_ns: int | None = None
    """Offset at which the response headers were received; None without a response."""
    status: int | None = None
    error_kind: str | None = None
    error_type: str | None = None
    request_id: str | None = None
    retry_after_s: float | None = None
    planned_wait_s: float | None = None
    """The wait before the next attempt that the SDK decided on."""
    rate_limits: RateLimits | None = None
    end_ns: int | None = None
    """Offset of its end: the headers of an error, an exception, or the end of the answer's body or stream."""
    wait_s: float | None = None
    """The actual time from its end to the start of the next attempt; None for the last."""
    model: str | None = None
    """The answering model. This and the following only where a middleware sent on after an answer."""
    outcome: Literal["success", "refused"] | None = None
    """`refused`: its answer was a refusal."""
    usage: Usage | None = None
    """Its own part of the call's usage."""
    cost: Cost | None = None
    """Its own part of the call's cost."""


class Timing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Times of a call. `start_ns` is Unix time; all others are monotonic offsets from it."""

    start_ns: int
    duration_ns: int | None = None
    """Start to end, all attempts, waits and the whole stream; None while it runs."""
    answer_ns: int | None = None
    """Offset of the start of the attempt that got the response, also an error; None when none did."""
    headers_ns: int | None = None
    server_ns: int | None = None
    """Duration of the server's work on the last attempt, as it states it (`openai-processing-ms`)."""
    first_chunk_ns: int | None = None
    first_token_ns: int | None = None
    """Offset of the first chunk that carried content (text, reasoning, refusal, tool call)."""
    last_chunk_ns: int | None = None
    largest_gap_ns: int | None = None


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The request of a call."""

    model: str | None = None
    stream: bool | None = None
    """Whether a stream was requested; None where that is unknown."""
    params: dict[str, object] = {}
    """Scalars and small settings as sent (temperature, max_tokens, ...); never messages or tools."""
    message_count: int | None = None
    roles: list[str] | None = None
    """Roles of the messages in order, if the content setting keeps no body."""
    tool_names: list[str] | None = None
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


class Response(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The response, complete or the received part."""

    id: str | None = None
    model: str | None = None
    created: int | None = None
    completed: int | None = None
    """Background responses only: when the provider was done, Unix seconds."""
    finish_reasons: list[str | None] = []
    """As the provider returns them, one per choice by index; None: the choice has none."""
    service_tier: str | None = None
    system_fingerprint: str | None = None
    status: str | None = None
    """Responses API, and turns of hosted agents: queued, in_progress, waiting, completed, incomplete, failed,
    cancelled."""
    truncated: bool = False
    """The model stopped at a length limit."""
    refused: bool = False
    """The answer is a refusal, or a filter removed it."""
    compacted: bool = False
    """The provider compacted the conversation for this response, or left parts of it out, and says so."""
    unrecognized: bool = False
    """Nothing in the body belongs to the given API: content and usage are unknown, not empty."""
    body_bytes: int | None = None
    body: msgspec.Raw = NO_BODY
    """The response as the endpoint returns it without streaming; a stream is folded into that form."""


class ErrorInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The error of a call."""

    kind: str
    """The kind, the same for all SDKs: rate_limit, quota, timeout, connection, auth, permission, not_found, bad_input,
    context_length, content_filter, overloaded, server, parsing, cancelled, unknown."""
    type: str
    """`error.type` of the conventions: the provider's type or code, else the exception's class."""
    retryable: bool = False
    exception: str | None = None
    """Qualified class of the exception that the caller got; None if there was none."""
    message: str | None = None
    code: str | None = None
    param: str | None = None
    status: int | None = None
    request_id: str | None = None
    body: object = None


class ChunkNote(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Time and kind of one chunk. Its content is in the response."""

    offset_ns: int
    """Since the start of the call, monotonic."""
    event: str | None = None
    """Type of the event, as the provider names it; None if its events have no types (chat)."""
    choice: int | None = None
    """Index of its choice, output item or content block; None if it has none."""
    content: bool = False
    """Whether it carried text, reasoning, a refusal or a part of a tool call."""


class Stream(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The course of a stream."""

    end: StreamEnd
    chunks: int = 0
    complete: bool = False
    """True if the provider's terminal event was received, however the stream ended."""
    last_event: str | None = None
    """Type of the last event, as the provider names it; None if its events have no types (chat)."""
    log: list[ChunkNote] = []
    """The first chunks in order; empty unless the setting `chunk_log` is set."""


class Place(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The session and timestep in which a call was made."""

    session_id: str | None = None
    session_name: str | None = None
    timestep_id: str | None = None
    timestep: int | None = None
    """Index of the timestep within its session, from 0."""
    parent_call_id: str | None = None


class Redaction(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One value that was removed from a record, and by which processor."""

    what: str
    """A path such as `request.body` or `error.message`."""
    why: str
    """`secret`, `media`, `redactor`, `content` or `size`; `redactor_failed`, `processor_failed` or `interrupted` where
    a processor could not finish and the content was withheld."""
    original_bytes: int | None = None
    sha256: str | None = None
    """Hex digest of the removed value, only for `content`: equal values have equal digests."""


class CallRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="call"):
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
    response's id, so that every process has the same; of a line of a batch, of the batch's id and the line's; of what a
    hosted agent did, of the id of the event or turn."""
    schema_version: int = schema_field()
    record_version: int = always_written(2)
    """1: the call has started; 2: it has ended; higher: amended later. A lower one never replaces a higher. Versions
    of a background response, of a line of a batch, or of what a hosted agent did are merged, see
    `callspan.record.merging`."""
    provider: str = "unknown"
    """Provider name of the conventions (openai, anthropic, azure.ai.openai, aws.bedrock, ...)."""
    api: str = "unknown"
    """chat_completions, responses, completions, embeddings, decisions, messages, moderations, vector_store_search,
    graders, images, image_edits, image_variations, transcriptions, translations or speech; of agents that run at the
    provider sessions (anthropic) or agent_sessions (openai)."""
    operation: str = always_written("chat")
    """chat, generate_content, text_completion, embeddings, decisions, moderation, retrieval or evaluation; invoke_agent
    is a turn of an agent that runs at the provider, of several model calls."""
    sdk: str | None = None
    """Name and version, such as `openai/3.51.0`."""
    server_address: str | None = None
    server_port: int | None = None
    trace_id: str | None = None
    """32 hex digits; None without a trace."""
    span_id: str | None = None
    parent_span_id: str | None = None
    sampled: bool | None = None
    place: Place = Place()
    batch_id: str | None = None
    """The provider's id of the batch that the call is a line of; None for any other call."""
    custom_id: str | None = None
    """The application's id of that line."""
    service: str | None = None
    host: str | None = None
    pid: int | None = None
    request: Request = Request()
    response: Response | None = None
    usage: Usage | None = None
    cost: Cost | None = None
    timing: Timing
    attempts: list[Attempt] = []
    retries: int | None = None
    """Attempts of the SDK minus one; None when unknown."""
    rate_limits: RateLimits | None = None
    rate_limited: bool | None = None
    """Whether any attempt got a 429; None when none was observed."""
    outcome: Outcome = always_written("success")
    error: ErrorInfo | None = None
    stream: Stream | None = None
    metadata: dict[str, object] = {}
    """Fields of `callspan.metadata(...)`, innermost value of each."""
    redactions: list[Redaction] = []
    conversation: Conversation | None = None
    """Derived from the bodies by readers; absent in the spool."""

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
    def tool_calls(self) -> list[ToolCall]:
        """Tool calls of the answer's first choice."""
        return [] if self._first is None else self._first.tool_calls

    @property
    def _first(self) -> Message | None:
        return self.conversation.output[0] if self.conversation is not None and self.conversation.output else None
