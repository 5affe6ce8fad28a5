"""Text completions of Anthropic: requests, responses and streams."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.providers.anthropic.completions import CompletionFold, TextCompletions
from callspan.records import Conversation, Message, Text, UnknownPart

HEAD = {"type": "completion", "id": "compl_1", "model": "claude-2.1", "log_id": "compl_1"}
ENDPOINT = TextCompletions()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["type", "completion", "stop_reason", "stop", "error", "model", "id", "prompt", "usage"]),
        inner, max_size=4,
    ),
    max_leaves=8,
)  # fmt: skip


def piece(text: Any, reason: Any = None, stop: Any = None) -> dict[str, Any]:
    return {**HEAD, "completion": text, "stop_reason": reason, "stop": stop}


def fold(*chunks: Any) -> CompletionFold:
    accumulator = CompletionFold()
    for chunk in chunks:
        accumulator.add(chunk)
    return accumulator


@pytest.mark.parametrize("junk", [None, 3, [], "x", {}, {"type": "ping"}, {"completion": 7}])
def test_anything_else_carries_nothing(junk: object) -> None:
    assert CompletionFold().add(junk) is False
    assert fold(piece("a"), junk, piece("b", "max_tokens")).body() == piece("ab", "max_tokens")


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (None, []),
        ("", []),
        ("hi", [Message(role="user", parts=[Text(text="hi")])]),
        ([1, 2], [Message(role="user", parts=[UnknownPart(data=[1, 2])])]),
    ],
)
def test_a_prompt_is_a_message_of_a_user(prompt: object, expected: list[Message]) -> None:
    assert ENDPOINT.conversation({"prompt": prompt}, None) == Conversation(input=expected)


@given(st.lists(JSON, max_size=5), JSON, JSON)
def test_any_json_is_read(chunks: list[object], request: object, response: object) -> None:
    folded = fold(*chunks).body()
    for body in (folded, response):
        ENDPOINT.response_info(body)
        ENDPOINT.conversation(request, body)
    ENDPOINT.request(request)


@pytest.mark.parametrize("body", [None, [], {}, {"choices": []}, {"completion": None}, "text"])
def test_another_body_is_not_recognized(body: object) -> None:
    found = ENDPOINT.response_info(body)
    assert (found.recognized, found.response.finish_reasons) == (False, [])
    assert ENDPOINT.conversation(None, body) == Conversation()
