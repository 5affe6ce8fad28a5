"""The spans of agents as frameworks emit them, emitted again by the real SDK of OpenTelemetry.

`tests/otel/apps/frameworks/emitting_agents.py` has recorded them, each framework with one conversation of two turns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

RECORDED: Final[dict[str, list[dict[str, Any]]]] = json.loads(
    (Path(__file__).parents[1] / "otel" / "agent_spans.json").read_text()
)
CONVERSATIONS: Final = {
    name: next(
        (value for step in steps if (value := step.get("attributes", {}).get("gen_ai.conversation.id")) is not None),
        None,
    )
    for name, steps in RECORDED.items()
}
"""The conversation that the spans of a framework name, if any."""
TOOLS: Final = ("add", "add", "weather", "weather")
WITHOUT_CONTENT: Final = "autogen"
"""The framework whose spans of tools have neither arguments nor results."""


def emit(steps: Sequence[dict[str, Any]], tracers: TracerProvider, call: Callable[[], object]) -> list[ReadableSpan]:
    """Emit spans as they were recorded, with calls in the same places; return them in the order of their end."""
    memory, spans = InMemorySpanExporter(), dict[int, Any]()
    tracers.add_span_processor(SimpleSpanProcessor(memory))
    for step in steps:
        if "start" in step:
            parent = spans.get(step["parent"])
            context = None if parent is None else trace.set_span_in_context(parent)
            tracer = tracers.get_tracer(step["scope"])
            spans[step["start"]] = tracer.start_span(step["name"], context, attributes=step["attributes"])
        elif "set" in step:
            spans[step["set"]].set_attributes(step["attributes"])
        elif "call" in step:
            with trace.use_span(spans[step["call"]], end_on_exit=False):
                call()
        else:
            span = spans[step["end"]]
            for name, attributes in step.get("events", ()):
                span.add_event(name, attributes)
            if "status" in step:
                span.set_status(StatusCode[step["status"]])
            span.end()
    return [span for span in memory.get_finished_spans() if span.instrumentation_scope.name != "callspan"]
