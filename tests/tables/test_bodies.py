"""What a body states: each part of a message, why an answer ended, and each counter of its usage."""

from __future__ import annotations

import base64
import hashlib
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import msgspec
import openai
import pytest
from tests.support.bodies import endpoint, folded
from tests.support.tables import parsed, table

from callspan.records import Media, Message, Reasoning, Text, ToolCall, ToolResult, Usage
from callspan.testing import ScriptedProvider, capture

Json = dict[str, Any]
BYTES = b"\x89PNG not really"
DATA, SHA = base64.b64encode(BYTES).decode(), hashlib.sha256(BYTES).hexdigest()
ROWS: Json = parsed(Path(__file__).with_name("bodies.yaml").read_text().replace("$DATA", DATA).replace("$SHA", SHA))


@pytest.mark.parametrize(("api", "row"), [(api, row) for api, rows in ROWS["parts"].items() for row in rows], ids=str)
def test_parts_are_read_and_unknown_ones_kept(api: str, row: Json) -> None:
    said = {"messages": [{"role": "user", "content": [row["part"]]}]}
    (message,) = endpoint(api).conversation(said, None).input
    assert msgspec.to_builtins(message.parts) == [row["read"]]


def test_transcript_of_a_spoken_answer_is_its_text() -> None:
    message = {"content": None, "audio": {"id": "audio_1", "data": DATA, "transcript": "Hello"}}
    request = {"audio": {"voice": "alloy", "format": "pcm16"}}
    (spoken,) = endpoint("chat_completions").conversation(request, {"choices": [{"message": message}]}).output
    sound = Media(modality="audio", mime="audio/pcm", file_id="audio_1", sha256=SHA, size=15, data=DATA)
    assert spoken.parts == [Text(text="Hello"), sound]


@pytest.mark.parametrize("end", ROWS["ends of a response"], ids=str)
def test_finish_reason_of_a_response(end: Json) -> None:
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
def test_finish_reason_of_a_choice(reason: str, mark: str) -> None:
    choice = {"index": 0, "message": {"content": "Hi"}, "finish_reason": reason}
    found = endpoint("chat_completions").response_info({"id": "c", "choices": [choice]}).response
    assert (found.finish_reasons, found.truncated, found.refused) == ([reason], mark == "truncated", mark == "refused")


def test_consecutive_assistant_items_are_one_message() -> None:
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


@pytest.mark.parametrize("row", ROWS["items of a response"], ids=str)
def test_item_has_its_role_and_its_request_or_result(row: Json) -> None:
    (message,) = endpoint("responses").conversation({"input": [row["item"]]}, None).input
    assert (message.role, msgspec.to_builtins(message.parts)) == (row["role"], [row["read"]])


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
def test_compacted_conversation_is_marked(before: list[Any], answer: Json, compacted: bool) -> None:
    """By a summary in the answer or among the messages, or by what was cleared."""
    request = {"messages": [{"role": "assistant", "content": before}], "context_management": {"edits": []}}
    reads = endpoint("messages")
    is_marked = (
        reads.request(request).compacted or reads.response_info({"type": "message", **answer}).response.compacted
    )
    assert is_marked is compacted


def read(usage: Any, api: str = "chat_completions") -> Usage | None:
    return endpoint(api).response_info({"choices": [], "content": [], "usage": usage}).usage


@pytest.mark.parametrize(("usage", "expected"), [row for rows in ROWS["counters"].values() for row in rows])
def test_usage_counters_are_read(usage: Json, expected: Json) -> None:
    found = msgspec.structs.asdict(read(usage)).items()
    counts = {name: count for name, count in found if name.endswith(("tokens", "requests")) and count is not None}
    assert counts == expected


@pytest.mark.parametrize(
    "stated",
    [{"choices": [], "x_groq": {"usage": {"prompt_tokens": 3}}}, {"choices": [{"usage": {"prompt_tokens": 3}}]}],
    ids=["Groq", "Moonshot"],
)
def test_usage_at_other_locations_is_read(stated: Json) -> None:
    assert endpoint("chat_completions").response_info(stated).usage.input_tokens == 3
    assert endpoint("chat_completions").response_info(folded("chat_completions", stated)).usage.input_tokens == 3


COUNTS: list[Json] = table(Path(__file__).with_name("counts.yaml"))
COUNTERS = ("tokens", "requests", "seconds", "estimated")


def counted(usage: Usage | None) -> Json | None:
    if usage is None:
        return None
    fields = msgspec.structs.asdict(usage).items()
    return {
        name: count for name, count in fields if name.endswith(COUNTERS) and count is not None and count is not False
    }


@pytest.mark.parametrize("row", COUNTS, ids=lambda row: f"{row['of']} {row.get('api', '')}")
def test_server_specific_counter_names_are_read(row: Json) -> None:
    api = row.get("api", "chat_completions")
    reads = endpoint(api)
    assert counted(reads.response_info({"id": "x", **row["body"]}).usage) == row["counts"]
    if api == "chat_completions":
        choice = {"index": 0, "delta": {"content": "Hi"}}
        whole = folded(api, {"choices": [choice]}, {"choices": [], **row["body"]})
        assert counted(reads.response_info(whole).usage) == row["counts"], "in the last chunk of a stream"


def test_last_timings_count() -> None:
    chunks = [{"choices": [], "timings": {"cache_n": 1, "prompt_n": 2, "predicted_n": at}} for at in (1, 2, 3)]
    assert counted(endpoint("chat_completions").response_info(folded("chat_completions", *chunks)).usage) == {
        "input_tokens": 3, "output_tokens": 3, "total_tokens": 6, "cache_read_tokens": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        (0.00014575, "0.00014575"), (0.1, "0.1"), (0.29, "0.29"), (1, "1"), (0, "0"), (1e-07, "1E-7"),
        ("0.003", "0.003"), ({"total_cost": 0.006}, "0.006"),
        *((unknown, None) for unknown in (None, True, "free", "", -1, float("nan"), float("inf"), [], {})),
        ({"total_cost": None}, None),
    ],
)  # fmt: skip
def test_stated_cost_is_exact_or_unknown(cost: object, expected: str | None) -> None:
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
def test_output_is_reconciled_with_the_total(
    stated: tuple[int, int, int | None], details: Json, counts: tuple[int, int, int], estimated: bool
) -> None:
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    usage = {name: count for name, count in zip(names, stated, strict=True) if count is not None} | details
    for found in (read(usage), read({**usage, "queue_time": 0.1})):
        assert (found.input_tokens, found.output_tokens, found.total_tokens) == counts
        assert found.estimated is estimated
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
def test_contradictory_anthropic_counts_are_estimated(counted: Any, estimated: bool) -> None:
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
def test_token_estimate_of_each_kind_of_part(provider: ScriptedProvider, message: Json, tokens: int) -> None:
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


def test_chunk_notes_have_events_and_choices(
    provider: ScriptedProvider, client: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    delta = {"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "x", "item_id": "i"}
    block = {"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": "x"}}
    provider.reply(raw=[{"id": "c", "choices": [{"index": 3, "delta": {"content": "x"}}]}])
    provider.reply(raw=[delta])
    provider.reply(raw=[block])
    with capture(chunk_log=9) as seen:
        list(client.chat.completions.create(model="m", messages=[], stream=True))
        list(client.responses.create(model="m", input="?", stream=True))
        list(claude.messages.create(model="m", max_tokens=9, messages=[], stream=True))
    streams = [record.stream for record in seen.records]
    assert [[(note.event, note.choice, note.content) for note in stream.log] for stream in streams if stream] == [
        [(None, 3, True)], [("response.output_text.delta", 1, True)], [("content_block_delta", 2, True)],
    ]  # fmt: skip
