"""Calls of the tests of interception: one operation of each SDK, what its caller received, and the one record."""

from __future__ import annotations

import copy
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

import anthropic
import pytest
from opentelemetry.trace import StatusCode
from tests.support import sdks
from tests.support.mode import Mode

from callspan.records import CallRecord, Conversation, Usage, encode
from callspan.testing import Capture

APIS = ("chat_completions", "responses", "messages")
QUESTION: list[Any] = [{"role": "user", "content": "How are you?"}]
CHAT: dict[str, Any] = {"model": "gpt-5", "messages": QUESTION}
MESSAGE: dict[str, Any] = {"model": "claude-sonnet-5", "max_tokens": 64, "messages": QUESTION}
REQUESTS: dict[str, dict[str, Any]] = {
    "chat_completions": CHAT, "responses": {"model": "gpt-5", "input": "How are you?"}, "messages": MESSAGE,
}  # fmt: skip


def client_of(mode: Mode, sdk: str, **options: Any) -> Any:
    return mode.openai(**options) if sdk == "openai" else mode.anthropic(**options)


def ask(client: Any, **options: Any) -> Any:
    """The result of the main method of either SDK's client, awaitable or not."""
    if hasattr(client, "chat"):
        return client.chat.completions.create(**{**CHAT, **options})
    return client.messages.create(**{**MESSAGE, **options})


async def caught(work: Awaitable[Any]) -> BaseException | None:
    """Return what is raised to the caller of the work."""
    try:
        await work
    except pytest.skip.Exception:
        raise
    except BaseException as error:  # noqa: BLE001 - the very object is looked at
        return error
    return None


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The exception and what caused it."""
    while error is not None:
        yield error
        error = error.__cause__


def passing_on(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a plain function that gives its arguments to another."""

    def called(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return called


class Wire:
    """One operation of one SDK, and the items of streams that its caller received."""

    def __init__(self, api: str, mode: Mode, shape: str = "plain") -> None:
        if api == "responses":
            sdks.needs("openai", "1.66", "the Responses API")
        self.api = api
        self.mode = mode
        self.shape = shape
        self.options: dict[str, Any] = {}
        self.one: Any = None
        """The client of all its calls; None: each has its own."""
        self.received: list[Any] = []

    @property
    def sdk(self) -> str:
        return "anthropic" if self.api == "messages" else "openai"

    def client(self, **options: Any) -> Any:
        return client_of(self.mode, self.sdk, **{**self.options, **options})

    def resource(self, client: Any = None) -> Any:
        client = client or self.one or self.client()
        if self.api == "chat_completions":
            return client.chat.completions
        return client.responses if self.api == "responses" else client.messages

    def create(self, client: Any = None, response: str = "", **options: Any) -> Any:
        """The result of the SDK's method; `response`: `raw` or `streaming`."""
        resource = self.resource(client)
        owner = getattr(resource, f"with_{response}_response") if response else resource
        return owner.create(**{**REQUESTS[self.api], **options})

    async def ask(self, client: Any = None, **options: Any) -> Any:
        return await self.mode.wait(self.create(client, **options))

    async def stream(self, client: Any = None, **options: Any) -> Any:
        return await self.ask(client, stream=True, **options)

    async def call(self, client: Any = None, **options: Any) -> Any:
        """Ask in the wire's shape (plain, stream, raw) and take all of the answer."""
        if self.shape == "stream":
            return await self.read(await self.stream(client, **options))
        if self.shape == "plain":
            return await self.ask(client, **options)
        raw = await self.ask(client, response="raw", **options)
        return await self.mode.wait(raw.parse())

    async def streaming(self, read: str, **options: Any) -> Any:
        """What this method of a response reads within its block: all items, where they are several."""
        async with self.mode.entered(self.create(response="streaming", **options)) as response:
            return await self.mode.whole(getattr(response, read)())

    def script(self, *replies: dict[str, Any]) -> None:
        """Script replies whose request ids say which of them answered."""
        for number, reply in enumerate(replies, start=1):
            named = {"x-request-id": f"req_{number}", "request-id": f"req_{number}"}
            self.mode.provider.reply(**{**reply, "headers": {**named, **reply.get("headers", {})}})

    async def next(self, stream: Any) -> Any:
        item = await self.mode.next(stream)
        self.received.append(item)
        return item

    async def read(self, stream: Any = None) -> list[Any]:
        """The items up to the stream's end; of a new one, where none is given."""
        async for item in self.mode.items(await self.stream() if stream is None else stream):
            self.received.append(item)
        return self.received

    async def leave(self, how: str, after: int = 1) -> None:
        """Leave a new stream after so many items: `closed`, left with its `block`, or `dropped`."""
        stream = await self.stream()
        for _ in range(after):
            await self.next(stream)
        if how == "closed":
            await self.mode.wait(stream.close())
        elif how == "block":
            async with self.mode.entered(stream):
                pass

    def received_text(self) -> str:
        return "".join(_text_of_item(item) for item in self.received)


def _text_of_item(item: Any) -> str:
    delta = getattr(item, "delta", None)
    if isinstance(delta, str):
        return delta if item.type == "response.output_text.delta" else ""
    choices = getattr(item, "choices", None) or ()
    return "".join(choice.delta.content or "" for choice in choices) + getattr(delta, "text", "")


def the_call(seen: Capture) -> CallRecord:
    """The one record, which belongs to the one span and agrees with it."""
    (span,) = seen.spans
    (record,) = seen.records
    assert record.span_id == f"{span.context.span_id:016x}"
    assert record.trace_id == f"{span.context.trace_id:032x}"
    assert span.attributes["llm.item_id"] == record.call_id
    failed = record.outcome in ("error", "timeout")
    assert (span.status.status_code is StatusCode.ERROR) == failed
    events = [event.name for event in span.events]
    assert events.count("exception") <= failed
    ended_early = record.stream is not None and record.stream.end in ("cut_off", "closed", "cancelled")
    marks = [name for name in events if name.startswith("callspan.stream.")]
    assert marks == ([f"callspan.stream.{record.stream.end}"] if record.stream is not None and ended_early else [])
    return record


def text_of(record: CallRecord) -> str:
    parts = [part for message in conversation_of(record).output for part in message.parts]
    return "".join(getattr(part, "text", "") or "" for part in parts)


INVALID: list[Any] = [
    None, [], {}, "", -1, True, 1e308, 10**30, "\ud800", [None], ["a"], {"id": []}, "2026-99-99T00:00:00Z"
]  # fmt: skip


def spoiled(body: Any) -> Iterator[Any]:
    """Yield a JSON body with one of its values missing or invalid, for each value at any depth; and invalid bodies."""
    yield from INVALID
    for *path, last in places(body):
        for invalid in (*INVALID, ...):
            changed = copy.deepcopy(body)
            holder = changed
            for key in path:
                holder = holder[key]
            if invalid is ...:
                del holder[last]
            else:
                holder[last] = invalid
            yield changed


def places(value: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a JSON value, without its own."""
    named = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in named:
        yield (*path, key)
        yield from places(inner, *path, key)


def usage_of(record: CallRecord) -> Usage:
    assert record.usage is not None
    return record.usage


def conversation_of(record: CallRecord) -> Conversation:
    assert record.conversation is not None
    return record.conversation


def body_sent(record: CallRecord) -> Any:
    return json.loads(bytes(record.request.body))


def body_returned(record: CallRecord) -> Any:
    return json.loads(bytes(record.response.body))


def parsing(mode: Mode) -> Any:
    """Where `parse` and `stream` of chat are: old versions have them in beta."""
    client = mode.openai()
    completions = client.chat.completions
    return completions if hasattr(completions, "parse") else client.beta.chat.completions


def client_class(module: Any, name: str, mode: Mode) -> Any:
    kind = getattr(module, f"Async{name}" if mode.is_async else name, None)
    if kind is None:
        pytest.skip(f"{module.__name__} {module.__version__} has no {name}")
    return kind


def bedrock(mode: Mode) -> Any:
    pytest.importorskip("botocore", reason="boto3 is not installed")
    kind = client_class(anthropic, "AnthropicBedrock", mode)
    keys = {"aws_access_key": "AKIATEST", "aws_secret_key": "secret", "aws_region": "us-east-1"}
    return mode.keep(kind(**keys, base_url=mode.provider.url, max_retries=0))


def everywhere(seen: Capture) -> str:
    """Return every byte of every span and record."""
    return "".join([*(span.to_json() for span in seen.spans), *(encode(record).decode() for record in seen.everything)])


class End(NamedTuple):
    """How a stream ends: what the caller does, what the provider sends, and what is recorded."""

    act: Callable[[Mode, Any], Awaitable[Any]]
    reply: dict[str, Any] = {}  # noqa: RUF012
    outcome: str = "success"
    end: str = "complete"
    text: str = "I am quite well."
    complete: bool = True
    kind: str | None = None
