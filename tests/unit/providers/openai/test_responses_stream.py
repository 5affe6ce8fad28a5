"""Responses: complete bodies, items as messages, and streams, partial without their terminal event."""

from __future__ import annotations

from typing import Any

import pytest

from callspan.providers.openai.responses import Responses
from callspan.providers.openai.responses_fold import ResponsesFold
from callspan.records import (
    Conversation,
    Message,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)

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
    accumulator = ResponsesFold()
    for one in events:
        accumulator.add(one)
    body = accumulator.body()
    assert body is not None
    return body


def output_parts(*events: Any) -> list[Part]:
    output = Responses().conversation(None, fold(*events)).output
    return output[0].parts if output else []


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
    assert ResponsesFold().add(pieces[0]) is True


def test_items_are_in_the_order_of_their_index() -> None:
    body = fold(added(CALL, at=1), added({"type": "reasoning", "id": "rs_1", "summary": []}, at=0))
    assert [item["type"] for item in body["output"]] == ["reasoning", "function_call"]


def test_events_without_index_go_by_item_id() -> None:
    def delta(item: str, words: str) -> dict[str, Any]:
        return event("response.output_text.delta", item_id=item, delta=words)

    body = fold(delta("a", "1"), delta("b", "2"), delta("a", "3"))
    assert [item["content"][0]["text"] for item in body["output"]] == ["13", "2"]


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


def test_an_error_alone_is_a_body_without_output() -> None:
    assert fold({"error": "gone"}) == {"object": "response", "error": "gone"}


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
    accumulator = ResponsesFold()
    for one in (odd, created(), added(MESSAGE), text("kept"), odd):
        accumulator.add(one)
    body = accumulator.body()
    assert body is not None
    assert body["output"][0]["content"][0]["text"] == "kept"  # type: ignore[index]


def test_an_error_event_is_an_error_without_what_is_about_the_event() -> None:
    assert fold(event("error", code="server_error", message="no"))["error"] == {"code": "server_error", "message": "no"}


# Two accounts of one answer: its items, and the terminal event.

EMPTY = {"type": "message", "id": "msg_9", "role": "assistant", "status": "completed", "content": []}
HOLLOW = {**EMPTY, "content": [{"type": "output_text", "text": "", "annotations": []}]}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": []}


def ended(*output: dict[str, Any], status: str = "completed") -> dict[str, Any]:
    return event(f"response.{status}", response={**RESPONSE, "status": status, "output": list(output)})


def called(arguments: str, at: int = 0, **fields: Any) -> list[dict[str, Any]]:
    pieces = [
        event("response.function_call_arguments.delta", output_index=at, delta=piece) for piece in arguments.split("|")
    ]
    return [added({**CALL, **fields}, at), *pieces]


def said(words: str) -> dict[str, Any]:
    return {**MESSAGE, "status": "completed", "content": [{"type": "output_text", "text": words}]}


@pytest.mark.parametrize("generic", [EMPTY, HOLLOW])
def test_a_generic_message_at_the_end_loses_no_call(generic: dict[str, Any]) -> None:
    parts = output_parts(created(), *called('{"a":| 1}'), ended(generic))
    assert parts == [ToolCall(id="call_1", name="f", arguments='{"a": 1}')]


@pytest.mark.parametrize("generic", [EMPTY, HOLLOW])
def test_a_generic_message_at_the_end_loses_no_text(generic: dict[str, Any]) -> None:
    body = fold(created(), added(MESSAGE), text("Hello "), text("you"), ended(generic))
    (item,) = body["output"]
    assert item["content"][0]["text"] == "Hello you"
    assert (item["id"], item["status"]) == ("msg_9", "completed")


def test_a_generic_message_at_the_end_loses_no_reasoning() -> None:
    thought = event("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta="hm")
    parts = output_parts(created(), added(THOUGHT), thought, added(MESSAGE, 1), text("hi", 1), ended(EMPTY))
    assert parts == [Reasoning(text="hm"), Text(text="hi")]


def test_a_terminal_event_that_says_more_wins() -> None:
    whole = {**CALL, "arguments": '{"a": 1}', "status": "completed"}
    events = [created(), *called('{"a"'), added(MESSAGE, 1), text("Hel", 1), ended(whole, said("Hello"))]
    assert fold(*events)["output"] == [whole, said("Hello")]


def test_items_are_paired_by_id_before_their_type() -> None:
    other = {**CALL, "id": "fc_2", "call_id": "call_2", "name": "g"}
    events = [*called("{}"), *called('{"b": 2}', 1, id="fc_2", call_id="call_2", name="g")]
    output = fold(created(), *events, ended(other, {**CALL, "arguments": '{"a": 1}'}))["output"]
    assert [(item["name"], item["arguments"]) for item in output] == [("g", '{"b": 2}'), ("f", '{"a": 1}')]


def test_another_call_at_the_end_is_another_call() -> None:
    other = {**CALL, "id": "fc_2", "call_id": "call_2", "arguments": "{}"}
    output = fold(created(), *called('{"a": 1}'), ended(other))["output"]
    assert [(item["call_id"], item["arguments"]) for item in output] == [("call_1", '{"a": 1}'), ("call_2", "{}")]


def test_the_same_call_with_a_new_id_at_the_end_is_one_call() -> None:
    same = {**CALL, "id": "fc_2", "call_id": "call_2", "arguments": '{"a": 1}'}
    assert fold(created(), *called('{"a": 1}'), ended(same))["output"] == [same]


@pytest.mark.parametrize(("status", "incomplete"), [("completed", None), ("incomplete", True)])
def test_a_call_that_only_pieces_tell_of_is_whole_if_the_response_is(status: str, incomplete: bool | None) -> None:
    item = fold(created(), *called('{"a"'), ended(EMPTY, status=status))["output"][0]
    assert item.get("incomplete") is incomplete


def test_an_item_at_its_end_loses_no_text() -> None:
    done = event("response.output_item.done", output_index=0, item=EMPTY)
    assert output_parts(created(), added(MESSAGE), text("Hello"), done) == [Text(text="Hello")]


def test_log_probabilities_of_a_stream_that_was_cut_stay() -> None:
    probable = {"token": "Hel", "logprob": -0.1, "top_logprobs": []}
    (part,) = output_parts(created(), added(MESSAGE), {**text("Hel"), "logprobs": [probable]}, text("lo"))
    assert isinstance(part, Text)
    assert (part.text, part.logprobs) == ("Hello", [probable])


def body(**fields: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "model": "gpt-5", "status": "completed", "output": [], **fields}


def parts_of_output(*items: Any) -> list[Part]:
    return Responses().conversation(None, body(output=list(items))).output[0].parts


def conversation_of(given: Any, **request: Any) -> Conversation:
    return Responses().conversation({"input": given, **request}, None)


HOSTED = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
SHELL = {"type": "shell_call", "call_id": "call_1", "action": {"commands": ["ls"]}}
REQUESTS_OF_TOOLS: list[tuple[list[dict[str, Any]], list[str]]] = [
    ([{"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}], ["tool_calls"]),
    ([{"type": "custom_tool_call", "call_id": "call_1", "name": "f", "input": "x"}], ["tool_calls"]),
    ([{"type": "computer_call", "call_id": "call_1", "action": {}}], ["tool_calls"]),
    ([SHELL], ["tool_calls"]),
    ([SHELL, {"type": "shell_call_output", "call_id": "call_1", "output": []}], ["completed"]),
    ([SHELL, {"type": "shell_call_output", "call_id": "call_2", "output": []}], ["tool_calls"]),
    ([{"type": "tool_search_call", "call_id": "call_1", "execution": "client"}], ["tool_calls"]),
    ([{"type": "tool_search_call", "call_id": "call_1", "execution": "server"}], ["completed"]),
    ([HOSTED], ["completed"]),
    ([HOSTED, {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}], ["tool_calls"]),
]
"""Output items and what a completed answer with them finishes with: hosted tools request nothing of the application."""


@pytest.mark.parametrize(
    ("fields", "reasons", "truncated", "refused"),
    [
        ({}, ["completed"], False, False),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            ["max_output_tokens"],
            True,
            False,
        ),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, ["content_filter"], False, True),
        ({"status": "incomplete", "incomplete_details": None}, ["incomplete"], False, False),
        ({"status": "incomplete", "incomplete_details": {"reason": "other"}}, ["other"], False, False),
        ({"status": "failed"}, ["failed"], False, False),
        ({"status": "cancelled"}, ["cancelled"], False, False),
        ({"status": "in_progress"}, [None], False, False),
        ({"status": "queued"}, [None], False, False),
        ({"status": None}, [None], False, False),
        (
            {"output": [{"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}]},
            ["completed"],
            False,
            True,
        ),
        *(({"output": output}, reasons, False, False) for output, reasons in REQUESTS_OF_TOOLS),
    ],
)
def test_why_an_answer_ended(fields: dict[str, Any], reasons: list[str | None], truncated: bool, refused: bool) -> None:
    facts = Responses().response_info(body(**fields))
    assert facts.response.finish_reasons == reasons
    assert (facts.truncated, facts.refused) == (truncated, refused)


class TestInput:
    """Whatever was given: a text, items, and what is no item."""

    def test_what_the_assistant_did_in_a_row_is_one_message_and_results_are_their_own(self) -> None:
        given = [
            {"role": "user", "content": "go"},
            {"type": "reasoning", "summary": [], "encrypted_content": "xyz"},
            {"role": "assistant", "content": "moving"},
            {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "done"},
            {"type": "custom_tool_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "x"}]},
            {"role": "user", "content": "on"},
        ]
        assert conversation_of(given).input == [
            Message(role="user", parts=[Text(text="go")]),
            Message(
                role="assistant",
                parts=[
                    Reasoning(sealed="xyz"),
                    Text(text="moving"),
                    ToolCall(id="call_1", name="f", arguments="{}"),
                ],
            ),
            Message(role="tool", parts=[ToolResult(id="call_1", content="done", tool_type="function")]),
            Message(
                role="tool",
                parts=[ToolResult(id="call_2", content=[{"type": "input_text", "text": "x"}], tool_type="custom")],
            ),
            Message(role="user", parts=[Text(text="on")]),
        ]

    @pytest.mark.parametrize("odd", [3, {}, {"type": 3}, [None], [[]], [3], True])
    def test_invalid_input_raises_nothing(self, odd: object) -> None:
        conversation_of(odd)


def test_a_picture_that_is_not_there_is_none() -> None:
    (call,) = parts_of_output({"type": "image_generation_call", "id": "ig_1", "status": "in_progress"})
    assert isinstance(call, ToolCall)
    assert (call.tool_type, call.incomplete) == ("image_generation", True)
