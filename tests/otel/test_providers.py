"""Providers and context: the destination and parents of spans; threads of callspan belong to no request."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import callspan
from callspan.testing import Captured, ScriptedProvider, capture
from tests.otel.launching import Stage

HI: Any = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def client(provider: ScriptedProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="sk-test", base_url=provider.openai_url, max_retries=0) as made:
        yield made


@pytest.fixture
def seen() -> Iterator[Captured]:
    with capture() as captured:
        yield captured


def recording() -> tuple[TracerProvider, InMemorySpanExporter]:
    exporter, tracer_provider = InMemorySpanExporter(), TracerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
    return tracer_provider, exporter


def test_spans_go_to_the_provider_that_was_given_and_to_no_other(client: openai.OpenAI) -> None:
    mine, exporter = recording()
    handle = callspan.instrument(tracer_provider=mine)
    try:
        client.chat.completions.create(model="gpt-5", messages=HI)
    finally:
        handle.uninstrument()
    assert [span.name for span in exporter.get_finished_spans()] == ["chat gpt-5"]


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


def test_a_thread_pool_uses_the_parent_captured_by_copy_context(client: openai.OpenAI, seen: Captured) -> None:
    def work(_: int) -> None:
        client.chat.completions.create(model="gpt-5", messages=HI)

    with callspan.session("pool"), callspan.timestep() as step, ThreadPoolExecutor(3) as pool:
        list(pool.map(callspan.copy_context(work), range(6)))
        above = step.span_id if hasattr(step, "span_id") else None
    assert len(seen.records) == 6
    parents = {record.parent_span_id for record in seen.records}
    assert len(parents) == 1
    assert above in (None, *parents)
    assert {record.place.session_id for record in seen.records} != {None}


@pytest.mark.parametrize("otlp", ["nonsense", "localhost:4318", "http://", 4318, "grpc://localhost:4317", ["http://a"]])
def test_an_invalid_url_is_an_error_that_says_what_to_give(otlp: Any) -> None:
    with pytest.raises(callspan.SettingError, match=r"otlp.*http://localhost:4318"):
        callspan.instrument(otlp=otlp)


def test_the_error_of_an_invalid_url_does_not_show_its_password() -> None:
    with pytest.raises(callspan.SettingError) as raised:
        callspan.instrument(otlp="htp://me:hunter2@here")
    assert "hunter2" not in str(raised.value)


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
