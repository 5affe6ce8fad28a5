"""The compared rows: the SDK alone, a raw span around it, and callspan with several settings."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

import callspan
import floor
from columns import Column

BARE, FLOOR, DEFAULT = "bare SDK", "raw span, same attributes (floor)", "callspan, default"
SQLITE, DISABLED = "callspan, records to SQLite", "callspan, disabled"
Wrap = Callable[[Callable[[], Any]], Callable[[], Any]]


@dataclass(frozen=True)
class Row:
    """One way to run the work: a context manager around a block of runs that yields a wrapper of each run."""

    name: str
    around: Callable[[], AbstractContextManager[Wrap]]


class _Nowhere(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        del spans
        return SpanExportResult.SUCCESS


def provider() -> TracerProvider:
    """Return a provider as in an application, with a no-op exporter."""
    made = TracerProvider()
    made.add_span_processor(BatchSpanProcessor(_Nowhere()))
    return made


def rows(column: Column, tracing: TracerProvider) -> list[Row]:
    """Return the rows for a column. The first two are the baselines of the others."""
    raw = floor.floor(recorded(column), tracing, agent=column.agent, is_async=column.is_async)

    @contextmanager
    def floored() -> Iterator[Wrap]:
        yield raw

    return [
        Row(BARE, bare),
        Row(FLOOR, floored),
        Row(DEFAULT, instrumented(tracing)),
        Row(SQLITE, lambda: _with_sqlite(tracing)),
        Row(DISABLED, instrumented(tracing, enabled=False)),
    ]


def recorded(column: Column) -> list[floor.Recorded]:
    """Return the spans that callspan creates for one run of a column."""
    notes = floor.Notes()
    watched = TracerProvider()
    watched.add_span_processor(notes)
    with instrumented(watched)():
        column.run(1, same, lambda: 0)
    return notes.spans


def same(work: Callable[[], Any]) -> Callable[[], Any]:
    """Wrap nothing."""
    return work


@contextmanager
def bare() -> Iterator[Wrap]:
    """Change nothing."""
    yield same


def instrumented(tracing: TracerProvider, **settings: Any) -> Callable[[], AbstractContextManager[Wrap]]:
    """Return a context manager that enables callspan with these settings."""

    @contextmanager
    def around() -> Iterator[Wrap]:
        handle = callspan.instrument(tracer_provider=tracing, **settings)
        try:
            yield same
        finally:
            handle.uninstrument()

    return around


@contextmanager
def _with_sqlite(tracing: TracerProvider) -> Iterator[Wrap]:
    with (
        tempfile.TemporaryDirectory() as directory,
        instrumented(tracing, stores=f"sqlite:///{Path(directory) / 'bench.db'}")() as wrap,
    ):
        yield wrap
