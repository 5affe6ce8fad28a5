"""Messages streams, each event, unusual servers, cuts; and Anthropic's text completions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.providers.anthropic.completions import CompletionFold, TextCompletions
from callspan.providers.anthropic.message_fold import MessageFold
from callspan.records import Conversation, Message, Text, UnknownPart

START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": 10,
            "cache_read_input_tokens": 4,
            "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 1,
            "service_tier": "standard",
        },
    },
}
STOP = {"type": "message_stop"}


def began(index: int | None, **block: object) -> dict[str, object]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int | None, kind: str, **fields: object) -> dict[str, object]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def ended(index: int | None) -> dict[str, object]:
    return {"type": "content_block_stop", "index": index}


def over(
    reason: str | None = "end_turn", usage: dict[str, object] | None = None, **delta_: object
) -> dict[str, object]:
    return {
        "type": "message_delta",
        "delta": {"stop_reason": reason, "stop_sequence": None, **delta_},
        "usage": {"output_tokens": 7} if usage is None else usage,
    }


def folded(*chunks: object) -> dict[str, Any]:
    accumulator = MessageFold()
    for chunk in chunks:
        accumulator.add(chunk)
    return accumulator.body() or {}


def content(*chunks: object) -> list[Any]:
    blocks = folded(*chunks)["content"]
    assert isinstance(blocks, list)
    return blocks


def test_an_empty_stream_has_no_body() -> None:
    assert MessageFold().body() is None


@pytest.mark.parametrize("closing", [[], [ended(0)], [ended(0), over("max_tokens"), STOP]])
def test_tool_input_that_was_cut_is_kept_as_text_and_marked(closing: list[object]) -> None:
    blocks = content(
        began(0, type="tool_use", id="t1", name="move", input={}),
        delta(0, "input_json_delta", partial_json='{"to": [1'),
        *closing,
    )

    assert blocks == [{"type": "tool_use", "id": "t1", "name": "move", "input": '{"to": [1', "incomplete": True}]


def test_deltas_of_unknown_kinds_are_kept_on_their_block() -> None:
    blocks = content(began(0, type="text", text=""), delta(0, "video_delta", frame=1), delta(0, "video_delta", frame=2))

    assert blocks[0]["deltas"] == [{"type": "video_delta", "frame": 1}, {"type": "video_delta", "frame": 2}]


def test_a_fallback_names_the_model_of_the_response() -> None:
    body = folded(START, began(0, type="fallback", to={"model": "claude-y"}), ended(0))

    assert body["model"] == "claude-y"


def test_an_error_without_details_is_still_beside_the_text() -> None:
    body = folded(delta(0, "text_delta", text="par"), {"type": "error"})

    assert body["error"] == {"type": "error"}


def test_a_server_that_does_not_stream_gives_its_message_at_once() -> None:
    message = {
        "type": "message",
        "role": "assistant",
        "id": "m",
        "content": [{"type": "tool_use", "id": "t", "name": "n", "input": {}}, {"type": "text", "text": "x"}],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 1},
    }
    accumulator = MessageFold()

    assert accumulator.add(message) is True
    assert accumulator.complete
    assert accumulator.body() == message


@pytest.mark.parametrize(
    ("chunk", "carries"),
    [
        (delta(0, "text_delta", text="x"), True),
        (delta(0, "text_delta", text=""), False),
        (delta(0, "text_delta", text=None), False),
        (delta(0, "thinking_delta", thinking="x"), True),
        (delta(0, "input_json_delta", partial_json="{"), True),
        (delta(0, "input_json_delta", partial_json=""), False),
        (delta(0, "signature_delta", signature="s"), False),
        (delta(0, "citations_delta", citation={}), False),
        (delta(0, "compaction_delta", content="s"), True),
        (began(0, type="text", text=""), False),
        (began(0, type="text", text="x"), True),
        (began(0, type="thinking", thinking=""), False),
        (began(0, type="tool_use", id="t", name="n", input={}), True),
        (began(0, type="redacted_thinking", data="x"), True),
        ({"type": "content_block_start", "index": 0}, False),
        ({"type": "content_block_delta", "index": 0}, False),
        ({"type": "content_block_delta", "index": 0, "delta": {"text": "x"}}, False),
        (START, False),
        (ended(0), False),
        (over(), False),
        (STOP, False),
    ],
)
def test_only_content_counts_as_the_first_token(chunk: object, carries: bool) -> None:
    assert MessageFold().add(chunk) is carries


def test_the_second_piece_is_distinguished_from_an_empty_one() -> None:
    accumulator = MessageFold()
    accumulator.add(delta(0, "text_delta", text="x"))

    assert accumulator.add(delta(0, "text_delta", text="y")) is True
    assert accumulator.add(delta(0, "text_delta", text="")) is False
    assert accumulator.add(delta(0, "text_delta", text=["z"])) is False
    assert accumulator.body() == {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": "xy"}],
    }


HEAD = {"type": "completion", "id": "compl_1", "model": "claude-2.1", "log_id": "compl_1"}
ENDPOINT = TextCompletions()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["type", "completion", "stop_reason", "stop", "error", "model", "id", "prompt", "usage"]),
        inner, max_size=4,
    ),
    max_leaves=8,
)  # fmt: skip


def piece(text: Any, reason: Any = None, stop: Any = None) -> dict[str, Any]:
    return {**HEAD, "completion": text, "stop_reason": reason, "stop": stop}


def fold(*chunks: Any) -> CompletionFold:
    accumulator = CompletionFold()
    for chunk in chunks:
        accumulator.add(chunk)
    return accumulator


@pytest.mark.parametrize("junk", [None, 3, [], "x", {}, {"type": "ping"}, {"completion": 7}])
def test_anything_else_carries_nothing(junk: object) -> None:
    assert CompletionFold().add(junk) is False
    assert fold(piece("a"), junk, piece("b", "max_tokens")).body() == piece("ab", "max_tokens")


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (None, []),
        ("", []),
        ("hi", [Message(role="user", parts=[Text(text="hi")])]),
        ([1, 2], [Message(role="user", parts=[UnknownPart(data=[1, 2])])]),
    ],
)
def test_a_prompt_is_a_message_of_a_user(prompt: object, expected: list[Message]) -> None:
    assert ENDPOINT.conversation({"prompt": prompt}, None) == Conversation(input=expected)


@given(st.lists(JSON, max_size=5), JSON, JSON)
def test_any_json_is_read(chunks: list[object], request: object, response: object) -> None:
    folded = fold(*chunks).body()
    for body in (folded, response):
        ENDPOINT.response_info(body)
        ENDPOINT.conversation(request, body)
    ENDPOINT.request(request)


@pytest.mark.parametrize("body", [None, [], {}, {"choices": []}, {"completion": None}, "text"])
def test_another_body_is_not_recognized(body: object) -> None:
    found = ENDPOINT.response_info(body)
    assert (found.recognized, found.response.finish_reasons) == (False, [])
    assert ENDPOINT.conversation(None, body) == Conversation()
