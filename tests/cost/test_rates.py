"""Cached rates give the same cost as the price list, for every model, and new prices apply immediately."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest

from callspan.cost.published import PriceList
from callspan.records import Usage
from tests.scale import scaled

from .conftest import NOVEMBER_2026_NS

genai_prices = pytest.importorskip("genai_prices", reason="needs published prices: pip install 'callspan[cost]'")
_NAMES = {"web_search_requests": "web_searches"}
Asked = tuple[tuple[str, str], ...]
_SECOND = 1_000_000_000


def by_the_list(provider: str, model: str, asked: Asked, start_ns: int, usage: Usage) -> Decimal | None:
    counts = {_NAMES.get(name, name): count for name in usage.__struct_fields__ if (count := getattr(usage, name))}
    try:
        found = genai_prices.calc_price(
            genai_prices.Usage(**counts),
            model_ref=model,
            provider_id=provider,
            genai_request_timestamp=datetime.fromtimestamp(start_ns // _SECOND, tz=timezone.utc),
            price_context=dict(asked) or None,
        )
    except (LookupError, ValueError):
        return None
    return Decimal(found.total_price)


def usages(chance: random.Random) -> Iterator[Usage]:
    """Counts as providers state them, and some that contradict one another."""
    for most in (10, 5_000, 150_000, 210_000, 1_200_000):
        tokens = chance.randrange(1, most)
        read, written = chance.randrange(tokens), chance.randrange(tokens // 2 + 1)
        yield Usage(input_tokens=tokens, output_tokens=chance.randrange(most))
        yield Usage(input_tokens=tokens, output_tokens=7, cache_read_tokens=read)
        yield Usage(
            input_tokens=tokens + read + written, output_tokens=chance.randrange(most), cache_read_tokens=read,
            cache_write_tokens=written, cache_write_1h_tokens=written // 3, web_search_requests=chance.randrange(2),
        )  # fmt: skip
        yield Usage(input_tokens=tokens, input_audio_tokens=tokens // 2, cache_read_tokens=tokens // 4, output_tokens=1)
        yield Usage(input_tokens=tokens, cache_write_tokens=written, cache_write_5m_tokens=written // 2)


def models() -> list[tuple[str, Any]]:
    return [(provider.id, model) for provider in genai_prices.data_snapshot.get_snapshot().providers
            for model in provider.models]  # fmt: skip


@pytest.mark.parametrize("part", range(scaled(1, 16)))
def test_every_model_costs_what_the_list_says_digit_by_digit(part: int) -> None:
    chance, prices, kept = random.Random(part), PriceList(genai_prices), 0
    for provider, model in models()[part::16]:
        asked = chance.choice([(), (("service_tier", "flex"),), (("speed", "fast"),)])
        for turn in range(2):
            for usage in usages(chance):
                start_ns = NOVEMBER_2026_NS + turn * _SECOND
                found = prices.usd((provider, model.id), asked, start_ns, usage)
                expected = by_the_list(provider, model.id, asked, start_ns, usage)
                assert str(found) == str(expected), (provider, model.id, asked, usage)
                kept += 1
    assert kept


def test_prices_that_change_at_a_date_are_those_of_the_calls_own_time() -> None:
    prices = PriceList(genai_prices)
    usage = Usage(input_tokens=1000, output_tokens=500)
    dated = [(provider, model) for provider, model in models() if isinstance(model.prices, list)]
    assert dated
    for provider, model in dated:
        for year in (2023, 2024, 2025, 2026):
            for hour in (2, 17):
                start_ns = int(datetime(year, 9, 6, hour, 40, tzinfo=timezone.utc).timestamp()) * _SECOND
                found = prices.usd((provider, model.id), (), start_ns, usage)
                assert str(found) == str(by_the_list(provider, model.id, (), start_ns, usage))


def test_updated_prices_of_the_list_apply_immediately() -> None:
    snapshot = genai_prices.data_snapshot.get_snapshot()
    prices, usage = PriceList(genai_prices), Usage(input_tokens=1_000_000)
    before = prices.usd(("openai", "gpt-4o"), (), NOVEMBER_2026_NS, usage)
    provider = next(one for one in snapshot.providers if one.id == "openai")
    model = replace(
        next(one for one in provider.models if one.id == "gpt-4o"),
        prices=genai_prices.types.ModelPrice(input_mtok=Decimal(123)),
        price_variants=None,
    )
    newer = genai_prices.data_snapshot.DataSnapshot(
        providers=[replace(provider, models=[model])], from_auto_update=True
    )
    genai_prices.data_snapshot.set_custom_snapshot(newer)
    try:
        assert prices.usd(("openai", "gpt-4o"), (), NOVEMBER_2026_NS, usage) == 123
    finally:
        genai_prices.data_snapshot.set_custom_snapshot(None)
    assert prices.usd(("openai", "gpt-4o"), (), NOVEMBER_2026_NS, usage) == before != 123
