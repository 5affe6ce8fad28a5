"""The script of a provider: replies with the requests they match, and received requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

Json = Mapping[str, object]
_STREAMS = ("/invoke-with-response-stream", "/converse-stream", ":streamGenerateContent")
"""The last part of paths that ask for a stream."""
_STREAMS_UNLESS_FORBIDDEN = ("/api/chat", "/api/generate")
"""The last part of Ollama's paths, which stream unless the body says no."""


@dataclass(frozen=True)
class ReceivedRequest:
    """One received HTTP request.

    Example:
        >>> _ = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        >>> provider.requests[-1].path, provider.requests[-1].body["model"]
        ('/v1/chat/completions', 'm')
    """

    method: str
    path: str
    """The path without the query."""
    query: Mapping[str, str]
    """The query's fields; the last value of a repeated one."""
    headers: Mapping[str, str]
    """Names in lower case."""
    content: bytes
    """The body as received; empty if there was none."""
    json: object
    """The body as JSON; else None."""
    time_ns: int
    """The time of its receipt, on the monotonic clock (`time.monotonic_ns`)."""

    @property
    def body(self) -> Json:
        """The JSON body if it is an object, else an empty mapping."""
        return self.json if isinstance(self.json, Mapping) else {}

    @property
    def stream(self) -> bool:
        """Whether the client requested a stream: for Bedrock and Gemini by the path, for Ollama unless it said no."""
        requested = self.body.get("stream") in (True, "true") or self.query.get("stream") == "true"
        requested = requested or self.body.get("stream_format") == "sse"
        requested = requested or self.headers.get("accept") == "text/event-stream" or self.path.endswith("/stream")
        by_default = self.path.endswith(_STREAMS_UNLESS_FORBIDDEN) and self.body.get("stream") is not False
        return requested or by_default or self.path.endswith(_STREAMS)

    @property
    def is_upgrade(self) -> bool:
        """Whether it opens a websocket."""
        return self.method == "GET" and self.headers.get("upgrade", "").lower() == "websocket"

    @property
    def retry_count(self) -> int | None:
        """The SDK's `x-stainless-retry-count`: 0 for a first attempt, None if the header is absent."""
        count = self.headers.get("x-stainless-retry-count", "")
        return int(count) if count.isdecimal() else None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One choice of a reply.

    Example:
        >>> provider.reply(choices=[callspan.testing.Choice(text="Yes."), callspan.testing.Choice(text="No.")])
        >>> answer = client.chat.completions.create(model="m", n=2, messages=[{"role": "user", "content": "Hi"}])
        >>> [choice.message.content for choice in answer.choices]
        ['Yes.', 'No.']
    """

    text: str | None = None
    reasoning: str | None = None
    """`reasoning_content` in chat, a reasoning item in Responses, a thinking block in Messages."""
    refusal: str | None = None
    """A refusal; in Messages a text with the stop reason `refusal`."""
    tool_calls: Sequence[Json] = ()
    """Each `{"name": str, "arguments": str or any JSON, "id": str}`; the id is generated if absent."""
    finish_reason: str | None = None
    """In OpenAI's or Anthropic's words (`length` is `max_tokens`); by default it matches the content."""

    @property
    def reason(self) -> str:
        """The given finish reason, or the one for the content, in the words of chat completions."""
        return self.finish_reason or ("tool_calls" if self.tool_calls else "stop")


@dataclass(frozen=True, kw_only=True)
class Reply(Choice):
    """One answer of the scripted provider, for any API.

    Without content it is an empty answer. Delays are in seconds. Tokens are counted as in callspan's records:
    `input_tokens` includes tokens read from and written to the cache, `output_tokens` includes reasoning.

    Example:
        >>> provider.reply(callspan.testing.Reply(status=429, headers={"retry-after": "0"}))
        >>> provider.reply(callspan.testing.Reply(text="Second try.", usage={"input_tokens": 3}))
        >>> answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        >>> answer.choices[0].message.content
        'Second try.'
    """

    choices: Sequence[Choice | str] = ()
    """Several completions (n > 1); a string is a text. APIs with a single completion use the first."""
    model: str | None = None
    """The responding model, by default the requested one."""
    usage: Json | None = None
    """The usage object of the API; an empty one omits it. By default it is made from the counters below."""
    input_tokens: int = 12
    output_tokens: int = 7
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    embedding: Sequence[float] | None = None
    """The vector for each input of an embeddings request, by default a short one."""
    headers: Json = field(default_factory=dict)
    """Response headers in addition to the default ones; None removes a default one."""
    delay_s: float = 0.0
    """Wait before the response headers."""
    first_token_delay_s: float = 0.0
    """In a stream: wait before the first event with content."""
    chunk_delay_s: float = 0.0
    """In a stream: wait before each later event."""
    status: int = 200
    """HTTP status; from 400 the answer is an error."""
    error_type: str | None = None
    """The error's type, by default the provider's for the status."""
    error_code: str | None = None
    """OpenAI's error code, or `error_code` in the details of Anthropic's errors; by default that for the status.
    Bedrock's errors have only a type, which either states."""
    message: str = "The scripted provider answers with an error."
    retry_after_s: float | None = None
    """`retry-after` header. The SDKs ignore 0; use 0.001 for a retry without a wait."""
    cut_after: int | None = None
    """In a stream: close the connection after this number of events; negative counts from the end."""
    end_after: int | None = None
    """In a stream: end the body normally after this number of events; negative counts from the end."""
    error_after: int | None = None
    """In a stream: send an error event after this number of events, and end."""
    malformed: bool = False
    """Send invalid JSON: half of the body, or of the second event of a stream."""
    body_cut: bool = False
    """Close the connection in the middle of the body, or of an event."""
    gzip: bool = False
    """Send the body, or the events of a stream, compressed."""
    hang: bool = False
    """Never answer; wait until the client disconnects or the provider is closed."""
    json_where_sse_due: bool = False
    """Answer a streaming request with a plain JSON body."""
    polls: int = 1
    """For a background response: the number of polls that find it in progress."""
    audio: bytes | float | None = None
    """In a realtime session: the answer is spoken; its sound, or the seconds of silence in its place."""
    heard: str | None = None
    """In a realtime session: the transcript of the user's speech that this answers. It ends a turn of the user."""
    heard_s: float = 1.0
    """In a realtime session with turn detection: the turn ends when so much audio was received."""
    heard_usage: Json | None = None
    """In a realtime session: the usage object of the transcription."""
    interrupted: bool = False
    """In a realtime session: the user interrupts the answer after its text and audio."""
    raw: object = None
    """The answer itself: an object is the JSON body (split into events for a stream), a list of objects the events,
    bytes are sent unchanged. By default it is made from the other fields."""
    responder: Callable[[ReceivedRequest], Reply] | None = None
    """Makes the reply from the request. Its exceptions are sent as status 500 and raised on close."""

    def completions(self, count: int = 1) -> list[Choice]:
        """`choices`, or this reply `count` times."""
        if not self.choices:
            return [self] * count
        return [Choice(text=choice) if isinstance(choice, str) else choice for choice in self.choices]


class ReplyFields(TypedDict, total=False):
    """The fields of `Reply` as keywords."""

    text: str | None
    reasoning: str | None
    refusal: str | None
    tool_calls: Sequence[Json]
    finish_reason: str | None
    choices: Sequence[Choice | str]
    model: str | None
    usage: Json | None
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    embedding: Sequence[float] | None
    headers: Json
    delay_s: float
    first_token_delay_s: float
    chunk_delay_s: float
    status: int
    error_type: str | None
    error_code: str | None
    message: str
    retry_after_s: float | None
    cut_after: int | None
    end_after: int | None
    error_after: int | None
    malformed: bool
    body_cut: bool
    gzip: bool
    hang: bool
    json_where_sse_due: bool
    polls: int
    audio: bytes | float | None
    heard: str | None
    heard_s: float
    heard_usage: Json | None
    interrupted: bool
    raw: object
    responder: Callable[[ReceivedRequest], Reply] | None


Match = str | Callable[[ReceivedRequest], bool]
"""Selects requests: the end of their path, or a predicate."""

DEFAULT_REPLY = Reply(text="Hello from the scripted provider.")
"""The reply if nothing is scripted."""


@dataclass(frozen=True, eq=False)
class Line:
    """One line of a script, compared by identity, because a reply may be scripted twice."""

    reply: Reply
    on: Match | None
    repeat: bool

    def fits(self, request: ReceivedRequest, *, inference: bool) -> bool:
        """Whether it answers this request; without `on` it only answers inference."""
        if self.on is None:
            return inference
        if isinstance(self.on, str):
            # A path matches requests, but not the opening of a websocket.
            return request.path.endswith(self.on) and not request.is_upgrade
        return self.on(request)


def resolved(reply: Reply, request: ReceivedRequest) -> Reply:
    """The reply, or the one that its responder makes."""
    while reply.responder is not None:
        reply = reply.responder(request)
    return reply


class Script:
    """Replies in order. Thread-safe."""

    def __init__(self) -> None:
        self._lines: list[Line] = []
        self._lock = threading.RLock()

    def add(self, line: Line) -> None:
        """Append a line."""
        with self._lock:
            self._lines.append(line)

    def reply_to(self, request: ReceivedRequest, *, inference: bool) -> Reply:
        """Return the result of `take`, else the default reply; responders are called."""
        return resolved(self.take(request, inference=inference) or DEFAULT_REPLY, request)

    def take(
        self, request: ReceivedRequest, *, inference: bool, is_due: Callable[[Reply], bool] = lambda _: True
    ) -> Reply | None:
        """Remove and return the first matching single reply, else return the newest matching repeated one, or None.

        None too if that reply is not due.
        """
        with self._lock:
            singles = [line for line in self._lines if not line.repeat]
            repeating = [line for line in reversed(self._lines) if line.repeat]
            for line in singles + repeating:
                if line.fits(request, inference=inference):
                    if not is_due(line.reply):
                        return None
                    if not line.repeat:
                        self._lines.remove(line)
                    return line.reply
            return None

    def pending(self) -> int:
        """The number of single replies left."""
        with self._lock:
            return sum(not line.repeat for line in self._lines)
