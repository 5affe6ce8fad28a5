"""Every span, event and metric against the registry of the GenAI conventions: what is to differ has its reason."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics.export import Histogram
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.trace import StatusCode
from tests.otel.conventions import (
    TYPES,
    Deviations,
    Difference,
    SeenMetric,
    SeenSpan,
    of_event,
    of_metric,
    of_span,
)  # fmt: skip
from tests.support.launching import Stage
from tests.support.processes import ROOT
from tests.support.programs import DEMO_SPANS, QUESTION, everything, loose, robot, support_desk
from tests.support.receiver import items, plain
from tests.support.scale import FULL
from tests.support.tables import table
from tests.support.telemetry import Meters
from tests.wire import corpus
from tests.wire.corpus import MORE, OTHERS
from tests.wire.exchanges import CASES, exchange
from tests.wire.recorded_clients import player
from tests.wire.replay import ENTRIES, Replayer

import callspan
from callspan.testing import ScriptedProvider

pytestmark = [
    pytest.mark.usefixtures("no_settings"),
    pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning"),
]
DEVIATIONS = Path(__file__).with_name("deviations.yaml")
NAMESPACES = {"anthropic", "mcp", "openinference", *(name.partition(".")[0] for name in TYPES)}
"""Those of conventions, which callspan's documents name."""


class Kept(SpanProcessor):
    """Keeps callspan's spans, with the attributes with which each began."""

    def __init__(self) -> None:
        self.ended: list[SeenSpan] = []
        self._at_start: dict[int, dict[str, Any]] = {}

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self._at_start[span.get_span_context().span_id] = dict(span.attributes or {})

    def on_end(self, span: ReadableSpan) -> None:
        if span.instrumentation_scope is None or span.instrumentation_scope.name != "callspan":
            return  # of an SDK that traces itself
        assert span.context is not None
        events = [(event.name, event.attributes or {}) for event in span.events]
        self.ended.append(
            SeenSpan(
                span.name, span.kind.name, span.attributes or {}, events,
                span.status.status_code is StatusCode.ERROR, self._at_start.pop(span.context.span_id),
            )
        )  # fmt: skip


@contextmanager
def differing() -> Iterator[list[Difference]]:
    """Record a block in all signals; then fill the list."""
    spans, logs, meters, logging = Kept(), InMemoryLogRecordExporter(), Meters(), LoggerProvider()
    tracing = TracerProvider()
    tracing.add_span_processor(spans)
    logging.add_log_record_processor(SimpleLogRecordProcessor(logs))
    handle = callspan.instrument(
        vocabularies="gen_ai", log_events=True, stores=(),
        tracer_provider=tracing, meter_provider=meters.provider, logger_provider=logging,
    )  # fmt: skip
    found = list[Difference]()
    try:
        yield found
    finally:
        handle.force_flush()
        handle.uninstrument()
    for span in spans.ended:
        found += of_span(span)
    for log in logs.get_finished_logs():
        record = log.log_record
        assert record.event_name is not None
        assert record.severity_number is not None
        found += of_event(record.event_name, dict(record.attributes or {}), record.severity_number.name)
    for metric in meters.metrics().values():
        is_histogram = isinstance(metric.data, Histogram)
        instrument = (
            "histogram" if is_histogram else "counter" if getattr(metric.data, "is_monotonic", False) else "gauge"
        )
        points = [
            (point.attributes, point.explicit_bounds if is_histogram else ()) for point in metric.data.data_points
        ]
        found += of_metric(SeenMetric(metric.name, metric.unit, instrument, points))
    meters.provider.shutdown()


def exchanges(_: ScriptedProvider) -> None:
    """An exchange of each API, as the application reports it, with facts that OpenAI and Anthropic state."""
    providers = {"chat_completions": "azure.ai.openai", "converse": "aws.bedrock", "responses": "openai"}
    for name in CASES:
        api, request, response = exchange(name)
        with callspan.record_call(provider=providers.get(api, "unknown"), api=api) as call:
            call.request(request | {"service_tier": "flex"})
            told = {"system_fingerprint": "f", "service_tier": "flex"}
            call.response(response | told if isinstance(response, dict) else response)
    with callspan.record_call(provider="unknown", api="embeddings") as call:
        call.request({"model": "e", "input": "Hi", "max_tokens": 9})
        usage = {"prompt_tokens": 3, "total_tokens": 3, "prompt_tokens_details": {"text_tokens": 3}}
        call.response({"object": "list", "data": [], "model": "e", "usage": usage})


def calls(provider: ScriptedProvider) -> None:
    """Calls of an SDK with every setting that has an attribute, in a stream, and failed."""
    settings: dict[str, Any] = {
        "model": "gpt-5", "messages": QUESTION, "temperature": 0.5, "top_p": 0.9, "frequency_penalty": 0.1,
        "presence_penalty": 0.1, "max_tokens": 9, "n": 2, "seed": 3, "stop": ["x"], "reasoning_effort": "low",
        "response_format": {"type": "text"}, "service_tier": "flex",
        "tools": [{"type": "function", "function": {"name": "look"}}],
    }  # fmt: skip
    with openai.OpenAI(api_key="k", base_url=provider.openai_url, max_retries=1) as client, callspan.session("s"):
        client.chat.completions.create(**settings)
        list(client.chat.completions.create(**settings, stream=True, stream_options={"include_usage": True}))
        provider.reply(status=429, retry_after_s=0.001)
        client.embeddings.create(model="e", input="Hi")
        provider.reply(polls=1)
        later = client.responses.create(model="gpt-5", input="Hi", background=True)
        while client.responses.retrieve(later.id).status != "completed":
            pass
        for _ in range(2):
            provider.reply(status=400)
        with suppress(openai.BadRequestError):
            client.chat.completions.create(**settings)
        with suppress(openai.BadRequestError):
            client.embeddings.create(model="e", input="Hi")


PROGRAMS: tuple[Callable[[ScriptedProvider], None], ...] = (exchanges, calls, everything, support_desk, robot, loose)


def test_signals_follow_the_conventions_but_where_a_row_says_why(provider: ScriptedProvider) -> None:
    deviations = Deviations(table(DEVIATIONS))
    for program in PROGRAMS:
        with differing() as found:
            program(provider)
        assert deviations.beside(found) == [], program.__name__
    assert deviations.beside(unregistered()) == [], "attributes of rare calls, which the page lists"
    assert deviations.unmet == []


def unregistered() -> Iterator[Difference]:
    """Yield the attributes of spans on the page that have no entry in the registry."""
    page = (ROOT / "docs" / "attributes.md").read_text()
    listed = page.partition("<!-- generated -->")[2].partition("### Metrics")[0]
    for name in re.findall(r"`([a-z_]+\.[a-z0-9_.]+)`[^\n]*", listed.replace(", `", "\n`")):
        if name.partition(".")[0] in NAMESPACES and name not in TYPES:
            yield Difference("attribute", "not registered", name)


WIRES = {
    "google-genai": ("generate_content", "generate_content_stream", "embed_content"),
    "google-genai async": ("generate_content", "generate_content_stream", "embed_content"),
    "boto3": ("converse", "converse_stream", "invoke_model", "invoke_model_stream"),
    "httpx": (),
}
"""The kinds of recorded exchanges that each client makes; httpx makes all."""


@pytest.mark.parametrize("client", WIRES)
def test_calls_of_other_clients_follow_the_conventions(client: str) -> None:
    with gzip.open(MORE if FULL and MORE.is_file() else OTHERS, "rt", encoding="utf-8") as lines:
        rows = [row for row in map(json.loads, lines) if row["endpoint"] in (WIRES[client] or {row["endpoint"]})]
    assert rows
    with differing() as found:
        for row in rows:
            player(client).play(row)
    assert Deviations(table(DEVIATIONS)).beside(found) == []


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("entry", ENTRIES)
def test_calls_by_every_entry_point_follow_the_conventions(entry: str, asynchronous: bool) -> None:
    with differing("released") as found, Replayer(asynchronous=asynchronous, pieces=31, entry=entry) as replayer:
        for one in corpus.select(lambda one: one.inference):
            replayer.play(one)
    assert Deviations(table(DEVIATIONS)).beside(found) == []


def test_signals_of_the_demo_follow_the_conventions(stage: Stage) -> None:
    settings = {"CALLSPAN_VOCABULARIES": "gen_ai", "CALLSPAN_LOG_EVENTS": "1"}
    exporters = {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_LOGS_EXPORTER": "otlp"}
    done = stage.run("callspan", "--store", stage.store, "demo", **settings, **exporters)
    assert done.returncode == 0, done.stderr
    found = list[Difference]()
    for _, _, span in items(stage.receiver.requests, "spans"):
        events = [(event.name, plain(event.attributes)) for event in span.events]
        kind = {1: "INTERNAL", 3: "CLIENT"}[span.kind]
        found += of_span(SeenSpan(span.name, kind, plain(span.attributes), events, span.status.code == 2))
    for name, attributes, record in stage.receiver.logs:
        found += of_event(name, attributes, SeverityNumber(record.severity_number).name)
    for metric in stage.receiver.metrics:
        kind = str(metric.WhichOneof("data"))
        points = [
            (plain(point.attributes), getattr(point, "explicit_bounds", ()))
            for point in getattr(metric, kind).data_points
        ]
        found += of_metric(SeenMetric(metric.name, metric.unit, {"sum": "counter"}.get(kind, kind), points), "released")
    assert len(stage.receiver.spans) >= DEMO_SPANS
    assert stage.receiver.logs
    assert stage.receiver.metrics
    assert Deviations(table(DEVIATIONS)).beside(found) == []
