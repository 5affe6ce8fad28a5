"""Chat: messages without loss, and what each kind of chunk adds to the folded body."""

from __future__ import annotations

from typing import Any

import pytest

from callspan.providers.fold.chat import ChatFold
from callspan.providers.openai.chat import ChatCompletions
from callspan.records import Media, Message, Part, Text, ToolCall

HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 17, "model": "gpt-5-2026"}


def chunk(delta: Any = None, *, index: int | None = 0, finish: Any = None, **fields: Any) -> dict[str, Any]:
    choice: dict[str, Any] = {"delta": {} if delta is None else delta, "finish_reason": finish}
    if index is not None:
        choice["index"] = index
    choice.update(fields.pop("choice", {}))
    return {**HEAD, "choices": [choice], **fields}


def fold(*chunks: Any) -> dict[str, Any]:
    accumulator = ChatFold()
    for one in chunks:
        accumulator.add(one)
    body = accumulator.body()
    assert body is not None
    return body


def message(*chunks: Any) -> dict[str, Any]:
    found: dict[str, Any] = fold(*chunks)["choices"][0]["message"]
    return found


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"choices": None},
        {"choices": {}},
        {"choices": [None, 3, "x"]},
        {"choices": [{}]},
        {"choices": [{"delta": None}]},
        {"choices": [{"index": "0", "delta": {"content": 3}}]},
        {"choices": [{"index": -4, "delta": {"tool_calls": {"id": 3}}}]},
        {"choices": [{"index": True, "delta": {"tool_calls": [None, "x"]}}]},
        {"choices": [{"delta": {"function_call": "x", "audio": "y", "reasoning_details": "z"}}]},
        {"choices": [{"delta": {"reasoning_details": [None, {"index": True}]}}], "usage": "many"},
        {"choices": [{"logprobs": 3, "token_ids": "x", "finish_reason": 9}], "x_groq": None},
    ],
)
def test_invalid_chunks_are_harmless(odd: dict[str, Any]) -> None:
    body = fold(chunk({"content": "a"}), odd, chunk({"content": "b"}))
    assert body["choices"][0]["message"]["content"] == "ab"


@pytest.mark.parametrize(
    ("delta", "carries"),
    [
        ({"role": "assistant"}, False),
        ({"role": "assistant", "content": ""}, False),
        ({"content": None}, False),
        ({"content": "x"}, True),
        ({"content": [{"type": "text", "text": "x"}]}, True),
        ({"content": [{"type": "text", "text": ""}]}, False),
        ({"refusal": "no"}, True),
        ({"refusal": ""}, False),
        ({"reasoning": "hm"}, True),
        ({"reasoning_content": "hm"}, True),
        ({"reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}, True),
        ({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f"}}]}, True),
        ({"tool_calls": []}, False),
        ({"tool_calls": None}, False),
        ({"function_call": {"name": "f"}}, True),
        ({"audio": {"id": "a"}}, False),
        ({"audio": {"transcript": "x"}}, True),
        ({"annotations": [{"type": "url_citation"}]}, True),
        ({"channel": "analysis"}, False),
        ({}, False),
    ],
)
def test_chunks_with_content_are_distinguished_from_others(delta: dict[str, Any], carries: bool) -> None:
    assert ChatFold().add(chunk(delta)) is carries
    warm = ChatFold()
    warm.add(chunk({"role": "assistant", "content": ""}))
    warm.add(chunk({"content": "w"}))
    assert warm.add(chunk(delta)) is carries


def test_empty_content_of_a_tool_turn_is_null() -> None:
    calls = [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}]
    assert message(chunk({"role": "assistant", "content": ""}), chunk({"tool_calls": calls}))["content"] is None


def test_token_ids_of_servers_that_return_them() -> None:
    first = chunk({"content": "a"}, choice={"token_ids": [1, 2]}, prompt_token_ids=[7, 8])
    second = chunk({"content": "b"}, choice={"token_ids": [3]}, prompt_token_ids=None)
    body = fold(first, second)
    assert body["choices"][0]["token_ids"] == [1, 2, 3]
    assert body["prompt_token_ids"] == [7, 8]


def test_listed_tools_with_an_index_are_updated_in_place() -> None:
    body = message(
        chunk({"executed_tools": [{"index": 0, "type": "search", "arguments": "{}"}]}),
        chunk({"executed_tools": [{"index": 0, "output": "found"}, {"index": 1, "type": "visit"}]}),
    )
    assert body["executed_tools"] == [
        {"index": 0, "type": "search", "arguments": "{}", "output": "found"},
        {"index": 1, "type": "visit"},
    ]


def test_audio_is_joined_also_when_each_fragment_is_padded() -> None:
    body = message(
        chunk({"audio": {"id": "audio_1", "transcript": "Hel"}}),
        chunk({"audio": {"data": "YQ==", "transcript": "lo"}}),
        chunk({"audio": {"data": "YmM="}}),
        chunk({"audio": {"expires_at": 99}}),
    )
    assert body["audio"] == {"id": "audio_1", "expires_at": 99, "data": "YWJj", "transcript": "Hello"}


class TestUsage:
    """Usage is cumulative: the last value of each counter counts, whatever else comes."""

    def test_a_response_without_usage_has_unknown_usage(self) -> None:
        body = fold(chunk({"content": "x"}, usage=None))
        assert "usage" not in body
        assert ChatCompletions().response_info(body).usage is None


@pytest.mark.parametrize("odd", [{}, [], "x", 3, None, [3], [None], [[]]])
def test_invalid_choices_in_a_stream_change_nothing(odd: object) -> None:
    first = chunk({"content": "a"})
    assert message(first, chunk({"content": "b"}), {**first, "choices": odd}, chunk({"content": "c"})) == {
        "role": "assistant",
        "content": "abc",
    }


@pytest.mark.parametrize("fragments", [["QQ==", "no base64!"], ["QQ==", "QUI", "QQ=="]])
def test_undecodable_audio_is_joined_as_received(fragments: list[str]) -> None:
    audio = message(*(chunk({"audio": {"id": "a", "data": fragment}}) for fragment in fragments))["audio"]
    assert audio["data"] == "".join(fragments)


@pytest.mark.parametrize("data", [5, "", None, ["x"]])
def test_audio_of_an_unknown_shape_is_ignored(data: object) -> None:
    assert message(chunk({"audio": {"id": "a", "data": data}}), chunk({"audio": {"data": "QUJD"}}))["audio"] == {
        "id": "a",
        "data": "QUJD",
    }


@pytest.mark.parametrize("field", ["function_call", "audio", "reasoning_details", "tool_calls"])
def test_a_field_of_another_shape_carries_nothing(field: str) -> None:
    accumulator = ChatFold()
    assert accumulator.add(chunk({field: 5})) is False
    accumulator.add(chunk({"content": "x"}))
    body = accumulator.body()
    assert ChatCompletions().conversation(None, body).output[0].parts == [Text(text="x")]


@pytest.mark.parametrize("depth", [50, 900, 5000])
@pytest.mark.parametrize("place", ["message", "call", "head", "logprobs"])
def test_json_of_any_depth_costs_only_itself(place: str, depth: int) -> None:
    deep: dict[str, object] = {"x": "a"}
    for _ in range(depth):
        deep = {"x": deep}
    delta: dict[str, object] = {"content": "Hi"}
    choice: dict[str, object] = {"index": 0, "delta": delta}
    whole: dict[str, object] = {"choices": [choice]}
    if place == "message":
        delta["provider_specific_fields"] = deep
    elif place == "call":
        delta["tool_calls"] = [{"index": 0, "function": deep}]
    else:
        (whole if place == "head" else choice)["usage" if place == "head" else place] = deep
    accumulator = ChatFold()
    assert [accumulator.add(whole) for _ in range(3)] == [True] * 3
    body = accumulator.body()
    assert body is not None
    assert body["choices"][0]["message"]["content"] == "HiHiHi"


def piece(arguments: str, **fields: Any) -> dict[str, Any]:
    name = {"name": fields.pop("name")} if "name" in fields else {}
    return chunk({"tool_calls": [{**fields, "function": {**name, "arguments": arguments}}]})


@pytest.mark.parametrize("numbers", [{}, {"index": 0}])
def test_parallel_calls_that_share_a_number_or_have_none_are_told_apart_by_their_ids(numbers: dict[str, int]) -> None:
    calls = message(
        piece('{"a"', id="call_1", name="f", **numbers),
        piece(": 1}", id="call_1", **numbers),
        piece('{"b"', id="call_2", name="f", **numbers),
        piece(": 2}", id="call_2", **numbers),
    )["tool_calls"]
    assert [(call["id"], call["function"]["arguments"]) for call in calls] == [
        ("call_1", '{"a": 1}'),
        ("call_2", '{"b": 2}'),
    ]


def test_pieces_of_parallel_calls_without_a_number_may_come_in_turns() -> None:
    calls = message(
        piece("", id="call_1", name="f"),
        piece("", id="call_2", name="f"),
        piece('{"a": 1}', id="call_1"),
        piece('{"b": 2}', id="call_2"),
    )["tool_calls"]
    assert [call["function"]["arguments"] for call in calls] == ['{"a": 1}', '{"b": 2}']


def test_a_token_id_in_each_chunk_is_a_list_in_the_body() -> None:
    chunks = [chunk({"content": letter, "token_id": number}) for number, letter in enumerate("ab")]
    assert fold(*chunks)["choices"][0]["token_ids"] == [0, 1]


def output_of(message: Any, **choice: Any) -> Message:
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}]}
    return ChatCompletions().conversation(None, body).output[0]


def parts(**message: Any) -> list[Part]:
    return output_of({"role": "assistant", **message}).parts


def test_all_choices_are_messages_in_order_with_their_reasons() -> None:
    body = {
        "choices": [
            {"index": 1, "message": {"role": "assistant", "content": "b"}, "finish_reason": "length"},
            {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"},
        ]
    }
    assert ChatCompletions().conversation(None, body).output == [
        Message(role="assistant", parts=[Text(text="a")], finish_reason="stop"),
        Message(role="assistant", parts=[Text(text="b")], finish_reason="length"),
    ]


def test_spoken_answers_are_media_by_hash() -> None:
    content = parts(content=None, audio={"id": "audio_1", "data": "YWJj", "transcript": "abc", "expires_at": 9})
    assert content == [
        Media(
            modality="audio",
            sha256="ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            size=3,
            file_id="audio_1",
        )
    ]


def test_log_probabilities_without_a_text_are_on_no_part() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    found = output_of({"tool_calls": [call]}, logprobs={"content": [{"token": "x"}]}).parts
    assert found == [ToolCall(id="c", name="f", arguments="{}", tool_type="function")]


def test_a_tool_that_the_provider_ran_has_its_name() -> None:
    (call,) = parts(executed_tools=[{"type": "python", "name": "run", "arguments": "1+1", "output": "2"}])
    assert call == ToolCall(name="run", arguments="1+1", tool_type="python", extra={"output": "2"})
