"""Legacy completions: prompts, texts and their streams."""

from __future__ import annotations

from typing import Any

import pytest

from callspan.providers.openai.completions import CompletionAccumulator, Completions
from callspan.records import Message, Text, UnknownPart

HEAD = {"id": "cmpl-1", "object": "text_completion", "created": 17, "model": "davinci"}


def chunk(
    text: Any, *, index: int | None = 0, finish: Any = None, logprobs: Any = None, **fields: Any
) -> dict[str, Any]:
    choice = {"text": text, "finish_reason": finish, "logprobs": logprobs}
    if index is not None:
        choice["index"] = index
    return {**HEAD, "choices": [choice], **fields}


def fold(*chunks: Any) -> dict[str, Any]:
    accumulator = CompletionAccumulator()
    for one in chunks:
        accumulator.add(one)
    body = accumulator.body()
    assert body is not None
    return body


def test_a_stream_folds_into_the_body_of_one_piece() -> None:
    assert fold(
        chunk("Hel"), chunk("lo"), chunk("", finish="stop"), {**HEAD, "choices": [], "usage": {"prompt_tokens": 1}}
    ) == {
        **HEAD,
        "choices": [{"index": 0, "text": "Hello", "finish_reason": "stop", "logprobs": None}],
        "usage": {"prompt_tokens": 1},
    }


def test_choices_are_kept_apart() -> None:
    body = fold(chunk("A", index=0), chunk("B", index=1), chunk("A", index=0), chunk("B", index=None, finish="length"))
    assert [choice["text"] for choice in body["choices"]] == ["AAB", "B"]
    assert [choice["finish_reason"] for choice in body["choices"]] == ["length", None]


def test_log_probabilities_are_concatenated() -> None:
    def one(token: str) -> dict[str, Any]:
        return chunk(token, logprobs={"tokens": [token], "token_logprobs": [-0.5], "top_logprobs": None})

    logprobs = fold(one("a"), one("b"))["choices"][0]["logprobs"]
    assert logprobs == {"tokens": ["a", "b"], "token_logprobs": [-0.5, -0.5], "top_logprobs": None}


@pytest.mark.parametrize(("text", "carries"), [("a", True), ("", False), (None, False), (3, False)])
def test_text_is_content(text: object, carries: bool) -> None:
    assert CompletionAccumulator().add(chunk(text)) is carries


def test_it_is_complete_once_every_choice_has_ended() -> None:
    accumulator = CompletionAccumulator()
    accumulator.add(chunk("a", index=0))
    accumulator.add(chunk("b", index=1, finish="stop"))
    assert not accumulator.complete
    accumulator.add(chunk("", index=0, finish="stop"))
    assert accumulator.complete


def test_bare_values_of_a_gateway_are_text() -> None:
    assert fold({"value": "Su"}, {"value": "re"})["choices"][0]["text"] == "Sure"


@pytest.mark.parametrize("junk", [None, 3, [], "x"])
def test_anything_but_an_object_is_ignored(junk: object) -> None:
    accumulator = CompletionAccumulator()
    assert accumulator.add(junk) is False
    assert accumulator.body() is None


@pytest.mark.parametrize(
    "odd", [{}, {"choices": None}, {"choices": [None]}, {"choices": [{"index": -1}]}, {"value": 3}]
)
def test_invalid_chunks_are_harmless(odd: dict[str, Any]) -> None:
    assert fold(chunk("a"), odd, chunk("b"))["choices"][0]["text"] == "ab"


def test_unknown_fields_of_a_choice_are_kept() -> None:
    first = {**HEAD, "choices": [{"index": 0, "text": "a", "stop_reason": None}]}
    second = {**HEAD, "choices": [{"index": 0, "text": "b", "stop_reason": "END"}]}
    assert fold(first, second)["choices"][0]["stop_reason"] == "END"


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (None, []),
        ("", []),
        ("hi", [Message(role="user", parts=[Text(text="hi")])]),
        (["a", "b"], [Message(role="user", parts=[Text(text="a")]), Message(role="user", parts=[Text(text="b")])]),
        ([1, 2], [Message(role="user", parts=[UnknownPart(data=[1, 2])])]),
        ([[1], [2]], [Message(role="user", parts=[UnknownPart(data=[n])]) for n in (1, 2)]),
        ({"a": 1}, [Message(role="user", parts=[UnknownPart(data={"a": 1})])]),
    ],
)
def test_prompts_are_messages_of_a_user(prompt: object, expected: list[Message]) -> None:
    assert Completions().conversation({"prompt": prompt}, None).input == expected


def test_every_choice_is_an_answer_with_its_reason() -> None:
    body = {
        "choices": [
            {"index": 1, "text": "b", "finish_reason": "length", "logprobs": {"tokens": ["b"]}},
            {"index": 0, "text": "a", "finish_reason": "stop", "logprobs": None},
            {"index": 2, "text": "", "finish_reason": ""},
        ]
    }
    assert Completions().conversation(None, body).output == [
        Message(role="assistant", parts=[Text(text="a")], finish_reason="stop"),
        Message(role="assistant", parts=[Text(text="b", logprobs={"tokens": ["b"]})], finish_reason="length"),
        Message(role="assistant"),
    ]
    assert Completions().response_info(body).response.finish_reasons == ["stop", "length", None]


def test_the_index_counts_and_not_the_place_in_the_list() -> None:
    pair = [{"index": 1, "text": "B"}, {"index": 0, "text": "A"}]
    assert [choice["text"] for choice in fold({**HEAD, "choices": pair})["choices"]] == ["A", "B"]
    odd = [{"index": True, "text": "A"}, {"index": -1, "text": "B"}]
    assert [choice["index"] for choice in fold({**HEAD, "choices": odd})["choices"]] == [0, 1]


def test_the_bare_texts_of_writer_are_the_answer_and_nothing_beside_it() -> None:
    assert fold({"value": "Hel"}, {"value": "lo"}) == {
        "object": "text_completion",
        "choices": [{"index": 0, "text": "Hello", "finish_reason": None, "logprobs": None}],
    }


def test_an_empty_reason_does_not_replace_one() -> None:
    body = fold(chunk("x", finish="stop"), chunk("", finish=""))
    assert body["choices"][0]["finish_reason"] == "stop"
