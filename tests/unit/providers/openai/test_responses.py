"""Responses: info of complete bodies, and items as messages."""

from __future__ import annotations

from typing import Any

import pytest

from callspan.providers.openai.responses import Responses
from callspan.records import (
    Conversation,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
)


def body(**fields: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "model": "gpt-5", "status": "completed", "output": [], **fields}


def output_parts(*items: Any) -> list[Part]:
    return Responses().conversation(None, body(output=list(items))).output[0].parts


def conversation_of(given: Any, **request: Any) -> Conversation:
    return Responses().conversation({"input": given, **request}, None)


HOSTED = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
SHELL = {"type": "shell_call", "call_id": "call_1", "action": {"commands": ["ls"]}}

REQUESTS_OF_TOOLS: list[tuple[list[dict[str, Any]], list[str]]] = [
    ([{"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}], ["tool_calls"]),
    ([{"type": "custom_tool_call", "call_id": "call_1", "name": "f", "input": "x"}], ["tool_calls"]),
    ([{"type": "computer_call", "call_id": "call_1", "action": {}}], ["tool_calls"]),
    ([SHELL], ["tool_calls"]),
    ([SHELL, {"type": "shell_call_output", "call_id": "call_1", "output": []}], ["completed"]),
    ([SHELL, {"type": "shell_call_output", "call_id": "call_2", "output": []}], ["tool_calls"]),
    ([{"type": "tool_search_call", "call_id": "call_1", "execution": "client"}], ["tool_calls"]),
    ([{"type": "tool_search_call", "call_id": "call_1", "execution": "server"}], ["completed"]),
    ([HOSTED], ["completed"]),
    ([HOSTED, {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}], ["tool_calls"]),
]
"""Output items and what a completed answer with them finishes with: hosted tools request nothing of the application."""


@pytest.mark.parametrize(
    ("fields", "reasons", "truncated", "refused"),
    [
        ({}, ["completed"], False, False),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            ["max_output_tokens"],
            True,
            False,
        ),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, ["content_filter"], False, True),
        ({"status": "incomplete", "incomplete_details": None}, ["incomplete"], False, False),
        ({"status": "incomplete", "incomplete_details": {"reason": "other"}}, ["other"], False, False),
        ({"status": "failed"}, ["failed"], False, False),
        ({"status": "cancelled"}, ["cancelled"], False, False),
        ({"status": "in_progress"}, [None], False, False),
        ({"status": "queued"}, [None], False, False),
        ({"status": None}, [None], False, False),
        (
            {"output": [{"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}]},
            ["completed"],
            False,
            True,
        ),
        *(({"output": output}, reasons, False, False) for output, reasons in REQUESTS_OF_TOOLS),
    ],
)
def test_why_an_answer_ended(fields: dict[str, Any], reasons: list[str | None], truncated: bool, refused: bool) -> None:
    facts = Responses().response_info(body(**fields))
    assert facts.response.finish_reasons == reasons
    assert (facts.truncated, facts.refused) == (truncated, refused)


class TestInput:
    """Whatever was given: a text, items, and what is no item."""

    def test_what_the_assistant_did_in_a_row_is_one_message_and_results_are_their_own(self) -> None:
        given = [
            {"role": "user", "content": "go"},
            {"type": "reasoning", "summary": [], "encrypted_content": "xyz"},
            {"role": "assistant", "content": "moving"},
            {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "done"},
            {"type": "custom_tool_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "x"}]},
            {"role": "user", "content": "on"},
        ]
        assert conversation_of(given).input == [
            Message(role="user", parts=[Text(text="go")]),
            Message(
                role="assistant",
                parts=[
                    Reasoning(sealed="xyz"),
                    Text(text="moving"),
                    ToolCall(id="call_1", name="f", arguments="{}"),
                ],
            ),
            Message(role="tool", parts=[ToolResult(id="call_1", content="done", tool_type="function")]),
            Message(
                role="tool",
                parts=[ToolResult(id="call_2", content=[{"type": "input_text", "text": "x"}], tool_type="custom")],
            ),
            Message(role="user", parts=[Text(text="on")]),
        ]

    @pytest.mark.parametrize("odd", [3, {}, {"type": 3}, [None], [[]], [3], True])
    def test_invalid_input_raises_nothing(self, odd: object) -> None:
        conversation_of(odd)


def test_a_picture_that_is_not_there_is_none() -> None:
    (call,) = output_parts({"type": "image_generation_call", "id": "ig_1", "status": "in_progress"})
    assert isinstance(call, ToolCall)
    assert (call.tool_type, call.incomplete) == ("image_generation", True)
