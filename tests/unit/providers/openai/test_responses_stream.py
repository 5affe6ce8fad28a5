"""Responses streams: complete with the terminal event, partial without it."""

from __future__ import annotations

from typing import Any

import pytest

from callspan.providers.openai.responses import Responses
from callspan.providers.openai.responses_stream import ResponsesAccumulator
from callspan.records import Part, Reasoning, Refusal, Text, ToolCall

RESPONSE = {"id": "resp_1", "object": "response", "model": "gpt-5", "status": "in_progress", "output": []}
MESSAGE = {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []}
CALL = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "f",
    "arguments": "",
    "status": "in_progress",
}


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "sequence_number": 1, **fields}


def created() -> dict[str, Any]:
    return event("response.created", response=RESPONSE)


def added(item: dict[str, Any], at: int = 0) -> dict[str, Any]:
    return event("response.output_item.added", output_index=at, item=item)


def text(delta: str, at: int = 0, part: int = 0) -> dict[str, Any]:
    return event("response.output_text.delta", output_index=at, content_index=part, item_id="msg_1", delta=delta)


def fold(*events: Any) -> dict[str, Any]:
    accumulator = ResponsesAccumulator()
    for one in events:
        accumulator.add(one)
    body = accumulator.body()
    assert body is not None
    return body


def output_parts(*events: Any) -> list[Part]:
    output = Responses().conversation(None, fold(*events)).output
    return output[0].parts if output else []


@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete", "response.failed"])
def test_the_terminal_event_takes_precedence(kind: str) -> None:
    final = {**RESPONSE, "status": kind.rpartition(".")[2], "output": [{**MESSAGE, "content": []}], "usage": {"x": 1}}
    accumulator = ResponsesAccumulator()
    for one in (created(), added(MESSAGE), text("other words")):
        accumulator.add(one)
    assert not accumulator.complete
    accumulator.add(event(kind, response=final))
    assert accumulator.complete
    assert accumulator.body() == final


def test_a_terminal_event_without_output_keeps_what_came() -> None:
    body = fold(
        created(), added(MESSAGE), text("kept"), event("response.completed", response={**RESPONSE, "usage": {}})
    )
    assert body["output"][0]["content"] == [{"type": "output_text", "text": "kept"}]


def test_a_cut_stream_keeps_the_partial_text() -> None:
    body = fold(created(), added(MESSAGE), text("Hel"), text("lo"))
    assert body["output"] == [{**MESSAGE, "content": [{"type": "output_text", "text": "Hello"}]}]
    assert body["status"] == "in_progress"
    facts = Responses().response_info(body)
    assert facts.response.finish_reasons == [None]
    assert facts.response.id == "resp_1"


def test_done_events_add_no_text() -> None:
    part = {"type": "output_text", "text": "Hello", "annotations": []}
    assert output_parts(
        created(),
        added(MESSAGE),
        event("response.content_part.added", output_index=0, content_index=0, part={"type": "output_text", "text": ""}),
        text("Hel"),
        text("lo"),
        event("response.output_text.done", output_index=0, content_index=0, text="Hello"),
        event("response.content_part.done", output_index=0, content_index=0, part=part),
        event("response.output_item.done", output_index=0, item={**MESSAGE, "content": [part]}),
    ) == [Text(text="Hello")]


def test_a_done_event_alone_is_enough() -> None:
    assert output_parts(
        added(MESSAGE), event("response.output_text.done", output_index=0, content_index=0, text="all")
    ) == [Text(text="all")]


def test_an_empty_done_event_removes_nothing() -> None:
    assert output_parts(added(MESSAGE), text("kept"), event("response.output_text.done", output_index=0, text="")) == [
        Text(text="kept")
    ]


def test_deltas_without_any_announcement_are_kept() -> None:
    """A stream that is resumed in the middle."""
    assert output_parts(text("mid"), text("dle")) == [Text(text="middle")]


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        ("response.output_text.delta", {}, Text(text="ab")),
        ("response.refusal.delta", {}, Refusal(text="ab")),
        ("response.reasoning_text.delta", {}, Reasoning(text="ab")),
        ("response.reasoning_summary_text.delta", {"summary_index": 0}, Reasoning(text="ab")),
        ("response.function_call_arguments.delta", {}, ToolCall(arguments="ab", incomplete=True)),
        (
            "response.mcp_call_arguments.delta",
            {},
            ToolCall(name="mcp", arguments="ab", tool_type="mcp", incomplete=True),
        ),
        ("response.custom_tool_call_input.delta", {}, ToolCall(arguments="ab", tool_type="custom", incomplete=True)),
        (
            "response.code_interpreter_call_code.delta",
            {},
            ToolCall(name="code_interpreter", arguments="ab", tool_type="code_interpreter", incomplete=True),
        ),
    ],
)
def test_every_kind_of_fragment_finds_its_place(kind: str, fields: dict[str, Any], expected: Part) -> None:
    pieces = [event(kind, output_index=0, content_index=0, delta=delta, **fields) for delta in ("a", "b")]
    assert output_parts(*pieces) == [expected]
    assert ResponsesAccumulator().add(pieces[0]) is True


def test_parts_and_summaries_are_in_the_order_of_their_numbers() -> None:
    body = fold(added(MESSAGE), text("second", part=1), text("first", part=0))
    assert [part["text"] for part in body["output"][0]["content"]] == ["first", "second"]


def test_items_are_in_the_order_of_their_index() -> None:
    body = fold(added(CALL, at=1), added({"type": "reasoning", "id": "rs_1", "summary": []}, at=0))
    assert [item["type"] for item in body["output"]] == ["reasoning", "function_call"]


def test_events_without_index_go_by_item_id() -> None:
    def delta(item: str, words: str) -> dict[str, Any]:
        return event("response.output_text.delta", item_id=item, delta=words)

    body = fold(delta("a", "1"), delta("b", "2"), delta("a", "3"))
    assert [item["content"][0]["text"] for item in body["output"]] == ["13", "2"]


def test_a_cut_call_is_marked_and_goes_by_its_call_id() -> None:
    def arguments(delta: str) -> dict[str, Any]:
        return event("response.function_call_arguments.delta", output_index=0, item_id="fc_1", delta=delta)

    assert output_parts(created(), added(CALL), arguments('{"x"'), arguments(":")) == [
        ToolCall(id="call_1", name="f", arguments='{"x":', incomplete=True, extra={"status": "in_progress"})
    ]


def test_a_finished_call_is_not_marked() -> None:
    body = fold(
        created(),
        added(CALL),
        event("response.function_call_arguments.delta", output_index=0, delta="{}"),
        event("response.function_call_arguments.done", output_index=0, arguments="{}"),
    )
    assert "incomplete" not in body["output"][0]
    assert body["output"][0]["arguments"] == "{}"


def test_annotations_are_added_as_they_come() -> None:
    cite = {"type": "url_citation", "url": "http://x"}
    note = event("response.output_text.annotation.added", output_index=0, content_index=0, annotation=cite)
    assert output_parts(added(MESSAGE), text("see"), note) == [Text(text="see", annotations=[cite])]


def test_a_finished_item_is_not_changed_by_what_comes_late() -> None:
    whole = {**MESSAGE, "content": [{"type": "output_text", "text": "whole"}]}
    late = [
        text("late"),
        added(MESSAGE),
        event("response.content_part.added", output_index=0, part={"type": "output_text", "text": ""}),
        event("response.output_text.done", output_index=0, text="late"),
        event("response.output_text.annotation.added", output_index=0, annotation={"a": 1}),
    ]
    assert fold(event("response.output_item.done", output_index=0, item=whole), *late)["output"] == [whole]


def test_status_is_the_latest_without_repeating_the_rest() -> None:
    body = fold(
        event("response.queued", response={**RESPONSE, "status": "queued", "instructions": "be kind"}),
        event("response.in_progress", response={"status": "in_progress"}),
    )
    assert (body["status"], body["instructions"]) == ("in_progress", "be kind")


@pytest.mark.parametrize(
    "error",
    [
        event("error", code="rate_limit_exceeded", message="slow down", param=None),
        event("error", error={"type": "error", "code": "rate_limit_exceeded", "message": "slow down"}),
        {"error": {"code": "rate_limit_exceeded", "message": "slow down"}},
    ],
)
def test_an_error_event_is_an_error_with_the_partial_text(error: dict[str, Any]) -> None:
    body = fold(created(), added(MESSAGE), text("par"), error)
    facts = Responses().response_info(body)
    assert facts.error is not None
    assert (facts.error.type, facts.error.message) == ("rate_limit_exceeded", "slow down")
    assert (facts.error.kind, facts.error.retryable) == ("rate_limit", True)
    assert Responses().conversation(None, body).output[0].parts == [Text(text="par")]


def test_an_error_alone_is_a_body_without_output() -> None:
    assert fold({"error": "gone"}) == {"object": "response", "error": "gone"}


def test_a_whole_body_where_a_stream_was_due() -> None:
    accumulator = ResponsesAccumulator()
    accumulator.add({**RESPONSE, "status": "completed"})
    assert accumulator.complete
    assert accumulator.body() == {**RESPONSE, "status": "completed"}


@pytest.mark.parametrize(
    "odd",
    [
        None,
        3,
        [],
        {},
        {"type": 3},
        {"type": "response.created"},
        {"type": "response.created", "response": 3},
        {"type": "response.completed", "response": None},
        {"type": "response.output_item.added", "item": None},
        {"type": "response.output_item.done", "item": [], "output_index": "x"},
        {"type": "response.output_text.delta", "delta": None},
        {"type": "response.output_text.delta", "delta": {"a": 1}},
        {"type": "response.output_text.done", "text": 3},
        {"type": "response.content_part.added", "part": None},
        {"type": "response.output_text.annotation.added", "annotation": None},
        {"type": "response.web_search_call.searching", "item_id": "ws_1"},
        {"type": "response.something_new", "data": {}},
        {"type": "keepalive"},
    ],
)
def test_invalid_and_unknown_events_are_harmless(odd: Any) -> None:
    accumulator = ResponsesAccumulator()
    for one in (odd, created(), added(MESSAGE), text("kept"), odd):
        accumulator.add(one)
    body = accumulator.body()
    assert body is not None
    assert body["output"][0]["content"][0]["text"] == "kept"  # type: ignore[index]


@pytest.mark.parametrize(
    ("chunk", "carries"),
    [
        (created(), False),
        (added(MESSAGE), False),
        (text("a"), True),
        (text(""), False),
        (event("response.output_text.done", text="a"), False),
        (event("response.audio.delta", delta="YWJj"), True),
        (event("response.completed", response=RESPONSE), False),
    ],
)
def test_only_deltas_carry_content(chunk: dict[str, Any], carries: bool) -> None:
    assert ResponsesAccumulator().add(chunk) is carries


def test_a_stream_without_events_has_no_body() -> None:
    assert ResponsesAccumulator().body() is None


def test_a_body_shares_no_container_with_the_events() -> None:
    final = {**RESPONSE, "output": [{**MESSAGE, "content": [{"type": "output_text", "text": "a"}]}]}
    accumulator = ResponsesAccumulator()
    accumulator.add(event("response.completed", response=final))
    first, second = accumulator.body(), accumulator.body()
    assert first == second == final
    assert first is not None
    first["output"][0]["content"].clear()  # type: ignore[index]
    assert accumulator.body() == final


@pytest.mark.parametrize("odd", [None, [], "x", 3])
def test_a_chunk_that_is_not_an_event_carries_nothing(odd: object) -> None:
    accumulator = ResponsesAccumulator()
    assert accumulator.add(odd) is False
    assert accumulator.body() is None


def test_the_error_of_the_whole_response_is_believed_before_that_of_an_event() -> None:
    failed = {**RESPONSE, "status": "failed", "error": {"code": "server_error"}}
    body = fold(event("error", code="first"), event("response.failed", response=failed))
    assert body["error"] == {"code": "server_error"}


def test_parts_are_at_the_index_of_their_event() -> None:
    def part(kind: str, number: str, at: int, content: str) -> dict[str, Any]:
        types = {"content_index": "output_text", "summary_index": "summary_text"}
        new = {"type": types[number], "text": content}
        return event(f"response.{kind}.added", output_index=0, **{number: at}, part=new)

    message = fold(created(), added(MESSAGE), part("content_part", "content_index", 1, "b"), text("a"))["output"][0]
    assert [one["text"] for one in message["content"]] == ["a", "b"]
    thought = {"type": "reasoning", "id": "rs_1", "summary": []}
    summaries = [part("reasoning_summary_part", "summary_index", at, content) for at, content in ((1, "b"), (0, "a"))]
    reasoning = fold(created(), added(thought), *summaries)["output"][0]
    assert [one["text"] for one in reasoning["summary"]] == ["a", "b"]
    assert "content" not in reasoning


def test_a_finished_refusal_replaces_its_fragments() -> None:
    begun = event("response.refusal.delta", output_index=0, content_index=0, delta="I ca")
    done = event(
        "response.content_part.done", output_index=0, content_index=0, part={"type": "refusal", "refusal": "I cannot"}
    )
    assert fold(created(), added(MESSAGE), begun, done)["output"][0]["content"] == [
        {"type": "refusal", "refusal": "I cannot"}
    ]


@pytest.mark.parametrize("kind", ["completed", "incomplete", "failed", "cancelled"])
def test_each_terminal_event_has_the_whole_response(kind: str) -> None:
    accumulator = ResponsesAccumulator()
    accumulator.add(created())
    accumulator.add(event(f"response.{kind}", response={**RESPONSE, "status": kind}))
    assert accumulator.complete
    assert accumulator.body() == {**RESPONSE, "status": kind}


@pytest.mark.parametrize("kind", ["created", "queued", "in_progress"])
def test_a_response_under_way_is_known_by_its_last_status(kind: str) -> None:
    accumulator = ResponsesAccumulator()
    accumulator.add(event("response.created", response={**RESPONSE, "status": "first"}))
    accumulator.add(event(f"response.{kind}", response={"status": kind, "id": "other"}))
    assert not accumulator.complete
    assert accumulator.body() == {**RESPONSE, "status": kind}


def test_a_fragment_without_a_place_belongs_to_the_first_item() -> None:
    whole = {**MESSAGE, "status": "completed", "content": [{"type": "output_text", "text": "hi"}]}
    fragment = event("response.output_text.delta", delta="h")
    assert fold(fragment, event("response.output_item.done", output_index=0, item=whole))["output"] == [whole]


def test_an_error_event_is_an_error_without_what_is_about_the_event() -> None:
    assert fold(event("error", code="server_error", message="no"))["error"] == {"code": "server_error", "message": "no"}


def test_a_whole_body_instead_of_a_stream_is_the_response() -> None:
    accumulator = ResponsesAccumulator()
    assert accumulator.add({"object": "response", "id": "resp_1"}) is False
    assert accumulator.complete
    assert accumulator.body() == {"object": "response", "id": "resp_1", "output": []}


def test_items_without_a_place_go_by_their_id() -> None:
    def of(item_id: str, delta: str) -> dict[str, Any]:
        return event("response.output_text.delta", item_id=item_id, delta=delta)

    first, second = {**MESSAGE, "id": "a"}, {**MESSAGE, "id": "b"}
    adds = [event("response.output_item.added", item=item) for item in (first, second)]
    output = fold(*adds, of("a", "x"), of("b", "y"), of("a", "z"))["output"]
    assert [(item["id"], item["content"][0]["text"]) for item in output] == [("a", "xz"), ("b", "y")]


def test_fragments_alone_make_the_items_they_belong_to() -> None:
    thought = event("response.reasoning_text.delta", output_index=1, content_index=0, delta="hm")
    noted = [
        event("response.output_text.annotation.added", output_index=0, content_index=0, annotation={"n": n})
        for n in (1, 2)
    ]
    assert fold(text("hi"), thought, *noted)["output"] == [
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "hi", "annotations": [{"n": 1}, {"n": 2}]}],
        },
        {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}]},
    ]


@pytest.mark.parametrize("when", ["added", "done"])
def test_a_part_may_be_known_from_either_of_its_events(when: str) -> None:
    content = event(
        f"response.content_part.{when}", output_index=0, content_index=0, part={"type": "output_text", "text": "a"}
    )
    summary = event(
        f"response.reasoning_summary_part.{when}",
        output_index=1,
        summary_index=0,
        part={"type": "summary_text", "text": "b"},
    )
    output = fold(content, summary)["output"]
    assert (output[0]["type"], output[0]["role"]) == ("message", "assistant")
    assert output[0]["content"] == [{"type": "output_text", "text": "a"}]
    assert output[1]["summary"] == [{"type": "summary_text", "text": "b"}]


@pytest.mark.parametrize("kind", ["error", "response.error"])
def test_either_kind_of_error_event_is_an_error(kind: str) -> None:
    assert fold(event(kind, error={"code": "server_error"}))["error"] == {"code": "server_error"}


def test_a_whole_body_of_a_gateway_needs_no_name_of_its_type() -> None:
    assert fold({"output": [MESSAGE]}) == {"output": [MESSAGE]}


@pytest.mark.parametrize(
    ("kind", "fields", "carries"),
    [
        ("response.novel.delta", {"delta": "x"}, True),
        ("response.novel.delta", {"delta": ""}, False),
        ("response.novel.delta", {}, False),
        ("response.novel.done", {"delta": "x"}, False),
    ],
)
def test_a_delta_of_a_new_kind_carries_something(kind: str, fields: dict[str, str], carries: bool) -> None:
    assert ResponsesAccumulator().add(event(kind, **fields)) is carries
