"""Spans, metrics and log events: sent by `otlp=`, `callspan run` and `callspan demo`, with their schema versions."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import callspan
from callspan.otlp.providers import make_provider, wanted_signals
from callspan.testing import ScriptedProvider
from tests.support.launching import APPS, Stage
from tests.support.receiver import OtlpReceiver, items, plain

SCRIPT = str(APPS / "script.py")
EVENT = "gen_ai.client.inference.operation.details"
CALL_METRICS = {"gen_ai.client.operation.duration", "gen_ai.client.token.usage", "callspan.client.in_flight"}


@pytest.fixture
def stage(stage: Stage) -> Stage:
    """The stage, with an environment that says nothing of exporters, as that of most people."""
    for name in ("OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        stage.environment.pop(name)
    return stage


def resources(receiver: OtlpReceiver) -> list[dict[str, Any]]:
    """The resource of everything that was accepted."""
    every = [one for signal in ("spans", "metrics", "logs") for one in items(receiver.requests, signal)]
    return [plain(resource.attributes) for resource, _, _ in every]


def events(stage: Stage) -> list[str]:
    return [name for name, _, _ in stage.receiver.logs]


def metrics(stage: Stage) -> set[str]:
    return {metric.name for metric in stage.receiver.metrics}


def test_processes_that_the_application_starts_have_its_name_and_an_instance_of_their_own(stage: Stage) -> None:
    (stage.place / "parent.py").write_text(f"""
import subprocess, sys
from calling import ask
ask("Hi")
subprocess.run([sys.executable, {SCRIPT!r}, "1"], check=True)
""")
    done = stage.run("callspan", "--store", stage.store, "run", "parent.py")
    assert done.returncode == 0, done.stderr
    assert len(stage.spans) == 3
    found = resources(stage.receiver)
    assert {one["service.name"] for one in found} == {"parent"}
    assert len({one["service.instance.id"] for one in found}) == 2


@pytest.mark.parametrize(("service", "name"), [(None, "shop"), ("till", "till")])
def test_otlp_sends_all_three_where_the_application_has_none_of_its_own(
    service: str | None, name: str, stage: Stage
) -> None:
    (stage.place / "shop.py").write_text(f"""
import callspan
from calling import ask
handle = callspan.instrument(otlp="{stage.receiver.url}", log_events=True, service={service!r})
ask("Hi")
print(handle.force_flush(5_000))
import os; os._exit(0)
""")
    done = stage.run("python", "shop.py")
    assert (done.stdout, done.stderr) == ("True\n", "")
    assert len(stage.spans) == events(stage).count(EVENT) == 1
    assert metrics(stage) >= CALL_METRICS
    assert {found["service.name"] for found in resources(stage.receiver)} == {name}


def test_providers_of_the_application_are_left_alone(stage: Stage) -> None:
    done = stage.run("python", "-c", f"""
import callspan
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
mine = MeterProvider([InMemoryMetricReader()]), TracerProvider()
metrics.set_meter_provider(mine[0])
trace.set_tracer_provider(mine[1])
callspan.instrument(otlp="{stage.receiver.url}")
print((metrics.get_meter_provider(), trace.get_tracer_provider()) == mine)
from calling import ask
ask("Hi")
""")  # fmt: skip
    assert (done.stdout, done.stderr) == ("True\n", "")
    assert not stage.receiver.raw


def test_a_missing_exporter_logs_one_line_that_says_what_to_install(stage: Stage) -> None:
    program = """
import sys
sys.modules["opentelemetry.exporter.otlp.proto.http"] = None
import callspan
from calling import ask
callspan.instrument(otlp="http://127.0.0.1:9")
ask("Hi")
"""
    done = stage.run("python", "-c", program)
    assert done.stderr == 'Nothing is sent: OTLP by http/protobuf needs pip install "callspan[otlp]"\n'


def test_a_receiver_without_metrics_does_not_fail_a_flush(stage: Stage) -> None:
    stage.receiver.statuses["/v1/metrics"] = 404
    program = f"""
import callspan
from calling import ask
handle = callspan.instrument(otlp={stage.receiver.url!r}, stores=())
ask("Hi")
print(handle.force_flush())
"""
    done = stage.run("python", "-c", program)
    assert done.stdout == "True\n"
    assert "404" in done.stderr


def test_none_turns_a_signal_off_even_where_an_address_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", " None ")
    assert wanted_signals("http://127.0.0.1:9") == ["traces"]


def test_a_short_outage_is_outlasted(receiver: OtlpReceiver) -> None:
    receiver.statuses["/v1/traces"] = 503
    provider = make_provider("traces", receiver.url)
    provider.get_tracer("test").start_span("one").end()
    threading.Timer(0.3, receiver.statuses.clear).start()
    assert provider.force_flush()
    provider.shutdown()
    assert (len(receiver.refused), len(receiver.spans)) == (1, 1)


def test_without_otlp_no_exporter_is_loaded_and_no_thread_runs() -> None:
    program = """
import json, sys, threading
import callspan
callspan.instrument(log_events=True)
sdk = [name for name in sys.modules if name.startswith(("opentelemetry.sdk.metrics", "opentelemetry.exporter"))]
print(json.dumps([threading.active_count(), sdk]))
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout)[0] == 1
    assert json.loads(done.stdout)[1] == []


DEVELOPMENT = "https://opentelemetry.io/schemas/gen-ai-dev/1.42.0-dev"
RELEASED = "https://opentelemetry.io/schemas/1.37.0"


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_spans_and_log_events_are_sent_in_batches_that_a_receiver_accepts(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What alone is too large is lost alone, and is no success."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    with OtlpReceiver(max_bytes=4 << 20) as picky:
        address = picky.url if protocol != "grpc" else f"http://{picky.serve_grpc()}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        spans: Any = make_provider("traces", otlp=True)
        for sizes, is_accepted in (((20_000,) * 300, True), ((10, 4 << 20, 10), False), ((10,), True)):
            for size in sizes:
                spans.get_tracer("test").start_span("one", attributes={"text": "ä" * (size // 2)}).end()
            assert spans.force_flush() == is_accepted
        logs: Any = make_provider("logs", otlp=True)
        for number in range(200):
            text = [{"content": f"{number}" + "ä" * 20_000}]
            logs.get_logger("test").emit(LogRecord(attributes={"gen_ai.input.messages": text}))
        logs.force_flush()
        spans.shutdown()
        logs.shutdown()
        assert (len(picky.spans), len(picky.logs)) == (303, 200)
        assert len(picky.refused) == (1 if protocol != "grpc" else 0)


HI: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


class Exported:
    """What was exported of the calls of a test."""

    def __init__(self, provider: ScriptedProvider) -> None:
        self._provider = provider
        self._logs, self._spans, self.metrics = (
            InMemoryLogRecordExporter(),
            InMemorySpanExporter(),
            InMemoryMetricReader(),
        )
        self._tracing, self._logging, self._metering = TracerProvider(), LoggerProvider(), MeterProvider([self.metrics])
        self._logging.add_log_record_processor(SimpleLogRecordProcessor(self._logs))
        self._tracing.add_span_processor(SimpleSpanProcessor(self._spans))

    def call(self, client: Any = None, **settings: Any) -> None:
        options = {"api_key": "k", "base_url": self._provider.openai_url, "max_retries": 0, **(client or {})}
        with self.instrumented(**settings), openai.OpenAI(**options) as opened:
            opened.chat.completions.create(model="gpt-5", messages=HI)

    @contextlib.contextmanager
    def instrumented(self, **settings: Any) -> Iterator[None]:
        handle = callspan.instrument(
            tracer_provider=self._tracing, logger_provider=self._logging, meter_provider=self._metering, **settings
        )
        try:
            yield
        finally:
            handle.uninstrument()

    def close(self) -> None:
        self._logging.shutdown()
        self._metering.shutdown()

    @property
    def logs(self) -> list[Any]:
        return list(self._logs.get_finished_logs())

    @property
    def events(self) -> list[Any]:
        return [log.log_record for log in self.logs]

    @property
    def event(self) -> Any:
        (event,) = self.events
        return event

    @property
    def spans(self) -> list[Any]:
        return list(self._spans.get_finished_spans())

    @property
    def span(self) -> Any:
        (span,) = self.spans
        return span


@pytest.fixture
def exported(provider: ScriptedProvider) -> Iterator[Exported]:
    made = Exported(provider)
    yield made
    made.close()


@pytest.mark.parametrize("events", [True, False])
def test_every_signal_names_the_state_of_the_conventions_it_follows(
    provider: ScriptedProvider, exported: Exported, events: bool
) -> None:
    provider.reply(status=500)
    with exported.instrumented(log_events=events, attempt_spans=True):
        with callspan.session("s") as session, session.timestep() as step:
            exported.call({"max_retries": 1}, log_events=events, attempt_spans=True)
            with step.tool("look"):
                step.environment([1], reward=1.0)
        callspan.reward(0.5, session_id=session.id)
        metrics: Any = exported.metrics.get_metrics_data()
    kinds = {span.name.split()[0] for span in exported.spans}
    assert kinds >= {"chat", "POST", "invoke_workflow", "timestep", "execute_tool"}
    scopes = {(span.instrumentation_scope.name, span.instrumentation_scope.schema_url) for span in exported.spans}
    assert scopes == {("callspan", DEVELOPMENT)}
    assert {log.instrumentation_scope.schema_url for log in exported.logs} == ({DEVELOPMENT} if events else set())
    scopes = {(one.scope.name, one.schema_url) for each in metrics.resource_metrics for one in each.scope_metrics}
    assert scopes == {("callspan", RELEASED)}


@pytest.mark.parametrize("content", ["full", "metadata", "off"])
def test_the_event_has_the_content_structured_and_lies_in_the_span(
    provider: ScriptedProvider, exported: Exported, content: str
) -> None:
    """Where content is kept."""
    provider.reply(text="Hello.")
    exported.call(log_events=True, content=content)
    event = exported.event
    assert event.event_name == "gen_ai.client.inference.operation.details"
    assert event.span_id == exported.span.context.span_id
    assert event.attributes["gen_ai.request.model"] == "gpt-5"
    assert event.attributes["gen_ai.usage.input_tokens"] > 0
    if content == "full":
        assert event.attributes["gen_ai.output.messages"][0]["parts"][0]["content"] == "Hello."
        assert [message["role"] for message in event.attributes["gen_ai.input.messages"]] == ["system", "user"]
    else:
        assert not {"gen_ai.input.messages", "gen_ai.output.messages"} & set(event.attributes)


def test_event_only_keeps_content_off_spans(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "EVENT_ONLY")
    exported.call()
    assert "gen_ai.input.messages" in exported.event.attributes
    assert not {"gen_ai.input.messages", "llm.prompts", "llm.completions"} & set(exported.span.attributes)


FAILURES: dict[str, dict[str, Any]] = {
    "status": {"status": 400, "message": "Hi is no question."},
    "body": {"raw": {"error": {"message": "Hi is no question.", "type": "invalid_request_error"}}},
}


@pytest.mark.parametrize("content", ["full", "off"])
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_call_has_the_event_of_its_exception(
    failure: str, content: Any, provider: ScriptedProvider, exported: Exported
) -> None:
    """A warning in the call's span, with the class of the exception and, where content is shown, its message."""
    provider.reply(**FAILURES[failure])
    with contextlib.suppress(openai.OpenAIError):
        exported.call(log_events=True, content=content)
    details, exception = exported.events
    assert exception.event_name == "gen_ai.client.operation.exception"
    assert (exception.severity_number, details.severity_number) == (SeverityNumber.WARN, SeverityNumber.DEBUG)
    assert (exception.trace_id, exception.span_id) == (exported.span.context.trace_id, exported.span.context.span_id)
    shown = next(event for event in exported.span.events if event.name == "exception")
    assert exception.timestamp == shown.timestamp == exported.span.end_time
    named = {name: value for name, value in exception.attributes.items() if name.startswith("exception.")}
    assert named == dict(shown.attributes)
    assert ("exception.message" in named) is (content == "full")
    assert named["exception.type"]
    assert exception.attributes["error.type"] == exported.span.attributes["error.type"]
    assert exception.attributes["gen_ai.request.model"] == "gpt-5"
    assert ("no question" in str(exception.attributes)) is (content == "full")
