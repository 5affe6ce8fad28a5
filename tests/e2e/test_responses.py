"""What a response says of the whole conversation, and what gives way where it does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from callspan.testing import Captured, capture
from tests.e2e.ask import QUESTION, shown
from tests.intercept.calls import Run, the_call
from tests.intercept.mode import Mode


@pytest.fixture
def seen() -> Iterator[Captured]:
    with capture() as captured:
        yield captured


COMPACTION: dict[str, Any] = {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAAA"}
SUMMARY: dict[str, Any] = {"type": "compaction", "content": "They talked of parcels.", "encrypted_content": None}
FAILED: dict[str, Any] = {**SUMMARY, "content": None}
TEXT: dict[str, Any] = {"type": "text", "text": "Well."}
EDITS: dict[str, Any] = {"edits": [{"type": "compact_20260112"}]}
CLEARED: dict[str, Any] = {"applied_edits": [{"type": "clear_tool_uses_20250919", "cleared_tool_uses": 2}]}


def _message(*blocks: dict[str, Any], **fields: Any) -> dict[str, Any]:
    usage = {"input_tokens": 3, "output_tokens": 2}
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5", "usage": usage,
            "content": list(blocks), "stop_reason": "end_turn", **fields}  # fmt: skip


def _events(*blocks: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    """The same as a stream, in which a summary comes as a delta."""
    events: list[dict[str, Any]] = [{"type": "message_start", "message": _message(stop_reason=None)}]
    for index, block in enumerate(blocks):
        kind, rest = block["type"], {name: value for name, value in block.items() if name != "type"}
        begun = {"type": kind, **dict.fromkeys(rest)} if kind == "compaction" else {"type": kind, "text": ""}
        events += [
            {"type": "content_block_start", "index": index, "content_block": begun},
            {"type": "content_block_delta", "index": index, "delta": {"type": f"{kind}_delta", **rest}},
            {"type": "content_block_stop", "index": index},
        ]
    stop = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}, **fields}
    return [*events, stop, {"type": "message_stop"}]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(
    ("sent", "blocks", "fields", "compacted"),
    [
        ([], [SUMMARY, TEXT], {}, True),
        ([], [FAILED, TEXT], {}, False),
        ([], [TEXT], {"context_management": CLEARED}, True),
        ([], [TEXT], {"context_management": {"applied_edits": []}}, False),
        ([SUMMARY], [TEXT], {}, True),
        ([FAILED, TEXT], [TEXT], {}, False),
    ],
)
def test_a_conversation_that_was_compacted_for_a_message_is_marked(
    sent: list[Any], blocks: list[Any], fields: dict[str, Any], compacted: bool, stream: bool, mode: Mode, run: Run,
    seen: Captured,
) -> None:  # fmt: skip
    """By a summary in the answer or among the messages, or by what was cleared; never false."""
    mode.provider.reply(raw=_events(*blocks, **fields) if stream else _message(*blocks, **fields))
    history = [*QUESTION, *([{"role": "assistant", "content": sent}, *QUESTION] if sent else [])]

    async def body() -> None:
        result = await mode.wait(
            mode.anthropic().beta.messages.create(
                model="claude-sonnet-5", max_tokens=9, messages=history, context_management=EDITS, stream=stream
            )
        )
        if stream:
            await mode.all(result)

    run(body)
    assert shown(seen).get("gen_ai.conversation.compacted") == (True if compacted else None)
    record = the_call(seen)
    assert record.response is not None
    assert (record.request.compacted or record.response.compacted) is compacted
    assert record.outcome == "success"


def test_a_conversation_that_was_compacted_for_a_response_is_marked(mode: Mode, run: Run, seen: Captured) -> None:
    """The call that compacts, those that send what it returned, and those that are compacted on the way."""
    compact = {"id": "resp_1", "object": "response.compaction", "created_at": 1, "output": [COMPACTION],
               "usage": {"input_tokens": 9, "output_tokens": 2, "total_tokens": 11}}  # fmt: skip
    mode.provider.reply(raw=compact, on="/responses/compact")
    mode.provider.reply(text="well")
    mode.provider.reply(text="well")
    whole = {**compact, "object": "response", "model": "gpt-5", "status": "completed"}
    mode.provider.reply(raw=whole)

    async def body() -> None:
        responses = mode.openai().responses
        await mode.wait(responses.compact(model="gpt-5", input="How are you?"))
        await mode.wait(responses.create(model="gpt-5", input=[COMPACTION, *QUESTION]))
        await mode.wait(responses.create(model="gpt-5", input=QUESTION))
        await mode.wait(responses.create(model="gpt-5", input=QUESTION))

    run(body)
    marks = [(span.attributes or {}).get("gen_ai.conversation.compacted") for span in seen.spans]
    assert marks == [True, True, None, True]
