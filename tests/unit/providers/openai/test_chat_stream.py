"""Chat streams: what each kind of chunk adds to the folded body."""

from __future__ import annotations

from typing import Any

import pytest

from callspan.providers.openai.chat import ChatCompletions
from callspan.providers.openai.chat_stream import ChatAccumulator

HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 17, "model": "gpt-5-2026"}


def chunk(delta: Any = None, *, index: int | None = 0, finish: Any = None, **fields: Any) -> dict[str, Any]:
    choice: dict[str, Any] = {"delta": {} if delta is None else delta, "finish_reason": finish}
    if index is not None:
        choice["index"] = index
    choice.update(fields.pop("choice", {}))
    return {**HEAD, "choices": [choice], **fields}


def fold(*chunks: Any) -> dict[str, Any]:
    accumulator = ChatAccumulator()
    for one in chunks:
        accumulator.add(one)
    body = accumulator.body()
    assert body is not None
    return body


def message(*chunks: Any) -> dict[str, Any]:
    found: dict[str, Any] = fold(*chunks)["choices"][0]["message"]
    return found


def test_a_stream_folds_into_the_body_of_one_piece() -> None:
    body = fold(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hel"}),
        chunk({"content": "lo"}),
        chunk({}, finish="stop"),
        {**HEAD, "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}},
    )
    assert body == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 17,
        "model": "gpt-5-2026",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello"},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


def test_a_stream_without_events_has_no_body() -> None:
    accumulator = ChatAccumulator()
    assert accumulator.body() is None
    assert not accumulator.complete


@pytest.mark.parametrize("junk", [None, 3, "text", [], [{"choices": []}], True, 1.5])
def test_anything_but_an_object_is_ignored(junk: object) -> None:
    accumulator = ChatAccumulator()
    assert accumulator.add(junk) is False
    assert accumulator.body() is None


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
    assert ChatAccumulator().add(chunk(delta)) is carries
    warm = ChatAccumulator()
    warm.add(chunk({"role": "assistant", "content": ""}))
    warm.add(chunk({"content": "w"}))
    assert warm.add(chunk(delta)) is carries


def test_choices_are_kept_apart_by_index() -> None:
    body = fold(
        chunk({"content": "A"}, index=0),
        chunk({"content": "BB"}, index=1),
        chunk({"content": "AA"}, index=0),
        chunk({}, index=1, finish="length"),
        chunk({}, index=0, finish="stop"),
    )
    assert [choice["message"]["content"] for choice in body["choices"]] == ["AAA", "BB"]
    assert ChatCompletions().response_info(body).response.finish_reasons == ["stop", "length"]


def test_choices_without_index_go_by_their_place() -> None:
    two = {**HEAD, "choices": [{"delta": {"content": "a"}}, {"delta": {"content": "b"}}]}
    body = fold(two, two)
    assert [choice["message"]["content"] for choice in body["choices"]] == ["aa", "bb"]


def test_the_first_choice_may_come_after_a_chunk_without_any() -> None:
    """Azure opens with filter results and empty names, all of which later chunks fill."""
    opening = {
        "id": "",
        "object": "",
        "created": 0,
        "model": "",
        "choices": [],
        "prompt_filter_results": [{"prompt_index": 0}],
    }
    plain = {**HEAD, "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}], "extra": 1}
    body = fold(opening, plain, plain)
    assert (body["id"], body["model"], body["created"]) == ("chatcmpl-1", "gpt-5-2026", 17)
    assert body["prompt_filter_results"] == [{"prompt_index": 0}]
    assert body["choices"][0]["message"]["content"] == "xx"


def test_first_names_win_and_null_is_filled_later() -> None:
    body = fold(
        chunk({"content": "a"}, system_fingerprint=None, service_tier=None),
        chunk({"content": "b"}, system_fingerprint=None, service_tier="default"),
        chunk({"content": "c"}, system_fingerprint="fp_1", service_tier="default"),
        {**chunk({"content": "d"}, system_fingerprint="fp_2", service_tier="priority"), "id": "other", "model": "m2"},
    )
    assert body["id"] == "chatcmpl-1"
    assert body["model"] == "gpt-5-2026"
    assert (body["system_fingerprint"], body["service_tier"]) == ("fp_1", "default")


def test_unknown_fields_around_choices_are_kept() -> None:
    body = fold(
        chunk({"content": "a"}, provider="Novita"), chunk({"content": "b"}, citations=["http://x"], provider="No")
    )
    assert body["provider"] == "Novita"
    assert body["citations"] == ["http://x"]


def test_padding_is_not_kept() -> None:
    assert "obfuscation" not in fold(chunk({"content": "a"}, obfuscation="Xy7"))


def test_role_is_the_first_and_assistant_by_default() -> None:
    assert message(chunk({"content": "x"}))["role"] == "assistant"
    assert message(chunk({"role": ""}), chunk({"role": "tutor"}), chunk({"role": "assistant"}))["role"] == "tutor"


def test_a_role_in_every_delta_is_one_role() -> None:
    chunks = [chunk({"role": "assistant", "content": text}) for text in ("a", "b", "c")]
    assert message(*chunks) == {"role": "assistant", "content": "abc"}


def test_the_last_finish_reason_wins_and_null_does_not_erase() -> None:
    body = fold(chunk({}, finish="stop"), chunk({}, finish="tool_calls"), chunk({}, finish=None))
    assert body["choices"][0]["finish_reason"] == "tool_calls"


def test_a_stream_is_complete_when_all_choices_are() -> None:
    accumulator = ChatAccumulator()
    accumulator.add(chunk({"content": "a"}, index=0))
    accumulator.add(chunk({"content": "b"}, index=1))
    accumulator.add(chunk({}, index=0, finish="stop"))
    assert not accumulator.complete
    accumulator.add(chunk({}, index=1, finish="stop"))
    assert accumulator.complete


def test_usage_alone_ends_a_stream_that_never_gives_a_finish_reason() -> None:
    accumulator = ChatAccumulator()
    accumulator.add(chunk({"content": "a"}, finish=""))
    assert not accumulator.complete
    accumulator.add({**HEAD, "choices": [], "usage": {"prompt_tokens": 1}})
    assert accumulator.complete


def test_empty_content_of_a_tool_turn_is_null() -> None:
    calls = [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}]
    assert message(chunk({"role": "assistant", "content": ""}), chunk({"tool_calls": calls}))["content"] is None


def test_empty_content_of_an_empty_answer_stays_empty_text() -> None:
    assert message(chunk({"role": "assistant", "content": ""}), chunk({}, finish="length"))["content"] == ""
    assert message(chunk({"role": "assistant"}))["content"] is None


def test_content_as_parts_keeps_order_and_joins_fragments() -> None:
    """Mistral's thinking models send lists of parts, and plain texts in between."""
    thinking = [{"type": "thinking", "thinking": [{"type": "text", "text": "let me "}]}]
    body = message(
        chunk({"content": "Intro. "}),
        chunk({"content": thinking}),
        chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "see"}]}]}),
        chunk({"content": "An"}),
        chunk({"content": "swer"}),
        chunk({"content": [{"type": "text", "text": "!"}, {"type": "image_url", "image_url": "http://x"}]}),
    )
    assert body["content"] == [
        {"type": "text", "text": "Intro. "},
        {"type": "thinking", "thinking": [{"type": "text", "text": "let me see"}]},
        {"type": "text", "text": "Answer!"},
        {"type": "image_url", "image_url": "http://x"},
    ]


def test_a_body_may_be_requested_at_any_time() -> None:
    accumulator = ChatAccumulator()
    accumulator.add(chunk({"content": [{"type": "text", "text": "a"}]}))
    for text in ("b", "c"):
        accumulator.add(chunk({"content": text}))
        body = accumulator.body()
    assert body is not None
    assert body["choices"][0]["message"]["content"] == [{"type": "text", "text": "abc"}]  # type: ignore[index]


def test_refusal_is_apart_from_content() -> None:
    body = fold(chunk({"role": "assistant", "content": ""}), chunk({"refusal": "I "}), chunk({"refusal": "can't"}))
    assert body["choices"][0]["message"]["refusal"] == "I can't"
    assert ChatCompletions().response_info(body).refused


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content", "thinking"])
def test_reasoning_text_is_joined_in_its_own_field(field: str) -> None:
    assert message(chunk({field: "a"}), chunk({field: None}), chunk({field: "b"}))[field] == "ab"


def test_reasoning_details_are_joined_by_index_with_their_signatures() -> None:
    details = [
        [{"type": "reasoning.text", "index": 0, "text": "one ", "format": "anthropic-claude-v1"}],
        [{"type": "reasoning.text", "index": 1, "text": "two"}],
        [{"type": "reasoning.text", "index": 0, "text": "more", "signature": None}],
        [{"type": "reasoning.text", "index": 0, "signature": "s0"}, {"type": "reasoning.encrypted", "data": "xyz"}],
    ]
    folded = message(*[chunk({"content": "", "reasoning_details": entries}) for entries in details])
    assert folded["reasoning_details"] == [
        {"type": "reasoning.text", "index": 0, "format": "anthropic-claude-v1", "signature": "s0", "text": "one more"},
        {"type": "reasoning.text", "index": 1, "text": "two"},
        {"type": "reasoning.encrypted", "data": "xyz"},
    ]


def test_logprobs_are_concatenated() -> None:
    def one(token: str) -> dict[str, Any]:
        return chunk({"content": token}, choice={"logprobs": {"content": [{"token": token}], "refusal": None}})

    body = fold(one("a"), one("b"), chunk({}, finish="stop", choice={"logprobs": None}))
    assert body["choices"][0]["logprobs"] == {"content": [{"token": "a"}, {"token": "b"}], "refusal": None}


def test_refusal_logprobs_may_start_late() -> None:
    early = chunk({"content": "a"}, choice={"logprobs": {"content": [{"token": "a"}], "refusal": None}})
    late = chunk({"refusal": "b"}, choice={"logprobs": {"content": None, "refusal": [{"token": "b"}]}})
    assert fold(early, late)["choices"][0]["logprobs"] == {"content": [{"token": "a"}], "refusal": [{"token": "b"}]}


def test_token_ids_of_servers_that_return_them() -> None:
    first = chunk({"content": "a"}, choice={"token_ids": [1, 2]}, prompt_token_ids=[7, 8])
    second = chunk({"content": "b"}, choice={"token_ids": [3]}, prompt_token_ids=None)
    body = fold(first, second)
    assert body["choices"][0]["token_ids"] == [1, 2, 3]
    assert body["prompt_token_ids"] == [7, 8]


def test_single_token_ids_in_deltas_are_collected() -> None:
    body = fold(chunk({"content": "1", "token_id": 16}), chunk({"content": ",", "token_id": 11}))
    assert body["choices"][0]["token_ids"] == [16, 11]


def test_a_repeated_text_of_a_choice_is_not_added() -> None:
    body = fold(chunk({"content": "1"}, choice={"text": "1"}), chunk({"content": "2"}, choice={"text": "2"}))
    assert "text" not in body["choices"][0]
    assert body["choices"][0]["message"]["content"] == "12"


def test_unknown_fields_of_a_choice_keep_their_last_value() -> None:
    body = fold(
        chunk({"content": "a"}, choice={"native_finish_reason": None, "content_filter_results": {"hate": {"f": 0}}}),
        chunk({"content": "b"}, choice={"native_finish_reason": "STOP", "content_filter_results": {"hate": {"f": 1}}}),
        chunk({}, choice={"native_finish_reason": None, "content_filter_results": {}}),
    )
    assert body["choices"][0]["native_finish_reason"] == "STOP"
    assert body["choices"][0]["content_filter_results"] == {"hate": {"f": 1}}


def test_a_filter_result_beside_an_otherwise_plain_delta_is_kept() -> None:
    """Four fields, like a choice with logprobs: the short way must not take it."""
    body = fold(
        chunk({"role": "assistant", "content": ""}, choice={"logprobs": None}),
        chunk({"content": "a"}, choice={"content_filter_results": {"hate": 1}}),
    )
    assert body["choices"][0]["content_filter_results"] == {"hate": 1}


def test_annotations_on_later_deltas_are_collected() -> None:
    cite = {"type": "url_citation", "url_citation": {"url": "http://x"}}
    assert message(chunk({"content": "a"}), chunk({"annotations": [cite]}), chunk({"annotations": [cite]}))[
        "annotations"
    ] == [cite, cite]


def test_listed_tools_with_an_index_are_updated_in_place() -> None:
    body = message(
        chunk({"executed_tools": [{"index": 0, "type": "search", "arguments": "{}"}]}),
        chunk({"executed_tools": [{"index": 0, "output": "found"}, {"index": 1, "type": "visit"}]}),
    )
    assert body["executed_tools"] == [
        {"index": 0, "type": "search", "arguments": "{}", "output": "found"},
        {"index": 1, "type": "visit"},
    ]


def test_function_call_of_the_old_kind_is_joined() -> None:
    body = message(
        chunk({"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": ""}}),
        chunk({"function_call": {"arguments": '{"a"'}}),
        chunk({"function_call": {"arguments": ":1}"}}),
    )
    assert body["function_call"] == {"name": "f", "arguments": '{"a":1}'}
    assert body["content"] is None


def test_audio_is_joined_also_when_each_fragment_is_padded() -> None:
    body = message(
        chunk({"audio": {"id": "audio_1", "transcript": "Hel"}}),
        chunk({"audio": {"data": "YQ==", "transcript": "lo"}}),
        chunk({"audio": {"data": "YmM="}}),
        chunk({"audio": {"expires_at": 99}}),
    )
    assert body["audio"] == {"id": "audio_1", "expires_at": 99, "data": "YWJj", "transcript": "Hello"}


def test_a_whole_body_in_a_stream_is_folded_too() -> None:
    whole = {
        **HEAD,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    }
    body = fold(whole)
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "hi"}
    assert body["choices"][0]["finish_reason"] == "stop"


def test_an_error_in_the_stream_is_kept_with_what_came_before() -> None:
    accumulator = ChatAccumulator()
    accumulator.add(chunk({"content": "par"}))
    accumulator.add({"error": {"message": "overloaded", "type": "server_error", "code": 503}})
    facts = ChatCompletions().response_info(accumulator.body())
    assert facts.error is not None
    assert (facts.error.type, facts.error.status, facts.error.retryable) == ("server_error", 503, True)
    assert not accumulator.complete


class TestUsage:
    """Usage is cumulative: the last value of each counter counts, whatever else comes."""

    def test_usage_on_every_chunk_is_not_added_up(self) -> None:
        body = fold(*[chunk({"content": "x"}, usage={"prompt_tokens": 5, "completion_tokens": n}) for n in (1, 2, 3)])
        assert body["usage"] == {"prompt_tokens": 5, "completion_tokens": 3}
        assert body["choices"][0]["message"]["content"] == "xxx"

    def test_later_null_erases_nothing(self) -> None:
        body = fold(
            chunk({"content": "x"}, usage={"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 2}}),
            chunk({"content": "y"}, usage=None),
            chunk({}, usage={"prompt_tokens": None, "prompt_tokens_details": None, "completion_tokens": 1}),
        )
        assert body["usage"] == {
            "prompt_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 2},
            "completion_tokens": 1,
        }

    def test_usage_of_groq_is_read_from_its_own_field(self) -> None:
        body = fold(
            chunk({"role": "assistant", "content": ""}, x_groq={"id": "req_1"}),
            chunk({"content": "x"}),
            chunk({}, finish="stop", x_groq={"id": "req_1", "usage": {"prompt_tokens": 4, "completion_tokens": 1}}),
        )
        usage = ChatCompletions().response_info(body).usage
        assert usage is not None
        assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (4, 1, 5)

    def test_a_response_without_usage_has_unknown_usage(self) -> None:
        body = fold(chunk({"content": "x"}, usage=None))
        assert "usage" not in body
        assert ChatCompletions().response_info(body).usage is None


def test_a_body_shares_no_container_with_the_chunks() -> None:
    usage = {"prompt_tokens_details": {"cached_tokens": 1}}
    extra = {"a": [1]}
    accumulator = ChatAccumulator()
    accumulator.add(chunk({"content": "x"}, usage=usage, extra=extra))
    usage["prompt_tokens_details"]["cached_tokens"] = 9
    extra["a"].append(2)
    body = accumulator.body()
    assert body is not None
    assert body["usage"] == {"prompt_tokens_details": {"cached_tokens": 1}}
    assert body["extra"] == {"a": [1]}
    body["extra"]["a"].append(3)  # type: ignore[index]
    again = accumulator.body()
    assert again is not None
    assert again["extra"] == {"a": [1]}


def test_endless_nesting_is_cut_off() -> None:
    deep: Any = {}
    for _ in range(500):
        deep = {"a": deep}
    body = fold(chunk({"content": "x", "odd": deep}, choice={"odd": deep}, odd=deep, usage=deep))
    assert body["choices"][0]["message"]["content"] == "x"


def test_many_small_texts_are_packed_and_keep_their_order() -> None:
    texts = [f"{number} " for number in range(10_000)]
    accumulator = ChatAccumulator()
    for text in texts:
        accumulator.add(chunk({"content": text}))
    body = accumulator.body()
    assert body is not None
    assert body["choices"][0]["message"]["content"] == "".join(texts)  # type: ignore[index]


@pytest.mark.parametrize("reason", ["", None, 5, {}])
def test_only_a_text_as_finish_reason_ends_a_choice(reason: object) -> None:
    body = fold(chunk({"content": "x"}), chunk({}, finish=reason))
    assert body["choices"][0]["finish_reason"] is None
    ended = fold(chunk({"content": "x"}, finish="stop"), chunk({}, finish=reason))
    assert ended["choices"][0]["finish_reason"] == "stop"


def test_a_choice_has_the_fields_of_a_complete_response_and_no_others() -> None:
    extra = {"text": "x", "token_ids": [1], "content_filter_results": {"hate": False}, "message": None}
    (choice,) = fold(chunk({"content": "x"}, choice={"logprobs": {"content": [1]}, **extra}, finish="stop"))["choices"]
    assert choice == {
        "index": 0,
        "message": {"role": "assistant", "content": "x"},
        "finish_reason": "stop",
        "logprobs": {"content": [1]},
        "token_ids": [1],
        "content_filter_results": {"hate": False},
    }


@pytest.mark.parametrize("details", [5, True, "text", {"type": "reasoning.text"}, [3, None]])
def test_reasoning_details_of_another_shape_are_nothing(details: object) -> None:
    assert message(chunk({"content": "x"}), chunk({"reasoning_details": details})) == {
        "role": "assistant",
        "content": "x",
    }


@pytest.mark.parametrize(("role", "expected"), [(5, "assistant"), ("", "assistant"), ("critic", "critic")])
def test_an_invalid_role_is_unknown(role: object, expected: str) -> None:
    assert message(chunk({"role": role}), chunk({"content": "x"}))["role"] == expected


@pytest.mark.parametrize("odd", [{}, [], "x", 3, None, [3], [None], [[]]])
def test_invalid_choices_in_a_stream_change_nothing(odd: object) -> None:
    first = chunk({"content": "a"})
    assert message(first, chunk({"content": "b"}), {**first, "choices": odd}, chunk({"content": "c"})) == {
        "role": "assistant",
        "content": "abc",
    }


def test_two_choices_of_one_chunk_are_both_read_during_a_stream() -> None:
    first = chunk({"content": "a"})
    pair = [{"index": 0, "delta": {"content": "b"}}, {"index": 1, "delta": {"content": "B"}}]
    body = fold(first, chunk({"content": "-"}), {**first, "choices": pair})
    assert [choice["message"]["content"] for choice in body["choices"]] == ["a-b", "B"]


def test_the_index_counts_and_not_the_place_in_the_list() -> None:
    pair = [{"index": 1, "delta": {"content": "B"}}, {"index": 0, "delta": {"content": "A"}}]
    body = fold({**HEAD, "choices": pair})
    assert [choice["message"]["content"] for choice in body["choices"]] == ["A", "B"]
    odd = [{"index": True, "delta": {"content": "A"}}, {"index": -1, "delta": {"content": "B"}}]
    assert [choice["index"] for choice in fold({**HEAD, "choices": odd})["choices"]] == [0, 1]


@pytest.mark.parametrize("fragments", [["QQ==", "no base64!"], ["QQ==", "QUI", "QQ=="]])
def test_undecodable_audio_is_joined_as_received(fragments: list[str]) -> None:
    audio = message(*(chunk({"audio": {"id": "a", "data": fragment}}) for fragment in fragments))["audio"]
    assert audio["data"] == "".join(fragments)


def test_calls_without_index_and_id_go_by_their_place_where_several_come_at_once() -> None:
    def calls(*arguments: str, **named: str) -> dict[str, Any]:
        return chunk({"tool_calls": [{"function": {**named, "arguments": text}} for text in arguments]})

    found = message(calls('{"a":', '{"b":', name="f"), calls("1}", "2}"))["tool_calls"]
    assert [call["function"]["arguments"] for call in found] == ['{"a":1}', '{"b":2}']


@pytest.mark.parametrize(
    ("field", "carries"), [("annotations", True), ("executed_tools", True), ("images", True), ("citations", False)]
)
def test_only_fields_that_say_something_are_content(field: str, carries: bool) -> None:
    accumulator = ChatAccumulator()
    assert accumulator.add(chunk({field: [{"x": 1}]})) is carries
    assert accumulator.add(chunk({field: []})) is False
    body = accumulator.body()
    assert body is not None
    assert body["choices"][0]["message"][field] == [{"x": 1}]  # type: ignore[index]


def test_a_token_id_of_null_is_none() -> None:
    assert "token_ids" not in fold(chunk({"content": "x", "token_id": None}))["choices"][0]
    assert fold(chunk({"content": "x", "token_id": 7}))["choices"][0]["token_ids"] == [7]


def test_a_single_call_may_come_without_a_list() -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": "{}"}}
    assert message(chunk({"tool_calls": call}, finish="tool_calls"))["tool_calls"] == [{**call, "type": "function"}]


def test_a_field_that_only_the_last_chunk_has_is_kept() -> None:
    first, last = chunk({"content": "a"}, padding=1), chunk({"content": "b"}, finish="stop", seed=7)
    assert fold(first, chunk({"content": "-"}, padding=1), last)["seed"] == 7


def test_what_groq_adds_beside_a_text_is_kept() -> None:
    first = chunk({"content": "a"}, x_groq={"id": "req_1"})
    later = chunk({"content": "b"}, x_groq={"usage": {"total_tokens": 3}})
    assert fold(first, later)["x_groq"] == {"id": "req_1", "usage": {"total_tokens": 3}}


def test_the_fields_of_the_body_are_in_the_order_of_a_complete_response() -> None:
    body = fold({"model": "m", **chunk({"content": "x"}), "usage": {"prompt_tokens": 1}})
    assert list(body) == ["id", "object", "model", "created", "choices", "usage"]


@pytest.mark.parametrize("data", [5, "", None, ["x"]])
def test_audio_of_an_unknown_shape_is_ignored(data: object) -> None:
    assert message(chunk({"audio": {"id": "a", "data": data}}), chunk({"audio": {"data": "QUJD"}}))["audio"] == {
        "id": "a",
        "data": "QUJD",
    }


def test_content_in_a_list_of_texts_is_a_list_of_parts() -> None:
    assert message(chunk({"content": ["a"]}), chunk({"content": ["b"]}))["content"] == [{"type": "text", "text": "ab"}]


def test_a_field_of_null_is_there_and_waits_for_its_value() -> None:
    assert fold(chunk({"content": "x"}, service_tier=None))["service_tier"] is None
    later = fold(chunk({"content": "x"}, service_tier=None), chunk({"content": "y"}, service_tier="flex"))
    assert later["service_tier"] == "flex"


@pytest.mark.parametrize("field", ["function_call", "audio", "reasoning_details", "tool_calls"])
def test_a_field_of_another_shape_carries_nothing(field: str) -> None:
    accumulator = ChatAccumulator()
    assert accumulator.add(chunk({field: 5})) is False
    accumulator.add(chunk({"content": "x"}))
    body = accumulator.body()
    assert body is not None
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "x"}  # type: ignore[index]
