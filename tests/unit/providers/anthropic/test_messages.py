"""The Messages endpoint: its request, and properties that hold for any stream and any JSON."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.providers.test_folding import messages

from callspan.providers.anthropic.messages import Messages
from callspan.providers.base import Endpoint
from callspan.record.codec import encode_json
from callspan.records import Request

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


@pytest.mark.parametrize("body", [None, [], "x"])
def test_a_body_that_is_not_a_request_has_no_parameters(body: object) -> None:
    assert MESSAGES.request(body) == Request()


@pytest.mark.parametrize("body", [{}, {"model": 3, "messages": "x", "tools": None, "stream": 1}])
def test_a_request_that_does_not_ask_for_a_stream_is_plain(body: object) -> None:
    assert MESSAGES.request(body) == Request(stream=False)


def test_parameters_are_copies() -> None:
    body: dict[str, Any] = {"metadata": {"user_id": "u"}}
    request = MESSAGES.request(body)

    body["metadata"]["user_id"] = "changed"

    assert request.params == {"metadata": {"user_id": "u"}}


@given(messages())
def test_after_any_prefix_the_body_is_the_part_that_came(
    stream: tuple[dict[str, Any], list[dict[str, Any]]],
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


@given(messages())
def test_reading_the_body_changes_nothing(stream: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
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


@pytest.mark.parametrize(("length", "kept"), [(4094, True), (4095, False)])
def test_a_parameter_is_kept_up_to_four_kilobytes_of_json(length: int, kept: bool) -> None:
    assert ("note" in MESSAGES.request({"note": "x" * length}).params) is kept


@pytest.mark.parametrize("key", ["model", "stream", "messages", "system", "tools", "mcp_servers"])
def test_content_and_secrets_are_not_parameters(key: str) -> None:
    assert MESSAGES.request({key: [{"authorization_token": "x"}]}).params == {}


@pytest.mark.parametrize(
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
