"""Lines of batches: which API an answer is of, by its type or by its fields."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.bodies import endpoint_of, result_in

SAID = {"role": "assistant", "content": "Hello"}
ANSWERS: dict[str, list[dict[str, Any]]] = {
    "chat_completions": [{"choices": [{"index": 0, "message": SAID, "finish_reason": "stop"}]}],
    "completions": [{"choices": [{"index": 0, "text": "Hello", "finish_reason": "stop"}]}],
    "responses": [{"output": [{"type": "message", "content": []}]}],
    "embeddings": [{"data": [{"index": 0, "embedding": [0.5]}]}],
    "moderations": [{"results": [{"flagged": False}]}],
    "images": [{"data": [{"b64_json": "aGk="}]}],
}


@pytest.mark.parametrize("body", [{}, {"model": "m", "error": None, "usage": {"total_tokens": 1}}])
@pytest.mark.parametrize(("api", "answer"), [(api, answer) for api, answers in ANSWERS.items() for answer in answers])
def test_an_answer_without_a_type_is_known_by_its_fields(api: str, answer: Any, body: dict[str, Any]) -> None:
    response = {"status_code": 200, "request_id": "r", "body": answer | body}
    line = result_in(json.dumps({"id": "b1", "custom_id": "c1", "response": response, "error": None}).encode())
    assert line is not None
    assert (line.outcome, endpoint_of(line).api) == ("success", api)
