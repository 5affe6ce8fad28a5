"""The accumulator of Messages streams: each event, unusual servers, and streams cut at any place."""

from __future__ import annotations

from typing import Any

import pytest

from callspan.providers.anthropic.stream import MessageAccumulator

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
    accumulator = MessageAccumulator()
    for chunk in chunks:
        accumulator.add(chunk)
    return accumulator.body() or {}


def content(*chunks: object) -> list[Any]:
    blocks = folded(*chunks)["content"]
    assert isinstance(blocks, list)
    return blocks


def test_a_text_stream_is_the_message_of_a_plain_call() -> None:
    body = folded(
        START,
        began(0, type="text", text=""),
        {"type": "ping"},
        delta(0, "text_delta", text="Hel"),
        delta(0, "text_delta", text="lo"),
        ended(0),
        over(),
        STOP,
    )

    assert body == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 10,
            "cache_read_input_tokens": 4,
            "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 7,
            "service_tier": "standard",
        },
    }


def test_an_empty_stream_has_no_body() -> None:
    assert MessageAccumulator().body() is None


@pytest.mark.parametrize(
    "chunk", [{"type": "ping"}, {"type": "surprise", "x": 1}, {}, None, [], "text", 3, {"type": []}]
)
def test_pings_and_unknown_events_have_no_effect(chunk: object) -> None:
    accumulator = MessageAccumulator()

    assert accumulator.add(chunk) is False
    assert accumulator.body() is None
    assert not accumulator.complete


def test_blocks_come_in_the_order_of_their_index_also_when_interleaved() -> None:
    blocks = content(
        START,
        began(1, type="text", text=""),
        began(0, type="thinking", thinking="", signature=""),
        delta(1, "text_delta", text="b"),
        delta(0, "thinking_delta", thinking="a"),
        delta(1, "text_delta", text="B"),
        delta(0, "thinking_delta", thinking="A"),
        delta(0, "signature_delta", signature="s0"),
    )

    assert blocks == [
        {"type": "thinking", "thinking": "aA", "signature": "s0"},
        {"type": "text", "text": "bB"},
    ]


def test_each_thinking_block_keeps_its_own_signature() -> None:
    blocks = content(
        began(0, type="thinking", thinking="", signature=""),
        delta(0, "thinking_delta", thinking="one"),
        delta(0, "signature_delta", signature="s1"),
        ended(0),
        began(1, type="thinking", thinking="", signature=""),
        delta(1, "thinking_delta", thinking="two"),
        delta(1, "signature_delta", signature="s2"),
        ended(1),
    )

    assert [(block["thinking"], block["signature"]) for block in blocks] == [("one", "s1"), ("two", "s2")]


@pytest.mark.parametrize("kind", ["tool_use", "server_tool_use", "mcp_tool_use"])
def test_tool_input_is_parsed_once_it_is_complete(kind: str) -> None:
    blocks = content(
        began(0, type=kind, id="t1", name="move", input={}),
        delta(0, "input_json_delta", partial_json=""),
        delta(0, "input_json_delta", partial_json='{"to": [1'),
        delta(0, "input_json_delta", partial_json=", 2]}"),
        ended(0),
    )

    assert blocks == [{"type": kind, "id": "t1", "name": "move", "input": {"to": [1, 2]}}]


@pytest.mark.parametrize("closing", [[], [ended(0)], [ended(0), over("max_tokens"), STOP]])
def test_tool_input_that_was_cut_is_kept_as_text_and_marked(closing: list[object]) -> None:
    blocks = content(
        began(0, type="tool_use", id="t1", name="move", input={}),
        delta(0, "input_json_delta", partial_json='{"to": [1'),
        *closing,
    )

    assert blocks == [{"type": "tool_use", "id": "t1", "name": "move", "input": '{"to": [1', "incomplete": True}]


def test_a_tool_call_cut_before_its_input_is_marked() -> None:
    blocks = content(began(0, type="tool_use", id="t1", name="move", input={}))

    assert blocks == [{"type": "tool_use", "id": "t1", "name": "move", "input": {}, "incomplete": True}]


@pytest.mark.parametrize("given", [{}, {"to": 1}])
def test_a_tool_call_without_input_deltas_has_the_input_it_began_with(given: dict[str, object]) -> None:
    blocks = content(began(0, type="tool_use", id="t1", name="now", input=given), ended(0))

    assert blocks == [{"type": "tool_use", "id": "t1", "name": "now", "input": given}]


def test_a_tool_call_whose_stop_event_is_missing_is_whole_once_the_message_is() -> None:
    blocks = content(began(0, type="tool_use", id="t1", name="now", input={}), over("tool_use"), STOP)

    assert "incomplete" not in blocks[0]


def test_citations_are_collected_on_their_text() -> None:
    blocks = content(
        began(0, type="text", text="", citations=[]),
        delta(0, "citations_delta", citation={"type": "char_location", "cited_text": "a"}),
        delta(0, "text_delta", text="x"),
        delta(0, "citations_delta", citation={"type": "char_location", "cited_text": "b"}),
    )

    assert blocks[0]["text"] == "x"
    assert [citation["cited_text"] for citation in blocks[0]["citations"]] == ["a", "b"]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "redacted_thinking", "data": "opaque"},
        {"type": "web_search_tool_result", "tool_use_id": "t", "content": [{"type": "web_search_result", "url": "u"}]},
        {"type": "mcp_tool_result", "tool_use_id": "t", "is_error": False, "content": [{"type": "text", "text": "x"}]},
        {"type": "from_the_future", "payload": {"deep": [1, None]}},
    ],
)
def test_blocks_that_come_whole_are_kept_as_they_are(block: dict[str, object]) -> None:
    assert content(began(0, **block), ended(0)) == [block]


def test_values_of_a_compaction_are_kept() -> None:
    blocks = content(
        began(0, type="compaction", content=None),
        delta(0, "compaction_delta", content="summary", encrypted_content=None),
        ended(0),
    )

    assert blocks == [{"type": "compaction", "content": "summary"}]


def test_deltas_of_unknown_kinds_are_kept_on_their_block() -> None:
    blocks = content(began(0, type="text", text=""), delta(0, "video_delta", frame=1), delta(0, "video_delta", frame=2))

    assert blocks[0]["deltas"] == [{"type": "video_delta", "frame": 1}, {"type": "video_delta", "frame": 2}]


@pytest.mark.parametrize(
    ("chunk", "block"),
    [
        (delta(0, "text_delta", text="x"), {"type": "text", "text": "x"}),
        (delta(3, "thinking_delta", thinking="x"), {"type": "thinking", "thinking": "x"}),
        (delta(None, "text_delta", text="x"), {"type": "text", "text": "x"}),
        (delta(0, "input_json_delta", partial_json="{}"), {"type": "tool_use", "input": {}}),
        (delta(0, "signature_delta", signature="s"), {"type": "thinking", "signature": "s"}),
        (delta(0, "citations_delta", citation={"a": 1}), {"type": "text", "citations": [{"a": 1}]}),
    ],
)
def test_a_delta_without_a_block_opens_one(chunk: object, block: dict[str, object]) -> None:
    assert content(chunk) == [block]


def test_events_without_an_index_belong_to_the_last_block() -> None:
    blocks = content(
        began(None, type="text", text=""),
        delta(None, "text_delta", text="a"),
        delta(None, "text_delta", text="b"),
        ended(None),
        began(None, type="tool_use", id="t", name="n", input={}),
        delta(None, "input_json_delta", partial_json='{"x":1}'),
        ended(None),
    )

    assert blocks == [{"type": "text", "text": "ab"}, {"type": "tool_use", "id": "t", "name": "n", "input": {"x": 1}}]


def test_a_block_without_an_index_comes_after_all_others() -> None:
    blocks = content(
        began(2, type="text", text="c"), began(0, type="text", text="a"), began(None, type="text", text="d")
    )

    assert [block["text"] for block in blocks] == ["a", "c", "d"]


def test_a_block_that_begins_anew_does_not_get_pieces_of_the_old_one() -> None:
    blocks = content(
        began(0, type="text", text=""),
        delta(0, "text_delta", text="old"),
        began(0, type="text", text=""),
        delta(0, "text_delta", text="new"),
    )

    assert blocks == [{"type": "text", "text": "new"}]


def test_text_given_at_the_start_of_a_block_comes_first() -> None:
    assert content(began(0, type="text", text="a"), delta(0, "text_delta", text="b")) == [
        {"type": "text", "text": "ab"}
    ]


def test_counters_are_totals_and_the_last_reported_wins() -> None:
    usage = folded(
        START,
        over(None, {"output_tokens": 5, "input_tokens": 12, "cache_read_input_tokens": None}),
        over("end_turn", {"output_tokens": 9, "server_tool_use": {"web_search_requests": 1}, "cache_creation": None}),
    )["usage"]

    assert usage == {
        "input_tokens": 12,
        "cache_read_input_tokens": 4,
        "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 9,
        "service_tier": "standard",
        "server_tool_use": {"web_search_requests": 1},
    }


def test_part_of_a_nested_counter_does_not_erase_the_rest() -> None:
    usage = folded(START, over("end_turn", {"cache_creation": {"ephemeral_5m_input_tokens": 3}}))["usage"]

    assert usage["cache_creation"] == {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 0}


def test_fields_next_to_the_delta_are_kept() -> None:
    body = folded(
        START,
        {
            **over("refusal", stop_details={"category": "x"}, container={"id": "c1"}),
            "context_management": {"applied_edits": []},
        },
        {**STOP, "amazon-bedrock-invocationMetrics": {"inputTokenCount": 10}},
    )

    assert body["stop_details"] == {"category": "x"}
    assert body["container"] == {"id": "c1"}
    assert body["context_management"] == {"applied_edits": []}
    assert body["amazon-bedrock-invocationMetrics"] == {"inputTokenCount": 10}


def test_a_later_null_erases_nothing() -> None:
    body = folded(START, over("tool_use"), over(None))

    assert body["stop_reason"] == "tool_use"


def test_a_fallback_names_the_model_of_the_response() -> None:
    body = folded(START, began(0, type="fallback", to={"model": "claude-y"}), ended(0))

    assert body["model"] == "claude-y"


def test_a_second_message_start_does_not_replace_the_first() -> None:
    again = {"type": "message_start", "message": {"id": "msg_2", "model": "other", "container": {"id": "c"}}}

    body = folded(START, again)

    assert (body["id"], body["model"], body["container"]) == ("msg_1", "claude-x", {"id": "c"})


ERROR = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_1"}


def test_an_error_alone_is_the_body() -> None:
    assert folded(ERROR) == ERROR


def test_an_error_after_text_keeps_the_text() -> None:
    body = folded(START, delta(0, "text_delta", text="par"), ERROR)

    assert body["content"] == [{"type": "text", "text": "par"}]
    assert body["error"] == ERROR["error"]
    assert body["stop_reason"] is None


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
    accumulator = MessageAccumulator()

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
    assert MessageAccumulator().add(chunk) is carries


def test_the_second_piece_is_distinguished_from_an_empty_one() -> None:
    accumulator = MessageAccumulator()
    accumulator.add(delta(0, "text_delta", text="x"))

    assert accumulator.add(delta(0, "text_delta", text="y")) is True
    assert accumulator.add(delta(0, "text_delta", text="")) is False
    assert accumulator.add(delta(0, "text_delta", text=["z"])) is False
    assert accumulator.body() == {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": "xy"}],
    }


@pytest.mark.parametrize(
    ("chunks", "complete"),
    [
        ([START], False),
        ([START, delta(0, "text_delta", text="x"), ended(0)], False),
        ([START, over(None)], False),
        ([START, over("")], False),
        ([START, over()], True),
        ([START, STOP], True),
        ([START, ERROR], False),
    ],
)
def test_a_stream_is_complete_once_it_says_so(chunks: list[object], complete: bool) -> None:
    accumulator = MessageAccumulator()
    for chunk in chunks:
        accumulator.add(chunk)

    assert accumulator.complete is complete


def test_blocks_that_begin_without_an_index_are_counted() -> None:
    accumulator = MessageAccumulator()
    for event in (
        START,
        began(None, type="text", text=""),
        began(None, type="text", text=""),
        delta(1, "text_delta", text="second"),
        delta(0, "text_delta", text="first"),
    ):
        accumulator.add(event)
    body = accumulator.body()
    assert body is not None
    assert body["content"] == [{"type": "text", "text": "first"}, {"type": "text", "text": "second"}]


@pytest.mark.parametrize(("kind", "model"), [("fallback", "claude-y"), ("text", "claude-x")])
def test_only_a_fallback_changes_the_model(kind: str, model: str) -> None:
    accumulator = MessageAccumulator()
    accumulator.add(START)
    accumulator.add(began(0, type=kind, to={"model": "claude-y"}))
    body = accumulator.body()
    assert body is not None
    assert body["model"] == model


def test_a_delta_of_a_new_kind_without_a_block_makes_one_of_its_name() -> None:
    accumulator = MessageAccumulator()
    accumulator.add(START)
    accumulator.add(delta(0, "compaction_delta", content="short"))
    accumulator.add(delta(1, "novel_delta", note="n"))
    body = accumulator.body()
    assert body is not None
    assert body["content"] == [
        {"type": "compaction", "content": "short"},
        {"type": "novel", "deltas": [{"type": "novel_delta", "note": "n"}]},
    ]


def test_a_block_that_stops_without_an_index_is_the_last() -> None:
    accumulator = MessageAccumulator()
    accumulator.add(START)
    accumulator.add(began(0, type="tool_use", id="a", name="f", input={}))
    accumulator.add(began(1, type="tool_use", id="b", name="f", input={}))
    accumulator.add(ended(None))
    body = accumulator.body()
    assert body is not None
    assert [block.get("incomplete") for block in body["content"]] == [True, None]  # type: ignore[attr-defined]


def test_fields_of_an_event_are_not_part_of_the_message() -> None:
    accumulator = MessageAccumulator()
    accumulator.add(START)
    fields = ("type", "index", "delta", "usage", "message", "content_block", "error")
    accumulator.add({**{key: {"x": 1} for key in fields}, "type": "message_stop", "metrics": {"latency": 5}})
    body = accumulator.body()
    assert body is not None
    assert set(body) == {*START["message"], "metrics"}


def test_a_block_that_stops_is_the_one_of_its_index() -> None:
    accumulator = MessageAccumulator()
    accumulator.add(START)
    for index in (0, 1):
        accumulator.add(began(index, type="tool_use", id=str(index), name="f", input={}))
    accumulator.add(ended(0))
    body = accumulator.body()
    assert body is not None
    assert [block.get("incomplete") for block in body["content"]] == [None, True]  # type: ignore[attr-defined]
