"""Chat messages as typed messages: no content is lost or duplicated."""

from __future__ import annotations

from typing import Any

from callspan.providers.openai.chat import ChatCompletions
from callspan.records import Media, Message, Part, Text, ToolCall


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
