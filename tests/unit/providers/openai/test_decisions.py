"""Decisions: the input with the questions about it, and an answer for each."""

from __future__ import annotations

import json
from typing import Any

import pytest

from callspan.providers.openai.single_body import Decisions
from callspan.records import Message, Refusal, Text, ToolCall, ToolResult

CHOICE = {"type": "choice", "name": "next", "instructions": "Where to?", "choices": [{"value": "n"}, {"value": "s"}]}
ANSWER = {
    "type": "choice", "name": "next", "choice": "n", "confidence": 0.9,
    "probabilities": [{"value": "n", "probability": 0.9}, {"value": "s", "probability": 0.1}],
}  # fmt: skip
DECLINED = {"type": "refusal", "name": "next"}
USAGE = {
    "input_tokens": 20, "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 3},
    "output_tokens": 4, "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 24,
}  # fmt: skip


def body(*answers: object) -> dict[str, Any]:
    return {"model": "gpt-6-luna", "answers": list(answers), "usage": USAGE}


def test_the_info_is_model_and_usage() -> None:
    facts = Decisions().response_info(body(ANSWER))
    assert (facts.response.model, facts.response.finish_reasons, facts.error) == ("gpt-6-luna", [], None)
    assert facts.usage is not None
    usage = facts.usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (20, 4, 24)
    assert (usage.cache_read_tokens, usage.cache_write_tokens, usage.reasoning_tokens) == (8, 3, 2)


@pytest.mark.parametrize(
    ("answers", "refused"),
    [([ANSWER], False), ([DECLINED], True), ([ANSWER, DECLINED], True), ([], False), ([None, 3], False)],
)
def test_a_question_that_was_declined_makes_a_refusal(answers: list[object], refused: bool) -> None:
    assert Decisions().response_info(body(*answers)).refused is refused


def test_questions_follow_the_input_and_answers_stand_in_their_order() -> None:
    conversation = Decisions().conversation({"input": "A fork.", "questions": [CHOICE]}, body(ANSWER, DECLINED))
    about, questions = conversation.input
    assert about == Message(role="user", parts=[Text(text="A fork.")])
    (question,) = questions.parts
    assert questions.role == "user"
    assert isinstance(question, Text)
    assert json.loads(question.text) == CHOICE
    (answer,) = conversation.output
    first, second = answer.parts
    assert isinstance(first, Text)
    assert json.loads(first.text) == ANSWER
    assert isinstance(second, Refusal)
    assert json.loads(second.text) == DECLINED


def test_an_input_of_items_is_read_as_in_responses() -> None:
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "Go."}]},
        {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "a wall"},
    ]
    conversation = Decisions().conversation({"input": items}, None)
    assert [message.role for message in conversation.input] == ["user", "assistant", "tool"]
    assert conversation.input[0].parts == [Text(text="Go.")]
    (call,), (result,) = conversation.input[1].parts, conversation.input[2].parts
    assert isinstance(call, ToolCall)
    assert isinstance(result, ToolResult)
    assert (call.name, result.content) == ("look", "a wall")
    assert conversation.output == []


def test_questions_are_content_and_no_parameters() -> None:
    request = Decisions().request({"model": "m", "input": "a", "questions": [CHOICE], "prompt_cache_key": "k"})
    assert (request.model, request.message_count, request.params) == ("m", 1, {"prompt_cache_key": "k"})


def test_the_one_body_is_kept_detached() -> None:
    whole = body(ANSWER)
    accumulator = Decisions().accumulator()
    assert accumulator.add(whole) is True
    assert accumulator.complete
    kept = accumulator.body()
    whole["answers"].clear()
    assert kept == body(ANSWER)


def test_a_body_without_answers_is_none() -> None:
    accumulator = Decisions().accumulator()
    assert accumulator.add({"model": "m"}) is False
    assert not accumulator.complete
