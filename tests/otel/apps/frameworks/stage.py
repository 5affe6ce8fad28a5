"""The stage of a framework: a scripted provider, the scenes, and what came of each as JSON.

The kind of a scene is the last part of its name: `plain`, `tools`, `structured`, `retried` or `cancelled` (a call that
never answers). One that is `left` is of a stream, and one of `two` asks twice at once. In a scene that is `traced` the
framework's own tracing is on.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel

sys.path.append(str(Path(__file__).parents[4]))
from tests.support.provider import FullProvider
from tests.support.telemetry import kept_spans

import callspan
from callspan.testing import ReceivedRequest, Reply, ScriptedProvider

os.environ |= {
    "AGNO_TELEMETRY": "false", "CREWAI_DISABLE_TELEMETRY": "true", "CREWAI_TRACING_ENABLED": "false",
    "LANGSMITH_TRACING": "false", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "OTEL_SDK_DISABLED": "false",
}  # fmt: skip
OPERATION = "gen_ai.operation.name"
Scene = Callable[[Callable[..., Any]], Any]
"""What is played with a function that makes a model, a client or an agent of the framework."""


class City(BaseModel):
    """A city."""

    name: str
    people: int


CITY = City(name="Paris", people=2).model_dump()


def weather(city: str) -> str:
    """The weather in a city.

    Args:
        city: Its name.
    """
    return f"rain in {city}"


def scenes(
    ask: Scene,
    stream: Callable[[Any], Iterator[Any] | AsyncIterator[Any]] | None = None,
    ask_async: Callable[[Any], Awaitable[Any]] | None = None,
    kind: str = "plain",
) -> dict[str, Scene]:
    """The scenes that every framework has: asked once, as a stream, left after its first text, and twice at once."""

    def in_threads(make: Any) -> Any:
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(callspan.copy_context(lambda _: ask(make)), "12"))

    async def at_once(make: Any) -> Any:
        assert ask_async is not None
        return await asyncio.gather(ask_async(make), ask_async(make))

    found: dict[str, Scene] = {kind: ask, f"two:{kind}": in_threads if ask_async is None else at_once}
    if stream is not None:
        found |= {
            f"streamed:{kind}": lambda make: _items(stream(make)),
            f"left:{kind}": lambda make: _items(stream(make), is_left=True),
        }
    return found


def _items(stream: Any, *, is_left: bool = False) -> Any:
    """All items of a stream; the first that is not empty where it is left."""
    if isinstance(stream, AsyncIterator):
        return _async_items(stream, is_left)
    return next(item for item in stream if item) if is_left else list(stream)


async def _async_items(stream: Any, is_left: bool) -> list[Any]:
    found = []
    async with aclosing(stream):
        async for item in stream:
            found.append(item)
            if is_left and item:
                break
    return found


def script(provider: ScriptedProvider, kind: str) -> None:
    """Put the replies of a scene in place."""
    if kind == "tools":
        provider.reply(tool_calls=[{"name": "weather", "arguments": {"city": "Paris"}, "id": "call_1"}])
        provider.reply(text="It rains in Paris.")
    elif kind in ("structured", "retried"):
        if kind == "retried":
            provider.reply(tool_calls=[{"name": "City", "arguments": {"name": "Paris"}, "id": "call_0"}])
        provider.reply(responder=matching_reply, repeat=True)
    else:
        provider.reply(text="One, two, three.", delay_s=300 * (kind == "cancelled"), repeat=True)


def matching_reply(request: ReceivedRequest) -> Reply:
    """The city as JSON text where a format was asked for, else as the call of the tool that stands for it."""
    body: Any = request.body
    text, config = body.get("text") or {}, body.get("output_config") or {}
    if body.get("response_format") or text.get("format") or config.get("format") or body.get("output_format"):
        return Reply(text=json.dumps(CITY))
    tool = body["tools"][-1]
    name = (tool.get("function") or tool)["name"]
    return Reply(tool_calls=[{"name": name, "arguments": CITY, "id": "call_1"}])


def play(makers: Mapping[str, Callable[..., Any]], scenes: Mapping[str, Scene]) -> None:
    """Play every scene with what each maker makes, with callspan on if the command line ends with `on`; print it all.

    A maker gets the provider and the options of a scene. A scene may be a coroutine function.
    """
    (provider, exporter), messages, outcomes = kept_spans(), list[str](), dict[str, str]()
    trace.set_tracer_provider(provider)
    listener = logging.Handler(logging.WARNING)
    listener.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("callspan").addHandler(listener)

    def ended(call: Any) -> None:
        outcomes[call.call_id] = call.outcome

    def settle() -> None:
        """Wait for the ends of streams that were left: threads of litellm refer to them for a moment."""
        deadline = time.monotonic() + 300
        is_open = True
        while is_open and time.monotonic() < deadline:
            gc.collect()
            if handle is not None:
                handle.force_flush()
            is_open = "in_progress" in outcomes.values()

    callspan.add_callback("after_record", ended, kinds=["call"])
    handle = callspan.instrument(stores=()) if sys.argv[-1] == "on" else None
    results = {}
    for maker, make in makers.items():
        for name, scene in scenes.items():
            exporter.clear()
            outcomes.clear()
            results[f"{maker}:{name}"] = _play(name, scene, make, exporter, settle) | {"outcomes": [*outcomes.values()]}
    if handle is not None:
        handle.uninstrument()
    print("\nRESULT " + json.dumps({"scenes": results, "heard": messages}))


def _play(
    name: str, scene: Scene, make: Callable[..., Any], exporter: InMemorySpanExporter, settle: Callable[[], None]
) -> dict[str, Any]:
    with FullProvider() as provider:
        script(provider, name.rpartition(":")[2])
        with trace.get_tracer("app").start_as_current_span("caller") as caller:
            result = scene(partial(make, provider))
            result = asyncio.run(result) if inspect.iscoroutine(result) else result
        # Counting tokens is free, and no call.
        requests = [one for one in provider.requests if not one.is_upgrade and not one.path.endswith("/count_tokens")]
    settle()
    spans = exporter.get_finished_spans()
    calls = [span for span in spans if (span.attributes or {}).get(OPERATION) == "chat"]
    above = [_above(span, spans) for span in calls]
    return {
        "result": result,
        "wire": [request.path for request in requests],
        "spans": sum("callspan.call_id" in (span.attributes or {}) for span in calls),
        "llm_spans": len(calls),
        "under_caller": sum(caller.get_span_context().span_id in parents for parents in above),
        "parents": sorted({name for parents in above for name in parents.values()} - {"caller"}),
    }


def _above(span: ReadableSpan, spans: Iterable[ReadableSpan]) -> dict[int, str]:
    """Names of the finished spans above a span, and of its parent, by their ids."""
    known = {one.get_span_context().span_id: one for one in spans}
    found: dict[int, str] = {}
    parent = span.parent
    while parent is not None:
        one = known.get(parent.span_id)
        found[parent.span_id] = "" if one is None else one.name
        parent = None if one is None else one.parent
    return found
