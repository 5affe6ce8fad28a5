"""Calls of an SDK with another instrumentation and callspan; prints what came of them as JSON.

peer.py NAMED ORDER
"""

import importlib
import json
import logging
import sys
from typing import Any

from calling import ask, ask_claude, ask_streamed
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.support.telemetry import kept_spans


def turn_on(named: str, exporter: InMemorySpanExporter) -> None:
    module, name = named.split(":")
    found = importlib.import_module(module)
    if module == "logfire":
        also = [SimpleSpanProcessor(exporter)]
        found.configure(send_to_logfire=False, console=False, additional_span_processors=also)
        getattr(found, name)()
    else:
        getattr(found, name)().instrument()


def ours(records: list[Any]) -> None:
    import callspan

    callspan.add_callback("after_record", records.append, kinds=["call"])
    callspan.instrument()


def scene(named: str, order: str) -> dict[str, Any]:
    heard, records, (provider, exporter) = [], [], kept_spans()
    listener = logging.Handler(logging.WARNING)
    listener.emit = lambda record: heard.append(record.getMessage())
    logging.getLogger().addHandler(listener)
    trace.set_tracer_provider(provider)
    steps = [lambda: turn_on(named, exporter), lambda: ours(records)]
    for step in steps if order == "theirs-first" else reversed(steps):
        step()
    with trace.get_tracer("app").start_as_current_span("app"):
        for asked in [ask_claude] if "anthropic" in named else [ask, ask_streamed]:
            asked("Hi")
    spans = [
        {
            "name": span.name,
            "scope": span.instrumentation_scope.name if span.instrumentation_scope else "",
            "attributes": dict(span.attributes or {}),
            "span_id": f"{span.context.span_id:016x}",
            "parent_id": f"{span.parent.span_id:016x}" if span.parent else None,
        }
        for span in exporter.get_finished_spans()
    ]
    calls = [
        {"span_id": call.span_id, "parent_id": call.parent_span_id} for call in records if call.outcome == "success"
    ]
    return {"spans": spans, "calls": calls, "heard": heard, "doctor": doctor()}


def doctor() -> list[Any]:
    """What `callspan doctor` says in this process of other instrumentations that it has imported."""
    from tests.support.commands import ask as command  # it imports callspan

    checks = command("doctor", "--json").json["checks"]
    return [one for one in checks if one["area"] == "other instrumentations" and "turns it on" not in one["detail"]]


if __name__ == "__main__":
    print(json.dumps(scene(*sys.argv[1:])))
