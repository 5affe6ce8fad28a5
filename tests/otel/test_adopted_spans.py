"""A framework's LLM span used by a call is exported once, even if its owner never ends it."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import callspan
from callspan.records import CallRecord
from callspan.semconv.call import CALL_ID
from callspan.spans.adopted import ADOPTED_SPANS
from callspan.testing import ScriptedProvider

DELAY_S = 0.2
QUESTION: Any = [{"role": "user", "content": "Hi"}]


class Framework:
    """Opens an LLM span around a call, as an agent framework does, and leaves its end to the test."""

    def __init__(self, client: openai.OpenAI, records: list[CallRecord]) -> None:
        self._client = client
        self._records = records
        self._exporter = InMemorySpanExporter()
        self.tracing = TracerProvider()
        self.tracing.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._tracer = self.tracing.get_tracer("framework")

    def call(self, *, leave: bool = True) -> Any:
        span: Any = self._tracer.start_span("their chat", attributes={"gen_ai.operation.name": "chat", "theirs": 1})
        with trace.use_span(span, end_on_exit=False):
            stream = self._client.chat.completions.create(model="gpt-5", messages=QUESTION, stream=True)
            next(iter(stream))
            if leave:
                stream.close()
            else:
                list(stream)
        return span

    @property
    def exported(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def clear(self) -> None:
        self._exporter.clear()

    @property
    def record(self) -> CallRecord:
        return self._records[-1]

    def wait_for_one(self) -> ReadableSpan:
        deadline = time.monotonic() + 10
        while not self.exported and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(self.exported) == 1
        return self.exported[0]


@pytest.fixture
def framework(monkeypatch: pytest.MonkeyPatch) -> Iterator[Framework]:
    monkeypatch.setattr(ADOPTED_SPANS, "delay_s", DELAY_S)
    records: list[CallRecord] = []

    def redact(record: Any) -> Any:
        records.append(record)
        return record

    with ScriptedProvider() as provider, openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        provider.reply(text="one two three four", repeat=True)
        made = Framework(client, records)
        handle = callspan.instrument(tracer_provider=made.tracing, redact=redact, stores=())
        try:
            yield made
        finally:
            handle.uninstrument()


def is_ours(framework: Framework, span: ReadableSpan) -> None:
    record = framework.record
    assert span.context is not None
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "callspan"
    assert (f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}") == (record.trace_id, record.span_id)
    assert record.timing.duration_ns is not None
    assert (span.start_time, span.end_time) == (
        record.timing.start_ns,
        record.timing.start_ns + record.timing.duration_ns,
    )
    assert span.attributes is not None
    assert span.attributes["theirs"] == 1
    assert span.attributes[CALL_ID] == record.call_id
    assert record.outcome == "cancelled"
    assert span.to_json()


def test_a_span_ended_by_its_owner_is_exported_as_it_is(framework: Framework) -> None:
    span = framework.call(leave=False)
    span.set_attribute("late", "yes")
    span.end()
    assert [each.name for each in framework.exported] == ["their chat"]
    assert dict(framework.exported[0].attributes or {})["late"] == "yes"
    del span
    gc.collect()
    time.sleep(DELAY_S * 2)
    assert [each.name for each in framework.exported] == ["their chat"]


def test_an_unended_span_is_exported_when_it_is_collected(
    framework: Framework, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ADOPTED_SPANS, "delay_s", 60.0)
    framework.call()
    gc.collect()
    is_ours(framework, framework.wait_for_one())


def test_an_unended_span_is_exported_some_time_after_the_calls_end(framework: Framework) -> None:
    span = framework.call()
    assert framework.exported == []
    is_ours(framework, framework.wait_for_one())
    assert span.is_recording()


def test_a_late_end_by_the_owner_exports_nothing_and_is_not_an_error(
    framework: Framework, nothing_warned: list[str]
) -> None:
    span = framework.call()
    ours = framework.wait_for_one()
    span.set_attribute("late", "yes")
    span.end()
    assert not span.is_recording()
    del span
    gc.collect()
    time.sleep(DELAY_S)
    assert framework.exported == [ours]


def test_a_process_that_is_about_to_end_exports_what_was_not_ended(framework: Framework) -> None:
    span = framework.call()
    ADOPTED_SPANS.export_all(5)
    is_ours(framework, framework.wait_for_one())
    span.end()
    assert len(framework.exported) == 1


def test_of_many_spans_each_is_exported_once(framework: Framework) -> None:
    kept = []
    for number in range(30):
        span = framework.call(leave=bool(number % 2))
        if number % 3 == 0:
            span.end()
        elif number % 3 == 1:
            kept.append(span)
        del span
    deadline = time.monotonic() + 10
    while len(framework.exported) < 30 and time.monotonic() < deadline:
        time.sleep(0.01)
    for span in kept:
        span.end()
    ids = [span.context.span_id for span in framework.exported if span.context is not None]
    assert len(ids) == len(set(ids)) == 30


class Editor(SpanProcessor):
    """Edits spans as they end, as far as the SDK lets it: what may not be shown is taken out before any exporter."""

    def __init__(self) -> None:
        self.ending: list[str] = []

    def _on_ending(self, span: Any) -> None:
        self.ending.append(span.name)
        span._attributes = BoundedAttributes(attributes={"edited": span.attributes["theirs"]})


def test_span_processors_can_edit_the_replacement_span(framework: Framework) -> None:
    editor = Editor()
    framework.tracing.add_span_processor(editor)
    framework.call(leave=False).end()
    framework.call()
    gc.collect()
    deadline = time.monotonic() + 10
    while len(framework.exported) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert editor.ending == ["their chat", "chat gpt-5"]
    assert [dict(span.attributes or {}) for span in framework.exported] == [{"edited": 1}] * 2


def test_without_the_sdks_own_class_a_span_that_can_be_read_is_exported(
    framework: Framework, monkeypatch: pytest.MonkeyPatch
) -> None:
    span = framework.call()
    monkeypatch.delattr("opentelemetry.sdk.trace._Span")
    is_ours(framework, framework.wait_for_one())
    assert span.is_recording()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks there")
def test_a_forked_child_leaves_the_span_of_its_parent_to_the_parent(framework: Framework) -> None:
    span = framework.call()
    child = os.fork()
    if child == 0:
        ADOPTED_SPANS.export_all(5)
        os._exit(len(framework.exported))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    is_ours(framework, framework.wait_for_one())
    assert span.is_recording()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks there")
def test_a_forked_child_exports_for_the_spans_of_its_own(framework: Framework) -> None:
    framework.call()
    child = os.fork()
    if child == 0:
        framework.clear()
        span = framework.call()
        ADOPTED_SPANS.export_all(5)
        is_ours(framework, framework.wait_for_one())
        os._exit(0 if span.is_recording() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


PROGRAM = """
import os, signal, sys
import openai
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
import callspan
from callspan.testing import ScriptedProvider

tracing = TracerProvider()
tracing.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter(formatter=lambda span: f"SPAN {span.name}\\n")))
callspan.instrument(tracer_provider=tracing)
provider = ScriptedProvider()
provider.reply(text="one two three four", repeat=True)
client = openai.OpenAI(api_key="k", base_url=provider.openai_url)
span = tracing.get_tracer("framework").start_span("their chat", attributes={"gen_ai.operation.name": "chat"})
with trace.use_span(span, end_on_exit=False):
    stream = client.chat.completions.create(model="gpt-5", messages=[], stream=True)
    next(iter(stream))
    if sys.argv[1] != "open":
        stream.close()
if sys.argv[1] == "SIGTERM":
    os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.parametrize("how", ["closed", "open"])
def test_at_exit_a_span_that_was_never_ended_is_exported(how: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["SPAN chat gpt-5"]


def test_before_sigterm_ends_the_process_a_span_that_was_never_ended_is_exported(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(PROGRAM.replace("callspan.instrument(tracer_provider=tracing)", SET))
    done = subprocess.run(
        [sys.executable, "-m", "callspan.cli", "run", "app.py", "SIGTERM"],
        capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("OTEL_")},
    )  # fmt: skip
    assert done.returncode == -signal.SIGTERM, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("SPAN")] == ["SPAN chat gpt-5"]


SET = "trace.set_tracer_provider(tracing)"
