"""One call of an SDK with another instrumentation on beside ours; prints what came of it as JSON."""

import importlib
import json
import logging
import sys
from typing import Any

from calling import ask, ask_claude, ask_streamed
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Heard(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def other(named: str) -> Any:
    module, name = named.split(":")
    return getattr(importlib.import_module(module), name)()


def ours(records: list[Any]) -> Any:
    import callspan
    from callspan.wiring import WIRING
    from callspan.wiring.telemetry_providers import Providers

    settings = callspan.Settings()
    return WIRING.install(settings, Providers(listeners=(records.append,)), ("openai", "anthropic"))


def main(named: str, order: str) -> None:
    heard, exporter, records = Heard(), InMemorySpanExporter(), []
    logging.getLogger().addHandler(heard)
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    steps = [lambda: other(named).instrument(), lambda: ours(records)]
    for step in steps if order == "theirs-first" else reversed(steps):
        step()
    with trace.get_tracer("app").start_as_current_span("app"):
        said = [ask_claude("Hi")] * 2 if "anthropic" in named else [ask("Hi"), ask_streamed("Hi")]
    from callspan.intercept import conflicts

    spans = [
        {
            "name": span.name,
            "scope": span.instrumentation_scope.name if span.instrumentation_scope else "",
            "attributes": dict(span.attributes or {}),
            "span_id": f"{span.context.span_id:016x}",
            "parent_id": f"{span.parent.span_id:016x}" if span.parent else None,
            "status": span.status.status_code.name,
        }
        for span in exporter.get_finished_spans()
    ]
    calls = [
        {"span_id": call.span_id, "parent_id": call.parent_span_id} for call in records if call.outcome == "success"
    ]
    from callspan.cli.doctor import _others

    print(
        json.dumps(
            {
                "said": said,
                "spans": spans,
                "calls": calls,
                "heard": heard.said,
                "found": conflicts.found(),
                "doctor": [check._asdict() for check in _others()],
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
