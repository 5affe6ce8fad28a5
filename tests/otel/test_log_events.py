"""Log events: content as the conventions' event, in addition to spans or instead; and the completion hook."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import callspan
from callspan.testing import ScriptedProvider

HI: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


class Exported:
    """Log events and spans of the calls of a test."""

    def __init__(self) -> None:
        self.logs, self.spans = InMemoryLogRecordExporter(), InMemorySpanExporter()
        self.logger_provider, self.tracer_provider = LoggerProvider(), TracerProvider()
        self.logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self.logs))
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.spans))

    def call(self, provider: ScriptedProvider, client: Any = None, **settings: Any) -> None:
        options = {"api_key": "sk-test", "base_url": provider.openai_url, "max_retries": 0, **(client or {})}
        handle = callspan.instrument(
            tracer_provider=self.tracer_provider, logger_provider=self.logger_provider, **settings
        )
        try:
            with openai.OpenAI(**options) as opened:
                opened.chat.completions.create(model="gpt-5", messages=HI)
        finally:
            handle.uninstrument()

    @property
    def event(self) -> Any:
        (event,) = self.events
        return event

    @property
    def events(self) -> list[Any]:
        return [log.log_record for log in self.logs.get_finished_logs()]

    @property
    def span(self) -> Any:
        (span,) = self.spans.get_finished_spans()
        return span


@pytest.fixture
def exported() -> Iterator[Exported]:
    made = Exported()
    yield made
    made.logger_provider.shutdown()


@pytest.mark.parametrize("content", ["full", "metadata", "off"])
def test_the_event_has_the_content_structured_and_lies_in_the_span(
    provider: ScriptedProvider, exported: Exported, content: str
) -> None:
    """Where content is kept."""
    provider.reply(text="Hello.")
    exported.call(provider, log_events=True, content=content)
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


def test_event_only_keeps_content_off_spans(
    provider: ScriptedProvider, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "EVENT_ONLY")
    exported.call(provider)
    assert "gen_ai.input.messages" in exported.event.attributes
    assert not {"gen_ai.input.messages", "llm.prompts", "llm.completions"} & set(exported.span.attributes)


FAILURES: dict[str, dict[str, Any]] = {
    "status": {"status": 400, "message": "Hi is no question."},
    "timeout": {"hang": True},
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
        exported.call(provider, log_events=True, content=content, client={"timeout": 0.2})
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
    assert ("no question" in str(exception.attributes)) is (content == "full" and failure != "timeout")
