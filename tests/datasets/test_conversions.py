"""Conversions: flaws, tool definitions, media, answers and tool results as messages of a chat."""

from __future__ import annotations

import base64
from collections import Counter
from typing import Any

import pytest

from callspan.datasets.chat_messages import (
    ChatCall,
    chat_call,
    chat_tools,
    content_part,
    flaw,
    tool_name,
)
from callspan.records import (
    CallRecord,
    Conversation,
    Media,
    Message,
    Part,
    Reasoning,
    Refusal,
    Text,
    Timing,
    ToolCall,
    ToolResult,
    UnknownPart,
)

from .conftest import Export, World, asking, tool_call

USER = {"role": "user", "content": "q"}
ANSWER = {"role": "assistant", "content": "a"}


def asks(*ids: str, content: str | None = None) -> dict[str, Any]:
    return asking(*(tool_call(f"f_{one}", {}, one) for one in ids), content=content)


def tells(call_id: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": "r"}


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([USER, ANSWER], None),
        ([USER, asks("a", "b"), tells("b"), tells("a"), ANSWER], None),
        ([USER, asks("a", content="text too"), tells("a"), ANSWER], None),
        ([USER, {"role": "assistant", "content": None, "refusal": "no"}], None),
        ([], "no answer"),
        ([USER, asks("a"), tells("a")], "no answer"),
        ([USER, asks("a"), ANSWER], "a tool call without its result"),
        ([USER, tells("a"), ANSWER], "a tool result without its call"),
        ([USER, asks("a"), tells("a"), tells("a"), ANSWER], "a tool result without its call"),
        ([USER, {"role": "assistant", "content": ""}], "an empty assistant message"),
        ([USER, {"role": "assistant", "content": "", "reasoning_content": "hm"}], "an empty assistant message"),
    ],
)
def test_messages_that_trainers_refuse(messages: list[dict[str, Any]], reason: str | None) -> None:
    assert flaw(messages) == reason


FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("tool", "written", "dropped"),
    [
        (FUNCTION, FUNCTION, {}),
        ({"type": "function", "name": "f", "parameters": {}, "strict": None, "description": "d"},
         {"type": "function", "function": {"name": "f", "parameters": {}, "description": "d"}}, {}),
        ({"type": "function", "name": "f", "strict": False},
         {"type": "function", "function": {"name": "f", "strict": False}}, {}),
        ({"name": "f", "input_schema": {"a": 1}, "description": "d", "cache_control": {}},
         {"type": "function", "function": {"name": "f", "parameters": {"a": 1}, "description": "d"}}, {}),
        ({"type": "custom", "name": "f", "input_schema": {}},
         {"type": "function", "function": {"name": "f", "parameters": {}}}, {}),
        ({"type": "custom", "name": "f", "format": {"type": "text"}},
         {"type": "custom", "custom": {"name": "f", "format": {"type": "text"}}}, {}),
        ({"type": "web_search"}, None, {"hosted tool: web_search": 1}),
        ("text", None, {"tool definition of unknown form": 1}),
    ],
)  # fmt: skip
def test_definitions_of_every_api(tool: object, written: Any, dropped: dict[str, int]) -> None:
    counted: Counter[str] = Counter()
    assert chat_tools([tool], counted) == ([] if written is None else [written])
    assert counted == dropped
    if written is not None:
        assert tool_name(written) in {"f", "g"}


BYTES = base64.b64encode(b"picture").decode()
URL = f"data:image/png;base64,{BYTES}"
SOUND = "data:audio/wav;base64,AAAA"


@pytest.mark.parametrize(
    ("media", "part", "dropped"),
    [
        (Media(modality="image", url="https://h/x.png"),
         {"type": "image_url", "image_url": {"url": "https://h/x.png"}}, None),
        (Media(modality="image", mime="image/png", data=BYTES), {"type": "image_url", "image_url": {"url": URL}}, None),
        (Media(modality="image", sha256="0" * 64), None, "image kept by reference only"),
        (Media(modality="audio", mime="audio/wav", url=SOUND),
         {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}, None),
        (Media(modality="audio", mime="audio/mpeg", data="BBBB"),
         {"type": "input_audio", "input_audio": {"data": "BBBB", "format": "mp3"}}, None),
        (Media(modality="audio", mime="audio/wav", url="https://h/x.wav"), None,
         "audio of a kind chat messages cannot hold"),
        (Media(modality="document", file_id="f"), {"type": "file", "file": {"file_id": "f"}}, None),
        (Media(modality="document", mime="application/pdf", data="CC"),
         {"type": "file", "file": {"file_data": "data:application/pdf;base64,CC"}}, None),
        (Media(modality="document", url="https://h/x.pdf"), None, "document of a kind chat messages cannot hold"),
    ],
)  # fmt: skip
def test_media_are_parts_or_reported_as_missing(media: Media, part: Any, dropped: str | None) -> None:
    counted: Counter[str] = Counter()
    assert content_part(media, counted) == part
    assert counted == ({} if dropped is None else {dropped: 1})


PDF = f"data:application/pdf;base64,{BYTES}"


def of_anthropic(kind: str, mime: str) -> dict[str, Any]:
    return {"type": kind, "source": {"type": "base64", "media_type": mime, "data": BYTES}}


@pytest.mark.parametrize(
    ("api", "part", "written"),
    [
        ("chat_completions", {"type": "image_url", "image_url": {"url": URL}}, {"image_url": {"url": URL}}),
        ("chat_completions", {"type": "input_audio", "input_audio": {"data": BYTES, "format": "wav"}},
         {"input_audio": {"data": BYTES, "format": "wav"}}),
        ("chat_completions", {"type": "file", "file": {"file_data": PDF}}, {"file": {"file_data": PDF}}),
        ("responses", {"type": "input_image", "image_url": URL}, {"image_url": {"url": URL}}),
        ("responses", {"type": "input_file", "file_data": PDF}, {"file": {"file_data": PDF}}),
        ("messages", of_anthropic("image", "image/png"), {"image_url": {"url": URL}}),
        ("messages", of_anthropic("document", "application/pdf"), {"file": {"file_data": PDF}}),
    ],
)  # fmt: skip
def test_media_that_were_kept_inline_are_exported(
    world: World, exported: Export, api: str, part: Any, written: Any
) -> None:
    request = {"input" if api == "responses" else "messages": [{"role": "user", "content": [part]}]}
    answers = {
        "chat_completions": {"choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}}]},
        "responses": {"output": [{"type": "message", "role": "assistant", "content": "a"}]},
        "messages": {"role": "assistant", "content": "a"},
    }
    world.call(api, request, answers[api])
    found = exported("openai")
    (kind,) = written
    assert found.rows[0]["messages"][0]["content"] == [{"type": kind, **written}]
    assert not found.dropped


def converted(call: CallRecord) -> tuple[ChatCall, dict[str, int]]:
    dropped: Counter[str] = Counter()
    found = chat_call(call, dropped)
    assert found is not None
    return found, dict(dropped)


def said(output: list[Part], *messages: Message) -> CallRecord:
    """A call of these messages, with an answer of these parts."""
    conversation = Conversation(input=[*messages], output=[Message(role="assistant", parts=output)])
    return CallRecord(call_id="c", conversation=conversation, timing=Timing(start_ns=1))


@pytest.mark.parametrize(
    ("parts", "fields", "dropped"),
    [
        ([Text(text="a"), Text(text="b")], {"content": "ab"}, {}),
        ([Refusal(text="no"), Refusal(text="never")], {"content": None, "refusal": "no\nnever"}, {}),
        ([Reasoning(text="hm"), Text(text="a")], {"content": "a"}, {"reasoning": 1}),
        ([Reasoning(text="hm", signature="s"), Reasoning(sealed="x")], {"content": ""},
         {"reasoning": 1, "signatures of reasoning": 1}),
        ([Text(text="a", annotations=[1])], {"content": "a"}, {"citations": 1}),
        ([UnknownPart(data=1), Text(text="a")], {"content": "a"}, {"parts of unknown kind": 1}),
        ([ToolCall(id="k", name="f")], {"content": None, "tool_calls": [
            {"id": "k", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}, {}),
        ([ToolCall(name="f", arguments="x", tool_type="custom")], {"content": None, "tool_calls": [
            {"id": "call_1", "type": "custom", "custom": {"name": "f", "input": "x"}}]}, {}),
        ([ToolCall(id="k", tool_type="web_search"), Text(text="a")], {"content": "a"},
         {"hosted tool call: web_search": 1}),
    ],
)  # fmt: skip
def test_an_answer_as_a_chat_message(parts: list[Part], fields: dict[str, Any], dropped: dict[str, int]) -> None:
    found, counted = converted(said(parts))
    assert found.answer == {"role": "assistant"} | fields
    assert counted == dropped


@pytest.mark.parametrize(
    ("content", "expected", "dropped"),
    [
        (None, "", 0),
        ("text", "text", 0),
        ([{"type": "text", "text": "a"}], "a", 0),
        ([{"type": "input_text", "text": "a"}, {"type": "output_text"}],
         [{"type": "text", "text": "a"}, {"type": "text", "text": ""}], 0),
        ([{"type": "image"}, "odd", {"type": "text", "text": "a"}], "a", 2),
    ],
)  # fmt: skip
def test_a_tool_result_is_text(content: object, expected: object, dropped: int) -> None:
    result = Message(role="tool", parts=[ToolResult(id="k", content=content)])
    found, counted = converted(said([Text(text="x")], result))
    assert found.prompt == [{"role": "tool", "tool_call_id": "k", "content": expected}]
    assert sum(counted.values()) == dropped


@pytest.mark.parametrize(
    ("role", "written", "dropped"),
    [
        ("user", "user", {}),
        ("human", "user", {}),
        ("critic", "user", {"role critic": 1}),
    ],
)
def test_roles_unknown_are_users_and_counted(role: str, written: str, dropped: dict[str, int]) -> None:
    found, counted = converted(said([Text(text="x")], Message(role=role, parts=[Text(text="q")], name="n")))
    assert found.prompt == [{"role": written, "content": "q", "name": "n"}]
    assert counted == dropped


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
    found, dropped = converted(world.call("messages", request, response))
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
    messages = [{"role": "assistant", "content": None, "refusal": "No."}, {"role": "assistant", "content": "Yes."}]
    choices = [{"index": at, "message": one, "finish_reason": "stop"} for at, one in enumerate(messages)]
    found, dropped = converted(world.call("chat_completions", {"messages": [USER]}, {"choices": choices}))
    assert found.answer == messages[0]
    assert dropped == {"other choices of one answer": 1}
