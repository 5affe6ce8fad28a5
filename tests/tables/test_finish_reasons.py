"""Finish reasons: what each word of the table means on every API, and what follows: sums, filters."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
from tests.support.bodies import endpoint, folded
from tests.support.records import keep, made, raw
from tests.support.tables import table

import callspan
from callspan import Settings
from callspan.providers.registry import conversation_of
from callspan.record.finish_reasons import normalised
from callspan.records import Response
from callspan.semconv.call import Projection
from callspan.semconv.records_from_spans import ForeignSpan, call_of
from callspan.stores import CallFilter
from callspan.testing import ScriptedProvider, capture

Json = dict[str, Any]
OUTPUT = "gen_ai.output.messages"
ROWS: list[Json] = table(Path(__file__).with_name("finish_reasons.yaml"))
WORDS = [(word, row) for row in ROWS for word in row["words"]]
FAILED = [(word, row["kind"]) for word, row in WORDS if "kind" in row]


def body(api: str, word: str) -> Json:
    if api == "messages":
        return {"id": "m", "content": [{"type": "text", "text": "Hi"}], "stop_reason": word}
    if api == "responses":
        return {"id": "r", "output": [], "status": "incomplete", "incomplete_details": {"reason": word}}
    text = {"text": "Hi"} if api == "completions" else {"message": {"content": "Hi"}}
    return {"id": "c", "choices": [{"index": 0, "finish_reason": word, **text}]}


@pytest.mark.parametrize("api", ["chat_completions", "completions", "messages", "responses"])
@pytest.mark.parametrize(("word", "row"), WORDS, ids=str)
def test_finish_reason_meanings(api: str, word: str, row: Json) -> None:
    info = endpoint(api).response_info(body(api, word))
    found, means = info.response, row["means"]
    assert found.finish_reasons == [word], "it is kept"
    assert (found.truncated, found.refused) == (means == "length", means == "content_filter")
    assert found.unknown_finish == (means == "unknown")
    assert (info.error and info.error.kind) == row.get("kind")
    assert normalised(word) == (word if means in ("unknown", "its own") else means)


ONLY_A_REASON: dict[str, Json] = {
    "chat_completions": {"choices": [{"finish_reason": "network_error"}]},
    "messages": {"stop_reason": "network_error"},
    "responses": {"status": "incomplete", "incomplete_details": {"reason": "network_error"}},
    "generate_content": {"candidates": [{"finishReason": "network_error"}]},
    "converse": {"stopReason": "network_error"},
    "invoke_model": {"stop_reason": "network_error"},
    "cohere_chat": {"finish_reason": "network_error"},
    "cohere_chat_v1": {"finish_reason": "network_error"},
    "ollama_chat": {"done_reason": "network_error"},
    "text_generation": {"generated_text": "", "details": {"finish_reason": "network_error"}},
    "watsonx_generation": {"results": [{"stop_reason": "network_error"}]},
}


@pytest.mark.parametrize("api", ONLY_A_REASON)
def test_answer_with_nothing_but_a_failure_is_recognized(api: str) -> None:
    info = endpoint(api).response_info(ONLY_A_REASON[api])
    assert info.error is not None
    assert (info.error.type, info.recognized) == ("network_error", True)


@pytest.mark.parametrize("place", [{}, {"provider_specific_fields": None}])
def test_native_finish_reason_reveals_a_renamed_failure(place: Json) -> None:
    native = {"native_finish_reason": "insufficient_system_resource"}
    where = {"provider_specific_fields": native} if place else native
    chat = body("chat_completions", "stop")
    chat["choices"][0] |= where
    info = endpoint("chat_completions").response_info(chat)
    assert (info.response.finish_reasons, info.error and info.error.kind) == (["stop"], "overloaded")
    chat["choices"][0] |= {name: {**native, "native_finish_reason": "new"} if place else "new" for name in where}
    info = endpoint("chat_completions").response_info(chat)
    assert (info.response.unknown_finish, info.error) == (False, None), "the gateway knows it"


def test_tool_call_cut_by_a_failure_is_incomplete() -> None:
    call = {"index": 0, "id": "t", "function": {"name": "f", "arguments": '{"a":'}}
    choice = {"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": "network_error"}
    (made_of,) = folded("chat_completions", {"choices": [choice]})["choices"]
    assert made_of["message"]["tool_calls"][0]["incomplete"]


@pytest.mark.parametrize("stream", [False, True])
def test_failed_answer_is_an_error_and_keeps_its_text(stream: bool, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    with ScriptedProvider() as provider, capture() as seen:
        provider.reply(text="So far", finish_reason="network_error")
        client = openai.OpenAI(base_url=provider.url, api_key="k", max_retries=0)
        answer: Any = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Hi"}], stream=stream
        )
        _ = list(answer)
        (record,), (span,) = seen.records, seen.spans
    assert (record.outcome, record.text) == ("error", "So far")
    assert record.error is not None
    assert (record.error.kind, record.error.type, record.error.retryable) == ("server", "network_error", True)
    assert (span.attributes or {})["error.type"] == "network_error"
    assert (span.attributes or {})["gen_ai.response.finish_reasons"] == ("error",)
    with closing(callspan.open_store(keep(url, record))) as reader:
        (sums,) = reader.summary(())
        assert (sums.calls, sums.errors) == (1, 1)


def test_filters_find_all_synonyms(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    keep(url, *(made(f"call-{at}", response=Response(finish_reasons=[word])) for at, (word, _) in enumerate(WORDS)))
    keep(url, made("waits", response=Response(finish_reasons=["waiting for approval"])))
    with closing(callspan.open_store(url)) as reader:
        for meaning in ("stop", "length", "tool_calls", "content_filter", "error", "cancelled"):
            expected = {f"call-{at}" for at, (_, row) in enumerate(WORDS) if row["means"] == meaning}
            assert {call.call_id for call in reader.calls(CallFilter(finish_reason=meaning))} == expected
        for name in ("waiting for approval", "waiting_for_approval"):
            assert [call.call_id for call in reader.calls(CallFilter(finish_reason=name))] == ["waits"]
        (sums,) = reader.summary(())
        assert sums.cut_by_length == sum(row["means"] == "length" for _, row in WORDS)
        assert [call.finish_reason for call in reader.calls(CallFilter(finish_reason="pause_turn"))] == ["pause_turn"]


@pytest.mark.parametrize(("word", "kind"), FAILED)
def test_imported_span_with_a_failed_answer_is_an_error(word: str, kind: str) -> None:
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.response.finish_reasons": (word,)}
    ids: Json = {"trace_id": "t", "span_id": "s", "parent_span_id": None, "start_ns": 5, "end_ns": 9, "scope": "lib"}
    record = call_of(ForeignSpan(attributes=attributes, **ids, failed=False))
    assert record is not None
    assert (record.outcome, record.error and record.error.kind) == ("error", kind)


def test_choice_of_a_model_in_bedrock_ends_by_its_stop_reason() -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "stop_reason": "length"}
    info = endpoint("chat_completions").response_info({"choices": [choice]})
    assert (info.response.finish_reasons, info.response.truncated) == (["length"], True)
    (message,) = endpoint("chat_completions").conversation(None, {"choices": [choice]}).output
    assert message.finish_reason == "length"
    of_vllm = {**choice, "finish_reason": "stop", "stop_reason": "length"}
    assert endpoint("chat_completions").response_info({"choices": [of_vllm]}).response.finish_reasons == ["stop"]


@pytest.mark.parametrize("api", ["messages", "chat_completions", "invoke_model"])
@pytest.mark.parametrize("action", ["INTERVENED", "NONE"])
def test_guardrail_that_replaces_an_invoked_answer_is_a_refusal(api: str, action: str) -> None:
    answers = {"messages": body("messages", "end_turn"), "invoke_model": {"generation": "No.", "stop_reason": "stop"}}
    answer = answers.get(api, body("chat_completions", "stop"))
    info = endpoint(api).response_info({**answer, "amazon-bedrock-guardrailAction": action})
    assert info.response.refused == (action == "INTERVENED")


def test_guardrail_at_the_end_of_an_invoked_stream_is_a_refusal() -> None:
    started = {"type": "message_start", "message": {"id": "m", "content": []}}
    stopped = {"type": "message_stop", "amazon-bedrock-guardrailAction": "INTERVENED"}
    assert endpoint("messages").response_info(folded("messages", started, stopped)).response.refused


def test_blocked_interaction_is_a_refusal() -> None:
    error = {"code": "content_blocked", "message": "No."}
    info = endpoint("interactions").response_info({"id": "i", "status": "failed", "steps": [], "error": error})
    assert (info.response.refused, info.error and info.error.kind) == (True, "content_filter")


CALL = {"name": "look", "parameters": {}}
FUNCTION = {"function": {"name": "look", "arguments": {}}}
STEP = {"type": "function_call", "id": "c", "name": "look", "arguments": {}}
ENDED: list[tuple[str, Json, str, str]] = [
    ("generate_content", {"candidates": [{"finishReason": "STOP", "content": {"parts": [{"functionCall": CALL}]}}]},
     "STOP", "tool_calls"),
    ("generate_content", {"candidates": [{"finishReason": "STOP", "content": {"parts": [{"text": "Hi"}]}}]},
     "STOP", "STOP"),
    ("generate_content", {"candidates": [{"finishReason": "MAX_TOKENS", "content": {"parts": [{"functionCall": 1}]}}]},
     "MAX_TOKENS", "MAX_TOKENS"),
    ("generate_content", {"candidates": [{"finishReason": 1, "content": {"parts": [{"functionCall": CALL}]}}]},
     "STOP", "tool_calls"),
    ("ollama_chat", {"done_reason": "stop", "message": {"tool_calls": [FUNCTION]}}, "stop", "tool_calls"),
    ("ollama_chat", {"done_reason": "stop", "message": {"content": "Hi"}}, "stop", "stop"),
    ("cohere_chat_v1", {"text": "", "finish_reason": "COMPLETE", "tool_calls": [CALL]}, "COMPLETE", "tool_calls"),
    ("cohere_chat_v1", {"text": "Hi", "finish_reason": "COMPLETE"}, "COMPLETE", "COMPLETE"),
    ("interactions", {"status": "completed", "steps": [STEP]}, "completed", "tool_calls"),
    ("interactions", {"status": "requires_action", "steps": [STEP]}, "requires_action", "requires_action"),
    ("interactions", {"status": "incomplete", "steps": []}, "incomplete", "length"),
    ("interactions", {"status": "completed", "steps": [STEP, {"type": "model_output"}]}, "completed", "completed"),
]  # fmt: skip


@pytest.mark.parametrize(("api", "answer", "reason", "finish"), ENDED)
def test_finish_says_what_the_word_of_a_provider_hides(
    api: str, answer: Json, reason: str, finish: str, tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path}/calls.db"
    response = endpoint(api).response_info(answer).response
    keep(store, made(api=api, response=response), made(api=api, response=Response(finish_reasons=["other"])))
    with closing(callspan.open_store(store)) as reader:
        (record,) = reader.calls(CallFilter(finish_reason=normalised(finish)))
    assert (record.finish_reason, record.response and record.response.finish_reasons) == (finish, [reason])
    assert record.is_cut_by_length == (normalised(finish) == "length")
    assert spans_say(api, answer) == (normalised(finish), [normalised(finish)])


def spans_say(api: str, answer: Json) -> tuple[str, list[str]]:
    """Return why an answer ended by the spans of every vocabulary: as a whole, and each of its choices."""
    response = msgspec.structs.replace(endpoint(api).response_info(answer).response, body=raw(answer))
    record = made(api=api, response=response)
    conversation = conversation_of(record)
    assert conversation is not None
    wholes, choices = set[str](), set[tuple[str, ...]]()
    for vocabulary in ("llm", "gen_ai", "openinference"):
        attributes: Json = Projection(Settings(vocabularies=(vocabulary,))).end(record, conversation)
        wholes |= {attributes["llm.finish_reason"]} if vocabulary != "gen_ai" else set()
        lists = [json.loads(attributes[name]) for name in (OUTPUT, "output.value") if name in attributes]
        choices |= {tuple(message["finish_reason"] for message in messages) for messages in lists if messages}
        choices |= {attributes["gen_ai.response.finish_reasons"]} if vocabulary == "gen_ai" else set()
    ((whole,), (each,)) = wholes, choices
    return whole, [normalised(word) for word in each]


def test_each_candidate_that_calls_a_function_ended_with_tool_calls() -> None:
    texts, calls = {"parts": [{"text": "Hi"}]}, {"parts": [{"functionCall": CALL}]}
    ends = [(texts, "STOP"), (calls, "STOP"), (texts, "MAX_TOKENS")]
    answer = {"candidates": [{"content": content, "finishReason": reason} for content, reason in ends]}
    assert spans_say("generate_content", answer) == ("length", ["stop", "tool_calls", "length"])
