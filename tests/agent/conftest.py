"""Fixtures: a real tracer that keeps its spans in memory, and a runtime that keeps its records in a list."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.processed import UNPROCESSED

from callspan.agent import misuse, runtime
from callspan.agent.episode import EPISODES, OPEN_STEPS, forgotten
from callspan.agent.runtime import Runtime, install, remove
from callspan.fail_open import fail_open, failures, forget_failures
from callspan.process import callbacks
from callspan.process.processed import ProcessedRecord
from callspan.process.processors import Processor, Processors
from callspan.records import EventRecord, Record, decode, encode
from callspan.semconv.scope_spans import ScopeSpanOptions
from callspan.settings import Content
from callspan.spans.session import SessionSpans

elsewhere = forgotten
"""Context manager of a process that has seen none of these sessions, steps and calls."""
raised_misuse = misuse.usage_errors
"""Context manager in which misuse raises, as in `capture()`."""


def processing(step: Callable[[Any], Any]) -> Callable[[Content | None], Processors]:
    """Return what a runtime is given so that every record goes through `step`."""
    processors = Processors([Processor(fail_open("run the test's processor"), step)])
    return lambda _: processors


@contextmanager
def logged_misuse() -> Iterator[None]:
    """Log misuse within `capture()`, as outside of it."""
    raising = misuse._raising.copy()
    misuse._raising.clear()
    try:
        yield
    finally:
        misuse._raising[:] = raising


def open_scopes() -> int:
    """Return how many sessions and steps callspan knows as open."""
    return len(EPISODES) + len(OPEN_STEPS)


def failed() -> dict[str, int]:
    """Return what has failed inside callspan since it was last asked."""
    found = failures()
    forget_failures()
    return found


class Seen:
    """What a program under test left behind: records in the order of writing, spans in the order of their end."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("callspan.tests")

    def write(self, written: ProcessedRecord[Record]) -> None:
        decode(encode(written.record))
        self.records.append(written.record)
        callbacks.call("after_record", written.record)

    def runtime(self, options: ScopeSpanOptions | None = None, **settings: Any) -> Runtime:
        settings = {"processors": lambda _level: UNPROCESSED, "service": "tests", **settings}
        return Runtime(write=self.write, spans=SessionSpans(self.tracer, options), **settings)

    def install(self, options: ScopeSpanOptions | None = None, **settings: Any) -> None:
        install(self.runtime(options, **settings))

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def of(self, kind: type) -> list[Any]:
        """All records of a kind, without the announcements of tools."""
        return [record for record in self.records if isinstance(record, kind) and record not in self.tool_starts]

    @property
    def tool_starts(self) -> list[EventRecord]:
        events = [record for record in self.records if isinstance(record, EventRecord)]
        return [event for event in events if event.event_type == "tool_start"]

    def ended(self, kind: type) -> list[Any]:
        return [record for record in self.of(kind) if record.end_ns is not None]


@pytest.fixture
def seen(caplog: pytest.LogCaptureFixture) -> Iterator[Seen]:
    """What happens is kept; at the end nothing may have failed inside callspan and nothing logged an error."""
    misuse.forget_warnings()
    failed()
    kept = Seen()
    kept.install()
    yield kept
    remove()
    kept.provider.shutdown()
    assert failed() == {}
    assert [entry for entry in caplog.records if entry.levelno >= logging.ERROR] == []


@pytest.fixture
def no_runtime() -> Iterator[None]:
    remove()
    yield
    remove()


@pytest.fixture
def new_process() -> Iterator[None]:
    """A process in which `instrument()` was never called."""
    runtime.forget()
    misuse.forget_warnings()
    yield
    remove()
    misuse.forget_warnings()


@pytest.fixture
def parent_of() -> Callable[[ReadableSpan], int | None]:
    return lambda span: span.parent.span_id if span.parent is not None else None
