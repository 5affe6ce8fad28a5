"""Every API as chat messages: lossless, or reporting what was dropped."""

from __future__ import annotations

from collections import Counter
from typing import Any

from callspan.datasets.chat_messages import ChatCall, chat_call

from .conftest import World, tool_call


def convert(world: World, api: str, request: Any, response: Any, **options: bool) -> tuple[ChatCall, Counter[str]]:
    dropped: Counter[str] = Counter()
    found = chat_call(world.call(api, {"model": "m", **request}, response), dropped, **options)
    assert found is not None
    return found, dropped


def chat_answer(**message: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}]}


def test_messages_api_becomes_chat_with_results_after_their_calls(world: World) -> None:
    system = [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]
    used = [
        {"type": "text", "text": "Looking."},
        {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": "east"}},
        {"type": "tool_use", "id": "t2", "name": "look", "input": {}},
    ]
    results = [
        {"type": "tool_result", "tool_use_id": "t1", "content": "wall"},
        {"type": "tool_result", "tool_use_id": "t2", "content": [{"type": "text", "text": "floor"}]},
        {"type": "text", "text": "Hurry."},
    ]
    request = {
        "system": system,
        "messages": [
            {"role": "user", "content": "Go"}, {"role": "assistant", "content": used},
            {"role": "user", "content": results},
        ],
        "tools": [{"name": "look", "description": "Look.", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    }  # fmt: skip
    response = {"role": "assistant", "content": [{"type": "text", "text": "Done."}], "stop_reason": "end_turn"}
    found, dropped = convert(world, "messages", request, response)
    calls = [tool_call("look", {"at": "east"}, "t1"), tool_call("look", {}, "t2")]
    calls[0]["function"]["arguments"] = '{"at":"east"}'
    assert found.prompt == [
        {"role": "system", "content": system},
        {"role": "user", "content": "Go"},
        {"role": "assistant", "content": "Looking.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "t1", "content": "wall"},
        {"role": "tool", "tool_call_id": "t2", "content": "floor"},
        {"role": "user", "content": "Hurry."},
    ]
    function = {"name": "look", "description": "Look.", "parameters": {"type": "object"}}
    assert found.tools == [{"type": "function", "function": function}]
    assert found.parallel_tool_calls is False
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
