"""Spans of other instrumentations and languages that arrive by OTLP, and what they share with the exporter."""

from __future__ import annotations

from typing import Any

import pytest
from tests.receive.conftest import GEN_AI, SCOPE_OF_SPANS, Kept, Sender, response_call_id, span, traces
from tests.support.waiting import HANG_S

from callspan.records import SessionRecord

PROTO = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
OLDER = {
    "gen_ai.operation.name": "chat",
    "gen_ai.system": "openai",
    "gen_ai.request.model": "gpt-5",
    "gen_ai.usage.input_tokens": 5,
    "gen_ai.usage.output_tokens": 2,
    "session.id": "c1",
}
OPENINFERENCE = {
    "openinference.span.kind": "LLM",
    "llm.provider": "openai",
    "llm.model_name": "gpt-5",
    "llm.token_count.prompt": 5,
    "llm.token_count.completion": 2,
    "session.id": "c1",
}
OPENLLMETRY = {
    "llm.request.type": "chat",
    "gen_ai.system": "openai",
    "gen_ai.request.model": "gpt-5",
    "gen_ai.usage.prompt_tokens": 5,
    "gen_ai.usage.completion_tokens": 2,
    "traceloop.association.properties.session_id": "c1",
}
VERCEL = {
    "ai.operationId": "ai.streamText.doStream",
    "gen_ai.system": "openai.responses",
    "gen_ai.request.model": "gpt-5",
    "gen_ai.usage.input_tokens": 5,
    "gen_ai.usage.output_tokens": 2,
    "ai.telemetry.metadata.sessionId": "c1",
}
DIALECTS = {
    "0.1.0": GEN_AI,
    "1.3b0": OLDER,
    "openinference": OPENINFERENCE,
    "openllmetry": OPENLLMETRY,
    "vercel": VERCEL,
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("is_protobuf", [False, True])
def test_spans_of_every_dialect_become_calls(kept: Kept, dialect: str, is_protobuf: bool) -> None:
    request = traces(span(DIALECTS[dialect], parent=9), span({"http.route": "/"}, 2))
    if is_protobuf:
        assert kept.inbox.take("traces", _as_protobuf(request), Sender(), is_protobuf=True).result(HANG_S)
    else:
        assert kept.take(request, "traces")
    (call,) = kept.calls.values()
    assert (call.provider, call.model, call.sdk, call.service) == ("openai", "gpt-5", "theirs", "web")
    assert call.usage is not None
    assert (call.usage.input_tokens, call.usage.output_tokens) == (5, 2)
    assert (call.trace_id, call.span_id, call.parent_span_id) == (f"{7:032x}", f"{1:016x}", f"{9:016x}")
    assert call.timing.duration_ns == 1_000_000_000
    (session,) = kept.of(SessionRecord)
    assert (session.session_id, session.metadata) == (call.place.session_id, {"conversation_id": "c1"})
    assert kept.inbox.unused == {"spans": 1}


def _as_protobuf(request: dict[str, Any]) -> bytes:
    from base64 import b64encode

    from google.protobuf.json_format import ParseDict

    for group in request["resourceSpans"]:
        for scope in group["scopeSpans"]:
            for item in scope["spans"]:
                for name in ("traceId", "spanId", "parentSpanId"):
                    item[name] = b64encode(bytes.fromhex(item[name])).decode()
    return bytes(ParseDict(request, PROTO.ExportTraceServiceRequest()).SerializeToString())


@pytest.mark.parametrize("operation", ["ai.generateText", "ai.streamText", "ai.toolCall", "ai.embed"])
def test_spans_around_requests_of_vercel_are_no_calls(kept: Kept, operation: str) -> None:
    kept.take(traces(span({**VERCEL, "ai.operationId": operation})), "traces")
    assert kept.calls == {}


def test_a_span_that_comes_twice_is_one_call(kept: Kept) -> None:
    for _ in range(2):
        kept.take(traces(span(GEN_AI)), "traces")
    assert len(kept.calls) == 1


def test_one_answer_with_two_spans_is_one_call(kept: Kept) -> None:
    """The innermost span ends first: that of the SDK, within that of a framework. Other answers are other calls."""
    kept.take(traces(span(GEN_AI, 2, parent=1), span(GEN_AI, 1)), "traces")
    assert [call.span_id for call in kept.calls.values()] == [f"{2:016x}"]
    kept.take(traces(span({**GEN_AI, "gen_ai.response.id": "chatcmpl-2"}, 3)), "traces")
    kept.take(traces({**span(GEN_AI, 4), "traceId": f"{8:032x}"}), "traces")
    assert len(kept.calls) == 3, "servers repeat ids"


def test_spans_of_callspan_have_their_record_elsewhere(kept: Kept) -> None:
    own = {**GEN_AI, "callspan.call_id": "0199"}
    around = {**GEN_AI, "gen_ai.response.id": "another"}
    for _ in range(2):
        kept.take(traces(span(own, 3, parent=2), span(around, 2, parent=1), span(GEN_AI, 1)), "traces")
    assert kept.calls == {}


def test_spans_of_claude_code_are_versions_of_the_calls_of_its_events(kept: Kept) -> None:
    attributes = {
        **OLDER, "request_id": "req_1", "gen_ai.response.id": "req_1", "input_tokens": 5, "output_tokens": 2,
        "cache_read_tokens": 3, "attempt": 2,
    }  # fmt: skip
    kept.take(traces(span(attributes), scope=SCOPE_OF_SPANS, service="claude-code"), "traces")
    (call,) = kept.calls.values()
    assert call.call_id == response_call_id("anthropic", "req_1")
    assert call.usage is not None
    assert (call.usage.input_tokens, call.retries, call.response and call.response.id) == (8, 1, None)


def test_metrics_are_accepted_and_counted(kept: Kept) -> None:
    assert kept.take(b"anything", "metrics")
    assert kept.inbox.unused == {"requests of metrics": 1}


BAD_SPANS: list[Any] = [
    {}, {"traceId": 1}, span(GEN_AI, traceId="zz"), span(GEN_AI, spanId=""), span(GEN_AI, startTimeUnixNano="no"),
    span(GEN_AI, traceId=f"{0:032x}"), None, [], "text",
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_SPANS)
def test_a_bad_span_costs_only_itself(kept: Kept, bad: Any) -> None:
    assert kept.take(traces(bad, span(GEN_AI)), "traces")
    assert len(kept.calls) == 1


def test_attributes_of_any_kind_and_depth(kept: Kept) -> None:
    deep: Any = {"stringValue": "end"}
    for _ in range(60):
        deep = {"arrayValue": {"values": [deep]}}
    odd = [
        {"key": "deep", "value": deep}, {"key": "none", "value": {}}, {"key": 7, "value": {"intValue": "1"}}, None,
        {"key": "two", "value": {"intValue": "1", "boolValue": True}}, {"key": "b", "value": {"bytesValue": "AA=="}},
        {"key": "tag.tags", "value": {"kvlistValue": {"values": [{"key": "a", "value": {"doubleValue": 1.5}}]}}},
        {"key": "huge", "value": {"intValue": "9" * 40}},
    ]  # fmt: skip
    item = span(GEN_AI)
    item["attributes"] += odd
    assert kept.take(traces(item), "traces")
    (call,) = kept.calls.values()
    assert call.metadata["tags"] == {"a": 1.5}
