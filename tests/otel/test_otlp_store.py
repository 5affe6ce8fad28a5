"""OTLP as a store: the spans of what is recorded are those that an exporter of the application would send."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import callspan
from callspan.agent.episode import forgotten
from callspan.testing import ScriptedProvider
from tests.agent.test_spans_of_records import demo, everything, support_desk
from tests.otel.receiver import OtlpReceiver, ReceivedSpan

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
VARYING = (
    "latency", "_s", "per_second", "id", ".reset", "messages", "completions", "fingerprint", "port", "_chunk", ".bytes",
    "full",
)  # fmt: skip


@contextmanager
def instrumented(**settings: Any) -> Iterator[callspan.Handle]:
    handle = callspan.instrument(**settings)
    try:
        with forgotten():
            yield handle
    finally:
        handle.uninstrument()


@pytest.fixture
def store(receiver: OtlpReceiver) -> str:
    return receiver.url.replace("http://", "otlp+http://")


def shape(spans: list[ReceivedSpan]) -> Counter[Any]:
    """Return what spans show, without times and ids, each with the name of its parent."""
    names = {span.span_id: span.name for span in spans}
    return Counter(
        (
            span.name, span.kind, names.get(span.parent_id or ""), span.status, span.status_text, len(span.links),
            tuple(span.attributes),
            tuple(str(value) for name, value in span.attributes.items() if not name.endswith(VARYING)),
            tuple((name, tuple(attributes)) for name, attributes in span.events),
        )
        for span in spans
    )  # fmt: skip


@pytest.mark.parametrize("program", [support_desk, everything, pytest.param(demo, marks=pytest.mark.slow)])
@pytest.mark.parametrize("settings", [{}, {"content": "metadata"}, {"attempt_spans": True}], ids=str)
def test_the_spans_are_those_that_the_exporter_of_an_application_sends(
    receiver: OtlpReceiver, store: str, tmp_path: Path, program: Any, settings: Any
) -> None:
    application = TracerProvider()
    with OtlpReceiver() as usual, ScriptedProvider() as provider:
        application.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{usual.url}/v1/traces")))
        with instrumented(tracer_provider=application, stores=(), **settings):
            program(provider)
        application.shutdown()
        expected = shape(usual.spans)
    application = TracerProvider()
    application.add_span_processor(SimpleSpanProcessor(unused := InMemorySpanExporter()))
    given = {"tracer_provider": application, "stores": store, "spool_dir": tmp_path, **settings}
    with ScriptedProvider() as provider, instrumented(**given) as handle:
        program(provider)
        assert handle.force_flush()
    assert unused.get_finished_spans() == ()
    found = shape(receiver.spans)
    assert difference(found, expected) == []
    assert found == expected


def difference(found: Counter[Any], expected: Counter[Any]) -> list[str]:
    """Return what spans of the same name and parent differ in."""
    lines = []
    for one in found - expected:
        other = next((each for each in expected - found if each[:3] == one[:3]), None)
        lines.append(f"{one[:3]}: {[(a, b) for a, b in zip(one, other or one[:1], strict=False) if a != b][:3]}")
    return lines


KILLED = """
import os, signal, sys
import openai
import callspan

provider, store, spool = sys.argv[1:]
handle = callspan.instrument(stores=[store, f"sqlite:///{spool}/calls.db"], spool_dir=spool)
client = openai.OpenAI(api_key="k", base_url=provider)
chat = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
with callspan.session("whole"):
    client.chat.completions.create(**chat)
with callspan.session("left") as session, session.timestep("half"), callspan.tool("hangs", arguments={"x": 1}):
    client.chat.completions.create(**chat)
    stream = client.chat.completions.create(**chat, stream=True)
    next(stream)
    if "now" not in spool:
        handle.force_flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("spool", ["now", "delivered"])
def test_what_a_killed_process_had_begun_is_sent_as_interrupted(
    provider: ScriptedProvider, receiver: OtlpReceiver, store: str, tmp_path: Path, spool: str
) -> None:
    """Once, whether or not the process could deliver before; what had ended is sent as ever."""
    directory = tmp_path / spool
    directory.mkdir()
    program = [sys.executable, "-c", KILLED, provider.openai_url, store, str(directory)]
    assert subprocess.run(program, check=False, timeout=60).returncode == -signal.SIGKILL
    for _ in range(2):
        stores = [store, f"sqlite:///{directory}/calls.db"]
        with instrumented(stores=stores, spool_dir=directory) as handle:
            assert handle.force_flush()
    names = {span.span_id: span.name for span in receiver.spans}
    parents = {span.span_id: names.get(span.parent_id or "") for span in receiver.spans}
    found = sorted((span.name, parents[span.span_id], span.status, span.status_text) for span in receiver.spans)
    ended = "Its process ended before it did."
    assert found == [
        ("chat m", "execute_tool hangs", "ERROR", ended),
        ("chat m", "execute_tool hangs", "UNSET", ""),
        ("chat m", "invoke_workflow whole", "UNSET", ""),
        ("execute_tool hangs", "timestep half", "ERROR", ended),
        ("invoke_workflow left", None, "ERROR", ended),
        ("invoke_workflow whole", None, "UNSET", ""),
        ("timestep half", "invoke_workflow left", "ERROR", ended),
    ]
    assert not list(directory.glob("*.segment"))
