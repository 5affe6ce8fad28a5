"""Caches: why the provider's prompt cache missed, and answers that a cache served, which nobody bought."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any, Final

import pytest
from tests.calls.transports import answering, cache
from tests.support import sdks
from tests.support.calls import QUESTION, Wire
from tests.support.mode import Mode

import callspan
from callspan.records import Usage
from callspan.testing import Capture, capture

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
async def test_prompt_cache_miss_of_messages(
    diagnostics: object, expected: list[object], mode: Mode, stream: bool, seen: Capture
) -> None:
    mode.provider.reply(raw=message(diagnostics), on="/messages")
    given = {"model": "claude-opus-5", "max_tokens": 9, "messages": QUESTION, "stream": stream}
    await mode.whole(mode.anthropic().messages.create(**given))
    assert stated(seen) == expected


@pytest.mark.parametrize(("diagnostics", "expected"), OF_RESPONSES)
async def test_prompt_cache_miss_of_responses(
    diagnostics: object, expected: list[object], mode: Mode, stream: bool, seen: Capture
) -> None:
    sdks.needs("openai", "1.66", "the Responses API")
    mode.provider.reply(raw=response(diagnostics), on="/responses")
    await mode.whole(mode.openai().responses.create(model="gpt-5.6", input="Hi", stream=stream))
    assert stated(seen) == expected


# Answers that a cache served.

BOUGHT: dict[str, Any] = {"input_tokens": 100_000, "output_tokens": 5_000}
KEEPS: list[tuple[Json, str]] = [
    ({"from_cache": True}, "client"),
    ({"hishel_from_cache": True, "hishel_revalidated": True}, "client"),
    ({}, "repeated"),
    ({"from_cache": False, "hishel_from_cache": False}, "repeated"),
]


def caches(seen: Capture) -> list[str | None]:
    """The caches that served the answers; those that none did have usage in record and span, the others in neither."""
    for record, span in zip(seen.records, seen.spans, strict=True):
        attributes = span.attributes or {}
        counts = [name for name in attributes if "usage" in name or "token_count" in name or "cost" in name]
        assert bool(counts) is record.is_bought
        assert attributes.get("callspan.response.cached") == (record.response and record.response.cached)
        if not record.is_bought:
            assert record.usage is not None
            assert record.usage == Usage(raw=record.usage.raw)
            assert record.usage.raw
    return [record.response and record.response.cached for record in seen.records]


@pytest.mark.parametrize(("says", "expected"), KEEPS)
async def test_answer_of_client_cache_is_charged_once(says: Json, expected: str, shaped: Wire) -> None:
    vocabularies = ("llm", "gen_ai", "openinference")
    with capture(vocabularies=vocabularies, stream_usage=True) as seen:
        client = shaped.client(http_client=cache(shaped.mode, shaped.sdk, **says))
        shaped.mode.provider.reply(text="Well.", **BOUGHT)
        for _ in range(3):
            await shaped.call(client)
        answers = {record.response and record.response.id for record in seen.records}
        assert (caches(seen), len(answers)) == ([None, expected, expected], 1)
        assert [record.text for record in seen.records] == ["Well."] * 3
        sums = callspan.summary(seen.records)
    assert (sums.calls, sums.input_tokens, sums.output_tokens) == (3, 100_000, 5_000)


async def test_session_totals_exclude_cached_answers(mode: Mode) -> None:
    with capture() as seen:
        client = mode.openai(http_client=cache(mode, "openai"))
        with callspan.session("chat"):
            for _ in range(3):
                await mode.wait(client.chat.completions.create(model="gpt-4o", messages=QUESTION))
        totals = seen.sessions[-1].totals
    assert totals is not None
    assert (totals.calls, totals.input_tokens) == (3, seen.records[0].usage.input_tokens)  # type: ignore[union-attr]


RANDOM: Final = "chatcmpl-CRb1vJ0kTn3XqLwM8sZ5yHd7aPgUe"


def chat(text: str = "ok", **more: Any) -> Json:
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    return {"id": RANDOM, "object": "chat.completion", "created": 1, "model": "m", "choices": [choice],
            "usage": usage, **more}  # fmt: skip


NOW = int(time.time())
PURCHASES: list[tuple[Json, Json]] = [
    (chat(created=NOW), chat(created=NOW + 1)),
    (chat("ok", created=NOW), chat("yes", created=NOW)),
    (chat(created=NOW), chat(created=NOW, usage={"prompt_tokens": 9, "completion_tokens": 2})),
    *[(chat(created=NOW, id=one), chat(created=NOW, id=one))
      for one in ("", None, "chatcmpl-123", "chatcmpl-mock-completion-of-the-tests", "gen-1764354000",
                  "00000000-0000-4000-8000-000000000000")],
    *[(chat(created=one), chat(created=one)) for one in (0, 1677652288)],
]  # fmt: skip
"""Answers of servers that repeat an id, or send none. The last two state no time but a constant."""
OVER: list[tuple[bool, list[str | None]]] = [(True, [None, None]), (False, [None, "repeated"])]
"""Whether there is a connection, and what is told of two equal answers that state no time."""


async def answers(mode: Mode, bodies: tuple[Json, ...], *, connected: bool) -> None:
    """Ask once for each of these answers."""
    for body in bodies:
        client = mode.openai() if connected else mode.openai(http_client=answering(mode, "openai", body))
        mode.provider.reply(raw=body)
        await mode.wait(client.chat.completions.create(model="m", messages=QUESTION))


@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize("bodies", PURCHASES)
async def test_different_answer_with_same_id_is_charged(
    bodies: tuple[Json, ...], connected: bool, mode: Mode, seen: Capture
) -> None:
    await answers(mode, bodies, connected=connected)
    assert caches(seen) == [None, None]


async def test_answer_to_another_request_is_charged(mode: Mode, seen: Capture) -> None:
    for temperature in (0, 1):
        mode.provider.reply(raw=chat(created=NOW))
        given = {"model": "m", "messages": QUESTION, "temperature": temperature}
        await mode.wait(mode.openai().chat.completions.create(**given))
    assert caches(seen) == [None, None]


@pytest.mark.parametrize(("connected", "expected"), OVER)
async def test_cached_message_is_detected_only_without_connection(
    connected: bool, expected: list[str | None], mode: Mode, seen: Capture
) -> None:
    body = {**message(None), "id": "msg_01CRb1vJ0kTn3XqLwM8sZ5yH"}
    for _ in range(2):
        client = mode.anthropic() if connected else mode.anthropic(http_client=answering(mode, "anthropic", body))
        mode.provider.reply(raw=body, on="/messages")
        await mode.wait(client.messages.create(model="claude-opus-5", max_tokens=9, messages=QUESTION))
    assert caches(seen) == expected


async def test_messages_with_constant_id_are_charged(mode: Mode, seen: Capture) -> None:
    for _ in range(2):
        client = mode.anthropic(http_client=answering(mode, "anthropic", message(None)))
        await mode.wait(client.messages.create(model="claude-opus-5", max_tokens=9, messages=QUESTION))
    assert caches(seen) == [None, None]


@pytest.mark.parametrize("connected", [True, False])
async def test_silent_gateway_cache_is_detected_by_response_time(connected: bool, mode: Mode, seen: Capture) -> None:
    await answers(mode, (chat(created=NOW), chat(created=NOW)), connected=connected)
    assert caches(seen) == [None, "repeated"]


COSTS: list[tuple[Json, Json, str | None]] = [
    ({"x-litellm-cache-key": "abc", "x-litellm-response-cost": "0.0"}, {}, "0"),
    ({"x-litellm-cache-key": "abc", "x-litellm-response-cost": "0.30"}, {}, None),
    ({"x-openrouter-cache-status": "HIT"}, {"cost": 0}, "0"),
    ({"x-openrouter-cache-status": "HIT"}, {"cost": 0.3}, None),
    ({"helicone-cache": "HIT"}, {}, None),
    ({"helicone-cache": "HIT", "x-litellm-response-cost": "many"}, {}, None),
]
"""Headers and counters of an answer, and its cost."""


@pytest.mark.parametrize(("headers", "counted", "expected"), COSTS)
async def test_cost_is_zero_if_gateway_reports_a_hit(
    headers: Json, counted: Json, expected: str | None, mode: Mode, stream: bool, seen: Capture
) -> None:
    usage = {"prompt_tokens": 100_000, "completion_tokens": 5_000, "total_tokens": 105_000, **counted}
    mode.provider.reply(raw=chat(usage=usage), headers=headers)
    given = {"model": "gpt-4o", "messages": QUESTION, "stream": stream, "stream_options": {"include_usage": True}}
    await mode.whole(mode.openai().chat.completions.create(**given if stream else {**given, "stream_options": None}))
    (record,) = seen.records
    assert not record.is_bought
    assert (record.cost and (str(record.cost.usd), record.cost.estimated)) == (expected and (expected, False))
    assert record.usage == Usage(raw=usage, cost_usd=None if expected is None else Decimal(0))


async def test_gateway_reports_hit_in_last_chunk(mode: Mode, seen: Capture) -> None:
    for is_hit in (False, True):
        chunks = [
            {**chat(), "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "ok"}}],
             "usage": None, "extra_fields": {"chunk_index": 0}},
            {**chat(), "object": "chat.completion.chunk",
             "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
             "extra_fields": {"chunk_index": 1, "cache_debug": {"cache_hit": is_hit, "hit_type": "direct"}}},
        ]  # fmt: skip
        mode.provider.reply(raw=chunks)
        await mode.whole(mode.openai().chat.completions.create(model="m", messages=QUESTION, stream=True))
    assert caches(seen) == [None, "bifrost"]


async def test_only_the_final_attempt_decides_a_hit(mode: Mode, seen: Capture) -> None:
    """A failed attempt that a gateway's cache answered says nothing of the next one."""
    mode.provider.reply(status=503, headers={"helicone-cache": "HIT"}, retry_after_s=0)
    mode.provider.reply(text="ok", headers={"helicone-cache": "MISS"})
    await mode.wait(mode.openai(max_retries=1).chat.completions.create(model="m", messages=QUESTION))
    assert (caches(seen), seen.records[0].retries) == ([None], 1)


async def test_cached_answer_has_no_hosted_tool_runs(mode: Mode, seen: Capture) -> None:
    sdks.needs("openai", "1.66", "the Responses API")
    search = {
        "id": "ws_1",
        "type": "web_search_call",
        "status": "completed",
        "action": {"type": "search", "query": "q"},
    }
    usage = {"input_tokens": 9, "output_tokens": 1, "total_tokens": 10}
    body = {**response(None), "id": RANDOM, "created_at": NOW, "output": [search], "usage": usage}
    client = mode.openai(http_client=cache(mode, "openai"))
    mode.provider.reply(raw=body, on="/responses")
    for _ in range(2):
        await mode.wait(client.responses.create(model="gpt-5.6", input="Hi"))
    assert [record.is_bought for record in seen.records] == [True, False]
    assert [event.call_id for event in seen.events] == [seen.records[0].call_id]


async def test_cached_fetch_keeps_background_response_charged(mode: Mode, seen: Capture) -> None:
    sdks.needs("openai", "1.66", "the Responses API")
    mode.provider.reply(text="ok", polls=0)
    job = await mode.wait(mode.openai().responses.create(model="m", input="Hi", background=True))
    client = mode.openai(http_client=cache(mode, "openai", from_cache=True))
    for _ in range(3):
        await mode.wait(client.responses.retrieve(job.id))
    (record,) = seen.records
    assert (record.outcome, record.is_bought) == ("success", True)
    assert record.usage is not None
    assert record.usage.input_tokens
