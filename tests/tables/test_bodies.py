"""What a body states: each part of a message, why an answer ended, and each counter of its usage."""

from __future__ import annotations

import base64
import hashlib
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import msgspec
import openai
import pytest
from tests.support.bodies import endpoint, folded

from callspan.records import Media, Message, Part, Reasoning, Refusal, Text, ToolCall, ToolResult, UnknownPart, Usage
from callspan.testing import ScriptedProvider, capture

Json = dict[str, Any]
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


DATA: Json = json.loads(Path(__file__).with_name("bodies.json").read_text())


@pytest.mark.parametrize("end", DATA["ends of a response"], ids=str)
def test_why_a_response_ended(end: Json) -> None:
    """Hosted tools request nothing of the application."""
    body = {"id": "resp_1", "object": "response", "status": "completed", "output": [], **end["stated"]}
    found = endpoint("responses").response_info(body).response
    assert found.finish_reasons == [end["reason"]]
    assert (found.truncated, found.refused) == (end.get("truncated", False), end.get("refused", False))


@pytest.mark.parametrize(
    ("reason", "mark"),
    [("content_filter: RECITATION", "refused"), ("sensitive", "refused"), ("MAX_TOKENS", "truncated"), ("abort", "")],
    ids=["Gemini", "Z.ai", "Vertex AI", "vLLM"],
)
def test_why_a_choice_ended(reason: str, mark: str) -> None:
    choice = {"index": 0, "message": {"content": "Hi"}, "finish_reason": reason}
    found = endpoint("chat_completions").response_info({"id": "c", "choices": [choice]}).response
    assert (found.finish_reasons, found.truncated, found.refused) == ([reason], mark == "truncated", mark == "refused")


def test_what_the_assistant_did_in_a_row_is_one_message_and_results_are_their_own() -> None:
    picture = [{"type": "input_text", "text": "x"}]
    given = [
        {"role": "user", "content": "go"},
        {"type": "reasoning", "summary": [], "encrypted_content": "xyz"},
        {"role": "assistant", "content": "moving"},
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
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


COMPACTION = {"type": "compaction", "content": "They talked of parcels."}
FAILED = {**COMPACTION, "content": None}
SAID = {"type": "text", "text": "Well."}
CLEARED = {"applied_edits": [{"type": "clear_tool_uses_20250919", "cleared_tool_uses": 2}]}
COMPACTED: list[tuple[list[Any], Json, bool]] = [
    # What the assistant had said, its answer, whether the conversation was compacted.
    ([], {"content": [COMPACTION, SAID]}, True),
    ([], {"content": [SAID], "context_management": CLEARED}, True),
    ([COMPACTION], {"content": [SAID]}, True),
    ([FAILED, SAID], {"content": [SAID], "context_management": {"applied_edits": []}}, False),
]


@pytest.mark.parametrize(("before", "answer", "compacted"), COMPACTED)
def test_a_compacted_conversation_is_marked(before: list[Any], answer: Json, compacted: bool) -> None:
    """By a summary in the answer or among the messages, or by what was cleared."""
    request = {"messages": [{"role": "assistant", "content": before}], "context_management": {"edits": []}}
    reads = endpoint("messages")
    is_marked = (
        reads.request(request).compacted or reads.response_info({"type": "message", **answer}).response.compacted
    )
    assert is_marked is compacted


def read(usage: Any, api: str = "chat_completions") -> Usage:
    found: Usage | None = endpoint(api).response_info({"choices": [], "content": [], "usage": usage}).usage
    assert found is not None
    return found


@pytest.mark.parametrize(("usage", "expected"), [row for rows in DATA["counters"].values() for row in rows])
def test_each_counter_is_read(usage: Json, expected: Json) -> None:
    found = msgspec.structs.asdict(read(usage)).items()
    counts = {name: count for name, count in found if name.endswith(("tokens", "requests")) and count is not None}
    assert counts == expected


@pytest.mark.parametrize(
    "stated",
    [{"choices": [], "x_groq": {"usage": {"prompt_tokens": 3}}}, {"choices": [{"usage": {"prompt_tokens": 3}}]}],
    ids=["Groq", "Moonshot"],
)
def test_usage_may_be_stated_elsewhere(stated: Json) -> None:
    assert endpoint("chat_completions").response_info(stated).usage.input_tokens == 3
    assert endpoint("chat_completions").response_info(folded("chat_completions", stated)).usage.input_tokens == 3


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        (0.00014575, "0.00014575"), (0.1, "0.1"), (0.29, "0.29"), (1, "1"), (0, "0"), (1e-07, "1E-7"),
        ("0.003", "0.003"), ({"total_cost": 0.006}, "0.006"),
        *((unknown, None) for unknown in (None, True, "free", "", -1, float("nan"), float("inf"), [], {})),
        ({"total_cost": None}, None),
    ],
)  # fmt: skip
def test_the_cost_a_provider_states_is_exact_or_unknown(cost: object, expected: str | None) -> None:
    found = read({"prompt_tokens": 1, "cost": cost}).cost_usd
    assert found == (None if expected is None else Decimal(expected))


THOUGHTS = {"completion_tokens_details": {"reasoning_tokens": 62}}
SUMS: list[tuple[tuple[int, int, int | None], Json, tuple[int, int, int], bool]] = [
    # Gemini 2.5 Pro, as recorded: thoughts are in the total alone.
    ((35, 12, 109), {}, (35, 74, 109), True),
    # The same with its thoughts stated; Grok.
    ((35, 12, 109), THOUGHTS, (35, 74, 109), False),
    ((35, 62, 97), THOUGHTS, (35, 62, 97), False),
    ((35, 12, None), THOUGHTS, (35, 74, 109), False),
    ((35, 12, 47), THOUGHTS, (35, 12, 47), True),
    ((35, 12, 60), THOUGHTS, (35, 25, 60), True),
    # Bedrock behind a gateway: what was cached is in the total alone.
    ((35, 12, 1047), {"cache_read_input_tokens": 1000}, (1035, 12, 1047), False),
    ((1035, 12, 1047), {"cache_read_input_tokens": 1000}, (1035, 12, 1047), False),
    # The same with a total that is only of the rest, or none.
    ((35, 12, 47), {"cache_read_input_tokens": 1000}, (1035, 12, 1047), False),
    ((35, 12, None), {"cache_read_input_tokens": 600, "cache_creation_input_tokens": 400}, (1035, 12, 1047), False),
    # More cached tokens than there are: nothing says which count is wrong.
    ((3, 12, 15), {"prompt_tokens_details": {"cached_tokens": 4000}}, (3, 12, 15), True),
    ((3, 12, 4015), {"prompt_tokens_details": {"cached_tokens": 4000}}, (4003, 12, 4015), False),
    ((3, 12, 15), {"prompt_tokens_details": {"audio_tokens": 4}}, (3, 12, 15), True),
    ((3, 12, 15), {"completion_tokens_details": {"text_tokens": 13}}, (3, 12, 15), True),
    # A total below its parts, and one without parts, explain nothing.
    ((35, 12, 40), {}, (35, 12, 40), True),
    ((0, 0, 40), {}, (0, 0, 40), True),
]


@pytest.mark.parametrize(("stated", "details", "counts", "estimated"), SUMS)
def test_output_includes_what_the_total_does_or_is_marked_as_estimated(
    stated: tuple[int, int, int | None], details: Json, counts: tuple[int, int, int], estimated: bool
) -> None:
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    usage = {name: count for name, count in zip(names, stated, strict=True) if count is not None} | details
    for found in (read(usage), read({**usage, "queue_time": 0.1})):
        assert (found.input_tokens, found.output_tokens, found.total_tokens) == counts
        assert found.estimated is estimated
        assert found.raw is not None
        assert found.raw["completion_tokens"] == stated[1]


KEPT = {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 2}


@pytest.mark.parametrize(
    ("counted", "estimated"),
    [
        ({"input_tokens": 3, "cache_read_input_tokens": 4000, "output_tokens": 5}, False),
        ({"output_tokens": 5, "output_tokens_details": {"thinking_tokens": 6}}, True),
        ({"cache_creation_input_tokens": 1, "cache_creation": {"ephemeral_1h_input_tokens": 2}}, True),
        ({"cache_creation_input_tokens": 3, "cache_creation": KEPT}, False),
        ({"cache_creation_input_tokens": 9, "cache_creation": KEPT}, True),
    ],
)
def test_counts_of_anthropic_that_contradict_each_other_are_estimated(counted: Any, estimated: bool) -> None:
    assert read(counted, "messages").estimated is estimated


LOOK: Json = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}
RESULT: Json = {"role": "tool", "tool_call_id": "call_1"}


@pytest.mark.parametrize(
    ("message", "tokens"),
    [
        ({"content": ""}, 0),
        ({"content": "x" * 8}, 2),
        ({"content": "x" * 9}, 3),
        ({"content": "wörld \u4e16\u754c"}, 2 + 2),
        ({"role": "assistant", "refusal": "x" * 4}, 1),
        ({"role": "assistant", "reasoning_content": "x" * 12}, 3),
        ({"role": "assistant", "reasoning_details": [{"type": "reasoning.encrypted", "data": "x" * 400}]}, 0),
        ({"role": "assistant", "tool_calls": [LOOK]}, 1 + 2),
        ({**RESULT, "content": "x" * 8}, 2),
        ({**RESULT, "content": [{"type": "text", "text": "a"}]}, 7),
        ({"content": [{"type": "image_url", "image_url": {"url": "http://x/y"}}, {"type": "new", "x": "x" * 99}]}, 0),
    ],
)
def test_tokens_estimated_for_each_kind_of_part(provider: ScriptedProvider, message: Json, tokens: int) -> None:
    """Four for a message, and those of the texts of its parts and of the definitions of tools."""
    said = {"role": "assistant", "content": "x" * 16}
    tools: Any = [{"type": "function", "function": {"name": "look"}}]
    messages: Any = [{"role": "user", **message}, {"role": "user", "content": "x"}]
    provider.reply(raw={"id": "c", "object": "chat.completion", "choices": [{"index": 0, "message": said}]})
    with capture(estimate_usage=True) as seen, openai.OpenAI(base_url=provider.openai_url, api_key="k") as client:
        client.chat.completions.create(model="m", messages=messages, tools=tools)
    (record,) = seen.records
    assert record.usage == Usage(
        input_tokens=(4 + tokens) + (4 + 1) + 12, output_tokens=4 + 4, total_tokens=21 + tokens + 8, estimated=True
    )


def test_a_note_of_a_chunk_says_event_and_choice_in_the_words_of_the_provider(provider: ScriptedProvider) -> None:
    delta = {"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "x", "item_id": "i"}
    block = {"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": "x"}}
    provider.reply(raw=[{"id": "c", "choices": [{"index": 3, "delta": {"content": "x"}}]}])
    provider.reply(raw=[delta])
    provider.reply(raw=[block])
    with capture(chunk_log=9) as seen:
        with openai.OpenAI(base_url=provider.openai_url, api_key="k") as client:
            list(client.chat.completions.create(model="m", messages=[], stream=True))
            list(client.responses.create(model="m", input="?", stream=True))
        with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="k") as claude:
            list(claude.messages.create(model="m", max_tokens=9, messages=[], stream=True))
    streams = [record.stream for record in seen.records]
    assert [[(note.event, note.choice, note.content) for note in stream.log] for stream in streams if stream] == [
        [(None, 3, True)], [("response.output_text.delta", 1, True)], [("content_block_delta", 2, True)],
    ]  # fmt: skip
