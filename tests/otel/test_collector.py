"""A real OpenTelemetry Collector: all telemetry arrives, and Prometheus shows what the alerts ask for."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import opentelemetry._logs._internal as logs_api
import opentelemetry.metrics._internal as metrics_api
import opentelemetry.trace as traces_api
import pytest
from click.testing import CliRunner
from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.util._once import Once

from tests.otel.collector import Collector
from tests.support.commands import callspan as command
from tests.support.demo import DEMO_SPANS, VOICE_CALLS
from tests.support.receiver import OtlpReceiver, items

pytestmark = [pytest.mark.timeout(120)]

ROOT = Path(__file__).resolve().parents[2]
PROTOCOLS = ("http", "grpc")
SIGNALS = ("spans", "logs", "metrics")
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
    """What the exporters of this process were given, as they encode it; taken down beside their work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
        self.spans: list[Any] = []
        self.logs: list[Any] = []
        self.metrics: list[Any] = []
        for module, name, keep in (
            ("trace_exporter", "OTLPSpanExporter", lambda batch: self.spans.append(encode_spans(batch))),
            ("_log_exporter", "OTLPLogExporter", lambda batch: self.logs.append(encode_logs(batch))),
            ("metric_exporter", "OTLPMetricExporter", lambda batch: self.metrics.append(encode_metrics(batch))),
        ):
            exporter = getattr(import_module(f"opentelemetry.exporter.otlp.proto.{protocol}.{module}"), name)
            monkeypatch.setattr(exporter, "export", _also(exporter.export, keep))


def _also(export: Any, keep: Any) -> Any:
    def both(self: Any, batch: Any, **options: Any) -> Any:
        keep(batch)
        return export(self, batch, **options)

    return both


def whole(requests: list[Any]) -> list[Any]:
    """All that requests hold, each with its resource, in an order of its own."""
    found = [(resource, one) for signal in SIGNALS for resource, _, one in items(requests, signal)]
    return sorted(([MessageToDict(part) for part in each] for each in found), key=str)


def play_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, collector: Collector, protocol: str) -> Held:
    """Run the demo in this process, with the receiver in environment variables."""
    held = Held(monkeypatch, protocol)
    send_to(collector, protocol, monkeypatch)
    monkeypatch.setenv("CALLSPAN_LOG_EVENTS", "on")
    done = CliRunner().invoke(
        command, ["--store", f"sqlite:///{tmp_path / 'calls.db'}", "demo", "--json"], catch_exceptions=False
    )
    assert (done.exit_code, done.stderr) == (0, "")
    return held


def send_to(collector: Collector, protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.addresses[protocol])
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc" if protocol == "grpc" else "http/protobuf")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_demo_arrives_whole_with_the_values_the_process_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, collector: Collector, receiver: OtlpReceiver, protocol: str
) -> None:
    held = play_demo(tmp_path, monkeypatch, collector, protocol)
    assert whole(receiver.requests) == whole([*held.spans, *held.logs, *held.metrics])
    assert len(receiver.spans) == DEMO_SPANS
    assert {span.resource["service.name"] for span in receiver.spans} == {"callspan-demo"}
    assert [name for name, _, _ in receiver.logs].count(EVENT) == 39 + VOICE_CALLS
    assert len({metric.name for metric in receiver.metrics}) >= 16


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
    assert _sum(samples, "callspan_client_retries_total") == 1
    assert _sum(samples, "gen_ai_client_operation_duration_seconds_count") == 39 + VOICE_CALLS
    last = {metric["name"]: metric for _, metric in whole(held.metrics[-1:])}
    durations = [point["sum"] for point in last["gen_ai.client.operation.duration"]["histogram"]["dataPoints"]]
    assert math.isclose(_sum(samples, "gen_ai_client_operation_duration_seconds_sum"), sum(durations))
    assert {found["job"] for name, found, _ in samples if name.startswith("gen_ai_")} == {"callspan-demo"}


def _sum(samples: list[tuple[str, dict[str, str], float]], wanted: str) -> float:
    return sum(value for name, _, value in samples if name == wanted)
