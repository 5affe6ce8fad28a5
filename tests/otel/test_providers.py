"""Providers and context: the destination and parents of spans; threads of callspan belong to no request."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import callspan
from callspan.testing import ScriptedProvider
from tests.support.launching import Stage

HI: Any = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize("order", ["before", "after"])
def test_the_global_provider_may_be_set_before_or_after_instrument(stage: Stage, order: str) -> None:
    program = f"""
import callspan
from calling import ask
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
steps = [lambda: trace.set_tracer_provider(provider), callspan.instrument]
for step in steps if "{order}" == "before" else reversed(steps):
    step()
ask("Hi")
print([span.name for span in exporter.get_finished_spans()])
"""
    done = stage.run("python", "-c", program)
    assert done.stdout.strip() == "['chat gpt-5']", done.stderr


@pytest.mark.parametrize(
    "otlp",
    ["nonsense", "localhost:4318", "http://", 4318, "htp://me:hunter2@here", "grpc://localhost:4317", ["http://a"]],
)
def test_an_invalid_url_is_an_error_that_says_what_to_give_and_shows_no_password(otlp: Any) -> None:
    with pytest.raises(callspan.SettingError, match=r"otlp.*http://localhost:4318") as raised:
        callspan.instrument(otlp=otlp)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("is_left", [False, True])
def test_a_frameworks_span_that_a_call_uses_is_exported_once_when_its_owner_ends_it(
    provider: ScriptedProvider, is_left: bool
) -> None:
    """To the provider that was given. One that its owner never ends is not exported; the call has its record."""
    records: list[Any] = []
    exporter, tracing = InMemorySpanExporter(), TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(exporter))
    provider.reply(text="one two three four", repeat=True)
    handle = callspan.instrument(tracer_provider=tracing, stores=())
    remove = callspan.add_callback("after_record", records.append, kinds=["call"])
    span: Any = tracing.get_tracer("framework").start_span("their chat", attributes={"gen_ai.operation.name": "chat"})
    with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client, trace.use_span(span, end_on_exit=False):
        stream = client.chat.completions.create(model="gpt-5", messages=HI, stream=True)
        next(iter(stream))
        stream.close() if is_left else [*stream]
    if not is_left:
        span.set_attribute("late", "yes")
        span.end()
    remove()
    handle.uninstrument()
    record = records[-1]
    shown = [
        (one.name, one.attributes["late"], one.attributes["callspan.call_id"]) for one in exporter.get_finished_spans()
    ]
    assert shown == ([] if is_left else [("their chat", "yes", record.call_id)])
    assert record.outcome == ("cancelled" if is_left else "success")


PROGRAM = """
import gc, time
from opentelemetry import trace
from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor
from opentelemetry.instrumentation.threading import ThreadingInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
SQLite3Instrumentor().instrument()
ThreadingInstrumentor().instrument()

import sqlite3
import openai
import callspan
from callspan.testing import ScriptedProvider

handle = callspan.instrument(stores="sqlite:///calls.db")
with ScriptedProvider() as scripted, openai.OpenAI(api_key="k", base_url=scripted.openai_url) as client:
    with trace.get_tracer("app").start_as_current_span("request"):
        sqlite3.connect(":memory:").cursor().execute("select 1")
        client.chat.completions.create(model="m", messages=[])
        next(iter(client.chat.completions.create(model="m", messages=[], stream=True)))
    gc.collect()
    time.sleep(1.2)
    handle.force_flush(60_000)
handle.uninstrument()
spans = exporter.get_finished_spans()
print(sorted((span.instrumentation_scope.name.rpartition(".")[2], span.name.partition(" ")[0]) for span in spans))
"""
EXPECTED = "[('app', 'request'), ('callspan', 'chat'), ('callspan', 'chat'), ('sqlite3', 'select')]"


def test_callspans_sql_makes_no_span_and_the_applications_does(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.instrumentation.sqlite3")
    pytest.importorskip("opentelemetry.instrumentation.threading")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == EXPECTED
