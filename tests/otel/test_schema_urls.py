"""Schema URLs: spans, metrics and events state the version of the conventions."""

from __future__ import annotations

import openai
import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import callspan
from callspan.testing import ScriptedProvider

DEVELOPMENT = "https://opentelemetry.io/schemas/gen-ai-dev/1.42.0-dev"
RELEASED = "https://opentelemetry.io/schemas/1.37.0"


@pytest.mark.parametrize("events", [True, False])
def test_every_signal_names_the_state_of_the_conventions_it_follows(provider: ScriptedProvider, events: bool) -> None:
    spans, logs, reader = InMemorySpanExporter(), InMemoryLogRecordExporter(), InMemoryMetricReader()
    tracing, logging, metering = TracerProvider(), LoggerProvider(), MeterProvider([reader])
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    logging.add_log_record_processor(SimpleLogRecordProcessor(logs))
    provider.reply(status=500)
    handle = callspan.instrument(
        tracer_provider=tracing, logger_provider=logging, meter_provider=metering, log_events=events, attempt_spans=True
    )
    try:
        with (
            openai.OpenAI(api_key="k", base_url=provider.openai_url, max_retries=1) as client,
            callspan.session("s") as session,
            session.timestep() as step,
        ):
            client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "Hi"}])
            with step.tool("look"):
                step.environment([1], reward=1.0)
        callspan.reward(0.5, session_id=session.id)
        metrics = reader.get_metrics_data()
    finally:
        handle.uninstrument()
        logging.shutdown()
        metering.shutdown()
    ended = spans.get_finished_spans()
    assert {span.name.split()[0] for span in ended} >= {"chat", "POST", "invoke_workflow", "timestep", "execute_tool"}
    assert {(scope.name, scope.schema_url) for span in ended if (scope := span.instrumentation_scope)} == {
        ("callspan", DEVELOPMENT)
    }
    emitted = [log.instrumentation_scope for log in logs.get_finished_logs()]
    assert bool(emitted) is events
    assert {scope.schema_url for scope in emitted if scope} <= {DEVELOPMENT}
    assert metrics is not None
    scopes = [scope for resource in metrics.resource_metrics for scope in resource.scope_metrics]
    assert [(scope.scope.name, scope.schema_url) for scope in scopes] == [("callspan", RELEASED)]
