"""The anthropic SDK's own spans: replaced or kept, and its `traceparent` setting is respected."""

from __future__ import annotations

from typing import Any, get_args

import anthropic
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import callspan
from callspan.records import Http
from callspan.semconv import anthropic as semconv_anthropic
from callspan.semconv import call as semconv_call
from callspan.semconv import gen_ai
from callspan.settings import Content, Native
from callspan.testing import Captured, ScriptedProvider, capture


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
        request: Any = {"model": "claude-test", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
        if how == "plain":
            client.messages.create(**request)
        elif how == "streamed":
            list(client.messages.create(stream=True, **request))
        elif how == "left":
            with client.messages.stream(**request) as stream:
                next(iter(stream))
        else:
            with pytest.raises(anthropic.BadRequestError):
                client.messages.create(**request)


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
def test_with_replace_there_is_only_callspans_span(provider: ScriptedProvider, seen: Seen, how: str) -> None:
    if how == "failed":
        provider.reply(status=400)
    call(provider, seen, how)
    assert not seen.theirs
    assert [span.name for span in seen.ours] == ["chat claude-test"]
    assert len(seen.captured.records) == 1


@pytest.mark.parametrize("seen", ["keep"], indirect=True)
@pytest.mark.parametrize("how", ENDINGS)
def test_with_keep_the_sdks_span_is_a_child_of_callspans(provider: ScriptedProvider, seen: Seen, how: str) -> None:
    if how == "failed":
        provider.reply(status=400)
    call(provider, seen, how)
    (ours,), (theirs,) = seen.ours, seen.theirs
    assert theirs.parent is not None
    assert ours.context is not None
    assert theirs.parent.span_id == ours.context.span_id


@pytest.mark.parametrize("propagation", [True, False])
@pytest.mark.parametrize("seen", ["replace", "keep"], indirect=True)
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


@pytest.mark.parametrize("seen", ["replace"], indirect=True)
def test_other_spans_of_the_sdk_stay_its_own(provider: ScriptedProvider, seen: Seen) -> None:
    call(provider, seen)
    settings: Any = {"tracer_provider": seen.tracer_provider}
    with anthropic.Anthropic(api_key="sk-ant-test", base_url=provider.anthropic_url, open_telemetry=settings) as client:
        client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "Hi"}])
        client.messages.count_tokens(model="m", messages=[{"role": "user", "content": "Hi"}])
    assert [span.name for span in seen.theirs] == ["anthropic.messages.count_tokens"]
    assert len(seen.ours) == 2
    assert "callspan.outcome" not in (seen.theirs[-1].attributes or {})


def test_a_client_with_tracing_off_has_callspans_span_in_every_mode(provider: ScriptedProvider) -> None:
    for native in ("replace", "keep"):
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
    request: Any = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    with client:
        with capture() as captured:
            client.messages.create(**request)
        assert (len(captured.spans), exporter.get_finished_spans()) == (1, ())
        client.messages.create(**request)
    assert len(captured.spans) == 1
    assert [span.name for span in exporter.get_finished_spans()] == ["anthropic.messages.create"]
    assert trace.get_current_span() is trace.INVALID_SPAN


RENAMED = {
    "anthropic.request.id": "callspan.request_id",
    "anthropic.content.truncated": "callspan.truncated_bytes",
}
"""What the SDK's span says and ours says by another name."""
DIFFERING = {
    "gen_ai.output.messages": "ours has the finish reason within, as the conventions did",
    "gen_ai.response.time_to_first_chunk": "ours is to the first chunk, the SDK's to the first with content",
    "gen_ai.response.id": "that of another call",
    "http.request.method": "Jaeger shows it in the place of the model; spans of attempts have it",
}
"""What both say and need not be equal."""
ELSEWHERE = {
    "gen_ai.agent.id",
    "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.id",
    "gen_ai.tool.description",
    "gen_ai.tool.name",
    "gen_ai.tool.type",
    "anthropic.environment.id",
    "anthropic.environment.work.id",
    "anthropic.message.batch.request_count",
    "anthropic.session.id",
    "anthropic.session.thread.id",
    "anthropic.tool_result.content",
    "anthropic.toolset.name",
}
"""On spans of the SDK that ours does not stand in for: tool runs, sessions, batches."""
EVERYTHING: Any = {
    "model": "claude-test",
    "max_tokens": 2000,
    "system": "Be brief.",
    "messages": [{"role": "user", "content": "Hi"}],
    "stop_sequences": ["END"],
    "service_tier": "auto",
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
    "tools": [{"name": "look", "description": "Looks.", "input_schema": {"type": "object", "properties": {}}}],
    "extra_headers": {"anthropic-beta": "one-2026-01-01, two-2026-01-01"},
}
USAGE = {
    "input_tokens": 5,
    "cache_creation_input_tokens": 7,
    "cache_read_input_tokens": 11,
    "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4},
    "output_tokens": 13,
    "output_tokens_details": {"thinking_tokens": 2},
    "service_tier": "standard",
    "iterations": [
        {"type": "compaction", "input_tokens": 100, "cache_read_input_tokens": 20, "output_tokens": 30},
        {"type": "message", "input_tokens": 5, "output_tokens": 13},
        {"type": "compaction", "input_tokens": 1, "cache_creation_input_tokens": 2, "output_tokens": 3},
    ],
}
WHOSE = {"anthropic-organization-id": "org-1", "anthropic-workspace-id": "wrkspc-1"}


def everything(provider: ScriptedProvider, how: str, settings: Any) -> None:
    """One call that gives the SDK's span all it can have."""
    if how == "retried":
        provider.reply(status=529, retry_after_s=0.001)
    provider.reply(status=400 if how == "failed" else 200, usage=USAGE, headers=WHOSE)
    with anthropic.Anthropic(
        api_key="sk-ant-test", base_url=f"{provider.anthropic_url}/gateway", open_telemetry=settings
    ) as client:
        if how == "streamed":
            with client.messages.stream(**EVERYTHING) as stream:
                stream.until_done()
        elif how == "beta":
            client.beta.messages.create(**EVERYTHING)
        elif how == "failed":
            with pytest.raises(anthropic.BadRequestError):
                client.messages.create(**EVERYTHING)
        else:
            client.messages.create(**EVERYTHING)


COMPACTED = {"input_tokens": 123, "output_tokens": 33, "cache_read.input_tokens": 20, "cache_write.input_tokens": 2}
"""The counters of the compactions in `USAGE`: our totals include them, the SDK's leave them out."""


def _with_compactions(name: str, value: Any) -> Any:
    return value + COMPACTED.get(name.removeprefix("gen_ai.usage."), 0) if name.startswith("gen_ai.usage.") else value


@pytest.mark.parametrize("how", ["plain", "streamed", "failed", "retried", "beta"])
def test_callspans_span_has_all_attributes_of_the_sdks_own(provider: ScriptedProvider, how: str) -> None:
    """Fails when an SDK says something new: carry it over, or list here why not."""
    exporter, tracer_provider = InMemorySpanExporter(), TracerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
    traces = {"content_mode": "content", "max_content_bytes": 10_000}
    settings = {"tracer_provider": tracer_provider, "conversation_id": "conversation-7", "traces": traces}
    everything(provider, how, settings)
    (theirs,) = exporter.get_finished_spans()
    with capture() as captured:
        everything(provider, how, settings)
    (ours,) = captured.spans
    attributes, would_have = dict(ours.attributes or {}), dict(theirs.attributes or {})
    if "gen_ai.usage.input_tokens" in would_have:
        would_have = {name: _with_compactions(name, value) for name, value in would_have.items()}
    comparable = [name for name in would_have if name not in DIFFERING | RENAMED]
    assert {name: attributes.get(name) for name in comparable} == {name: would_have[name] for name in comparable}
    assert not [name for name in comparable if RENAMED.get(name, name) not in attributes]
    assert would_have["gen_ai.conversation.id"] == "conversation-7"
    assert would_have["anthropic.organization.id"] == "org-1"


def test_every_name_of_the_installed_sdks_table_is_known_here() -> None:
    tracing = pytest.importorskip("anthropic._tracing")
    names = pytest.importorskip("anthropic.lib._tracing._attributes")
    table = tracing.SPAN_ATTRIBUTES["anthropic.messages.create"]
    listed = {*tracing.RESPONSE_HEADER_ATTRIBUTES, *get_args(names.AttributeName), table.get("stream", "")} - {""}
    for part in ("constants", "request", "request_headers", "response"):
        listed |= set(table.get(part, ()))
    rows = (*gen_ai.START.rows, *gen_ai.END.rows, *semconv_anthropic.NATIVE, *semconv_call.START.rows)
    ours = {row.name for row in rows}
    assert not listed - ours - set(RENAMED) - ELSEWHERE


def test_attributes_of_the_sdks_span_have_no_credentials_of_a_url(provider: ScriptedProvider) -> None:
    address = provider.anthropic_url.replace("://", "://someone:hunter2@")
    with capture() as captured, anthropic.Anthropic(api_key="sk-ant-test", base_url=address) as client:
        client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "Hi"}])
    attributes = captured.spans[0].attributes or {}
    assert str(attributes["url.full"]).endswith("/v1/messages")
    assert "hunter2" not in str(dict(attributes))


@pytest.mark.parametrize("seen", ["replace"], indirect=True)
def test_a_session_takes_precedence_over_the_clients_conversation_id(provider: ScriptedProvider, seen: Seen) -> None:
    with callspan.session("one", session_id="session-1"):
        call(provider, seen, conversation_id="conversation-7")
    span = next(span for span in seen.ours if span.name.startswith("chat"))
    assert (span.attributes or {})["gen_ai.conversation.id"] == "session-1"
    assert (span.attributes or {})["http.route"] == "/v1/messages"


def test_the_span_has_the_values_replaced_by_extra_body(provider: ScriptedProvider) -> None:
    """Anthropic 1.17 merges it into the body of a stream after it has asked for the attributes."""
    body: Any = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    with capture() as captured, anthropic.Anthropic(api_key="k", base_url=provider.anthropic_url) as client:
        client.messages.create(**body, extra_body={"model": "other"})
        client.messages.create(**body, extra_body={"model": "other"}, stream=True).close()
        with client.messages.stream(**body, extra_body={"model": "other"}) as stream:
            stream.until_done()
    assert [(span.attributes or {})["gen_ai.request.model"] for span in captured.spans] == ["other"] * 3
    assert [span.name for span in captured.spans] == ["chat other"] * 3
    assert [record.request.model for record in captured.records] == ["other"] * 3


def test_the_url_is_that_of_the_request_where_the_client_sends_it_elsewhere(provider: ScriptedProvider) -> None:
    class Moving(anthropic.Anthropic):
        def _prepare_request(self, request: Any) -> None:
            request.url = request.url.copy_with(host="localhost")

    with capture() as captured, Moving(api_key="k", base_url=provider.anthropic_url) as client:
        client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "Hi"}])
    asked = (captured.spans[0].attributes or {})["url.full"]
    assert asked == provider.anthropic_url.replace("127.0.0.1", "localhost") + "/v1/messages"


@pytest.mark.parametrize("content", ["full", "off"])
def test_what_the_span_shows_of_the_exchange_is_in_the_record(provider: ScriptedProvider, content: Content) -> None:
    """A key in the path, as some gateways have it, is masked in both."""
    provider.reply(headers=WHOSE)
    key = "sk-ant-0123456789abcdef"
    settings: Any = {"conversation_id": "conversation-7"}
    with (
        capture(content=content) as captured,
        anthropic.Anthropic(api_key="k", base_url=f"{provider.anthropic_url}/{key}", open_telemetry=settings) as client,
    ):
        client.beta.messages.create(
            model="m", max_tokens=9, messages=[{"role": "user", "content": "Hi"}], betas=["one-2026-01-01"]
        )
    (record,), (span,) = captured.records, captured.spans
    path = "/[secret]/v1/messages"
    assert record.http == Http(
        scheme="http", path=path, route="/v1/messages", betas=["one-2026-01-01"], organization_id="org-1",
        workspace_id="wrkspc-1", conversation_id="conversation-7",
    )  # fmt: skip
    attributes = span.attributes or {}
    assert (attributes["url.path"], attributes["url.full"]) == (path, provider.anthropic_url + path)
