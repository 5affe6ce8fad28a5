"""Caches: why the provider's prompt cache missed, and answers that a cache served, which nobody bought."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.calls import QUESTION
from tests.support.mode import Mode

from callspan.testing import Capture

pytestmark = pytest.mark.usefixtures("no_settings")
Json = dict[str, Any]
_SPAN = "callspan.response.prompt_cache."


def message(diagnostics: object) -> Json:
    usage = {"input_tokens": 5000, "output_tokens": 3}
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-5", "usage": usage,
            "content": [{"type": "text", "text": "x"}], "stop_reason": "end_turn",
            "diagnostics": diagnostics}  # fmt: skip


def response(diagnostics: object) -> Json:
    return {"id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-5.6", "status": "completed",
            "output": [], "prompt_cache_diagnostics": diagnostics}  # fmt: skip


def reasons(*types: str, counts: bool) -> list[tuple[object, list[object]]]:
    extra = {"cache_missed_input_tokens": 4800} if counts else {}
    known: list[object] = [4800] if counts else []
    return [({"cache_miss_reason": {"type": kind, **extra}}, [kind, *known]) for kind in types]


OF_MESSAGES: list[tuple[object, list[object]]] = [
    *reasons("model_changed", "system_changed", "tools_changed", "messages_changed", counts=True),
    *reasons("previous_message_not_found", "unavailable", "a_new_one", counts=False),
    ({"cache_miss_reason": None}, []),
    (None, []),
    ({"cache_miss_reason": {"type": 7, "cache_missed_input_tokens": "many"}}, []),
    ([], []),
]
OF_RESPONSES: list[tuple[object, list[object]]] = [
    ({"type": "cache_miss", "reason": "input_changed", "cache_missed_tokens": 900, "comparison_reusable_tokens": 128},
     ["input_changed", 900, 128]),
    ({"type": "cache_miss", "reason": "tools_changed", "cache_missed_tokens": 0}, ["tools_changed", 0]),
    ({"type": "cache_hit"}, []),
    ({"type": "comparison_response_not_found"}, ["comparison_response_not_found"]),
    ({"type": "unavailable"}, ["unavailable"]),
    (None, []),
    ("cache_miss", []),
]  # fmt: skip


def stated(seen: Capture) -> list[object]:
    """The reason and the tokens, which the record and the span state alike."""
    (record,), (span,) = seen.records, seen.spans
    found = record.response
    assert found is not None
    fields = [found.prompt_cache_miss, found.prompt_cache_missed_tokens, found.prompt_cache_reusable_tokens]
    attributes = [value for name, value in (span.attributes or {}).items() if name.startswith(_SPAN)]
    assert attributes == [one for one in fields if one is not None]
    return attributes


@pytest.mark.parametrize(("diagnostics", "expected"), OF_MESSAGES)
async def test_why_the_prompt_cache_of_messages_missed(
    diagnostics: object, expected: list[object], mode: Mode, stream: bool, seen: Capture
) -> None:
    mode.provider.reply(raw=message(diagnostics), on="/messages")
    given = {"model": "claude-opus-5", "max_tokens": 9, "messages": QUESTION, "stream": stream}
    await mode.whole(mode.anthropic().messages.create(**given))
    assert stated(seen) == expected


@pytest.mark.parametrize(("diagnostics", "expected"), OF_RESPONSES)
async def test_why_the_prompt_cache_of_responses_missed(
    diagnostics: object, expected: list[object], mode: Mode, stream: bool, seen: Capture
) -> None:
    mode.provider.reply(raw=response(diagnostics), on="/responses")
    await mode.whole(mode.openai().responses.create(model="gpt-5.6", input="Hi", stream=stream))
    assert stated(seen) == expected
