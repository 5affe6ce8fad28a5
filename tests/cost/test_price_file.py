"""The user's own price file, the setting `prices`, and calls priced on their way into a store."""

from __future__ import annotations

import json
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan import open_store
from callspan.cost import PriceFileError, Pricer, read_prices
from callspan.cost.price_table import ModelPrices
from callspan.delivery.store_sink import StoreSink
from callspan.fail_open import failures, forget_failures
from callspan.records import Usage, encode
from callspan.stores import find_store

from .answers import counted


def written(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_a_name_takes_precedence_over_a_pattern_and_a_longer_pattern_over_a_shorter(tmp_path: Path) -> None:
    rows = {"gpt-5*": 1, "gpt-5-mini*": 2, "gpt-5-mini": 3, "azure.ai.openai/gpt-5*": 4, "*": 5}
    models = {name: {"input": price} for name, price in rows.items()}
    table = read_prices(written(tmp_path / "p.json", {"models": models}))

    def price(provider: str, model: str) -> int:
        key = table.key(provider, model)
        assert key is not None
        return int(table.models[key].input)

    assert price("openai", "gpt-5") == 1
    assert price("openai", "gpt-5-mini-2025") == 2
    assert price("openai", "gpt-5-mini") == 3
    assert price("azure.ai.openai", "gpt-5") == 4
    assert price("openai", "llama") == 5


def test_models_the_file_does_not_name_keep_their_published_price(tmp_path: Path) -> None:
    pytest.importorskip("genai_prices", reason="needs published prices: pip install 'callspan[cost]'")
    pricer = Pricer(read_prices(written(tmp_path / "p.json", {"models": {"other": {"input": 1}}})))
    cost = pricer.cost(counted("gpt-4o", input_tokens=1000))
    assert cost is not None
    assert cost.source.startswith("genai-prices")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "truncated"),
        ({"models": {"m": {"input": 1, "inputs": 2}}}, "inputs"),
        ({"models": {"m": {"input": "-1"}}}, "input is -1"),
        (
            {"models": {"m": {"input": 1, "tiers": {"flex": {"input": -1}}}}},
            "input is -1: use a non-negative amount - at `$.models[...].tiers",
        ),
        ({"models": {"m": {"input": 1, "tools": {"web_search": -2}}}}, "web_search is -2"),
        ({"models": {}, "currency": "EUR"}, "EUR"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_name_and_what_is_wrong(
    tmp_path: Path, content: object, expected: str
) -> None:
    path = written(tmp_path / "prices.json", content)
    with pytest.raises(PriceFileError) as caught:
        read_prices(path)
    assert "prices.json" in str(caught.value)
    assert expected in str(caught.value)


amounts = st.decimals(min_value=0, max_value=1000, places=9)


@given(amounts, amounts, st.integers(0, 10**12), st.integers(0, 10**12))
def test_no_digit_of_money_is_ever_lost(price: Decimal, other: Decimal, input_tokens: int, output_tokens: int) -> None:
    prices = ModelPrices(input=price, output=other)
    usd = prices.usd(Usage(input_tokens=input_tokens, output_tokens=output_tokens))
    assert usd is not None
    billionths = int(price.scaleb(9)) * input_tokens + int(other.scaleb(9)) * output_tokens
    assert int(usd.scaleb(15)) == billionths
    assert usd == Decimal(usd.scaleb(15).to_integral_value()).scaleb(-15) or usd.scaleb(15) == billionths


def test_a_batch_has_prices_of_its_own_and_without_them_half_is_a_guess(tmp_path: Path) -> None:
    """Whatever service tier the answer names."""
    models = {"m": {"input": 10, "tiers": {"batch": {"input": 4}, "flex": {"input": 5}}}, "n": {"input": "0.1"}}
    pricer = Pricer(read_prices(written(tmp_path / "p.json", {"models": models})))

    def cost(model: str, tier: str | None, batch_id: str | None = "batch_1") -> tuple[Decimal, bool]:
        found = pricer.cost(counted(model, "elsewhere", tier=tier, batch_id=batch_id, input_tokens=1_000_001))
        assert found is not None
        return found.usd, found.estimated

    assert cost("m", None, None) == (Decimal("10.00001"), False)
    assert cost("m", "default") == cost("m", "flex") == (Decimal("4.000004"), False)
    assert cost("n", "default") == cost("n", "batch") == (Decimal("0.05000005"), True)


def test_a_price_file_that_is_wrong_costs_no_record(tmp_path: Path) -> None:
    forget_failures()
    store = find_store(f"sqlite:///{tmp_path}/calls.db")
    with closing(StoreSink(store, tmp_path / "missing.json")) as sink:
        sink.open()
        sink.deliver([encode(counted("nobody-knows", input_tokens=1))])
    with closing(open_store(store.url)) as reader:
        assert [one.cost for one in reader.calls()] == [None]
    assert failures()["read the price file"] == 1
    forget_failures()
