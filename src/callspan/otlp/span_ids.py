"""Span ids: ids of spans and traces that take no number from the application's `random`.

OpenTelemetry's own generator does. A training run that has set a seed would then draw other numbers than without
spans, and workers with the same seed would have the same trace ids.
"""

from __future__ import annotations

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from callspan.record.ids import random_bits


class SpanIds(RandomIdGenerator):
    """Generates random ids. Safe from any thread and after a fork."""

    def generate_span_id(self) -> int:
        """Return the id of a span: 64 bits, not 0."""
        return random_bits(64) or 1

    def generate_trace_id(self) -> int:
        """Return the id of a trace: 128 bits, not 0."""
        return random_bits(128) or 1
