"""Every API as chat messages: lossless, or reporting what was dropped."""

from __future__ import annotations

import base64
from collections import Counter
from typing import Any

import pytest

from callspan.datasets.chat_messages import ChatCall, chat_call

from .conftest import World, tool_call

PNG = base64.b64encode(b"\x89PNG a picture that is long enough").decode()


def convert(world: World, api: str, request: Any, response: Any, **options: bool) -> tuple[ChatCall, Counter[str]]:
    dropped: Counter[str] = Counter()
    found = chat_call(world.call(api, {"model": "m", **request}, response), dropped, **options)
    assert found is not None
    return found, dropped


def chat_answer(**message: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}]}


def test_chat_messages_come_back_as_they_were_sent(world: World) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "In French."},
        {"role": "user", "content": "Bonjour ☕", "name": "ann"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [tool_call("look", {"a": 1}, "c1"), tool_call("look", {}, "c2")],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "x"},
        {
            "role": "tool",
            "tool_call_id": "c2",
            "content": [{"type": "text", "text": "y"}, {"type": "text", "text": "z"}],
        },
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "And this?"},
                {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
            ],
        },
    ]
    found, dropped = convert(world, "chat_completions", {"messages": messages}, chat_answer(content="Un."))
    assert found.prompt == messages
    assert found.answer == {"role": "assistant", "content": "Un."}
    assert not dropped


def test_messages_api_becomes_chat_with_results_after_their_calls(world: World) -> None:
    request = {
        "system": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}],
        "messages": [
            {"role": "user", "content": "Go"},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Looking."},
                    {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": "east"}},
                    {"type": "tool_use", "id": "t2", "name": "look", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": "wall"},
                    {"type": "tool_result", "tool_use_id": "t2", "content": [{"type": "text", "text": "floor"}]},
                    {"type": "text", "text": "Hurry."},
                ],
            },
        ],
        "tools": [{"name": "look", "description": "Look.", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    }
    response = {"role": "assistant", "content": [{"type": "text", "text": "Done."}], "stop_reason": "end_turn"}
    found, dropped = convert(world, "messages", request, response)
    assert found.prompt == [
        {"role": "system", "content": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]},
        {"role": "user", "content": "Go"},
        {
            "role": "assistant",
            "content": "Looking.",
            "tool_calls": [
                {"id": "t1", "type": "function", "function": {"name": "look", "arguments": '{"at":"east"}'}},
                {"id": "t2", "type": "function", "function": {"name": "look", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "wall"},
        {"role": "tool", "tool_call_id": "t2", "content": "floor"},
        {"role": "user", "content": "Hurry."},
    ]
    function = {"name": "look", "description": "Look.", "parameters": {"type": "object"}}
    assert found.tools == [{"type": "function", "function": function}]
    assert found.parallel_tool_calls is False
    assert not dropped


def test_responses_items_become_chat(world: World) -> None:
    request = {
        "instructions": "Be brief.",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Go"}]},
            {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "wall"},
        ],
        "tools": [{"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": True}],
    }
    response = {
        "id": "resp_1",
        "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Done."}]}],
    }
    found, dropped = convert(world, "responses", request, response)
    assert [message["role"] for message in found.prompt] == ["system", "user", "assistant", "tool"]
    assert found.answer == {"role": "assistant", "content": "Done."}
    function = {"name": "look", "parameters": {"type": "object"}, "strict": True}
    assert found.tools == [{"type": "function", "function": function}]
    assert not dropped


def test_an_inline_picture_of_the_messages_api_keeps_its_bytes(world: World) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": PNG}
    request = {"messages": [{"role": "user", "content": [{"type": "image", "source": source}]}]}
    response = {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]}
    found, dropped = convert(world, "messages", request, response)
    assert found.prompt[0]["content"] == [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}]
    assert not dropped


def test_refusals_and_other_choices(world: World) -> None:
    response = chat_answer(content=None, refusal="No.")
    response["choices"].append({"index": 1, "message": {"role": "assistant", "content": "Yes."}})
    found, dropped = convert(world, "chat_completions", {"messages": [{"role": "user", "content": "?"}]}, response)
    assert found.answer == {"role": "assistant", "content": None, "refusal": "No."}
    assert dropped == {"other choices of one answer": 1}


def test_images_and_errors_dropped_from_tool_results_are_reported(world: World) -> None:
    result = {"type": "tool_result", "tool_use_id": "t1", "is_error": True}
    result["content"] = [{"type": "text", "text": "oops"}, {"type": "image", "source": {"type": "url", "url": "x"}}]
    used = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {}}]}
    request = {"messages": [{"role": "user", "content": "Go"}, used, {"role": "user", "content": [result]}]}
    found, dropped = convert(world, "messages", request, {"role": "assistant", "content": "So."})
    assert found.prompt[2] == {"role": "tool", "tool_call_id": "t1", "content": "oops"}
    assert dropped == {"error mark of a tool result": 1, "part of a tool result that is no text": 1}


@pytest.mark.parametrize("response", [None, {"choices": []}])
def test_a_call_without_a_response_makes_no_row(world: World, response: Any) -> None:
    call = world.call("chat_completions", {"messages": [{"role": "user", "content": "?"}]}, response)
    assert chat_call(call, Counter()) is None
