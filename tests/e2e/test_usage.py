"""Usage and cost: the provider's numbers, summed exactly; unknown is never zero."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

import callspan
from callspan.record.usage import Usage
from callspan.stores.base import Reader
from callspan.testing import Captured, ScriptedProvider
from callspan.wiring import Handle
from tests.e2e.ask import APIS, QUESTION, chat, response_of, shown
from tests.intercept.mode import Mode
from tests.intercept.test_endings import text_of, the_call

pytestmark = pytest.mark.slow

Run = Callable[[Callable[[], Awaitable[Any]]], Any]
STREAMS = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
OPTIONS: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}


@pytest.mark.parametrize("api", APIS)
def test_unknown_usage_sets_no_attribute(api: str, mode: Mode, run: Run, seen: Captured) -> None:
    """Unknown tokens: no count, no total, and no 0 anywhere."""
    mode.provider.reply(text="well", usage={})
    run(lambda: response_of(mode, api))
    assert the_call(seen).usage in (None, Usage(raw={}))
    assert not [name for name in shown(seen) if "usage" in name or "tokens_per" in name]


STATED = {
    "chat_completions": {
        "prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6,
        "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0},
    },
    "responses": {
        "input_tokens": 4, "output_tokens": 2, "total_tokens": 6,
        "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0},
    },
    "messages": {
        "input_tokens": 4, "output_tokens": 2, "cache_read_input_tokens": 0,
        "output_tokens_details": {"thinking_tokens": 0},
    },
}  # fmt: skip


@pytest.mark.parametrize("stated", [True, False], ids=["zero", "nothing"])
@pytest.mark.parametrize("api", APIS)
def test_zero_tokens_are_zero_and_unknown_tokens_are_absent(
    api: str, stated: bool, mode: Mode, run: Run, seen: Captured
) -> None:
    """Cached and reasoning tokens: stated as 0 they are 0, not stated they are missing."""
    usage = {name: value for name, value in STATED[api].items() if stated or value}
    if not stated:
        usage = {name: value for name, value in usage.items() if isinstance(value, int)}
    mode.provider.reply(text="well", usage=usage)
    run(lambda: response_of(mode, api))
    found = the_call(seen).usage
    assert found is not None
    assert (found.input_tokens, found.output_tokens, found.total_tokens) == (4, 2, 6)
    expected = 0 if stated else None
    assert (found.cache_read_tokens, found.reasoning_tokens) == (expected, expected)
    attributes = shown(seen)
    assert attributes.get("gen_ai.usage.cache_read.input_tokens") == expected
    assert attributes.get("gen_ai.usage.reasoning.output_tokens") == expected
    assert attributes["llm.usage.total_tokens"] == 6


@STREAMS
def test_cached_tokens_are_part_of_openais_input_and_beside_anthropics(
    stream: bool, mode: Mode, run: Run, seen: Captured
) -> None:
    """OpenAI's 10 include 7 cached ones; Anthropic's 3 stand beside 7 read and 5 written: 15, and 3 in the raw."""
    extra: dict[str, Any] = OPTIONS if stream else {}
    mode.provider.reply(usage={"prompt_tokens": 10, "completion_tokens": 1, "prompt_tokens_details":
                               {"cached_tokens": 7, "cache_write_tokens": 2}})  # fmt: skip
    run(lambda: response_of(mode, "chat_completions", **extra))
    mode.provider.reply(usage={"input_tokens": 3, "cache_read_input_tokens": 7, "cache_creation_input_tokens": 5,
                               "output_tokens": 1})  # fmt: skip
    run(lambda: response_of(mode, "messages", stream=stream))
    ours, theirs = (record.usage for record in seen.records)
    assert ours is not None
    assert theirs is not None
    assert (ours.input_tokens, ours.cache_read_tokens, ours.cache_write_tokens) == (10, 7, 2)
    assert (theirs.input_tokens, theirs.cache_read_tokens, theirs.cache_write_tokens) == (15, 7, 5)
    assert theirs.raw is not None
    assert theirs.raw["input_tokens"] == 3
    assert [dict(span.attributes or {})["llm.usage.prompt_tokens"] for span in seen.spans] == [10, 15]


def test_the_rule_goes_by_the_shape_of_the_api_and_not_by_the_provider(mode: Mode, run: Run, seen: Captured) -> None:
    """The same message behind Bedrock has the same totals."""
    usage = {"input_tokens": 3, "cache_read_input_tokens": 7, "cache_creation_input_tokens": 5, "output_tokens": 1}
    mode.provider.reply(usage=usage)
    mode.provider.reply(usage=usage)
    kind: Any = anthropic.AsyncAnthropicBedrock if mode.is_async else anthropic.AnthropicBedrock
    keys = {"aws_access_key": "AKIATEST", "aws_secret_key": "secret", "aws_region": "us-east-1"}
    bedrock = mode.keep(kind(**keys, base_url=mode.provider.url, max_retries=0))

    async def body() -> None:
        await response_of(mode, "messages")
        await mode.wait(bedrock.messages.create(model="claude-sonnet-5", max_tokens=9, messages=QUESTION))

    run(body)
    direct, through = seen.records
    assert (direct.provider, through.provider) == ("anthropic", "aws.bedrock")
    assert direct.usage is not None
    assert through.usage == direct.usage
    assert direct.usage.input_tokens == 15


def test_the_last_count_that_is_reported_wins_and_nothing_is_added_up(mode: Mode, run: Run, seen: Captured) -> None:
    """Usage on every chunk counts up; the last one that says something counts, and a later null erases nothing."""
    frame: dict[str, Any] = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    usages = [{"prompt_tokens": 5, "completion_tokens": done, "total_tokens": 5 + done} for done in (1, 2, 3)]
    deltas: list[Any] = [{"index": 0, "delta": {"content": "a"}}]
    chunks: list[Any] = [{**frame, "choices": deltas, "usage": usage} for usage in [*usages, None]]
    mode.provider.reply(raw=[*chunks, {**frame, "choices": [], "usage": None}])
    run(lambda: response_of(mode, "chat_completions", stream=True))
    found = the_call(seen).usage
    assert found is not None
    assert (found.input_tokens, found.output_tokens, found.total_tokens) == (5, 3, 8)


@pytest.mark.parametrize("place", ["usage", "x_groq"])
def test_usage_after_the_last_choice_is_read_wherever_it_stands(
    place: str, mode: Mode, run: Run, seen: Captured
) -> None:
    """On a trailing chunk without choices, or within `x_groq`: the tokens are there."""
    frame: dict[str, Any] = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7, "queue_time": 0.25}
    chunk = {"usage": usage} if place == "usage" else {"x_groq": {"id": "req", "usage": usage}}
    end = [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]
    mode.provider.reply(raw=[{**frame, "choices": end}, {**frame, "choices": [], **chunk}])
    run(lambda: response_of(mode, "chat_completions", stream=True))
    found = the_call(seen).usage
    assert found is not None
    assert (found.input_tokens, found.output_tokens) == (5, 2)
    assert found.raw is not None
    assert found.raw["queue_time"] == 0.25, "a counter nobody knows is in the raw snapshot"


def test_tokens_reported_before_a_failure_are_kept(mode: Mode, run: Run, seen: Captured) -> None:
    """The message states its input, then the stream fails: those tokens are on span and record."""
    mode.provider.reply(text="one two three", input_tokens=11, error_after=4, error_type="overloaded_error")
    with pytest.raises(anthropic.APIStatusError):
        run(lambda: response_of(mode, "messages", stream=True))
    record = the_call(seen)
    assert record.outcome == "error"
    assert text_of(record)
    assert record.usage is not None
    assert record.usage.input_tokens == 11
    assert shown(seen)["llm.usage.prompt_tokens"] == 11


def test_two_calls_in_a_step_add_up_and_are_two_entries(
    provider: ScriptedProvider, instrumented: Callable[..., Handle], reading: Callable[[object], Reader], tmp_path: Path
) -> None:
    """Totals of step and session, the calls one by one, and a call without usage that still counts as one."""
    provider.reply(input_tokens=10, output_tokens=1)
    provider.reply(usage={})
    handle = instrumented(stores=f"sqlite:///{tmp_path}/calls.db")
    with (
        openai.OpenAI(api_key="k", base_url=provider.openai_url) as client,
        callspan.session("s") as session,
        session.timestep() as step,
    ):
        for _ in range(2):
            client.chat.completions.create(model="gpt-5", messages=QUESTION)
    assert handle.force_flush(60_000)
    reader = reading(tmp_path / "calls.db")
    (found,) = reader.timesteps(session.id)
    assert found.totals is not None
    assert (found.totals.calls, found.totals.input_tokens, found.totals.output_tokens) == (2, 10, 1)
    calls = list(reader.calls())
    assert {call.place.timestep_id for call in calls} == {step.id}
    assert sorted(call.usage.input_tokens or 0 for call in calls if call.usage) == [10]
    (sums,) = reader.summary("model")
    assert (sums.calls, sums.input_tokens) == (2, 10)


def test_cents_and_less_are_stored_and_summed_exactly(
    mode: Mode, run: Run, instrumented: Callable[..., Handle], reading: Callable[[object], Reader], tmp_path: Path
) -> None:
    """0.003 and 0.29 dollars, as the provider states them, are 0.293 and no cent less."""
    handle = instrumented(stores=f"sqlite:///{tmp_path}/calls.db")
    for cost in (0.003, 0.29):
        mode.provider.reply(usage={"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "cost": cost})
        run(lambda: mode.wait(chat(mode)))
    assert handle.force_flush(60_000)
    reader = reading(tmp_path / "calls.db")
    assert {call.cost and call.cost.usd for call in reader.calls()} == {Decimal("0.003"), Decimal("0.29")}
    (sums,) = reader.summary("model")
    assert sums.cost_usd == Decimal("0.293")
