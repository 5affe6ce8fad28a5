"""The stage of a framework: a scripted provider, the four scenarios, and their results as JSON."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from callspan.frames import FRAMES
from callspan.testing import ScriptedProvider
from callspan.testing.provider import Reply
from callspan.testing.provider.script import ReceivedRequest

CITY = {"name": "Paris", "people": 2}
Scene = Callable[[ScriptedProvider], Any]


def script(provider: ScriptedProvider, scene: str) -> None:
    """Put the replies of a scene in place."""
    if scene == "tools":
        provider.reply(tool_calls=[{"name": "weather", "arguments": {"city": "Paris"}, "id": "call_1"}])
        provider.reply(text="It rains in Paris.")
    elif scene == "retried":
        provider.reply(tool_calls=[{"name": "City", "arguments": {"name": "Paris"}, "id": "call_0"}])
        provider.reply(responder=matching_reply)
    elif scene == "structured":
        provider.reply(responder=matching_reply)
    else:
        provider.reply(text="One, two, three.")


def matching_reply(request: ReceivedRequest) -> Reply:
    """The city as JSON text where a format was asked for, else as the call of the tool that stands for it."""
    body: Any = request.body
    text, config = body.get("text") or {}, body.get("output_config") or {}
    if body.get("response_format") or text.get("format") or config.get("format") or body.get("output_format"):
        return Reply(text=json.dumps(CITY))
    tool = body["tools"][-1]
    name = (tool.get("function") or tool)["name"]
    return Reply(tool_calls=[{"name": name, "arguments": CITY, "id": "call_1"}])


def run(scenes: Mapping[str, Scene]) -> None:
    """Play every scene, with callspan on if the command line says `on`, and print what came of it."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    messages: list[str] = []
    listener = logging.Handler(logging.WARNING)
    listener.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("callspan").addHandler(listener)
    if sys.argv[1] == "on":
        import callspan

        callspan.instrument()
    results = {name: _play(name, scene, exporter) for name, scene in scenes.items()}
    print("RESULT " + json.dumps({"scenes": results, "heard": messages}))


def _play(name: str, scene: Scene, exporter: InMemorySpanExporter) -> dict[str, Any]:
    exporter.clear()
    with ScriptedProvider() as provider:
        script(provider, name.partition(":")[2] or name)
        with trace.get_tracer("app").start_as_current_span("caller") as caller:
            result = scene(provider)
        paths = [request.path for request in provider.requests if not request.is_upgrade]
    FRAMES.drain(5)
    spans = exporter.get_finished_spans()
    above = {span.context.span_id: span.parent.span_id if span.parent else None for span in spans}
    # A framework's own span of the call carries our call id, too: there is one span per call, regardless of its maker.
    ours = [span for span in spans if "callspan.call_id" in (span.attributes or {})]
    calls = [span for span in spans if (span.attributes or {}).get("gen_ai.operation.name") == "chat"]
    under = 0
    for span in ours:
        parent = above[span.context.span_id]
        while parent is not None and parent != caller.get_span_context().span_id:
            parent = above.get(parent)
        under += parent is not None
    return {"result": result, "wire": paths, "spans": len(ours), "under_caller": under, "llm_spans": len(calls)}
