"""Ends that the application interrupts in callspan's hands: one record each, and a count of what may be lost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import callspan
from callspan.cli.doctor import every_check
from callspan.delivery import recorder
from callspan.records import CallRecord
from callspan.testing import ScriptedProvider

QUESTION: Any = [{"role": "user", "content": "Hi"}]


class Interrupting(SpanProcessor):
    """An exporter of the application in which a signal arrives."""

    def on_end(self, span: ReadableSpan) -> None:
        raise KeyboardInterrupt


def exits(record: Any) -> Any:
    """A redactor that ends its thread whenever a call has ended."""
    if isinstance(record, CallRecord) and record.outcome != "started":
        raise SystemExit
    return record


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., tuple[list[Any], list[CallRecord]]]]:
    """Make one call that is interrupted; return its spans and records."""

    def call(raised: type[BaseException], *processors: SpanProcessor, **settings: Any) -> Any:
        exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
        for processor in (SimpleSpanProcessor(exporter), *processors):
            provider.add_span_processor(processor)
        store = f"sqlite:///{tmp_path}/calls.db"
        with ScriptedProvider() as scripted:
            scripted.reply(text="Well.", repeat=True)
            handle = callspan.instrument(stores=store, tracer_provider=provider, **settings)
            try:
                with openai.OpenAI(api_key="k", base_url=scripted.openai_url) as client, pytest.raises(raised):
                    client.chat.completions.create(model="gpt-5", messages=QUESTION)
                with suppress(SystemExit):  # it is run again here, or on the thread
                    handle.force_flush()
                assert handle.force_flush()
            finally:
                handle.uninstrument()
        with closing(callspan.open_store(store)) as reader:
            return exporter.get_finished_spans(), list(reader.calls())

    recorder._WARNED.forget()
    yield call
    recorder._WARNED.forget()


def interrupts(store: Path) -> list[str]:
    checks = every_check(f"sqlite:///{store}/calls.db")
    return [one.detail for one in checks if one.name == "interrupts" and one.state == "note"]


def test_a_redactor_that_always_exits_costs_the_content_only(run: Callable[..., Any], tmp_path: Path) -> None:
    spans, calls = run(SystemExit, redact=exits)
    assert len(spans) == len(calls) == 1
    assert (calls[0].outcome, {one.why for one in calls[0].redactions}) == ("success", {"interrupted"})
    assert interrupts(tmp_path) == []


def test_an_interrupt_at_the_end_of_a_span_is_counted_and_warned_of(
    run: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        spans, calls = run(KeyboardInterrupt, Interrupting())
    assert len(spans) == len(calls) == 1
    (counted,) = interrupts(tmp_path)
    assert counted.startswith("1 interrupt in the middle of an end, last at 20")
    assert [one for one in caplog.messages if "may lack its span" in one] == [recorder._MAY_LACK]
