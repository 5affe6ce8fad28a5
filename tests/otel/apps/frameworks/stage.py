"""The stage of a framework: a scripted provider, the scenes, and what came of each as JSON.

The kind of a scene is the last part of its name: `plain`, `streamed`, `tools`, `structured`, `retried`, `left` (a
stream that is left early) or `two` (two calls at once). In a scene that is `traced` the framework's own tracing is on.
"""

from __future__ import annotations

import gc
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

sys.path.append(str(Path(__file__).parents[4]))
from tests.provider import FullProvider

from callspan.testing import ScriptedProvider
from callspan.testing.provider import Reply
from callspan.testing.provider.script import ReceivedRequest

OPERATION = "gen_ai.operation.name"
CITY = {"name": "Paris", "people": 2}
Scene = Callable[[ScriptedProvider], Any]


def script(provider: ScriptedProvider, scene: str) -> None:
    """Put the replies of a scene in place."""
    if scene == "tools":
        provider.reply(tool_calls=[{"name": "weather", "arguments": {"city": "Paris"}, "id": "call_1"}])
        provider.reply(text="It rains in Paris.")
    elif scene == "retried":
        provider.reply(tool_calls=[{"name": "City", "arguments": {"name": "Paris"}, "id": "call_0"}])
        provider.reply(responder=matching_reply, repeat=True)
    elif scene == "structured":
        provider.reply(responder=matching_reply, repeat=True)
    else:
        provider.reply(text="One, two, three.", repeat=True)


def matching_reply(request: ReceivedRequest) -> Reply:
    """The city as JSON text where a format was asked for, else as the call of the tool that stands for it."""
    body: Any = request.body
    text, config = body.get("text") or {}, body.get("output_config") or {}
    if body.get("response_format") or text.get("format") or config.get("format") or body.get("output_format"):
        return Reply(text=json.dumps(CITY))
    tool = body["tools"][-1]
    name = (tool.get("function") or tool)["name"]
    return Reply(tool_calls=[{"name": name, "arguments": CITY, "id": "call_1"}])


def run(scenes: Mapping[str, Scene], *packages: str) -> None:
    """Play every scene, with callspan on if the command line says `on`, and print what came of it.

    `packages` are those whose versions are printed.
    """
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    messages: list[str] = []
    listener = logging.Handler(logging.WARNING)
    listener.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("callspan").addHandler(listener)

    def recorded() -> int:
        return 0

    with tempfile.TemporaryDirectory() as directory:
        if sys.argv[1] == "on":
            import callspan.stores

            store = f"sqlite:///{directory}/calls.db"
            handle = callspan.instrument(stores=store)

            def recorded() -> int:
                """The number of calls in the store."""
                handle.force_flush()
                try:
                    with closing(callspan.open_store(store)) as reader:
                        return sum(1 for _ in reader.calls())
                except callspan.stores.EmptyStoreError:
                    return 0

        results = {name: _play(name, scene, exporter, recorded) for name, scene in scenes.items()}
        if sys.argv[1] == "on":
            handle.uninstrument()
    versions = {package: version(package) for package in packages}
    print("\nRESULT " + json.dumps({"scenes": results, "heard": messages, "versions": versions}))


def _play(name: str, scene: Scene, exporter: InMemorySpanExporter, recorded: Callable[[], int]) -> dict[str, Any]:
    exporter.clear()
    before = recorded()
    with FullProvider() as provider:
        script(provider, name.rpartition(":")[2])
        with trace.get_tracer("app").start_as_current_span("caller") as caller:
            result = scene(provider)
        # Counting tokens is free, and no call.
        requests = [one for one in provider.requests if not one.is_upgrade and not one.path.endswith("/count_tokens")]
    gc.collect()
    records = recorded() - before  # it waits for the ends of streams that were left
    calls = _of_calls(exporter)
    above = [_above(span, exporter.get_finished_spans()) for span in calls]
    return {
        "result": result,
        "wire": [request.path for request in requests],
        "spans": sum("callspan.call_id" in (span.attributes or {}) for span in calls),
        "llm_spans": len(calls),
        "records": records,
        "under_caller": sum(caller.get_span_context().span_id in parents for parents in above),
        "parents": sorted({name for parents in above for name in parents.values()} - {"caller"}),
    }


def _of_calls(exporter: InMemorySpanExporter) -> list[ReadableSpan]:
    """The LLM spans, whoever has made them; each should have the id of our call."""
    return [span for span in exporter.get_finished_spans() if (span.attributes or {}).get(OPERATION) == "chat"]


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
