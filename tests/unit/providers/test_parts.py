"""Parts: what each content part, block and item is in a record, and why an answer ended."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from callspan.providers.registry import by_api
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

BYTES = b"\x89PNG not really"
DATA = base64.b64encode(BYTES).decode()
SHA = hashlib.sha256(BYTES).hexdigest()
REFERENCE = {"callspan_media": {"sha256": SHA, "mime": "image/webp", "bytes": 15}}


def conversation(api: str, request: object, response: object = None) -> Conversation:
    endpoint = by_api(api)
    assert endpoint is not None
    return endpoint.conversation(request, response)


def sent(api: str, *content: object) -> list[Part]:
    """The parts of a message of a request."""
    (message,) = conversation(api, {"messages": [{"role": "user", "content": list(content)}]}).input
    return message.parts


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("plain", Text(text="plain")),
        ({"type": "text", "text": "a"}, Text(text="a")),
        ({"type": "input_text", "text": "a"}, Text(text="a")),
        ({"type": "output_text", "text": "a", "annotations": [], "logprobs": []}, Text(text="a")),
        ({"type": "output_text", "text": "a", "annotations": [1]}, Text(text="a", annotations=[1])),
        ({"type": "output_text", "text": "a", "logprobs": [{"t": 1}]}, Text(text="a", logprobs=[{"t": 1}])),
        ({"text": "untyped"}, Text(text="untyped")),
        ({"refusal": "untyped"}, Refusal(text="untyped")),
        (
            {"type": "input_audio", "input_audio": {**REFERENCE}},
            Media(modality="audio", mime="image/webp", sha256=SHA, size=15),
        ),
        (
            {"type": "input_audio", "input_audio": {"format": "wav"}, **REFERENCE},
            Media(modality="audio", mime="image/webp", sha256=SHA, size=15),
        ),
        (
            {"type": "file", "file": {"file_data": DATA, "mime_type": "application/pdf"}},
            Media(modality="document", mime="application/pdf", sha256=SHA, size=15),
        ),
        ({"type": "document", "source": {"type": "file", "file_id": "f"}}, Media(modality="document", file_id="f")),
        ({"type": "new_kind", "text": "x"}, UnknownPart(data={"type": "new_kind", "text": "x"})),
        ({"type": "file", "file": {**REFERENCE}}, Media(modality="image", mime="image/webp", sha256=SHA, size=15)),
        ({"image_url": {"url": "http://x/y"}}, Media(modality="image", url="http://x/y")),
        ({"file": {"file_id": "file_1"}}, Media(modality="document", file_id="file_1")),
        (
            {"type": "file", "file": {"file_id": "f", "mime_type": "application/pdf"}},
            Media(modality="document", mime="application/pdf", file_id="f"),
        ),
        ({"type": "reasoning", "text": "hm"}, Reasoning(text="hm")),
        ({"type": "reasoning_text", "text": "hm"}, Reasoning(text="hm")),
        ({"type": "thinking", "thinking": ["a", {"text": "hm"}, 3]}, Reasoning(text="hm")),
        ({"type": "summary_text", "text": "in short"}, Text(text="in short")),
        ({"type": "audio_url", "audio_url": {"url": "http://x/y"}}, Media(modality="audio", url="http://x/y")),
        (
            {"type": "input_audio", "input_audio": {"data": DATA, "format": "pcm16"}},
            Media(modality="audio", mime="audio/pcm", sha256=SHA, size=15),
        ),
        (
            {"type": "input_audio", "input_audio": {"data": DATA, "format": "mp3"}},
            Media(modality="audio", mime="audio/mpeg", sha256=SHA, size=15),
        ),
        ({"type": "refusal", "refusal": "no"}, Refusal(text="no")),
        ({"type": "thinking", "thinking": "hm", "signature": "s"}, Reasoning(text="hm", signature="s")),
        ({"type": "redacted_thinking", "data": "xyz"}, Reasoning(sealed="xyz")),
        ({"type": "image_url", "image_url": {"url": "http://x/y"}}, Media(modality="image", url="http://x/y")),
        ({"type": "image_url", "image_url": "http://x/y"}, Media(modality="image", url="http://x/y")),
        ({"type": "input_image", "image_url": "http://x/y"}, Media(modality="image", url="http://x/y")),
        ({"type": "input_image", "file_id": "file_1"}, Media(modality="image", file_id="file_1")),
        ({"type": "video_url", "video_url": {"url": "http://x/y"}}, Media(modality="video", url="http://x/y")),
        ({"type": "document_url", "document_url": "http://x/y"}, Media(modality="document", url="http://x/y")),
        ({"type": "file", "file": {"file_id": "file_1"}}, Media(modality="document", file_id="file_1")),
        ({"type": "input_file", "file_url": "http://x/y"}, Media(modality="document", url="http://x/y")),
        (
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DATA}"}},
            Media(modality="image", mime="image/png", sha256=SHA, size=15),
        ),
        (
            {"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}},
            Media(modality="audio", mime="audio/wav", sha256=SHA, size=15),
        ),
        (
            {"type": "input_file", "file_data": f"data:application/pdf;base64,{DATA}", "filename": "a.pdf"},
            Media(modality="document", mime="application/pdf", sha256=SHA, size=15),
        ),
        (
            {"type": "file", "file": {"file_data": f"data:video/mp4;base64,{DATA}"}},
            Media(modality="video", mime="video/mp4", sha256=SHA, size=15),
        ),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": DATA}},
            Media(modality="image", mime="image/gif", sha256=SHA, size=15),
        ),
        (
            {"type": "image_url", "image_url": {"url": REFERENCE}},
            Media(modality="image", mime="image/webp", sha256=SHA, size=15),
        ),
        (
            {"type": "input_image", "image_url": REFERENCE},
            Media(modality="image", mime="image/webp", sha256=SHA, size=15),
        ),
        ({"type": "input_image", **REFERENCE}, Media(modality="image", mime="image/webp", sha256=SHA, size=15)),
        (
            {"type": "input_file", "file_data": REFERENCE},
            Media(modality="image", mime="image/webp", sha256=SHA, size=15),
        ),
        (
            {"type": "input_audio", "input_audio": {"format": "wav", "data": REFERENCE}},
            Media(modality="audio", mime="image/webp", sha256=SHA, size=15),
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:text/plain,a%20b"}},
            Media(modality="image", mime="text/plain", sha256=hashlib.sha256(b"a b").hexdigest(), size=3),
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,§§"}},
            Media(modality="image", mime="image/png"),
        ),
    ],
)
def test_a_part_of_every_kind(part: Any, expected: object) -> None:
    assert sent("chat_completions", part) == [expected]


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
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}},
            Media(modality="image", mime="image/png", sha256=SHA, size=15),
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
    assert sent("messages", block) == [part]


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
    assert sent("messages", block) == [UnknownPart(data=block)]


def test_a_message_of_another_type_is_kept() -> None:
    assert conversation("messages", {"messages": ["odd", {"content": "x"}]}).input == [
        Message(role="unknown", parts=[UnknownPart(data="odd")]),
        Message(role="unknown", parts=[Text(text="x")]),
    ]


def answered(**message: Any) -> list[Part]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "logprobs": {"content": [{"token": "x"}]}}
    return conversation("chat_completions", None, {"choices": [choice]}).output[0].parts


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
RUN = {"type": "python", "name": "run", "arguments": "1+1", "output": "2"}


@pytest.mark.parametrize(
    ("message", "part"),
    [
        ({"audio": {"id": "audio_1", "data": DATA, "transcript": "abc", "expires_at": 9}},
         Media(modality="audio", sha256=SHA, size=15, file_id="audio_1")),
        ({"tool_calls": [CALL]}, ToolCall(id="c", name="f", arguments="{}", tool_type="function")),
        ({"executed_tools": [RUN]}, ToolCall(name="run", arguments="1+1", tool_type="python", extra={"output": "2"})),
    ],
)  # fmt: skip
def test_an_answer_without_text_has_log_probabilities_on_no_part(message: dict[str, Any], part: Part) -> None:
    assert answered(**message) == [part]


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
    endpoint = by_api("responses")
    assert endpoint is not None
    facts = endpoint.response_info(
        {"id": "resp_1", "object": "response", "status": "completed", "output": [], **fields}
    )
    assert facts.response.finish_reasons == reasons
    assert (facts.truncated, facts.refused) == (truncated, refused)


def test_what_the_assistant_did_in_a_row_is_one_message_and_results_are_their_own() -> None:
    given = [
        {"role": "user", "content": "go"},
        {"type": "reasoning", "summary": [], "encrypted_content": "xyz"},
        {"role": "assistant", "content": "moving"},
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "done"},
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "x"}]},
        {"role": "user", "content": "on"},
    ]
    assert conversation("responses", {"input": given}).input == [
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


def test_a_picture_that_is_not_there_is_none() -> None:
    item = {"type": "image_generation_call", "id": "ig_1", "status": "in_progress"}
    (call,) = conversation("responses", None, {"output": [item]}).output[0].parts
    assert isinstance(call, ToolCall)
    assert (call.tool_type, call.incomplete) == ("image_generation", True)
