"""A real OpenTelemetry Collector: all telemetry arrives, also after restarts of the Collector.

`tools/collector.py` builds it.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import opentelemetry._logs._internal as logs_api
import opentelemetry.metrics._internal as metrics_api
import opentelemetry.trace as traces_api
import pytest
from click.testing import CliRunner
from opentelemetry.util._once import Once

import callspan
from callspan.otlp.providers import make_provider
from callspan.testing import ScriptedProvider
from tests.commands import callspan as command
from tests.e2e.conftest import DEMO_SPANS, VOICE_CALLS
from tests.otel.collector import Collector
from tests.otel.receiver import OtlpReceiver, plain

pytestmark = [pytest.mark.timeout(120)]

ROOT = Path(__file__).resolve().parents[2]
PROTOCOLS = ("http", "grpc")
EVENT = "gen_ai.client.inference.operation.details"
GLOBAL_PROVIDERS = (
    (traces_api, "_TRACER_PROVIDER"), (metrics_api, "_METER_PROVIDER"), (logs_api, "_LOGGER_PROVIDER")
)  # fmt: skip


@pytest.fixture(autouse=True)
def global_providers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """None at first: a process sets them once, and those of an earlier test would send to its collector."""
    for api, name in GLOBAL_PROVIDERS:
        monkeypatch.setattr(api, name, None)
        monkeypatch.setattr(api, f"{name}_SET_ONCE", Once())
    yield
    for api, name in GLOBAL_PROVIDERS:
        if (provider := getattr(api, name)) is not None:
            provider.shutdown()


@pytest.fixture
def collector(tmp_path: Path, receiver: OtlpReceiver) -> Iterator[Collector]:
    with Collector(tmp_path, receiver) as running:
        yield running


class Held:
    """What the exporters of this process were given, by signal; taken down beside their work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
        from importlib import import_module

        self.spans: list[Any] = []
        self.logs: list[Any] = []
        self.metrics: list[Any] = []
        for module, name, kept in (
            ("trace_exporter", "OTLPSpanExporter", self.spans.extend),
            ("_log_exporter", "OTLPLogExporter", self.logs.extend),
            ("metric_exporter", "OTLPMetricExporter", self.metrics.append),
        ):
            exporter = getattr(import_module(f"opentelemetry.exporter.otlp.proto.{protocol}.{module}"), name)
            monkeypatch.setattr(exporter, "export", _also(exporter.export, kept))


def _also(export: Any, keep: Any) -> Any:
    def both(self: Any, batch: Any, **options: Any) -> Any:
        keep(batch)
        return export(self, batch, **options)

    return both


def play_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, collector: Collector, protocol: str) -> Held:
    """Run the demo in this process, with the receiver in environment variables."""
    held = Held(monkeypatch, protocol)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address(protocol))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc" if protocol == "grpc" else "http/protobuf")
    monkeypatch.setenv("CALLSPAN_LOG_EVENTS", "on")
    done = CliRunner().invoke(
        command, ["--store", f"sqlite:///{tmp_path / 'calls.db'}", "demo", "--json"], catch_exceptions=False
    )
    assert (done.exit_code, done.stderr) == (0, "")
    return held


def lists(value: Any) -> Any:
    """Sequences as lists and mappings as dicts, as they are after transport."""
    if isinstance(value, dict) or hasattr(value, "items"):
        return {name: lists(one) for name, one in value.items()}
    return [lists(one) for one in value] if isinstance(value, list | tuple) else value


def points(metrics: list[tuple[str, str, Any]]) -> dict[Any, Any]:
    """The last value of each series: by name, unit and attributes."""
    return {(name, unit, key): value for name, unit, series in metrics for key, value in series}


def held_points(exports: list[Any]) -> dict[Any, Any]:
    found = []
    for export in exports:
        for resource in export.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    series = [(_key(point.attributes), _held(point)) for point in metric.data.data_points]
                    found.append((metric.name, metric.unit, series))
    return points(found)


def _held(point: Any) -> Any:
    return (point.count, point.sum, list(point.bucket_counts)) if hasattr(point, "bucket_counts") else point.value


def arrived_points(receiver: OtlpReceiver) -> dict[Any, Any]:
    found = []
    for metric in receiver.metrics:
        data = getattr(metric, metric.WhichOneof("data"))
        series = [(_key(plain(point.attributes)), _arrived(point)) for point in data.data_points]
        found.append((metric.name, metric.unit, series))
    return points(found)


def _arrived(point: Any) -> Any:
    if hasattr(point, "bucket_counts"):
        return point.count, point.sum, list(point.bucket_counts)
    return getattr(point, point.WhichOneof("value"))


def _key(attributes: Any) -> tuple[Any, ...]:
    return tuple(sorted(attributes.items()))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_demo_arrives_whole_with_the_values_the_process_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, collector: Collector, receiver: OtlpReceiver, protocol: str
) -> None:
    held = play_demo(tmp_path, monkeypatch, collector, protocol)
    assert len(receiver.spans) == len(held.spans) == DEMO_SPANS
    sent = {f"{span.context.span_id:016x}": span for span in held.spans}
    for span in receiver.spans:
        mine = sent[span.span_id]
        assert (span.name, span.kind) == (mine.name, mine.kind.name)
        assert span.trace_id == f"{mine.context.trace_id:032x}"
        assert span.parent_id == (f"{mine.parent.span_id:016x}" if mine.parent else None)
        assert span.attributes == lists(mine.attributes)
        assert span.events == [(event.name, lists(event.attributes)) for event in mine.events]
        assert span.links == [f"{link.context.span_id:016x}" for link in mine.links]
        assert (span.status, span.status_text) == (mine.status.status_code.name, mine.status.description or "")
        assert (span.start_ns, span.end_ns) == (mine.start_time, mine.end_time)
        assert span.resource == lists(mine.resource.attributes)
        assert span.resource["service.name"] == "callspan-demo"
    assert [name for name, _, _ in receiver.logs].count(EVENT) == 41 + VOICE_CALLS
    assert len(receiver.logs) == len(held.logs)
    for (name, attributes, record), mine in zip(receiver.logs, held.logs, strict=True):
        log = mine.log_record
        assert (name, attributes) == (log.event_name, lists(log.attributes))
        assert (record.trace_id.hex(), record.span_id.hex()) == (f"{log.trace_id:032x}", f"{log.span_id:016x}")
        assert record.time_unix_nano == log.timestamp
    expected = held_points(held.metrics)
    assert arrived_points(receiver) == expected
    assert len({name for name, _, _ in expected}) >= 16


DOCUMENTED = re.compile(r"\b((?:callspan|gen_ai)_(?:client|records|agent)_\w+?)(?=[{\[)\s])")


def queries() -> str:
    """Every PromQL query of the page on alerts."""
    return "\n".join(re.findall(r"```promql\n(.*?)```", (ROOT / "docs/alerts.md").read_text(), re.DOTALL))


def test_prometheus_shows_the_names_units_and_values_that_the_alerts_ask_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, collector: Collector
) -> None:
    held = play_demo(tmp_path, monkeypatch, collector, "http")
    samples = collector.scrape()
    names = {name for name, _, _ in samples}
    queried = set(DOCUMENTED.findall(queries())) - {"gen_ai_client_token_type"}
    assert len(queried) > 10
    assert queried <= names, queried - names
    labels = {label for _, found, _ in samples for label in found}
    split_by = set(re.findall(r"\b((?:callspan|gen_ai)_\w+)", queries())) - queried
    assert split_by <= labels, split_by - labels
    expected = {name: value for (name, _, _), value in held_points(held.metrics).items()}
    assert {"callspan.client.retries", "gen_ai.client.token.usage"} <= set(expected)
    assert _sum(samples, "callspan_client_retries_total") == expected["callspan.client.retries"] == 1
    assert _sum(samples, "gen_ai_client_operation_duration_seconds_count") == 41 + VOICE_CALLS
    durations = [v[1] for (name, _, _), v in held_points(held.metrics).items() if name.endswith("operation.duration")]
    assert math.isclose(_sum(samples, "gen_ai_client_operation_duration_seconds_sum"), sum(durations))
    assert {found["job"] for name, found, _ in samples if name.startswith("gen_ai_")} == {"callspan-demo"}


def _sum(samples: list[tuple[str, dict[str, str], float]], wanted: str) -> float:
    return sum(value for name, _, value in samples if name == wanted)


def tell_where(monkeypatch: pytest.MonkeyPatch, collector: Collector, protocol: str) -> Any:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address(protocol))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc" if protocol == "grpc" else "http/protobuf")
    return make_provider("traces", otlp=True)


def start_span(provider: Any, name: str) -> None:
    provider.get_tracer("test").start_span(name).end()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_collector_that_restarts_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, collector: Collector, receiver: OtlpReceiver, logged: list[str], protocol: str
) -> None:
    provider = tell_where(monkeypatch, collector, protocol)
    start_span(provider, "before")
    provider.force_flush()
    collector.stop()
    start_span(provider, "meanwhile")
    restart = threading.Timer(0.5, collector.start)
    restart.start()
    provider.force_flush()
    restart.join()
    provider.shutdown()
    assert [span.name for span in receiver.spans] == ["before", "meanwhile"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_collector_that_was_down_gets_what_follows(
    monkeypatch: pytest.MonkeyPatch, collector: Collector, receiver: OtlpReceiver, logged: list[str], protocol: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    provider = tell_where(monkeypatch, collector, protocol)
    collector.stop()
    for number in range(3):
        start_span(provider, f"lost {number}")
        assert not provider.force_flush()
    collector.start()
    number, is_back = 0, False
    while not is_back and number < 10:  # gRPC waits by itself before it connects again
        number += 1
        start_span(provider, f"span {number}")
        is_back = provider.force_flush()
    provider.shutdown()
    assert [span.name for span in receiver.spans] == [f"span {number}"]
    assert logged


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_slow_collector_slows_no_call_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, collector: Collector, receiver: OtlpReceiver, protocol: str, logged: list[str]
) -> None:
    receiver.pause_s = 1.5
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    provider = tell_where(monkeypatch, collector, protocol)
    handle = callspan.instrument(tracer_provider=provider)
    took_s = []
    try:
        with ScriptedProvider() as scripted, openai.OpenAI(base_url=scripted.openai_url, api_key="x") as client:
            for _ in range(10):
                before_s = time.monotonic()
                client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "Hi"}])
                took_s.append(time.monotonic() - before_s)
                time.sleep(0.1)
    finally:
        handle.uninstrument()
    provider.shutdown()
    assert max(took_s) < receiver.pause_s
    assert len(receiver.spans) == 10
    assert not logged
