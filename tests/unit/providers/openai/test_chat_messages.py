"""Chat messages as typed messages: no content is lost or duplicated."""

from __future__ import annotations

from typing import Any

import pytest

from callspan.providers.openai.chat import ChatCompletions
from callspan.records import Media, Message, Part, Reasoning, Refusal, Text, ToolCall, ToolResult, UnknownPart


def input_of(*messages: Any) -> list[Message]:
    return ChatCompletions().conversation({"messages": list(messages)}, None).input


def output_of(message: Any, **choice: Any) -> Message:
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}]}
    return ChatCompletions().conversation(None, body).output[0]


def parts(**message: Any) -> list[Part]:
    return output_of({"role": "assistant", **message}).parts


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant", "critic"])
def test_roles_and_names_are_kept(role: str) -> None:
    assert input_of({"role": role, "content": "hi", "name": "ann"}) == [
        Message(role=role, parts=[Text(text="hi")], name="ann")
    ]


@pytest.mark.parametrize("content", [None, "", []])
def test_no_content_gives_no_part(content: object) -> None:
    assert input_of({"role": "assistant", "content": content}) == [Message(role="assistant")]


def test_a_tool_message_is_a_tool_result_with_its_id() -> None:
    assert input_of({"role": "tool", "tool_call_id": "call_1", "content": "42"}) == [
        Message(role="tool", parts=[ToolResult(id="call_1", content="42")])
    ]


def test_a_function_message_is_a_result_with_its_name() -> None:
    assert input_of({"role": "function", "name": "f", "content": "42"}) == [
        Message(role="function", parts=[ToolResult(content="42", tool_type="function")], name="f")
    ]


def test_tool_calls_of_earlier_turns_are_kept() -> None:
    calls = [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}]
    assert input_of({"role": "assistant", "content": None, "tool_calls": calls})[0].parts == [
        ToolCall(id="call_1", name="f", arguments='{"x":1}')
    ]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("hi", Message(role="user", parts=[Text(text="hi")])),
        (None, Message(role="unknown", parts=[UnknownPart(data=None)])),
        (7, Message(role="unknown", parts=[UnknownPart(data=7)])),
        ({}, Message(role="unknown")),
        ({"role": 3, "content": 4}, Message(role="unknown", parts=[UnknownPart(data=4)])),
    ],
)
def test_invalid_messages_are_messages_without_a_role(message: object, expected: Message) -> None:
    assert input_of(message) == [expected]


@pytest.mark.parametrize("messages", [None, 3, {}, "", True])
def test_messages_that_are_not_a_list_raise_nothing(messages: object) -> None:
    ChatCompletions().conversation({"messages": messages}, None)


def test_text_parts_of_a_message() -> None:
    content = [{"type": "text", "text": "a"}, {"type": "text", "text": ""}, {"type": "text", "text": "b"}]
    assert input_of({"role": "user", "content": content})[0].parts == [Text(text="a"), Text(text="b")]


def test_unknown_parts_are_kept_as_they_came() -> None:
    odd = {"type": "hologram", "beam": [1, 2]}
    assert input_of({"role": "user", "content": [odd]})[0].parts == [UnknownPart(data=odd)]


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


def test_refusal_is_its_own_part() -> None:
    assert parts(content=None, refusal="I can't") == [Refusal(text="I can't")]
    assert parts(content="x", refusal="") == [Text(text="x")]


class TestReasoning:
    """Reasoning has many homes; the same words in two of them are said once."""

    @pytest.mark.parametrize("field", ["reasoning", "reasoning_content", "reasoning_text", "thinking"])
    def test_every_known_field(self, field: str) -> None:
        assert parts(content="x", **{field: "hm"}) == [Reasoning(text="hm"), Text(text="x")]

    def test_the_same_text_in_two_fields_is_one_part(self) -> None:
        assert parts(content="x", reasoning="hm", reasoning_content="hm") == [Reasoning(text="hm"), Text(text="x")]

    def test_different_texts_are_two_parts(self) -> None:
        assert parts(reasoning="a", reasoning_content="b") == [Reasoning(text="b"), Reasoning(text="a")]

    def test_details_have_signatures_and_seals_and_the_plain_field_adds_nothing(self) -> None:
        details = [
            {"type": "reasoning.text", "text": "one", "signature": "s1"},
            {"type": "reasoning.summary", "summary": "two"},
            {"type": "reasoning.encrypted", "data": "xyz"},
        ]
        assert parts(reasoning="one\n\ntwo", reasoning_details=details) == [
            Reasoning(text="one", signature="s1"),
            Reasoning(text="two"),
            Reasoning(sealed="xyz"),
        ]

    def test_a_sealed_detail_beside_plain_text(self) -> None:
        details = [{"type": "reasoning.encrypted", "data": "xyz"}]
        assert parts(reasoning="hm", reasoning_details=details) == [Reasoning(sealed="xyz"), Reasoning(text="hm")]

    def test_blocks_of_gateways_in_front_of_anthropic(self) -> None:
        blocks = [
            {"type": "thinking", "thinking": "a", "signature": "s1"},
            {"type": "thinking", "thinking": "b", "signature": "s2"},
            {"type": "redacted_thinking", "data": "xyz"},
        ]
        assert parts(content="x", reasoning_content="ab", thinking_blocks=blocks) == [
            Reasoning(text="a", signature="s1"),
            Reasoning(text="b", signature="s2"),
            Reasoning(sealed="xyz"),
            Text(text="x"),
        ]

    def test_thinking_among_the_content(self) -> None:
        content = [
            {"type": "thinking", "thinking": [{"type": "text", "text": "let me see"}], "closed": True},
            {"type": "text", "text": "42"},
        ]
        assert parts(content=content) == [Reasoning(text="let me see"), Text(text="42")]

    def test_a_signature_of_gemini_is_a_separate_part(self) -> None:
        assert parts(content="x", extra_content={"google": {"thought_signature": "sig"}}) == [
            Reasoning(signature="sig"),
            Text(text="x"),
        ]


class TestToolCalls:
    """What the model asked for, of every kind."""

    def test_parallel_calls(self) -> None:
        calls = [{"id": n, "type": "function", "function": {"name": n, "arguments": "{}"}} for n in ("a", "b")]
        assert parts(tool_calls=calls) == [
            ToolCall(id="a", name="a", arguments="{}"),
            ToolCall(id="b", name="b", arguments="{}"),
        ]

    def test_arguments_stay_as_the_model_wrote_them(self) -> None:
        assert parts(tool_calls=[{"function": {"name": "f", "arguments": '{"a": '}}]) == [
            ToolCall(name="f", arguments='{"a": ')
        ]

    def test_an_object_of_arguments_becomes_json_text(self) -> None:
        assert parts(tool_calls=[{"function": {"name": "f", "arguments": {"a": 1}}}]) == [
            ToolCall(name="f", arguments='{"a":1}')
        ]

    def test_custom_tools(self) -> None:
        calls = [{"id": "a", "type": "custom", "custom": {"name": "sql", "input": "select 1"}}]
        assert parts(tool_calls=calls) == [ToolCall(id="a", name="sql", arguments="select 1", tool_type="custom")]

    def test_the_old_function_call(self) -> None:
        assert parts(function_call={"name": "f", "arguments": "{}"}) == [ToolCall(name="f", arguments="{}")]

    @pytest.mark.parametrize("nothing", [None, {}, {"name": "", "arguments": ""}, "x"])
    def test_an_empty_function_call_is_none(self, nothing: object) -> None:
        assert parts(content="x", function_call=nothing) == [Text(text="x")]

    def test_a_cut_call_is_incomplete(self) -> None:
        calls = [{"id": "a", "function": {"name": "f", "arguments": "{"}, "incomplete": True}]
        assert parts(tool_calls=calls) == [ToolCall(id="a", name="f", arguments="{", incomplete=True)]

    def test_signatures_beside_a_call_are_its_extra(self) -> None:
        signed = {"google": {"thought_signature": "sig"}}
        calls = [{"id": "a", "function": {"name": "f", "arguments": "{}"}, "extra_content": signed, "index": 0}]
        assert parts(tool_calls=calls) == [ToolCall(id="a", name="f", arguments="{}", extra={"extra_content": signed})]

    def test_hosted_tools_the_server_has_run(self) -> None:
        executed = [{"type": "search", "index": 0, "arguments": '{"q":1}', "output": "found"}]
        assert parts(content="x", executed_tools=executed) == [
            Text(text="x"),
            ToolCall(name="search", arguments='{"q":1}', tool_type="search", extra={"index": 0, "output": "found"}),
        ]


def test_annotations_and_logprobs_are_on_the_first_text() -> None:
    cite = {"type": "url_citation", "url_citation": {"url": "http://x"}}
    logprobs = {"content": [{"token": "x", "logprob": -0.1}], "refusal": None}
    message = output_of({"role": "assistant", "content": "x", "annotations": [cite]}, logprobs=logprobs)
    assert message.parts == [Text(text="x", annotations=[cite], logprobs=logprobs)]


def test_empty_logprobs_are_none() -> None:
    message = output_of({"role": "assistant", "content": "x"}, logprobs={"content": None, "refusal": None})
    assert message.parts == [Text(text="x")]


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


@pytest.mark.parametrize("nothing", [None, {}, {"id": "", "data": "", "expires_at": 0, "transcript": ""}])
def test_audio_without_anything_is_none(nothing: object) -> None:
    assert parts(content="x", audio=nothing) == [Text(text="x")]


def test_images_a_model_has_drawn() -> None:
    images = [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]
    assert parts(content="x", images=images) == [Text(text="x"), Media(modality="image", url="https://x/y.png")]


def test_tools_are_kept_as_sent_and_not_shared() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    request = {"messages": [], "tools": [tool], "functions": [{"name": "g"}]}
    conversation = ChatCompletions().conversation(request, None)
    assert conversation.tools == [tool, {"name": "g"}]
    assert conversation.tools[0] is not tool


def test_the_role_of_an_answer_is_kept() -> None:
    assert output_of({"role": "critic", "content": "x"}).role == "critic"
    assert output_of({"content": "x"}).role == "assistant"


def test_a_signature_beside_plain_reasoning_is_its_own() -> None:
    assert parts(reasoning_content="hm", reasoning_signature="sig", content="x") == [
        Reasoning(text="hm", signature="sig"),
        Text(text="x"),
    ]


def test_log_probabilities_without_a_text_are_on_no_part() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    found = output_of({"tool_calls": [call]}, logprobs={"content": [{"token": "x"}]}).parts
    assert found == [ToolCall(id="c", name="f", arguments="{}", tool_type="function")]


def test_a_thinking_block_of_a_new_kind_is_kept() -> None:
    block = {"type": "daydream", "note": "x"}
    assert parts(thinking_blocks=[block], reasoning_content="hm") == [UnknownPart(data=block), Reasoning(text="hm")]


@pytest.mark.parametrize("role", ["tool", "function"])
def test_the_output_of_a_tool_is_one_also_without_an_id(role: str) -> None:
    assert input_of({"role": role, "content": "42"}) == [
        Message(role=role, parts=[ToolResult(content="42", tool_type="function")])
    ]


def test_a_tool_that_the_provider_ran_has_its_name() -> None:
    (call,) = parts(executed_tools=[{"type": "python", "name": "run", "arguments": "1+1", "output": "2"}])
    assert call == ToolCall(name="run", arguments="1+1", tool_type="python", extra={"output": "2"})


def test_log_probabilities_are_on_the_first_text_and_the_rest_stays() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"reasoning_content": "hm", "content": "x", "refusal": "no", "tool_calls": [call]}
    found = output_of(message, logprobs={"content": [1]}).parts
    assert found == [
        Reasoning(text="hm"),
        Text(text="x", logprobs={"content": [1]}),
        Refusal(text="no"),
        ToolCall(id="c", name="f", arguments="{}", tool_type="function"),
    ]


@pytest.mark.parametrize("messages", ["hi", {"role": "user", "content": "hi"}])
def test_a_single_message_may_come_without_a_list(messages: object) -> None:
    conversation = ChatCompletions().conversation({"messages": messages}, None)
    assert conversation.input == [Message(role="user", parts=[Text(text="hi")])]
    assert ChatCompletions().conversation({"messages": 5}, None).input == []


def test_a_call_that_is_both_is_a_function() -> None:
    both = {"id": "c", "custom": {"name": "x", "input": "i"}, "function": {"name": "f", "arguments": "{}"}}
    assert parts(tool_calls=[both]) == [ToolCall(id="c", name="f", arguments="{}", tool_type="function")]


@pytest.mark.parametrize("is_error", [True, False, None])
def test_a_tool_may_say_that_it_failed(is_error: bool | None) -> None:
    (message,) = input_of({"role": "tool", "tool_call_id": "c", "content": "x", "is_error": is_error})
    assert message.parts == [ToolResult(id="c", content="x", is_error=is_error)]
