"""Conversations: every kind of block as a typed part, and unknown blocks kept as received."""

from __future__ import annotations

import base64
import hashlib

import pytest

from callspan.providers.anthropic.parts import conversation, parts
from callspan.records import (
    Media,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    UnknownPart,
)

PIXEL = b"\x89PNG not really"
PIXEL_64 = base64.b64encode(PIXEL).decode()
PIXEL_SHA = hashlib.sha256(PIXEL).hexdigest()


def test_a_message_of_another_type_is_kept() -> None:
    assert conversation({"messages": ["odd", {"content": "x"}]}, None).input == [
        Message(role="unknown", parts=[UnknownPart(data="odd")]),
        Message(role="unknown", parts=[Text(text="x")]),
    ]


@pytest.mark.parametrize(
    ("block", "part"),
    [
        ("plain", Text(text="plain")),
        ({"type": "text", "text": "x", "citations": None}, Text(text="x")),
        (
            {"type": "text", "text": "x", "citations": [{"cited_text": "y"}]},
            Text(text="x", annotations=[{"cited_text": "y"}]),
        ),
        ({"type": "thinking", "thinking": "hm", "signature": "s"}, Reasoning(text="hm", signature="s")),
        ({"type": "thinking", "thinking": "", "signature": "s"}, Reasoning(signature="s")),
        ({"type": "redacted_thinking", "data": "blob"}, Reasoning(sealed="blob")),
        (
            {"type": "tool_use", "id": "t", "name": "move", "input": {"to": "é"}},
            ToolCall(id="t", name="move", arguments='{"to":"é"}'),
        ),
        (
            {"type": "tool_use", "id": "t", "name": "move", "input": '{"to', "incomplete": True},
            ToolCall(id="t", name="move", arguments='{"to', incomplete=True),
        ),
        ({"type": "tool_use", "id": "t", "name": "move"}, ToolCall(id="t", name="move")),
        (
            {"type": "server_tool_use", "id": "t", "name": "web_search", "input": {}, "caller": {"type": "direct"}},
            ToolCall(
                id="t", name="web_search", arguments="{}", tool_type="web_search", extra={"caller": {"type": "direct"}}
            ),
        ),
        (
            {"type": "mcp_tool_use", "id": "t", "name": "echo", "server_name": "s", "input": {}},
            ToolCall(id="t", name="echo", arguments="{}", tool_type="mcp", extra={"server_name": "s"}),
        ),
        (
            {"type": "browser_click_tool_use", "id": "t", "input": {}},
            ToolCall(id="t", arguments="{}", tool_type="browser_click"),
        ),
        (
            {"type": "tool_result", "tool_use_id": "t", "content": "42", "is_error": True},
            ToolResult(id="t", content="42", is_error=True),
        ),
        (
            {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "42"}]},
            ToolResult(id="t", content=[{"type": "text", "text": "42"}]),
        ),
        ({"type": "tool_result", "tool_use_id": "t"}, ToolResult(id="t")),
        (
            {"type": "web_search_tool_result", "tool_use_id": "t", "content": [{"url": "u"}]},
            ToolResult(id="t", content=[{"url": "u"}], tool_type="web_search"),
        ),
        (
            {
                "type": "web_search_tool_result",
                "tool_use_id": "t",
                "content": {"type": "web_search_tool_result_error", "error_code": "e"},
            },
            ToolResult(
                id="t",
                content={"type": "web_search_tool_result_error", "error_code": "e"},
                is_error=True,
                tool_type="web_search",
            ),
        ),
        (
            {"type": "mcp_tool_result", "tool_use_id": "t", "content": [], "is_error": False},
            ToolResult(id="t", content=[], is_error=False, tool_type="mcp"),
        ),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL_64}},
            Media(modality="image", mime="image/png", sha256=PIXEL_SHA, size=len(PIXEL)),
        ),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "not base64!"}},
            Media(modality="image", mime="image/png"),
        ),
        (
            {
                "type": "image",
                "source": {
                    "type": "base64",
                    "media_type": "image/png",
                    "data": {"callspan_media": {"sha256": "ab", "mime": "image/webp", "bytes": 3}},
                },
            },
            Media(modality="image", mime="image/png", sha256="ab", size=3),
        ),
        (
            {
                "type": "image",
                "source": {"type": "base64", "data": {"callspan_media": {"sha256": "ab", "mime": "a/b"}}},
            },
            Media(modality="image", mime="a/b", sha256="ab"),
        ),
        (
            {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
            Media(modality="image", url="https://x/y.png"),
        ),
        ({"type": "document", "source": {"type": "file", "file_id": "f"}}, Media(modality="document", file_id="f")),
        ({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "t"}}, Text(text="t")),
        ({"type": "container_upload", "file_id": "f"}, Media(modality="document", file_id="f")),
    ],
)
def test_each_kind_of_block_is_a_part(block: object, part: Part) -> None:
    assert parts([block]) == [part]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "from_the_future", "x": [1]},
        {"type": "text"},
        {"type": "image", "source": None},
        {"type": "document", "source": {"type": "content", "content": []}},
        {"type": "document", "source": {"type": "text"}},
        {"text": "no type"},
        {"type": 3},
        None,
        7,
        ["x"],
    ],
)
def test_blocks_of_unknown_types_are_kept_as_received(block: object) -> None:
    assert parts([block]) == [UnknownPart(data=block)]
