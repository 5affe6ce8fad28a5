"""Costs by published prices, checked by independent arithmetic with rational numbers."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.cost import Pricer, priced
from callspan.cost.price_table import ModelPrices, PriceTable
from callspan.records import CallRecord, Request, Response, Timing, Usage

from .conftest import NOVEMBER_2026_NS

genai_prices = pytest.importorskip("genai_prices", reason="needs published prices: pip install 'callspan[cost]'")

MODELS = (
    ("openai", "gpt-4o"),
    ("openai", "gpt-4.1-mini"),
    ("openai", "gpt-5"),
    ("openai", "gpt-5-mini"),
    ("anthropic", "claude-sonnet-4-20250514"),
    ("anthropic", "claude-haiku-4-5"),
)
counts = st.integers(0, 50_000)


def bare(provider: str, model: str) -> dict[str, Fraction]:
    """Dollars per million tokens as the list has them; of prices in tiers, those of the first."""
    one = genai_prices.Usage(input_tokens=1, output_tokens=1)
    prices = genai_prices.calc_price(one, model_ref=model, provider_id=provider).model_price

    def dollars(name: str, otherwise: Fraction | None = None) -> Fraction:
        price: Any = getattr(prices, name, None)
        if price is None:
            assert otherwise is not None, f"{model} has no {name}"
            return otherwise
        return Fraction(getattr(price, "base", price))

    input_price = dollars("input_mtok")
    return {
        "input": input_price,
        "output": dollars("output_mtok"),
        "read": dollars("cache_read_mtok", input_price),
        "write": dollars("cache_write_mtok", input_price),
    }


def called(provider: str, model: str, usage: Usage) -> CallRecord:
    return CallRecord(
        call_id="c",
        provider=provider,
        request=Request(model=model),
        response=Response(),
        usage=usage,
        timing=Timing(start_ns=NOVEMBER_2026_NS, duration_ns=1),
    )


@pytest.mark.parametrize(("provider", "model"), MODELS)
@given(fresh=counts, read=counts, written=counts, output_tokens=counts)
def test_the_published_price_of_any_call_is_what_arithmetic_says(
    provider: str, model: str, fresh: int, read: int, written: int, output_tokens: int
) -> None:
    prices = bare(provider, model)
    written = written if provider == "anthropic" else 0  # others name no price of their own for it
    usage = Usage(
        input_tokens=fresh + read + written,
        cache_read_tokens=read,
        cache_write_tokens=written,
        output_tokens=output_tokens,
    )
    expected = (
        fresh * prices["input"] + read * prices["read"] + written * prices["write"] + output_tokens * prices["output"]
    ) / 1_000_000
    cost = priced(called(provider, model, usage)).cost
    assert cost is not None
    assert Fraction(cost.usd) == expected


@given(st.lists(st.tuples(counts, counts), min_size=1, max_size=20), st.decimals(0, 100, places=12))
def test_own_prices_of_many_calls_add_up_without_a_digit_lost(calls: list[tuple[int, int]], price: Decimal) -> None:
    table = PriceTable(models={"m": ModelPrices(input=price, output=price * 3)}, version="t")
    costs = [
        Pricer(table).cost(called("x", "m", Usage(input_tokens=input_tokens, output_tokens=output_tokens)))
        for input_tokens, output_tokens in calls
    ]
    total = sum(Fraction(cost.usd) for cost in costs if cost is not None)
    assert (
        total
        == Fraction(price) * sum(input_tokens + 3 * output_tokens for input_tokens, output_tokens in calls) / 1_000_000
    )
