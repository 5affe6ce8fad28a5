"""Moderations, searches of vector stores and runs of graders: the fields of their bodies, and missing ones."""

from __future__ import annotations

import json
from typing import Any

from callspan.providers.openai.single_body import GraderRuns
from callspan.records import Message, Text


def graded(token_usage: object, **per_model: object) -> dict[str, Any]:
    return {
        "reward": 0.5, "sub_rewards": {}, "model_grader_token_usage_per_model": per_model,
        "metadata": {"name": "g", "type": "score_model", "token_usage": token_usage},
    }  # fmt: skip


def test_a_grader_is_content_and_its_model_is_the_requested_one() -> None:
    grader = {"type": "score_model", "name": "g", "model": "gpt-5-mini", "input": [{"role": "user", "content": "?"}]}
    request = GraderRuns().request({"grader": grader, "item": {"answer": "42"}, "model_sample": "41"})
    assert (request.model, request.params, request.message_count) == ("gpt-5-mini", {}, 1)
    conversation = GraderRuns().conversation({"model_sample": "41"}, graded(None))
    assert conversation.input == [Message(role="user", parts=[Text(text="41")])]
    assert conversation.output[0].text is not None
    assert json.loads(conversation.output[0].text)["reward"] == 0.5
    assert GraderRuns().conversation(None, {"error": {}}).output == []
