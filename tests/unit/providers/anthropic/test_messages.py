"""The Messages endpoint: requests, parts of conversations, and properties that hold for any stream and any JSON."""

from __future__ import annotations

import base64
import copy
import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.providers.anthropic.messages import Messages
from callspan.providers.anthropic.parts import conversation, parts
from callspan.providers.base import Endpoint
from callspan.record.codec import encode_json
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

MESSAGES = Messages()
WORDS = st.sampled_from(
    [
        *("type", "index", "delta", "text", "thinking", "partial_json", "input", "signature", "citation", "name"),
        *("content_block", "message", "usage", "content", "role", "stop_reason", "error", "system", "tools", "id"),
        *("messages", "source", "data", "input_tokens", "output_tokens", "is_error"),
    ]
)
KINDS = st.sampled_from(
    [
        *("message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta"),
        *("message_stop", "error", "ping", "message", "text_delta", "thinking_delta", "input_json_delta"),
        *("signature_delta", "citations_delta", "x_delta", "text", "thinking", "tool_use", "server_tool_use"),
        *("tool_result", "web_search_tool_result", "image", "document", "base64", "fallback"),
    ]
)
SCALARS = st.none() | st.booleans() | st.integers(-3, 2**70) | st.floats() | st.text(max_size=5) | KINDS
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=5),
    max_leaves=20,
)
EVENTS = st.fixed_dictionaries(
    {"type": KINDS},
    optional={
        "index": st.integers(-1, 3) | JSON,
        "delta": st.dictionaries(WORDS, JSON | KINDS) | JSON,
        "content_block": st.dictionaries(WORDS, JSON | KINDS) | JSON,
        "message": st.dictionaries(WORDS, JSON) | JSON,
        "usage": JSON,
        "error": JSON,
    },
)


def test_it_is_an_endpoint() -> None:
    endpoint: Endpoint = MESSAGES

    assert (endpoint.api, endpoint.operation, endpoint.path, endpoint.message_key) == (
        "messages",
        "chat",
        "/v1/messages",
        "messages",
    )


@given(st.lists(EVENTS | JSON, max_size=8))
def test_any_chunks_are_folded_and_stay_as_they_were(chunks: list[object]) -> None:
    accumulator = MESSAGES.accumulator()
    before = copy.deepcopy(chunks)
    for chunk in chunks:
        assert isinstance(accumulator.add(chunk), bool)
        body = accumulator.body()
        MESSAGES.response_info(body)
        encode_json(MESSAGES.conversation(None, body))
        encode_json(body)
        spoil(body)

    assert repr(chunks) == repr(before)


@given(JSON, JSON)
def test_any_bodies_are_read_and_stay_as_they_were(request: object, response: object) -> None:
    before = repr((request, response))

    MESSAGES.request(request)
    MESSAGES.response_info(response)
    spoil(MESSAGES.conversation(request, response).tools)

    assert repr((request, response)) == before


def spoil(value: object) -> None:
    """Empty every container, to show that none is shared."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            spoil(item)
        value.clear()


@pytest.mark.parametrize(
    ("counted", "estimated"),
    [
        ({"input_tokens": 3, "cache_read_input_tokens": 4000, "output_tokens": 5}, False),
        ({"output_tokens": 5, "output_tokens_details": {"thinking_tokens": 6}}, True),
        ({"cache_creation_input_tokens": 1, "cache_creation": {"ephemeral_1h_input_tokens": 2}}, True),
    ],
)
def test_counts_that_contradict_each_other_are_estimated(counted: dict[str, Any], estimated: bool) -> None:
    usage = MESSAGES.response_info({"content": [], "usage": counted}).usage
    assert usage is not None
    assert usage.estimated is estimated


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
            Media(modality="image", mime="image/webp", sha256="ab", size=3),
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
