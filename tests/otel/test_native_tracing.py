"""The anthropic SDK traces itself: replaced, enriched or kept, and its `traceparent` setting followed."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from callspan.config import Native
from callspan.testing import Captured, ScriptedProvider, capture

NATIVE_SCOPE = "com.anthropic.sdk.python"


class Seen:
    """Spans of the SDK's provider and of ours, which is the same one."""

    def __init__(self, captured: Captured, exporter: InMemorySpanExporter, tracer_provider: TracerProvider) -> None:
        self.captured = captured
        self._exporter = exporter
        self.tracer_provider = tracer_provider

    @property
    def theirs(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    @property
    def ours(self) -> list[ReadableSpan]:
        return list(self.captured.spans)


def call(provider: ScriptedProvider, seen: Seen, how: str = "plain", **telemetry: Any) -> None:
    settings: Any = {"tracer_provider": seen.tracer_provider, **telemetry}
    with anthropic.Anthropic(
        api_key="sk-ant-test", base_url=provider.anthropic_url, max_retries=0, open_telemetry=settings
    ) as client:
        asked: Any = {"model": "claude-test", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
        if how == "plain":
            client.messages.create(**asked)
        elif how == "streamed":
            list(client.messages.create(stream=True, **asked))
        elif how == "left":
            with client.messages.stream(**asked) as stream:
                next(iter(stream))
        else:
            with pytest.raises(anthropic.BadRequestError):
                client.messages.create(**asked)


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> Any:
    exporter, tracer_provider = InMemorySpanExporter(), TracerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
    native: Native = request.param
    with capture(native=native) as captured:
        yield Seen(captured, exporter, tracer_provider)


ENDINGS = ["plain", "streamed", "left", "failed"]


@pytest.mark.parametrize("seen", ["replace"], indirect=True)
@pytest.mark.parametrize("how", ENDINGS)
def test_replaced_there_is_our_span_only(provider: ScriptedProvider, seen: Seen, how: str) -> None:
    if how == "failed":
        provider.reply(status=400)
    call(provider, seen, how)
    assert not seen.theirs
    assert [span.name for span in seen.ours] == ["chat claude-test"]
    assert len(seen.captured.records) == 1


@pytest.mark.parametrize("seen", ["enrich"], indirect=True)
@pytest.mark.parametrize("how", ENDINGS)
def test_enriched_there_is_the_sdks_span_with_what_both_know(provider: ScriptedProvider, seen: Seen, how: str) -> None:
    if how == "failed":
        provider.reply(status=400)
    call(provider, seen, how)
    assert not seen.ours
    (span,) = seen.theirs
    assert span.name == "anthropic.messages.create"
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name.startswith(NATIVE_SCOPE)
    attributes = span.attributes or {}
    assert attributes["http.route"] == "/v1/messages"
    assert attributes["llm.vendor"] == "anthropic"
    outcomes = {"left": "cancelled", "failed": "error"}
    assert attributes["callspan.outcome"] == outcomes.get(how, "success")
    (record,) = seen.captured.records
    assert span.context is not None
    assert record.span_id == f"{span.context.span_id:016x}"


@pytest.mark.parametrize("seen", ["keep"], indirect=True)
@pytest.mark.parametrize("how", ENDINGS)
def test_kept_there_are_both_the_sdks_within_ours(provider: ScriptedProvider, seen: Seen, how: str) -> None:
    if how == "failed":
        provider.reply(status=400)
    call(provider, seen, how)
    (ours,), (theirs,) = seen.ours, seen.theirs
    assert theirs.parent is not None
    assert ours.context is not None
    assert theirs.parent.span_id == ours.context.span_id


@pytest.mark.parametrize("propagation", [True, False])
@pytest.mark.parametrize("seen", ["replace", "enrich", "keep"], indirect=True)
def test_the_sdks_traceparent_setting_is_followed(provider: ScriptedProvider, seen: Seen, propagation: bool) -> None:
    call(provider, seen, propagation=propagation)
    sent = provider.requests[0].headers.get("traceparent")
    if not propagation:
        assert sent is None
        return
    last = (seen.theirs or seen.ours)[0].context
    assert last is not None
    assert sent is not None
    assert sent.startswith(f"00-{last.trace_id:032x}-{last.span_id:016x}-")


@pytest.mark.parametrize("seen", ["enrich"], indirect=True)
def test_other_spans_of_the_sdk_stay_its_own(provider: ScriptedProvider, seen: Seen) -> None:
    call(provider, seen)
    settings: Any = {"tracer_provider": seen.tracer_provider}
    with anthropic.Anthropic(api_key="sk-ant-test", base_url=provider.anthropic_url, open_telemetry=settings) as client:
        client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "Hi"}])
        client.messages.count_tokens(model="m", messages=[{"role": "user", "content": "Hi"}])
    names = [span.name for span in seen.theirs]
    assert names == ["anthropic.messages.create", "anthropic.messages.create", "anthropic.messages.count_tokens"]
    assert "callspan.outcome" not in (seen.theirs[-1].attributes or {})


def test_a_client_with_tracing_off_has_our_span_in_every_mode(provider: ScriptedProvider) -> None:
    for native in ("replace", "enrich", "keep"):
        with (
            capture(native=native) as captured,
            anthropic.Anthropic(api_key="sk-ant-test", base_url=provider.anthropic_url, open_telemetry=False) as client,
        ):
            client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "Hi"}])
        assert [span.name for span in captured.spans] == ["chat m"]
        assert "traceparent" not in provider.requests[-1].headers


def test_uninstrumented_clients_trace_as_before(provider: ScriptedProvider) -> None:
    exporter, tracer_provider = InMemorySpanExporter(), TracerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
    settings: Any = {"tracer_provider": tracer_provider}
    client = anthropic.Anthropic(api_key="sk-ant-test", base_url=provider.anthropic_url, open_telemetry=settings)
    asked: Any = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    with client:
        with capture(native="enrich"):
            client.messages.create(**asked)
        client.messages.create(**asked)
    shared, plain = exporter.get_finished_spans()
    assert "callspan.outcome" in (shared.attributes or {})
    assert "callspan.outcome" not in (plain.attributes or {})
    assert trace.get_current_span() is trace.INVALID_SPAN


@pytest.mark.parametrize("seen", ["replace"], indirect=True)
def test_the_conversation_told_to_the_sdk_is_on_the_span_in_its_place(provider: ScriptedProvider, seen: Seen) -> None:
    call(provider, seen, conversation_id="conversation-7")
    assert (seen.ours[0].attributes or {})["gen_ai.conversation.id"] == "conversation-7"
