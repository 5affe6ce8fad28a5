"""Responses: info of complete bodies, and items as messages."""

from __future__ import annotations

from typing import Any

import pytest

from callspan.providers.openai.responses import Responses
from callspan.records import (
    Conversation,
    Media,
    Message,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
    UnknownPart,
)


def body(**fields: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "model": "gpt-5", "status": "completed", "output": [], **fields}


def output_parts(*items: Any) -> list[Part]:
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


def test_names_and_times_of_an_answer() -> None:
    response = Responses().response_info(body(created_at=17, service_tier="flex")).response
    assert (response.id, response.model, response.created) == ("resp_1", "gpt-5", 17)
    assert (response.service_tier, response.status) == ("flex", "completed")


def test_a_failed_answer_states_its_error_and_keeps_its_usage() -> None:
    facts = Responses().response_info(
        body(
            status="failed",
            error={"code": "server_error", "message": "sorry"},
            usage={"input_tokens": 3, "output_tokens": 1},
        )
    )
    assert facts.error is not None
    assert (facts.error.kind, facts.error.type, facts.error.message) == ("server", "server_error", "sorry")
    assert facts.usage is not None
    assert facts.usage.total_tokens == 4


def test_a_failure_without_a_reason_is_a_failure() -> None:
    error = Responses().response_info(body(status="failed", error=None)).error
    assert error is not None
    assert (error.kind, error.type) == ("unknown", "failed")


def test_error_null_is_not_an_error() -> None:
    assert Responses().response_info(body(error=None)).error is None


@pytest.mark.parametrize("odd", [None, 3, [], "x", {}, {"output": None}, {"error": {"message": "x"}}])
def test_a_body_that_is_not_a_response_has_no_finish_reason(odd: object) -> None:
    assert Responses().response_info(odd).response.finish_reasons == []


class TestOutput:
    """One message with all the parts of the answer, in their order."""

    def test_reasoning_text_and_calls_are_one_message_with_the_reason(self) -> None:
        items = [
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]},
            {
                "type": "function_call",
                "id": "fc_1",
                "call_id": "call_1",
                "name": "f",
                "arguments": "{}",
                "status": "completed",
            },
        ]
        assert Responses().conversation(None, body(output=items)).output == [
            Message(
                role="assistant",
                parts=[Reasoning(text="hm"), Text(text="hi"), ToolCall(id="call_1", name="f", arguments="{}")],
                finish_reason="tool_calls",
            )
        ]

    @pytest.mark.parametrize(
        ("item", "parts"),
        [
            ({"type": "reasoning", "summary": []}, [Reasoning()]),
            ({"type": "reasoning", "summary": [], "encrypted_content": "xyz"}, [Reasoning(sealed="xyz")]),
            (
                {"type": "reasoning", "summary": [{"text": "a"}, {"text": "b"}], "encrypted_content": "xyz"},
                [Reasoning(text="a\n\nb", sealed="xyz")],
            ),
            (
                {"type": "reasoning", "summary": [{"text": "a"}], "content": [{"type": "reasoning_text", "text": "b"}]},
                [Reasoning(text="a"), Reasoning(text="b")],
            ),
            (
                {
                    "type": "message",
                    "content": [
                        {"type": "output_text", "text": "a", "annotations": [{"u": 1}], "logprobs": [{"t": 1}]}
                    ],
                },
                [Text(text="a", annotations=[{"u": 1}], logprobs=[{"t": 1}])],
            ),
            ({"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}, [Refusal(text="no")]),
            (
                {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_1", "name": "sql", "input": "select 1"},
                [ToolCall(id="call_1", name="sql", arguments="select 1", tool_type="custom")],
            ),
            (
                {
                    "type": "web_search_call",
                    "id": "ws_1",
                    "status": "completed",
                    "action": {"type": "search", "query": "q"},
                },
                [
                    ToolCall(
                        id="ws_1", name="web_search", arguments='{"type":"search","query":"q"}', tool_type="web_search"
                    )
                ],
            ),
            (
                {"type": "file_search_call", "id": "fs_1", "queries": ["q"], "results": [{"text": "t"}]},
                [
                    ToolCall(
                        id="fs_1",
                        name="file_search",
                        arguments='["q"]',
                        tool_type="file_search",
                        extra={"results": [{"text": "t"}]},
                    )
                ],
            ),
            (
                {
                    "type": "mcp_call",
                    "id": "mcp_1",
                    "name": "ask",
                    "arguments": "{}",
                    "server_label": "wiki",
                    "output": "o",
                },
                [
                    ToolCall(
                        id="mcp_1",
                        name="ask",
                        arguments="{}",
                        tool_type="mcp",
                        extra={"server_label": "wiki", "output": "o"},
                    )
                ],
            ),
            (
                {
                    "type": "code_interpreter_call",
                    "id": "ci_1",
                    "code": "1+1",
                    "outputs": [{"type": "logs", "logs": "2"}],
                },
                [
                    ToolCall(
                        id="ci_1",
                        name="code_interpreter",
                        arguments="1+1",
                        tool_type="code_interpreter",
                        extra={"outputs": [{"type": "logs", "logs": "2"}]},
                    )
                ],
            ),
            (
                {"type": "computer_call", "call_id": "call_1", "action": {"type": "click"}, "status": "incomplete"},
                [
                    ToolCall(
                        id="call_1",
                        name="computer",
                        arguments='{"type":"click"}',
                        tool_type="computer",
                        incomplete=True,
                        extra={"status": "incomplete"},
                    )
                ],
            ),
            (
                {"type": "image_generation_call", "id": "ig_1", "result": "YWJj", "output_format": "png"},
                [
                    ToolCall(
                        id="ig_1", name="image_generation", tool_type="image_generation", extra={"output_format": "png"}
                    ),
                    Media(
                        modality="image",
                        mime="image/png",
                        sha256="ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
                        size=3,
                    ),
                ],
            ),
            (
                {"type": "tool_search_output", "call_id": "call_1", "tools": [{"name": "f"}]},
                [ToolResult(id="call_1", content=[{"name": "f"}], tool_type="tool_search")],
            ),
            (
                {"type": "compaction", "id": "cmp_1", "encrypted_content": "xyz"},
                [UnknownPart(data={"type": "compaction", "id": "cmp_1", "encrypted_content": "xyz"})],
            ),
            (
                {"type": "mcp_list_tools", "server_label": "wiki", "tools": []},
                [UnknownPart(data={"type": "mcp_list_tools", "server_label": "wiki", "tools": []})],
            ),
            ({"type": "brand_new"}, [UnknownPart(data={"type": "brand_new"})]),
            (None, [UnknownPart(data=None)]),
            ([1], [UnknownPart(data=[1])]),
        ],
    )
    def test_items_of_every_kind_are_read(self, item: Any, parts: list[Part]) -> None:
        assert output_parts(item) == parts

    def test_a_picture_kept_by_reference(self) -> None:
        reference = {"callspan_media": {"sha256": "ab", "mime": "image/png", "bytes": 9}}
        assert output_parts({"type": "image_generation_call", "id": "ig_1", "result": reference})[1] == Media(
            modality="image", mime="image/png", sha256="ab", size=9
        )

    def test_messages_of_the_user_that_an_answer_repeats_are_not_its_text(self) -> None:
        items = [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]},
            {"type": "compaction", "encrypted_content": "xyz"},
        ]
        output = Responses().conversation(None, body(output=items)).output
        assert output[0] == Message(role="user", parts=[Text(text="hello")])
        assert output[1].role == "assistant"
        assert not any(isinstance(part, Text) for part in output[1].parts)

    def test_no_output_gives_no_message(self) -> None:
        assert Responses().conversation(None, body()).output == []


class TestInput:
    """Whatever was given: a text, items, and what is no item."""

    def test_instructions_are_the_system(self) -> None:
        assert conversation_of("hi", instructions="be kind").system == [Text(text="be kind")]
        items = [{"type": "message", "role": "system", "content": "be kind"}]
        assert conversation_of("hi", instructions=items).system == [Text(text="be kind")]
        assert conversation_of("hi").system == []

    def test_a_text_is_a_message_of_the_user(self) -> None:
        assert conversation_of("hi").input == [Message(role="user", parts=[Text(text="hi")])]

    @pytest.mark.parametrize("nothing", [None, "", []])
    def test_no_input_gives_no_message(self, nothing: object) -> None:
        assert conversation_of(nothing).input == []

    @pytest.mark.parametrize("role", ["system", "developer", "user", "assistant"])
    def test_roles_are_kept_with_or_without_a_type(self, role: str) -> None:
        assert conversation_of([{"role": role, "content": "a"}]).input == [Message(role=role, parts=[Text(text="a")])]
        typed = {"type": "message", "role": role, "content": [{"type": "input_text", "text": "a"}]}
        assert conversation_of([typed]).input == [Message(role=role, parts=[Text(text="a")])]

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

    def test_results_and_approvals_belong_to_who_gave_them(self) -> None:
        given = [{"type": "mcp_approval_response", "approve": True}, {"type": "additional_tools", "role": "developer"}]
        assert [message.role for message in conversation_of(given).input] == ["user", "developer"]

    @pytest.mark.parametrize("odd", [3, {}, {"type": 3}, [None], [[]], [3], True])
    def test_invalid_input_raises_nothing(self, odd: object) -> None:
        conversation_of(odd)

    def test_tools_are_kept_as_sent(self) -> None:
        tools = [{"type": "web_search"}, {"type": "function", "name": "f"}]
        assert conversation_of("hi", tools=tools).tools == tools


def test_the_fingerprint_of_a_gateway_is_kept() -> None:
    assert Responses().response_info(body(system_fingerprint="fp_1")).response.system_fingerprint == "fp_1"
    assert Responses().response_info(body(system_fingerprint="")).response.system_fingerprint is None


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"role": "developer"}, Message(role="developer")),
        ({"content": "hi"}, Message(role="user", parts=[Text(text="hi")])),
        ({"role": "user", "content": "hi", "name": "ann"}, Message(role="user", parts=[Text(text="hi")], name="ann")),
        ({"note": "x"}, Message(role="assistant", parts=[UnknownPart(data={"note": "x"})])),
    ],
)
def test_an_item_without_a_type_is_a_message_if_it_looks_like_one(item: dict[str, Any], message: Message) -> None:
    assert conversation_of([item]).input == [message]


@pytest.mark.parametrize(("created", "kept"), [(2**63 - 1, 2**63 - 1), (2**63, None), (1, 1), (0, None)])
def test_a_time_that_no_record_can_hold_is_unknown(created: int, kept: int | None) -> None:
    assert Responses().response_info(body(created_at=created)).response.created == kept
    assert Responses().response_info(body(created=created)).response.created == kept


@pytest.mark.parametrize(
    ("status", "cut"), [("in_progress", True), ("incomplete", True), ("completed", False), ("failed", False)]
)
def test_a_call_that_was_not_finished_is_incomplete(status: str, cut: bool) -> None:
    (call,) = output_parts({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{", "status": status})
    assert isinstance(call, ToolCall)
    assert call.incomplete is cut


def test_a_picture_that_is_not_there_is_none() -> None:
    (call,) = output_parts({"type": "image_generation_call", "id": "ig_1", "status": "in_progress"})
    assert isinstance(call, ToolCall)
    assert (call.tool_type, call.incomplete) == ("image_generation", True)


def test_a_picture_without_a_format_has_no_type() -> None:
    found = output_parts({"type": "image_generation_call", "id": "ig_1", "result": "QUJD"})[1]
    assert isinstance(found, Media)
    assert (found.mime, found.size) == (None, 3)


@pytest.mark.parametrize(("kind", "name"), [("function_call", None), ("web_search_call", "web_search")])
def test_only_a_tool_of_the_provider_goes_by_its_type(kind: str, name: str | None) -> None:
    (call,) = output_parts({"type": kind, "call_id": "c", "arguments": "{}"})
    assert isinstance(call, ToolCall)
    assert call.name == name


@pytest.mark.parametrize(
    ("sent", "continues", "conversation_id"),
    [
        ({}, None, None),
        ({"previous_response_id": "resp_0"}, "resp_0", None),
        ({"previous_response_id": None, "conversation": None}, None, None),
        ({"previous_response_id": ""}, None, None),
        ({"previous_response_id": 5, "conversation": 5}, None, None),
        ({"conversation": "conv_1"}, None, "conv_1"),
        ({"conversation": {"id": "conv_1"}}, None, "conv_1"),
        ({"conversation": {"id": None}}, None, None),
        ({"conversation": ["conv_1"]}, None, None),
    ],
)
def test_a_request_states_what_it_continues(
    sent: dict[str, Any], continues: str | None, conversation_id: str | None
) -> None:
    request = Responses().request({"model": "m", "input": "Hi", **sent})
    assert (request.continues, request.conversation_id) == (continues, conversation_id)
