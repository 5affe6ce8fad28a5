"""The text APIs of watsonx.ai, in the shapes of IBM's own tests: a request by any HTTP client is a call."""

from __future__ import annotations

import json
from typing import Any, Final

import httpx2
import pytest

from callspan.records import CallRecord
from callspan.testing import capture

Json = dict[str, Any]
HOST: Final = "https://us-south.ml.cloud.ibm.com"
ASKED: Final = {"model_id": "ibm/granite-3-3-8b-instruct", "project_id": "p"}
CHAT: Final = ASKED | {"messages": [{"role": "user", "content": "Hi"}], "time_limit": 1000}
STATED: Final = {"model_id": "ibm/granite-3-3-8b-instruct", "created_at": "2026-01-02T03:04:05.678Z"}
CALL: Final = {"id": "t1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
SPENT: Final = {"completion_tokens": 4, "prompt_tokens": 9, "total_tokens": 13}
AGENT: Final = "ibm-watsonx-ai/1.8.1 (lang=python; arch=x86_64; os=linux; python.version=3.11.7)"

pytestmark = pytest.mark.usefixtures("no_settings")


def asked(verb: str, body: Json, *answers: Json, status: int = 200) -> CallRecord:
    """The record of a request, whose answer is a stream if its path says so."""
    is_stream = verb.endswith("_stream") and status == 200
    lines = (f"id: {at}\nevent: message\ndata: {json.dumps(answer)}\n\n" for at, answer in enumerate(answers, 1))
    content = "".join(lines) if is_stream else json.dumps(answers[0])
    headers = {"content-type": "text/event-stream" if is_stream else "application/json"}
    transport = httpx2.MockTransport(
        lambda _: httpx2.Response(status, headers=headers, content=iter([content.encode()]))
    )
    with (
        capture() as seen,
        httpx2.Client(transport=transport, headers={"user-agent": AGENT}) as client,
        client.stream("POST", f"{HOST}/ml/v1/{verb}?version=2026-01-02", json=body) as response,
    ):
        response.read()
    (record,) = seen.records
    assert (record.provider, record.sdk) == ("ibm.watsonx.ai", "ibm-watsonx-ai/1.8.1")
    assert (record.stream is not None) == is_stream
    return record


def facts(record: CallRecord) -> tuple[Any, ...]:
    """The API, the model, the words, the tokens and the reason of the end."""
    usage, response = record.usage, record.response
    assert response is not None
    tokens = None if usage is None else (usage.input_tokens, usage.output_tokens)
    return record.api, record.model, record.text, tokens, response.finish_reasons


def choice(part: str, message: Json, finish: str | None = None) -> Json:
    return STATED | {"id": "chatcmpl-1", "choices": [{"index": 0, part: message, "finish_reason": finish}]}


def test_chat() -> None:
    answer = choice("message", {"role": "assistant", "tool_calls": [CALL]}, "tool_calls") | {"usage": SPENT}
    record = asked("text/chat", CHAT, answer)
    assert facts(record) == ("watsonx_chat", STATED["model_id"], None, (9, 4), ["tool_calls"])
    assert [call.name for call in record.tool_calls or ()] == ["add"]
    assert record.request.params == {"time_limit": 1000}


def test_stream_of_a_chat() -> None:
    pieces = [choice("delta", {"role": "assistant", "content": ""}), choice("delta", {"content": "C"})]
    end = [choice("delta", {"content": "iao"}, "stop"), STATED | {"id": "chatcmpl-1", "choices": [], "usage": SPENT}]
    record = asked("text/chat_stream", CHAT, *pieces, *end)
    assert facts(record) == ("watsonx_chat", STATED["model_id"], "Ciao", (9, 4), ["stop"])
    assert record.outcome == "success"


def result(piece: str, generated: int, read: int, reason: str) -> Json:
    counted = {"generated_token_count": generated, "input_token_count": read}
    return STATED | {"results": [{"generated_text": piece, "stop_reason": reason, **counted}]}


def test_generation() -> None:
    body = ASKED | {"input": "How far?", "parameters": {"max_new_tokens": 3}}
    record = asked("text/generation", body, result("4000 km", 3, 68, "max_tokens"))
    assert facts(record) == ("watsonx_generation", STATED["model_id"], "4000 km", (68, 3), ["max_tokens"])
    assert record.response is not None
    assert record.response.truncated
    assert record.request.params == {"max_new_tokens": 3}


def test_stream_of_a_generation_counts_its_first_and_last_event() -> None:
    steps = [("", 0, 68, "not_finished"), ("40", 1, 0, "not_finished"), ("00", 2, 0, "eos_token")]
    record = asked("deployments/d1/text/generation_stream", {"input": "How far?"}, *(result(*step) for step in steps))
    assert facts(record) == ("watsonx_generation", "d1", "4000", (68, 2), ["eos_token"])
    cut = asked("text/generation_stream", ASKED | {"input": "?"}, *(result(*step) for step in steps[:2]))
    assert facts(cut)[2:] == ("40", (68, 1), [])
    assert cut.is_cut_off


def test_embeddings_and_ranking_count_what_was_read() -> None:
    vectors = STATED | {"results": [{"embedding": [0.5]}], "input_token_count": 7}
    record = asked("text/embeddings", ASKED | {"inputs": ["a"]}, vectors)
    assert facts(record) == ("watsonx_embeddings", STATED["model_id"], None, (7, None), [])
    ranked = STATED | {"results": [{"index": 1, "score": 0.75}, {"index": 0, "score": -2.5}], "input_token_count": 8}
    ranking = asked("text/rerank", ASKED | {"query": "q", "inputs": [{"text": "a"}, {"text": "b"}]}, ranked)
    assert facts(ranking) == ("watsonx_rerank", STATED["model_id"], "0.75 [1] b-2.5 [0] a", (8, None), [])


@pytest.mark.parametrize("verb", ["text/chat", "text/chat_stream", "text/generation"])
def test_error_has_its_words(verb: str) -> None:
    errors = [{"code": "rate_limit_reached_requests", "message": "Too many requests", "more_info": ""}]
    record = asked(verb, CHAT | {"input": "Hi"}, {"errors": errors, "trace": "t", "status_code": 429}, status=429)
    assert record.error is not None
    assert (record.outcome, record.error.kind, record.error.message) == ("error", "rate_limit", "Too many requests")
    assert record.error.type == "rate_limit_reached_requests"
