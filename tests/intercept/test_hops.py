"""Hops: the fallback middleware of the anthropic SDK, and fallbacks inside the server. Nothing is counted twice."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from callspan.cost import pricer_for
from callspan.records import CallRecord
from callspan.testing import Captured
from tests.intercept import sdks
from tests.intercept.mode import Mode
from tests.intercept.test_endings import the_call

Run = Callable[[Callable[[], Awaitable[Any]]], Any]
FABLE, OPUS, HAIKU = "claude-fable-5", "claude-opus-4-8", "claude-haiku-4-5"
QUESTION: dict[str, Any] = {"max_tokens": 64, "model": FABLE, "messages": [{"role": "user", "content": "Hi"}]}
PRICES = {
    "models": {
        FABLE: {"input": 10, "output": 50}, OPUS: {"input": 5, "output": 25}, HAIKU: {"input": 1, "output": 5},
    }
}  # fmt: skip


@pytest.fixture(autouse=True)
def _middleware() -> None:
    sdks.needs("anthropic", "0.125", "middleware")
    pytest.importorskip("anthropic.lib.middleware")


def used(tokens: int, output: int) -> dict[str, int]:
    return {"input_tokens": tokens, "output_tokens": output}


def refuse(mode: Mode, model: str, tokens: int, output: int, text: str = "") -> None:
    """Script one refused iteration."""
    mode.provider.reply(text=text or None, finish_reason="refusal", model=model, usage=used(tokens, output))


def fallbacks(mode: Mode, *models: str) -> Any:
    from anthropic.lib.middleware import BetaRefusalFallbackMiddleware

    middleware = BetaRefusalFallbackMiddleware([{"model": model} for model in models])
    return mode.anthropic(middleware=[middleware], max_retries=1)


def ask(mode: Mode, run: Run, client: Any, *, stream: bool, **fields: Any) -> Any:
    async def body() -> Any:
        result = await mode.wait(client.beta.messages.create(**{**QUESTION, **fields}, stream=stream))
        return await mode.all(result) if stream else result

    return run(body)


def priced(record: CallRecord, tmp_path: Path) -> CallRecord:
    file = tmp_path / "prices.json"
    file.write_text(json.dumps(PRICES))
    return pricer_for(file).priced(record)


def summary(record: CallRecord) -> list[tuple[Any, ...]]:
    return [
        (one.model, one.outcome, one.usage and (one.usage.input_tokens, one.usage.output_tokens))
        for one in record.attempts
    ]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_refused_hop_is_an_attempt_with_model_usage_and_cost(
    stream: bool, mode: Mode, run: Run, seen: Captured, tmp_path: Path
) -> None:
    refuse(mode, FABLE, 100, 10, "Well")
    mode.provider.reply(text="Served.", model=OPUS, usage=used(120, 20))
    ask(mode, run, fallbacks(mode, OPUS), stream=stream)
    record = priced(the_call(seen), tmp_path)
    assert summary(record) == [(FABLE, "refused", (100, 10)), (OPUS, "success", (120, 20))]
    assert record.usage is not None
    assert (record.usage.input_tokens, record.usage.output_tokens, record.usage.total_tokens) == (220, 30, 250)
    assert record.usage.iterations == []
    assert (record.retries, record.outcome) == (0, "success")
    assert record.cost is not None
    costs = [one.cost.usd if one.cost else None for one in record.attempts]
    assert costs == [Decimal("0.0015"), Decimal("0.0011")]
    assert record.cost.usd == Decimal("0.0026")
    (span,) = seen.spans
    assert dict(span.attributes or {})["gen_ai.usage.input_tokens"] == 220


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_every_hop_may_refuse(stream: bool, mode: Mode, run: Run, seen: Captured, tmp_path: Path) -> None:
    refuse(mode, FABLE, 100, 10)
    refuse(mode, OPUS, 200, 20)
    refuse(mode, HAIKU, 400, 40)
    ask(mode, run, fallbacks(mode, OPUS, HAIKU), stream=stream)
    record = priced(the_call(seen), tmp_path)
    assert summary(record) == [
        (FABLE, "refused", (100, 10)), (OPUS, "refused", (200, 20)), (HAIKU, "refused", (400, 40))
    ]  # fmt: skip
    assert record.usage is not None
    assert (record.usage.input_tokens, record.usage.output_tokens) == (700, 70)
    assert record.cost is not None
    assert record.cost.usd == Decimal("0.0036")
    assert record.retries == 0


def test_retries_are_retries_and_no_hops(mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(status=529, retry_after_s=0.001)
    refuse(mode, FABLE, 100, 10)
    mode.provider.reply(text="Served.", model=OPUS, usage=used(120, 20))
    ask(mode, run, fallbacks(mode, OPUS), stream=False)
    record = the_call(seen)
    assert [one.status for one in record.attempts] == [529, 200, 200]
    assert record.retries == 1
    assert summary(record)[0] == (None, None, None)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_call_without_a_refusal_says_nothing_of_hops(stream: bool, mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(text="Served.", usage=used(120, 20))
    ask(mode, run, fallbacks(mode, OPUS), stream=stream)
    record = the_call(seen)
    assert summary(record) == [(None, None, None)]
    assert record.usage is not None
    assert record.usage.iterations == []


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_hop_that_fails_is_an_attempt_without_usage(stream: bool, mode: Mode, run: Run, seen: Captured) -> None:
    refuse(mode, FABLE, 100, 10)
    mode.provider.reply(status=400, message="No such model.")
    mode.provider.reply(text="Served.", model=HAIKU, usage=used(120, 20))
    client = fallbacks(mode, OPUS, HAIKU)
    if not stream:
        with pytest.raises(Exception, match="No such model"):
            ask(mode, run, client, stream=False)
        record = the_call(seen)
        assert [one.status for one in record.attempts] == [200, 400]
        assert record.usage is not None
        assert record.usage.input_tokens == 100, "the refused iteration is billed, whatever comes after it"
        return
    ask(mode, run, client, stream=True)
    record = the_call(seen)
    assert [one.status for one in record.attempts] == [200, 400, 200]
    assert summary(record) == [(FABLE, "refused", (100, 10)), (None, None, None), (HAIKU, "success", (120, 20))]
    assert record.usage is not None
    assert record.usage.input_tokens == 220


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_fallback_inside_the_server_is_a_hop_and_no_attempt(
    stream: bool, mode: Mode, run: Run, seen: Captured, tmp_path: Path
) -> None:
    iterations = [
        {"type": "message", "model": FABLE, **used(100, 10)},
        {"type": "fallback_message", "model": OPUS, **used(120, 20)},
    ]
    mode.provider.reply(text="Served.", model=OPUS, usage={**used(120, 20), "iterations": iterations})
    client = mode.anthropic()
    ask(mode, run, client, stream=stream, extra_body={"fallbacks": [{"model": OPUS}]})
    record = priced(the_call(seen), tmp_path)
    assert summary(record) == [(None, None, None)]
    assert record.usage is not None
    assert [(iteration.kind, iteration.model, iteration.beside) for iteration in record.usage.iterations] == [
        ("message", FABLE, True), ("fallback_message", OPUS, False)
    ]  # fmt: skip
    assert (record.usage.input_tokens, record.usage.output_tokens) == (220, 30)
    assert record.cost is not None
    assert record.cost.usd == Decimal("0.0026")
    assert record.usage.iterations[0].cost is not None
    assert record.usage.iterations[0].cost.usd == Decimal("0.0015")
