"""Moderations, searches of vector stores and runs of graders: the fields of their bodies, and missing ones."""

from __future__ import annotations

import json
from typing import Any

import pytest

from callspan.providers.openai.single_body import GraderRuns, Moderations, VectorStoreSearch
from callspan.records import Media, Message, Text

RESULT = {"flagged": True, "categories": {"hate": True}, "category_scores": {"hate": 0.97}}
DOCUMENT = {"file_id": "file-1", "filename": "a.md", "score": 0.8, "content": [{"type": "text", "text": "Found."}]}


def test_flagged_input_is_not_a_refusal_and_no_usage_is_made_up() -> None:
    facts = Moderations().response_info({"id": "modr-1", "model": "omni-moderation-latest", "results": [RESULT]})
    assert (facts.response.id, facts.response.model) == ("modr-1", "omni-moderation-latest")
    assert (facts.usage, facts.error, facts.refused, facts.truncated) == (None, None, False, False)
    assert facts.response.finish_reasons == []


@pytest.mark.parametrize(
    ("given", "texts"),
    [("one", [["one"]]), (["one", "two"], [["one"], ["two"]]), ([{"type": "text", "text": "one"}], [["one"]])],
)
def test_one_message_for_each_input(given: object, texts: list[list[str]]) -> None:
    conversation = Moderations().conversation({"input": given}, None)
    assert [[part.text for part in one.parts if isinstance(part, Text)] for one in conversation.input] == texts
    assert conversation.output == []


def test_an_image_is_judged_beside_its_text() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://a.example.com/i.png"}}
    (message,) = Moderations().conversation({"input": [{"type": "text", "text": "?"}, image]}, None).input
    assert message.parts == [Text(text="?"), Media(modality="image", url="https://a.example.com/i.png")]


def test_each_result_is_shown_as_its_json() -> None:
    (message,) = Moderations().conversation(None, {"results": [RESULT, RESULT]}).output
    assert [json.loads(part.text) for part in message.parts if isinstance(part, Text)] == [RESULT, RESULT]


def test_a_search_shows_its_queries_and_the_documents_found() -> None:
    conversation = VectorStoreSearch("vs_1").conversation({"query": ["a", "b"]}, {"data": [DOCUMENT]})
    assert conversation.input == [Message(role="user", parts=[Text(text=text)]) for text in "ab"]
    (found,) = conversation.output
    assert [json.loads(part.text) for part in found.parts if isinstance(part, Text)] == [DOCUMENT]


def test_a_search_that_finds_nothing_has_no_output() -> None:
    assert VectorStoreSearch().conversation({"query": "a"}, {"data": []}).output == []
    assert VectorStoreSearch().request({"query": "a"}).params == {}


def graded(token_usage: object, **per_model: object) -> dict[str, Any]:
    return {
        "reward": 0.5, "sub_rewards": {}, "model_grader_token_usage_per_model": per_model,
        "metadata": {"name": "g", "type": "score_model", "token_usage": token_usage},
    }  # fmt: skip


COUNTED = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}


@pytest.mark.parametrize(
    ("body", "counters"),
    [
        (graded(12, **{"gpt-5-mini": COUNTED}), (10, 2, 12)),
        (graded(COUNTED), (10, 2, 12)),
        (graded(24, a=COUNTED, b=COUNTED), (None, None, 24)),
        (graded(7), (None, None, 7)),
        (graded(None), None),
        ({"reward": 0}, None),
        (None, None),
        ([], None),
    ],
)
def test_the_usage_of_graders(body: object, counters: tuple[int | None, ...] | None) -> None:
    usage = GraderRuns().response_info(body).usage
    assert counters == (usage and (usage.input_tokens, usage.output_tokens, usage.total_tokens))


def test_a_grader_is_content_and_its_model_is_the_requested_one() -> None:
    grader = {"type": "score_model", "name": "g", "model": "gpt-5-mini", "input": [{"role": "user", "content": "?"}]}
    request = GraderRuns().request({"grader": grader, "item": {"answer": "42"}, "model_sample": "41"})
    assert (request.model, request.params, request.message_count) == ("gpt-5-mini", {}, 1)
    conversation = GraderRuns().conversation({"model_sample": "41"}, graded(None))
    assert conversation.input == [Message(role="user", parts=[Text(text="41")])]
    assert conversation.output[0].text is not None
    assert json.loads(conversation.output[0].text)["reward"] == 0.5
    assert GraderRuns().conversation(None, {"error": {}}).output == []
