"""The Messages endpoint: its request, and properties that hold for any stream and any JSON."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.points import points

from callspan.providers.anthropic.messages import Messages
from callspan.providers.base import Endpoint
from callspan.record.call import Request
from callspan.record.codec import encode_json

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


def test_parameters_of_a_request_contain_no_content() -> None:
    body = {
        "model": "claude-x",
        "stream": True,
        "max_tokens": 9,
        "temperature": 0.0,
        "stop_sequences": ["END"],
        "thinking": {"type": "enabled", "budget_tokens": 5},
        "top_k": None,
        "system": "secret",
        "messages": [{"role": "user", "content": "secret"}],
        "tools": [{"name": "move"}, {"type": "mcp_toolset", "mcp_server_name": "s"}, {"type": "bash_20250124"}, 3],
        "mcp_servers": [{"url": "u", "authorization_token": "secret"}],
    }

    assert MESSAGES.request(body) == Request(
        model="claude-x",
        stream=True,
        params={
            "max_tokens": 9,
            "temperature": 0.0,
            "stop_sequences": ["END"],
            "thinking": {"type": "enabled", "budget_tokens": 5},
        },
        message_count=1,
        tool_names=["move", "s", "bash_20250124"],
    )


def test_a_large_parameter_is_left_to_the_body() -> None:
    assert MESSAGES.request({"output_config": {"schema": "x" * 5000}}).params == {}


@points("body", [None, [], "x"])
def test_a_body_that_is_not_a_request_has_no_parameters(body: object) -> None:
    assert MESSAGES.request(body) == Request()


@points("body", [{}, {"model": 3, "messages": "x", "tools": None, "stream": 1}])
def test_a_request_that_does_not_ask_for_a_stream_is_plain(body: object) -> None:
    assert MESSAGES.request(body) == Request(stream=False)


def test_parameters_are_copies() -> None:
    body: dict[str, Any] = {"metadata": {"user_id": "u"}}
    request = MESSAGES.request(body)

    body["metadata"]["user_id"] = "changed"

    assert request.params == {"metadata": {"user_id": "u"}}


PIECE = st.text(max_size=4)
TEXT_BLOCK = st.builds(lambda text: {"type": "text", "text": text}, st.text(max_size=12))
THINKING_BLOCK = st.builds(
    lambda text, signature: {"type": "thinking", "thinking": text, "signature": signature},
    st.text(max_size=12),
    st.text(min_size=1, max_size=4),
)
TOOL_BLOCK = st.builds(
    lambda kind, given: {"type": kind, "id": "t", "name": "n", "input": given},
    st.sampled_from(["tool_use", "server_tool_use", "mcp_tool_use"]),
    st.dictionaries(
        st.text(max_size=3), st.integers() | st.text(max_size=5) | st.lists(st.none(), max_size=2), max_size=3
    ),
)
WHOLE_BLOCK = st.sampled_from(
    [
        {"type": "redacted_thinking", "data": "blob"},
        {"type": "web_search_tool_result", "tool_use_id": "t", "content": [{"url": "u"}]},
    ]
)
BLOCKS = st.lists(TEXT_BLOCK | THINKING_BLOCK | TOOL_BLOCK | WHOLE_BLOCK, max_size=4)


def split(draw: st.DrawFn, whole: str) -> list[str]:
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=4)))
    return [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


def block_events(draw: st.DrawFn, index: int, block: dict[str, Any]) -> list[dict[str, object]]:
    """The events a server may send for one block: started empty, then in pieces of any size."""
    begin, deltas = dict(block), []
    if block["type"] == "text":
        begin["text"] = ""
        deltas = [{"type": "text_delta", "text": piece} for piece in split(draw, block["text"])]
    elif block["type"] == "thinking":
        begin.update(thinking="", signature="")
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in split(draw, block["thinking"])]
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
    elif "input" in block:
        begin["input"] = {}
        pieces = split(draw, json.dumps(block["input"]))
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return [
        {"type": "content_block_start", "index": index, "content_block": begin},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


@st.composite
def streams(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, object]]]:
    """A message, and its events split and interleaved in any way."""
    blocks = draw(BLOCKS)
    envelope = {"id": "m", "type": "message", "role": "assistant", "model": "claude-x", "stop_sequence": None}
    queues = [block_events(draw, index, block) for index, block in enumerate(blocks)]
    middle = []
    while any(queues):
        queue = draw(st.sampled_from([queue for queue in queues if queue]))
        middle.append(queue.pop(0))
        if draw(st.booleans()):
            middle.append({"type": "ping"})
    start = {**envelope, "content": [], "stop_reason": None, "usage": {"input_tokens": 3, "output_tokens": 1}}
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    events = [
        {"type": "message_start", "message": start},
        *middle,
        {"type": "message_delta", "delta": end, "usage": {"output_tokens": 8}},
        {"type": "message_stop"},
    ]
    usage = {"input_tokens": 3, "output_tokens": 8}
    return {**envelope, "content": blocks, "stop_reason": "end_turn", "usage": usage}, events


@given(streams())
def test_a_stream_split_in_any_way_is_the_whole_message(stream: tuple[dict[str, Any], list[dict[str, object]]]) -> None:
    message, events = stream
    accumulator = MESSAGES.accumulator()
    for event in events:
        accumulator.add(event)

    assert accumulator.complete
    assert accumulator.body() == message


@given(streams())
def test_after_any_prefix_the_body_is_the_part_that_came(
    stream: tuple[dict[str, Any], list[dict[str, object]]],
) -> None:
    message, events = stream
    accumulator = MESSAGES.accumulator()
    for event in events:
        accumulator.add(event)
        body = accumulator.body()

        assert body is not None
        stated, conversation = MESSAGES.response_info(body), MESSAGES.conversation(None, body)
        assert stated.response.finish_reasons == ["end_turn" if accumulator.complete else None]
        assert len(conversation.output) == 1
        for block in body["content"]:  # type: ignore[attr-defined]
            assert "incomplete" not in block or block["type"].endswith("tool_use")
            if block["type"] == "text":
                assert any(whole.get("text", "").startswith(block["text"]) for whole in message["content"])


@given(streams())
def test_reading_the_body_changes_nothing(stream: tuple[dict[str, Any], list[dict[str, object]]]) -> None:
    message, events = stream
    accumulator = MESSAGES.accumulator()
    for event in events:
        accumulator.add(event)
        spoil(accumulator.body())

    assert accumulator.body() == message


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


@given(st.dictionaries(WORDS, JSON), st.dictionaries(WORDS, JSON))
def test_almost_bodies_are_read(request: object, response: object) -> None:
    MESSAGES.request(request)
    MESSAGES.response_info(response)
    encode_json(MESSAGES.conversation(request, response))


def spoil(value: object) -> None:
    """Empty every container, to show that none is shared."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            spoil(item)
        value.clear()


@points(("length", "kept"), [(4094, True), (4095, False)])
def test_a_parameter_is_kept_up_to_four_kilobytes_of_json(length: int, kept: bool) -> None:
    assert ("note" in MESSAGES.request({"note": "x" * length}).params) is kept


@points("key", ["model", "stream", "messages", "system", "tools", "mcp_servers"])
def test_content_and_secrets_are_not_parameters(key: str) -> None:
    assert MESSAGES.request({key: [{"authorization_token": "x"}]}).params == {}


@points(
    ("sent", "continues"),
    [
        ({}, None),
        ({"thread": None}, None),
        ({"thread": {"type": "create"}}, None),
        ({"thread": {"type": "continue", "previous_message_id": "msg_0"}}, "msg_0"),
        ({"thread": {"type": "continue", "previous_message_id": 5}}, None),
        ({"thread": "continue"}, None),
        ({"diagnostics": {"previous_message_id": "msg_0"}}, None),
    ],
)
def test_a_request_states_what_it_continues(sent: dict[str, Any], continues: str | None) -> None:
    request = Messages().request({"model": "m", "messages": [], **sent})
    assert (request.continues, request.conversation_id) == (continues, None)
