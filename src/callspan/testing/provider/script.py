"""The script of a provider: replies, the requests they match, and their order; requests as they are received."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.parser import BytesHeaderParser
from email.policy import HTTP
from typing import TypedDict

Json = Mapping[str, object]
"""A JSON object."""
_ARRAY = "[]"


@dataclass(frozen=True)
class ReceivedRequest:
    """One HTTP request as it arrived.

    Example:
        >>> _ = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        >>> provider.requests[-1].path, provider.requests[-1].body["model"]
        ('/v1/chat/completions', 'm')
    """

    method: str
    """`GET`, `POST`, ..."""
    path: str
    """The path without the query."""
    query: Mapping[str, str]
    """The query's fields; the last value of a repeated one."""
    headers: Mapping[str, str]
    """Names in lower case."""
    content: bytes
    """The body as received; empty if there was none."""
    json: object
    """The body as JSON, or the fields of a form as texts with its files as `{"filename", "type", "bytes"}`; None if it
    was empty or neither."""
    time_ns: int
    """When its body had been read, on the monotonic clock (`time.monotonic_ns`)."""

    @property
    def body(self) -> Json:
        """The JSON body if it is an object, else an empty mapping."""
        return self.json if isinstance(self.json, Mapping) else {}

    @property
    def stream(self) -> bool:
        """Whether the client requested a stream; for Bedrock the path says it."""
        requested = self.body.get("stream") in (True, "true") or self.query.get("stream") == "true"
        requested = requested or self.body.get("stream_format") == "sse"
        requested = requested or self.headers.get("accept") == "text/event-stream" or self.path.endswith("/stream")
        return requested or self.path.endswith("/invoke-with-response-stream")

    @property
    def is_upgrade(self) -> bool:
        """Whether it opens a websocket."""
        return self.method == "GET" and self.headers.get("upgrade", "").lower() == "websocket"

    @property
    def retry_count(self) -> int | None:
        """The SDK's `x-stainless-retry-count`: 0 for a first attempt, None if the client does not say."""
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
    """The visible text. None: no text."""
    reasoning: str | None = None
    """`reasoning_content` in chat, a reasoning item in Responses, a thinking block in Messages."""
    refusal: str | None = None
    """A refusal; Messages carry it as text with the stop reason `refusal`."""
    tool_calls: Sequence[Json] = ()
    """Each `{"name": str, "arguments": str or anything JSON, "id": str}`; an id is made up where none is given."""
    finish_reason: str | None = None
    """Why the model stopped, in either provider's words (`length` and `max_tokens` are the same). None: what fits."""

    @property
    def reason(self) -> str:
        """The finish reason given, or the one that fits the content, in the words of chat completions."""
        return self.finish_reason or ("tool_calls" if self.tool_calls else "stop")


@dataclass(frozen=True, kw_only=True)
class Reply(Choice):
    """One answer of the scripted provider; it can be rendered on every wire.

    Without any field it is a short greeting. Delays are in seconds. The counters of tokens are as callspan's records
    count them: `input_tokens` includes what came from and went to the cache, `output_tokens` includes reasoning.

    Example:
        >>> provider.reply(callspan.testing.Reply(status=429, headers={"retry-after": "0"}))
        >>> provider.reply(callspan.testing.Reply(text="Second try.", usage={"input_tokens": 3}))
        >>> answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        >>> answer.choices[0].message.content
        'Second try.'
    """

    choices: Sequence[Choice | str] = ()
    """Several completions (n > 1); a string is a text. Wires that have only one completion show the first."""
    model: str | None = None
    """The responding model. None: the requested one."""
    usage: Json | None = None
    """The wire's own usage object as given; empty: the answer has no usage. None: made of the counters below."""
    input_tokens: int = 12
    """All input tokens."""
    output_tokens: int = 7
    """All output tokens."""
    cache_read_tokens: int = 0
    """Input tokens read from the prompt cache."""
    cache_write_tokens: int = 0
    """Input tokens written to the prompt cache."""
    reasoning_tokens: int = 0
    """Output tokens spent on reasoning."""
    embedding: Sequence[float] | None = None
    """The vector for each input of an embeddings request. None: a short made-up one."""
    headers: Json = field(default_factory=dict)
    """Response headers on top of the usual ones; a value of None takes a usual one away."""
    delay_s: float = 0.0
    """Wait before the response headers."""
    first_token_delay_s: float = 0.0
    """In a stream: wait before the first event with content."""
    chunk_delay_s: float = 0.0
    """In a stream: wait before each later event."""
    status: int = 200
    """HTTP status; 400 and above makes an error answer of it."""
    error_type: str | None = None
    """The error's type. None: the provider's usual one for the status."""
    error_code: str | None = None
    """OpenAI's error code; `error_code` in the details of Anthropic's errors. None: the usual one for the status."""
    message: str = "The scripted provider answers with an error."
    """The error's message."""
    retry_after_s: float | None = None
    """`retry-after` header. The SDKs ignore 0; use 0.001 for a retry without a wait."""
    cut_after: int | None = None
    """In a stream: hang up after so many events; negative counts from the end (-1: all but the last)."""
    end_after: int | None = None
    """In a stream: end the body properly after so many events, without what should follow; negative as above."""
    error_after: int | None = None
    """In a stream: an error event after so many events, and the end."""
    malformed: bool = False
    """Broken JSON: the body, or the second event of a stream, stops in the middle."""
    body_cut: bool = False
    """Hang up in the middle of the body: less than `content-length` promised, or half an event."""
    gzip: bool = False
    """Send the body, or the events of a stream, compressed."""
    hang: bool = False
    """Never answer; wait until the client goes away or the provider is closed."""
    json_where_sse_due: bool = False
    """Answer a streaming request with the whole body as plain JSON."""
    polls: int = 1
    """Of a background response: how many times fetching it finds it in progress before it has ended."""
    raw: object = None
    """The answer as given: an object is the JSON body (cut into events for a stream), a list of objects is the events,
    bytes are sent as they are. None: made of the other fields."""
    responder: Callable[[ReceivedRequest], Reply] | None = None
    """Makes the reply out of the request, for agents. What it raises is sent as status 500 and raised on close."""

    def completions(self, count: int = 1) -> list[Choice]:
        """`choices`, or this reply itself `count` times."""
        if not self.choices:
            return [self] * count
        return [Choice(text=choice) if isinstance(choice, str) else choice for choice in self.choices]


class ReplyFields(TypedDict, total=False):
    """The fields of `Reply` as keywords; a test keeps the two equal."""

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
    raw: object
    responder: Callable[[ReceivedRequest], Reply] | None


Match = str | Callable[[ReceivedRequest], bool]
"""Which requests a reply is for: how the path ends, or a predicate."""

DEFAULT_REPLY = Reply(text="Hello from the scripted provider.")
"""The reply when nothing is scripted."""


@dataclass(frozen=True, eq=False)
class Line:
    """One line of a script; equal only to itself, for the same reply may be scripted twice."""

    reply: Reply
    on: Match | None
    repeat: bool

    def fits(self, request: ReceivedRequest, *, inference: bool) -> bool:
        """Whether it answers this request; without a match it answers inference only."""
        if self.on is None:
            return inference
        if isinstance(self.on, str):
            # A path means what is sent to it, not that a websocket is opened there.
            return request.path.endswith(self.on) and not request.is_upgrade
        return self.on(request)


class Script:
    """Replies in the order in which they are used. Safe from any thread."""

    def __init__(self) -> None:
        self._lines: list[Line] = []
        self._lock = threading.RLock()

    def add(self, line: Line) -> None:
        """Append a line."""
        with self._lock:
            self._lines.append(line)

    def reply_to(self, request: ReceivedRequest, *, inference: bool, otherwise: Reply = DEFAULT_REPLY) -> Reply:
        """The reply to a request: what `take` returns, else the usual one, or what its responder makes."""
        reply = self.take(request, inference=inference) or otherwise
        while reply.responder is not None:
            reply = reply.responder(request)
        return reply

    def take(self, request: ReceivedRequest, *, inference: bool) -> Reply | None:
        """The first single reply that fits, used up by this; else the newest repeating one; else None."""
        with self._lock:
            singles = [line for line in self._lines if not line.repeat]
            repeating = [line for line in reversed(self._lines) if line.repeat]
            for line in singles + repeating:
                if line.fits(request, inference=inference):
                    if not line.repeat:
                        self._lines.remove(line)
                    return line.reply
            return None

    def pending(self) -> int:
        """How many single replies have not been used."""
        with self._lock:
            return sum(not line.repeat for line in self._lines)


def form_fields(content_type: str, content: bytes) -> dict[str, object]:
    """Return the fields of a form by name: texts, and of files name, type and size; those of lists as lists."""
    boundary = b"--" + content_type.partition("boundary=")[2].strip('"').encode()
    fields: dict[str, object] = {}
    for part in content.split(boundary)[1:-1]:
        head, _, data = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        headers = BytesHeaderParser(policy=HTTP).parsebytes(head + b"\r\n\r\n")
        disposition = headers["content-disposition"]
        if disposition is None:
            continue
        data = data.removesuffix(b"\r\n")
        name, filename = disposition.params.get("name", ""), disposition.params.get("filename")
        value: object = data.decode("utf-8", "replace")
        if filename is not None:
            value = {"filename": filename, "type": headers.get_content_type(), "bytes": len(data)}
        known = fields.setdefault(name.removesuffix(_ARRAY), []) if name.endswith(_ARRAY) else None
        if isinstance(known, list):
            known.append(value)
        else:
            fields[name] = value
    return fields
