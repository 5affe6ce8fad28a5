"""The measured work: calls of three SDKs over a mocked transport, and steps of an agent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from operator import attrgetter
from typing import Any

import anthropic
import httpx2
import openai
from google import genai

import callspan
import wire_bodies as wire

LOOP = "anthropic tool loop"
STEPS = 20
_MODELS = {"openai": "gpt-5", "anthropic": "claude-opus-4-1", "google": "gemini-2.5-flash"}
_ANSWERS = {"openai": wire.openai_answer, "anthropic": wire.anthropic_answer, "google": wire.google_answer}
_STREAMS = {"openai": wire.openai_stream, "anthropic": wire.anthropic_stream, "google": wire.google_stream}
_LOOP = asyncio.new_event_loop()


@dataclass(frozen=True)
class Column:
    """One kind of work. `one` does it once: a function, or a coroutine function that runs on the loop."""

    name: str
    unit: str
    per: int
    """Number of units in one run."""
    runs: int
    """Number of runs in a timed block."""
    counted: int
    """Number of runs whose instructions are counted."""
    one: Callable[[], Any]
    is_async: bool = False
    agent: bool = False
    """Whether it is the session API itself, which can only be compared with the floor."""
    warm: int = 100
    """Number of unmeasured runs before the measured ones.

    Patching a class invalidates the interpreter's caches: for some fifty calls the SDK runs more slowly, which is no
    cost in a process that patches once.
    """

    def run(
        self, count: int, wrap: Callable[[Callable[[], Any]], Callable[[], Any]], clock: Callable[[], int]
    ) -> list[int]:
        """Return the CPU nanoseconds of each of `count` runs of the wrapped work."""
        work = wrap(self.one)
        if self.is_async:
            return _LOOP.run_until_complete(_timed_async(work, count, clock))
        spent = []
        for _ in range(count):
            before = clock()
            work()
            spent.append(clock() - before)
        return spent


async def _timed_async(work: Callable[[], Awaitable[object]], count: int, clock: Callable[[], int]) -> list[int]:
    spent = []
    for _ in range(count):
        before = clock()
        await work()
        spent.append(clock() - before)
    return spent


def columns(**anthropic_options: Any) -> list[Column]:
    """Return every column, in the order of the table; the options are for the constructor of anthropic's clients."""
    options: dict[str, Any] = {"openai": {}, "anthropic": anthropic_options, "google": {}}
    kinds = [(family, is_async) for family in options for is_async in (False, True)]
    return [
        *(_plain(family, is_async, **options[family]) for family, is_async in kinds),
        Column("openai plain 10 KB", "call", 1, 30, 10, _call("openai", False, wire.messages(10_000))),
        Column("openai 200 KB request", "call", 1, 10, 3, _call("openai", False, wire.messages(200_000, 50)), warm=30),
        *(_streamed(family, is_async, **options[family]) for family, is_async in kinds),
        Column("session, timesteps with an event", "timestep", STEPS, 10, 3, _agent, agent=True, warm=10),
        Column("session, tools", "tool", STEPS, 10, 3, _tools, agent=True, warm=10),
        Column(LOOP, "tool", STEPS, 10, 3, _loop(), warm=30),
    ]


def _plain(family: str, is_async: bool, **options: Any) -> Column:
    call = _call(family, is_async, wire.messages(1000), **options)
    return Column(f"{family} plain {_mode(is_async)}", "call", 1, 30, 10, call, is_async)


def _streamed(family: str, is_async: bool, **options: Any) -> Column:
    # Runs differ by the addresses of their objects, which are also hashes.
    unit, counted = {"openai": ("chunk", 2), "anthropic": ("event", 8), "google": ("chunk", 2)}[family]
    name = f"{family} {wire.CHUNKS}-{unit} stream {_mode(is_async)}"
    return Column(name, unit, wire.CHUNKS, 3, counted, _stream(family, is_async, **options), is_async, warm=30)


def _mode(is_async: bool) -> str:
    return "async" if is_async else "sync"


def _call(family: str, is_async: bool, messages: list[Any], **options: Any) -> Callable[[], Any]:
    client = _client(family, is_async, _ANSWERS[family](), "application/json", **options)
    return partial(_create(client, _method(family, is_async)), **_arguments(family, messages))


def _stream(family: str, is_async: bool, **options: Any) -> Callable[[], Any]:
    client = _client(family, is_async, _STREAMS[family](), "text/event-stream", **options)
    arguments = _arguments(family, wire.messages(1000))
    if family != "google":
        arguments["stream"] = True
    create = partial(_create(client, _method(family, is_async, streamed=True)), **arguments)

    def drain() -> None:
        for _ in create():
            pass

    async def drain_async() -> None:
        async for _ in await create():
            pass

    return drain_async if is_async else drain


def _agent() -> None:
    with callspan.session("gridworld") as session:
        for _ in range(STEPS):
            with session.timestep() as step:
                step.environment([1, 2], reward=0.5, terminated=False, truncated=False)


def _tools() -> None:
    with callspan.session("gridworld") as session:
        for _ in range(STEPS):
            with session.tool("look", arguments={"x": 1}) as tool:
                tool.result = "a wall"


def _loop() -> Callable[[], Any]:
    """Return a run of the SDK's own loop: a call that requests `STEPS` tools, and one with their results."""
    requested, last = wire.anthropic_tools(STEPS), wire.anthropic_answer()
    client = _client("anthropic", False, lambda sent: last if b"tool_result" in sent else requested, "application/json")

    @anthropic.beta_tool
    def look(x: int) -> str:
        """Look around."""
        del x
        return "a wall"

    arguments = _arguments("anthropic", wire.messages(1000))

    def run() -> None:
        client.beta.messages.tool_runner(tools=[look], **arguments).until_done()

    return run


def _create(client: Any, method: str) -> Callable[..., Any]:
    """Return a call of the client's method, which is looked up for each call, because others replace it later."""
    get = attrgetter(method)

    def create(**given: Any) -> Any:
        return get(client)(**given)

    return create


def _method(family: str, is_async: bool, streamed: bool = False) -> str:
    if family == "google":
        return f"{'aio.' if is_async else ''}models.generate_content{'_stream' if streamed else ''}"
    return "chat.completions.create" if family == "openai" else "messages.create"


def _arguments(family: str, messages: list[Any]) -> dict[str, Any]:
    if family == "google":
        return {
            "model": _MODELS[family], "contents": wire.contents(messages), "config": {"max_output_tokens": 500},
        }  # fmt: skip
    limit = "max_completion_tokens" if family == "openai" else "max_tokens"
    return {"model": _MODELS[family], limit: 500, "messages": messages}


def _client(
    family: str, is_async: bool, body: bytes | Callable[[bytes], bytes], content_type: str, **options: Any
) -> Any:
    """Return a client whose requests are answered by `body`, or by its result for the request body."""
    headers = {**wire.HEADERS[family], "content-type": content_type}
    library: Any = _google_http() if family == "google" else httpx2

    def answer(request: Any) -> Any:
        content = body if isinstance(body, bytes) else body(request.content)
        # With a connection: without one, a repeated answer is one of a cache, which is no plain call.
        return library.Response(200, headers=headers, content=content, extensions={"network_stream": None})

    transport = library.MockTransport(answer)
    if family == "google":
        http_options: Any = {"async_client_args" if is_async else "client_args": {"transport": transport}}
        return genai.Client(api_key="test", http_options=http_options)
    http = httpx2.AsyncClient(transport=transport) if is_async else httpx2.Client(transport=transport)
    sdk = openai if family == "openai" else anthropic
    kind = getattr(sdk, f"{'Async' if is_async else ''}{'OpenAI' if family == 'openai' else 'Anthropic'}")
    return kind(api_key="sk-test", http_client=http, max_retries=0, **options)


def _google_http() -> Any:
    """Return the HTTP library that google-genai takes by default: httpx before 3.0."""
    return import_module("httpx" if genai.__version__.startswith("2.") else "httpx2")
