"""Calls of an SDK with another instrumentation and callspan; prints the result of each scenario as JSON.

    peer.py NAMED ORDER [NAMED ORDER ...]

Everybody's packages are imported once; each scene is a process of its own, forked before anybody instruments.
"""

import importlib
import io
import json
import logging
import multiprocessing
import sys
import traceback
from contextlib import redirect_stdout, suppress
from importlib.metadata import entry_points
from multiprocessing.connection import Connection
from typing import Any

from calling import ask, ask_claude, ask_streamed
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


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


def scene(named: str, order: str, others: set[str]) -> dict[str, Any]:
    """Play a scene as in a process that has not imported the `others`."""
    for module in others - {module_of(named)}:
        sys.modules.pop(module)
    heard, exporter, records = [], InMemorySpanExporter(), []
    listener = logging.Handler(logging.WARNING)
    listener.emit = lambda record: heard.append(record.getMessage())
    logging.getLogger().addHandler(listener)
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
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
    sys.argv, printed = ["callspan", "doctor", "--json"], io.TextIOWrapper(io.BytesIO(), "utf-8")
    (command,) = entry_points(group="console_scripts", name="callspan")
    with redirect_stdout(printed), suppress(SystemExit):
        command.load()()
    printed.seek(0)
    checks = json.load(printed)["checks"]
    return [one for one in checks if one["area"] == "other instrumentations" and "turns it on" not in one["detail"]]


def module_of(named: str) -> str:
    return named.partition(":")[0]


def played(named: str, order: str, others: set[str], connection: Connection) -> None:
    try:
        connection.send(scene(named, order, others))
    except BaseException:
        connection.send({"failed": traceback.format_exc()})
        raise


def main(words: list[str]) -> None:
    scenes = list(zip(words[::2], words[1::2], strict=True))
    modules = {module_of(named) for named, _ in scenes}
    for module in modules:
        importlib.import_module(module)
    forking = multiprocessing.get_context("fork")
    results = []
    for named, order in scenes:
        receiver, sender = forking.Pipe(duplex=False)
        process = forking.Process(target=played, args=(named, order, modules, sender))
        process.start()
        sender.close()
        results.append(receiver.recv())
        process.join()
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1:])
