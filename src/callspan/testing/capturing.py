"""Capture: the spans and records of a block of code in memory, independent of other configuration."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from callspan.agent.episode import forgotten
from callspan.agent.misuse import usage_errors
from callspan.process.processed import Processed
from callspan.process.redaction import Redactor
from callspan.providers import registry
from callspan.record.call import CallRecord
from callspan.record.events import EventRecord, MessageRecord, Record, RewardRecord, SessionRecord, TimestepRecord
from callspan.record.merging import merged
from callspan.sdk_profiles import SDKS
from callspan.settings import SettingArguments
from callspan.settings_loader import load
from callspan.wiring import WIRING
from callspan.wiring.pipeline import Providers

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Captured:
    """What was captured so far; lists grow while the block runs.

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
        """Finished spans in the order they ended."""
        _settle()
        return list(self._exporter.get_finished_spans())

    @property
    def everything(self) -> list[Record]:
        """Every record in the order it was written, `started` records of streams among them."""
        _settle()
        return list(self._all)

    @property
    def records(self) -> list[CallRecord]:
        """One record per finished call, with its conversation; background responses in their present state.

        Collects garbage first if a stream is open: one whose iterator is gone has ended.
        """
        calls: dict[str | int, list[CallRecord]] = {}
        for number, record in enumerate(self.everything):
            if isinstance(record, CallRecord) and record.outcome != "started":
                key = record.call_id if record.is_merged else number
                calls.setdefault(key, []).append(record)
        return [registry.with_conversation(merged(versions)) for versions in calls.values()]

    @property
    def sessions(self) -> list[SessionRecord]:
        """Every writing of every session; the last one of each id is its present state."""
        return [record for record in self.everything if isinstance(record, SessionRecord)]

    @property
    def timesteps(self) -> list[TimestepRecord]:
        """Every writing of every timestep."""
        return [record for record in self.everything if isinstance(record, TimestepRecord)]

    @property
    def events(self) -> list[EventRecord]:
        """Events in order: actions, steps of the environment, tools, agents, guardrails, handoffs and your own."""
        return [record for record in self.everything if isinstance(record, EventRecord)]

    @property
    def messages(self) -> list[MessageRecord]:
        """Observations and other messages between systems, in order; those of calls are in their records."""
        return [record for record in self.everything if isinstance(record, MessageRecord)]

    @property
    def rewards(self) -> list[RewardRecord]:
        """Rewards and feedback, oldest first."""
        return [record for record in self.everything if isinstance(record, RewardRecord)]

    def _add(self, processed: Processed[Record]) -> None:
        self._all.append(processed.record)


def _settle() -> None:
    """Have everything end that will: also streams that only the garbage collector would find."""
    if WIRING.hook_context.deferred_ends.under_way:
        gc.collect()
    WIRING.hook_context.deferred_ends.drain()


@contextmanager
def capture(*, redact: Redactor | None = None, **settings: Unpack[SettingArguments]) -> Iterator[Captured]:
    """Instrument the SDKs for the block and collect its spans and records; then restore the previous state.

    The environment is not read; `settings` are those of `callspan.instrument()`. Misuse of the session API raises
    `UsageError`, so that it fails the test. Spans go to a provider of their own,
    not to the global one, and to no store. Captures may be nested; the innermost sees the calls, and knows no
    session of another.

    Raises:
        SettingError: A setting is invalid.

    Example:
        >>> with callspan.testing.capture(content="off") as seen:
        ...     _ = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        >>> seen.records[0].text is None
        True
    """
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    captured = Captured(exporter)
    loaded = load({**settings}, environment={})
    providers = Providers(tracer_provider=provider, redact=redact, listeners=(captured._add,))
    before = WIRING.pipeline
    WIRING.install(loaded, providers, SDKS)
    try:
        with forgotten(), usage_errors():
            yield captured
    finally:
        WIRING.hook_context.deferred_ends.drain()
        WIRING.restore(before)
        provider.shutdown()
