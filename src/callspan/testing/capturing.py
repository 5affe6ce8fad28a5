"""Capture: collects the spans and records of a block of code in memory, independent of other configuration."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from callspan.agent.misuse import usage_errors
from callspan.agent.registry import isolated_ids
from callspan.intercept.patching import sources_of
from callspan.otlp.providers import check_otlp, make_provider
from callspan.otlp.span_ids import SpanIds
from callspan.process.processed import ProcessedRecord
from callspan.process.redaction import Redactor
from callspan.providers import registry
from callspan.record.call import CallRecord
from callspan.record.events import EventRecord, MessageRecord, Record, RewardRecord, SessionRecord, TimestepRecord
from callspan.record.merging import merged
from callspan.sdk_profiles import HTTP, SOURCES, Source
from callspan.settings import SettingArguments
from callspan.settings_loader import load, names_http
from callspan.wiring import WIRING
from callspan.wiring.pipeline import Providers

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Capture:
    """The spans and records of a `capture` so far.

    Example:
        >>> with callspan.testing.capture() as seen:
        ...     _ = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        >>> [span.name for span in seen.spans], len(seen.records)
        (['chat m'], 1)
    """

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter
        self._all: list[Record] = []

    @property
    def spans(self) -> list[ReadableSpan]:
        """Finished spans, in the order of their ends."""
        _settle()
        return list(self._exporter.get_finished_spans())

    @property
    def everything(self) -> list[Record]:
        """All records in the order they were written in, including `started` records."""
        _settle()
        return list(self._all)

    @property
    def records(self) -> list[CallRecord]:
        """One record per finished call, with its conversation; background responses in their current state.

        Runs the garbage collector first if a stream is open, because abandoned streams end when they are collected.
        """
        calls: dict[str | int, list[CallRecord]] = {}
        versions = [one for one in self.everything if isinstance(one, CallRecord) and not one.is_first_version]
        in_versions = {record.call_id for record in versions if record.is_merged}
        for number, record in enumerate(versions):
            key = record.call_id if record.call_id in in_versions else number
            calls.setdefault(key, []).append(record)
        return [registry.with_conversation(merged(versions)) for versions in calls.values()]

    @property
    def sessions(self) -> list[SessionRecord]:
        """All versions of all sessions; the last one with an id is the current state."""
        return [record for record in self.everything if isinstance(record, SessionRecord)]

    @property
    def timesteps(self) -> list[TimestepRecord]:
        """All versions of all timesteps."""
        return [record for record in self.everything if isinstance(record, TimestepRecord)]

    @property
    def events(self) -> list[EventRecord]:
        """Events in order: actions, environment steps, tools, agents, guardrails, handoffs and your own."""
        return [record for record in self.everything if isinstance(record, EventRecord)]

    @property
    def messages(self) -> list[MessageRecord]:
        """Observations and other messages between systems, in order; messages of calls are in the call records."""
        return [record for record in self.everything if isinstance(record, MessageRecord)]

    @property
    def rewards(self) -> list[RewardRecord]:
        """Rewards and feedback, oldest first."""
        return [record for record in self.everything if isinstance(record, RewardRecord)]

    def add(self, processed: ProcessedRecord[Record]) -> None:
        """Add a written record."""
        self._all.append(processed.record)


def _settle() -> None:
    """Finish pending calls, including streams that were abandoned without `close()`."""
    if WIRING.hook_context.deferred_ends.under_way:
        gc.collect()
    WIRING.hook_context.deferred_ends.drain()


@contextmanager
def capture(
    *,
    redact: Redactor | None = None,
    sdks: Source | Sequence[Source] | None = None,
    otlp: str | bool | None = None,
    **settings: Unpack[SettingArguments],
) -> Iterator[Capture]:
    """Instrument the SDKs for a block and collect its spans and records; then restore the previous state.

    `redact`, `sdks` and `settings` are as for `callspan.instrument()`; environment variables are ignored. Misuse of the
    session API raises `UsageError`, so that it fails the test. Spans go to a separate provider, not to the global one,
    and with `otlp` also to that receiver, at the end of the block at the latest; records go to no store unless `stores`
    names one. Captures may be nested; the innermost one gets the calls, and does not know the sessions of outer ones. A
    capture covers the whole process: threads that capture at once get each other's calls.

    Raises:
        SettingError: A setting is invalid.
        ImportError: `otlp` is given and no exporter is installed.

    Example:
        >>> with callspan.testing.capture(content="off") as seen:
        ...     _ = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        >>> seen.records[0].text is None
        True
    """
    sources = SOURCES if sdks is None else sources_of(sdks)
    if names_http(settings, {}):
        sources = (*sources, HTTP)
    check_otlp(otlp)
    loaded = load({**settings}, environment={})
    exporter = InMemorySpanExporter()
    provider = make_provider("traces", otlp) if otlp else TracerProvider(id_generator=SpanIds())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    captured = Capture(exporter)
    providers = Providers(tracer_provider=provider, redact=redact, listeners=(captured.add,))
    try:
        with WIRING.replaced(loaded, providers, sources), isolated_ids(), usage_errors():
            yield captured
    finally:
        provider.shutdown()
