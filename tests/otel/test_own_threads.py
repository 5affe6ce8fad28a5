"""Threads of callspan belong to no request: their SQL and spans are in no trace."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("opentelemetry.instrumentation.sqlite3")
pytest.importorskip("opentelemetry.instrumentation.threading")

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
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == EXPECTED
