"""Log events: content as the conventions' event, in addition to spans or instead; and the completion hook."""

from __future__ import annotations

import asyncio
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
from tests.logs import nothing_is_warned_of

HI: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


class Told:
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
def told() -> Iterator[Told]:
    made = Told()
    yield made
    made.logger_provider.shutdown()


def test_there_are_none_by_default(provider: ScriptedProvider, told: Told) -> None:
    told.call(provider)
    assert not told.logs.get_finished_logs()


def test_the_event_has_the_content_structured_and_lies_in_the_span(provider: ScriptedProvider, told: Told) -> None:
    provider.reply(text="Hello.")
    told.call(provider, log_events=True)
    event = told.event
    assert event.event_name == "gen_ai.client.inference.operation.details"
    assert event.span_id == told.span.context.span_id
    assert event.attributes["gen_ai.request.model"] == "gpt-5"
    said = event.attributes["gen_ai.output.messages"]
    assert said[0]["parts"][0]["content"] == "Hello."
    assert [message["role"] for message in event.attributes["gen_ai.input.messages"]] == ["system", "user"]


def test_event_only_keeps_content_off_spans(
    provider: ScriptedProvider, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "EVENT_ONLY")
    told.call(provider)
    assert "gen_ai.input.messages" in told.event.attributes
    assert not {"gen_ai.input.messages", "llm.prompts", "llm.completions"} & set(told.span.attributes)


@pytest.mark.parametrize(("mode", "events", "on_spans"), [("SPAN_AND_EVENT", 1, True), ("SPAN_ONLY", 0, True)])
def test_the_conventions_modes(
    provider: ScriptedProvider, told: Told, monkeypatch: pytest.MonkeyPatch, mode: str, events: int, on_spans: bool
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", mode)
    told.call(provider)
    assert len(told.logs.get_finished_logs()) == events
    assert ("gen_ai.input.messages" in told.span.attributes) is on_spans


@pytest.mark.parametrize("content", ["metadata", "off"])
def test_events_obey_the_content_setting(provider: ScriptedProvider, told: Told, content: str) -> None:
    told.call(provider, log_events=True, content=content)
    assert not {"gen_ai.input.messages", "gen_ai.output.messages"} & set(told.event.attributes)
    assert told.event.attributes["gen_ai.usage.input_tokens"] > 0


FAILURES: dict[str, dict[str, Any]] = {
    "status": {"status": 400, "message": "Hi is no question."},
    "timeout": {"hang": True},
    "body": {"raw": {"error": {"message": "Hi is no question.", "type": "invalid_request_error"}}},
}


@pytest.mark.parametrize("content", ["full", "off"])
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_call_has_the_event_of_its_exception(
    failure: str, content: Any, provider: ScriptedProvider, told: Told
) -> None:
    """A warning in the call's span, with the class of the exception and, where content is shown, its message."""
    provider.reply(**FAILURES[failure])
    with contextlib.suppress(openai.OpenAIError):
        told.call(provider, log_events=True, content=content, client={"timeout": 0.2})
    details, exception = told.events
    assert exception.event_name == "gen_ai.client.operation.exception"
    assert (exception.severity_number, details.severity_number) == (SeverityNumber.WARN, SeverityNumber.DEBUG)
    assert (exception.trace_id, exception.span_id) == (told.span.context.trace_id, told.span.context.span_id)
    shown = next(event for event in told.span.events if event.name == "exception")
    assert exception.timestamp == shown.timestamp == told.span.end_time
    named = {name: value for name, value in exception.attributes.items() if name.startswith("exception.")}
    assert named == dict(shown.attributes)
    assert ("exception.message" in named) is (content == "full")
    assert named["exception.type"]
    assert exception.attributes["error.type"] == told.span.attributes["error.type"]
    assert exception.attributes["gen_ai.request.model"] == "gpt-5"
    assert ("no question" in str(exception.attributes)) is (content == "full" and failure != "timeout")


def test_a_cancelled_call_has_no_event_of_an_exception(provider: ScriptedProvider, told: Told) -> None:
    """Giving up is no failure of the operation."""
    provider.reply(hang=True)
    handle = callspan.instrument(
        tracer_provider=told.tracer_provider, logger_provider=told.logger_provider, log_events=True
    )

    async def give_up() -> None:
        async with openai.AsyncOpenAI(api_key="sk-test", base_url=provider.openai_url) as client:
            await asyncio.wait_for(client.chat.completions.create(model="gpt-5", messages=HI), 0.1)

    try:
        with pytest.raises(asyncio.TimeoutError):
            asyncio.run(give_up())
    finally:
        handle.uninstrument()
    assert [event.event_name for event in told.events] == ["gen_ai.client.inference.operation.details"]


def test_events_stay_within_the_byte_caps(provider: ScriptedProvider, told: Told) -> None:
    provider.reply(text="long " * 20_000)
    told.call(provider, log_events=True, max_attribute_bytes=2048)
    assert len(str(told.event.attributes["gen_ai.output.messages"])) < 4096


def test_without_a_log_pipeline_one_line_is_logged(
    provider: ScriptedProvider, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    with nothing_is_warned_of():
        told.call(provider, log_events=True)
    handle = callspan.instrument(tracer_provider=told.tracer_provider, log_events=True)
    try:
        with openai.OpenAI(api_key="sk-test", base_url=provider.openai_url, max_retries=0) as client:
            for _ in range(2):
                client.chat.completions.create(model="gpt-5", messages=HI)
    finally:
        handle.uninstrument()
    (warning,) = caplog.messages
    assert warning.startswith("log_events is on and there is no logger provider")
