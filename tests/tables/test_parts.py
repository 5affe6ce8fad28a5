"""Parts: what each content part, block and item is in a record, and why an answer ended."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from tests.support.bodies import endpoint

from callspan.records import Media, Message, Part, Reasoning, Refusal, Text, ToolCall, ToolResult, UnknownPart

BYTES = b"\x89PNG not really"
DATA = base64.b64encode(BYTES).decode()
SHA = hashlib.sha256(BYTES).hexdigest()
REFERENCE = {"callspan_media": {"sha256": SHA, "mime": "image/webp", "bytes": 15}}
"""What stands for bytes that were taken out of a body."""


def referenced(modality: Any) -> Media:
    """The part that has the reference."""
    return Media(modality=modality, mime="image/webp", sha256=SHA, size=15)


def kept(modality: Any, mime: str) -> Media:
    """The part that has the bytes."""
    return Media(modality=modality, mime=mime, sha256=SHA, size=15, data=DATA)


def sent(api: str, *content: object) -> list[Part]:
    """The parts of a message of a request."""
    (message,) = endpoint(api).conversation({"messages": [{"role": "user", "content": list(content)}]}, None).input
    return message.parts


PARTS: list[tuple[Any, Part]] = [
    ("plain", Text(text="plain")),
    ({"type": "text", "text": "a"}, Text(text="a")),
    ({"type": "input_text", "text": "a"}, Text(text="a")),
    ({"type": "summary_text", "text": "in short"}, Text(text="in short")),
    ({"type": "output_text", "text": "a", "annotations": [], "logprobs": []}, Text(text="a")),
    ({"type": "output_text", "text": "a", "annotations": [1]}, Text(text="a", annotations=[1])),
    ({"type": "output_text", "text": "a", "logprobs": [{"t": 1}]}, Text(text="a", logprobs=[{"t": 1}])),
    ({"text": "untyped"}, Text(text="untyped")),
    ({"type": "refusal", "refusal": "no"}, Refusal(text="no")),
    ({"refusal": "untyped"}, Refusal(text="untyped")),
    ({"type": "reasoning", "text": "hm"}, Reasoning(text="hm")),
    ({"type": "reasoning_text", "text": "hm"}, Reasoning(text="hm")),
    ({"type": "thinking", "thinking": ["a", {"text": "hm"}, 3]}, Reasoning(text="hm")),
    ({"type": "thinking", "thinking": "hm", "signature": "s"}, Reasoning(text="hm", signature="s")),
    ({"type": "redacted_thinking", "data": "xyz"}, Reasoning(sealed="xyz")),
    ({"type": "new_kind", "text": "x"}, UnknownPart(data={"type": "new_kind", "text": "x"})),
    ({"image_url": {"url": "http://x/y"}}, Media(modality="image", url="http://x/y")),
    ({"type": "image_url", "image_url": {"url": "http://x/y"}}, Media(modality="image", url="http://x/y")),
    ({"type": "image_url", "image_url": "http://x/y"}, Media(modality="image", url="http://x/y")),
    ({"type": "image_url", "image_url": {"url": REFERENCE}}, referenced("image")),
    ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DATA}"}}, kept("image", "image/png")),
    ({"type": "image_url", "image_url": {"url": "data:image/png;base64,§"}}, Media(modality="image", mime="image/png")),
    ({"type": "image_url", "image_url": {"url": "data:text/plain,a%20b"}},
     Media(modality="image", mime="text/plain", sha256=hashlib.sha256(b"a b").hexdigest(), size=3, data="YSBi")),
    ({"type": "input_image", "image_url": "http://x/y"}, Media(modality="image", url="http://x/y")),
    ({"type": "input_image", "image_url": REFERENCE}, referenced("image")),
    ({"type": "input_image", "file_id": "file_1"}, Media(modality="image", file_id="file_1")),
    ({"type": "input_image", **REFERENCE}, referenced("image")),
    ({"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": DATA}},
     kept("image", "image/gif")),
    ({"type": "video_url", "video_url": {"url": "http://x/y"}}, Media(modality="video", url="http://x/y")),
    ({"type": "document_url", "document_url": "http://x/y"}, Media(modality="document", url="http://x/y")),
    ({"type": "document", "source": {"type": "file", "file_id": "f"}}, Media(modality="document", file_id="f")),
    ({"file": {"file_id": "file_1"}}, Media(modality="document", file_id="file_1")),
    ({"type": "file", "file": {"file_id": "file_1"}}, Media(modality="document", file_id="file_1")),
    ({"type": "file", "file": {"file_id": "f", "mime_type": "application/pdf"}},
     Media(modality="document", mime="application/pdf", file_id="f")),
    ({"type": "file", "file": {"file_data": DATA, "mime_type": "application/pdf"}},
     kept("document", "application/pdf")),
    ({"type": "file", "file": {"file_data": f"data:video/mp4;base64,{DATA}"}}, kept("video", "video/mp4")),
    ({"type": "file", "file": {**REFERENCE}}, referenced("image")),
    ({"type": "input_file", "file_url": "http://x/y"}, Media(modality="document", url="http://x/y")),
    ({"type": "input_file", "file_data": REFERENCE}, referenced("image")),
    ({"type": "input_file", "file_data": f"data:application/pdf;base64,{DATA}", "filename": "a.pdf"},
     kept("document", "application/pdf")),
    ({"type": "audio_url", "audio_url": {"url": "http://x/y"}}, Media(modality="audio", url="http://x/y")),
    ({"type": "input_audio", "input_audio": {"data": DATA, "format": "pcm16"}}, kept("audio", "audio/pcm")),
    ({"type": "input_audio", "input_audio": {"data": DATA, "format": "mp3"}}, kept("audio", "audio/mpeg")),
    ({"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}}, kept("audio", "audio/wav")),
    ({"type": "input_audio", "input_audio": {"data": REFERENCE, "format": "wav"}}, referenced("audio")),
    ({"type": "input_audio", "input_audio": {**REFERENCE}}, referenced("audio")),
    ({"type": "input_audio", "input_audio": {"format": "wav"}, **REFERENCE}, referenced("audio")),
]  # fmt: skip


@pytest.mark.parametrize(("part", "expected"), PARTS)
def test_a_part_of_every_kind(part: Any, expected: Part) -> None:
    assert sent("chat_completions", part) == [expected]


SEARCH_FAILED = {"type": "web_search_tool_result_error", "error_code": "e"}
DIRECT = {"caller": {"type": "direct"}}


def pictured(**source: object) -> dict[str, object]:
    return {"type": "image", "source": source}


BLOCKS: list[tuple[Any, Part]] = [
    ("plain", Text(text="plain")),
    ({"type": "text", "text": "x", "citations": None}, Text(text="x")),
    ({"type": "text", "text": "x", "citations": [{"cited_text": "y"}]},
     Text(text="x", annotations=[{"cited_text": "y"}])),
    ({"type": "thinking", "thinking": "hm", "signature": "s"}, Reasoning(text="hm", signature="s")),
    ({"type": "thinking", "thinking": "", "signature": "s"}, Reasoning(signature="s")),
    ({"type": "redacted_thinking", "data": "blob"}, Reasoning(sealed="blob")),
    ({"type": "tool_use", "id": "t", "name": "move"}, ToolCall(id="t", name="move")),
    ({"type": "tool_use", "id": "t", "name": "move", "input": {"to": "é"}},
     ToolCall(id="t", name="move", arguments='{"to":"é"}')),
    ({"type": "tool_use", "id": "t", "name": "move", "input": '{"to', "incomplete": True},
     ToolCall(id="t", name="move", arguments='{"to', incomplete=True)),
    ({"type": "server_tool_use", "id": "t", "name": "web_search", "input": {}, **DIRECT},
     ToolCall(id="t", name="web_search", arguments="{}", tool_type="web_search", extra=DIRECT)),
    ({"type": "mcp_tool_use", "id": "t", "name": "echo", "server_name": "s", "input": {}},
     ToolCall(id="t", name="echo", arguments="{}", tool_type="mcp", extra={"server_name": "s"})),
    ({"type": "browser_click_tool_use", "id": "t", "input": {}},
     ToolCall(id="t", arguments="{}", tool_type="browser_click")),
    ({"type": "tool_result", "tool_use_id": "t"}, ToolResult(id="t")),
    ({"type": "tool_result", "tool_use_id": "t", "content": "42", "is_error": True},
     ToolResult(id="t", content="42", is_error=True)),
    ({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "42"}]},
     ToolResult(id="t", content=[{"type": "text", "text": "42"}])),
    ({"type": "web_search_tool_result", "tool_use_id": "t", "content": [{"url": "u"}]},
     ToolResult(id="t", content=[{"url": "u"}], tool_type="web_search")),
    ({"type": "web_search_tool_result", "tool_use_id": "t", "content": SEARCH_FAILED},
     ToolResult(id="t", content=SEARCH_FAILED, is_error=True, tool_type="web_search")),
    ({"type": "mcp_tool_result", "tool_use_id": "t", "content": [], "is_error": False},
     ToolResult(id="t", content=[], is_error=False, tool_type="mcp")),
    (pictured(type="base64", media_type="image/png", data=DATA), kept("image", "image/png")),
    (pictured(type="base64", media_type="image/png", data="not base64!"), Media(modality="image", mime="image/png")),
    (pictured(type="base64", media_type="image/png", data=REFERENCE), referenced("image")),
    (pictured(type="base64", data={"callspan_media": {"sha256": "ab", "mime": "a/b"}}),
     Media(modality="image", mime="a/b", sha256="ab")),
    (pictured(type="url", url="https://x/y.png"), Media(modality="image", url="https://x/y.png")),
    ({"type": "document", "source": {"type": "file", "file_id": "f"}}, Media(modality="document", file_id="f")),
    ({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "t"}}, Text(text="t")),
    ({"type": "container_upload", "file_id": "f"}, Media(modality="document", file_id="f")),
    *((block, UnknownPart(data=block)) for block in (
        {"type": "from_the_future", "x": [1]}, {"type": "text"}, {"type": "image", "source": None}, {"type": 3},
        {"type": "document", "source": {"type": "content", "content": []}}, {"text": "no type"}, None, 7, ["x"],
        {"type": "document", "source": {"type": "text"}},
    )),
]  # fmt: skip


@pytest.mark.parametrize(("block", "part"), BLOCKS)
def test_each_kind_of_block_is_a_part_and_an_unknown_one_is_kept_as_received(block: object, part: Part) -> None:
    assert sent("messages", block) == [part]


FUNCTION = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
HOSTED = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
SHELL = {"type": "shell_call", "call_id": "call_1", "action": {"commands": ["ls"]}}
REFUSAL = {"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}


def incomplete(reason: str | None) -> dict[str, Any]:
    return {"status": "incomplete", "incomplete_details": None if reason is None else {"reason": reason}}


ENDS: list[tuple[dict[str, Any], str | None, str]] = [
    ({}, "completed", ""),
    (incomplete("max_output_tokens"), "max_output_tokens", "truncated"),
    (incomplete("content_filter"), "content_filter", "refused"),
    (incomplete(None), "incomplete", ""),
    (incomplete("other"), "other", ""),
    ({"status": "failed"}, "failed", ""),
    ({"status": "cancelled"}, "cancelled", ""),
    *(({"status": status}, None, "") for status in ("in_progress", "queued", None)),
    ({"output": [REFUSAL]}, "completed", "refused"),
    # Hosted tools request nothing of the application.
    *(({"output": output}, reason, "") for output, reason in (
        ([FUNCTION], "tool_calls"),
        ([{"type": "custom_tool_call", "call_id": "call_1", "name": "f", "input": "x"}], "tool_calls"),
        ([{"type": "computer_call", "call_id": "call_1", "action": {}}], "tool_calls"),
        ([SHELL], "tool_calls"),
        ([SHELL, {"type": "shell_call_output", "call_id": "call_1", "output": []}], "completed"),
        ([SHELL, {"type": "shell_call_output", "call_id": "call_2", "output": []}], "tool_calls"),
        ([{"type": "tool_search_call", "call_id": "call_1", "execution": "client"}], "tool_calls"),
        ([{"type": "tool_search_call", "call_id": "call_1", "execution": "server"}], "completed"),
        ([HOSTED], "completed"),
        ([HOSTED, FUNCTION], "tool_calls"),
    )),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "reason", "mark"), ENDS)
def test_why_a_response_ended(fields: dict[str, Any], reason: str | None, mark: str) -> None:
    body = {"id": "resp_1", "object": "response", "status": "completed", "output": [], **fields}
    facts = endpoint("responses").response_info(body)
    assert facts.response.finish_reasons == [reason]
    assert (facts.response.truncated, facts.response.refused) == (mark == "truncated", mark == "refused")


def test_what_the_assistant_did_in_a_row_is_one_message_and_results_are_their_own() -> None:
    picture = [{"type": "input_text", "text": "x"}]
    given = [
        {"role": "user", "content": "go"},
        {"type": "reasoning", "summary": [], "encrypted_content": "xyz"},
        {"role": "assistant", "content": "moving"},
        FUNCTION,
        {"type": "function_call_output", "call_id": "call_1", "output": "done"},
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": picture},
        {"role": "user", "content": "on"},
    ]
    did = [Reasoning(sealed="xyz"), Text(text="moving"), ToolCall(id="call_1", name="f", arguments="{}")]
    assert endpoint("responses").conversation({"input": given}, None).input == [
        Message(role="user", parts=[Text(text="go")]),
        Message(role="assistant", parts=did),
        Message(role="tool", parts=[ToolResult(id="call_1", content="done", tool_type="function")]),
        Message(role="tool", parts=[ToolResult(id="call_2", content=picture, tool_type="custom")]),
        Message(role="user", parts=[Text(text="on")]),
    ]
