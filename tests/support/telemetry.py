"""Providers of OpenTelemetry's SDK that keep what they get: spans that have ended, and points of metrics."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


def kept_spans() -> tuple[TracerProvider, InMemorySpanExporter]:
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


class UnhashableProvider(MeterProvider):
    """As that of Logfire, a dataclass that compares by value."""

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = None  # type: ignore[assignment] # what it is about


class Meters:
    """A meter provider, read when asked."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = UnhashableProvider(metric_readers=[self.reader], shutdown_on_exit=False)

    def metrics(self) -> dict[str, Any]:
        data = self.reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        return {metric.name: metric for scope in scopes for metric in scope.metrics}

    def read(self) -> dict[str, list[Any]]:
        """Data points by metric, without metrics that have none."""
        found = {name: list(metric.data.data_points) for name, metric in self.metrics().items()}
        return {name: points for name, points in found.items() if points}

    def values(self, name: str, **about: object) -> list[Any]:
        """Values of a metric's points whose attributes (dots as double underscores) are these."""
        wanted = {key.replace("__", "."): value for key, value in about.items()}
        return [
            point.value
            for point in self.read().get(name, [])
            if all(point.attributes.get(key) == value for key, value in wanted.items())
        ]

    def running(self) -> int:
        return sum(self.values("callspan.client.in_flight"))
