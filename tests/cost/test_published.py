"""Published prices: exactly what the list itself calculates, unknown if not listed, and cached."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest

from callspan.cost import priced
from callspan.cost.published import PriceList, published_cost
from callspan.records import Timing, Usage
from tests.support.scale import scaled

from .answers import START_NS, counted

pytest.importorskip("genai_prices", reason="needs published prices: pip install 'callspan[cost]'")


SPOKEN: dict[str, Any] = {
    "input_tokens": 132, "input_audio_tokens": 13, "input_image_tokens": 0, "cache_read_tokens": 64,
    "cache_read_audio_tokens": 4, "cache_read_image_tokens": 0, "output_tokens": 121, "output_audio_tokens": 91,
}  # fmt: skip
"""Millionths of a dollar: 59 * 4 + 60 * 0.4 for text, 9 * 32 + 4 * 0.4 for audio, 30 * 16 + 91 * 64 for the answer."""


def test_counts_that_contradict_one_another_have_no_cost() -> None:
    assert priced(counted(input_tokens=10, cache_read_tokens=50)).cost is None


@pytest.mark.parametrize(
    "fields",
    [
        {"outcome": "cancelled"},
        {"server_address": "gateway.example"},
        {"usage": Usage(input_tokens=1000, output_tokens=1, estimated=True)},
    ],
    ids=["cut", "behind a gateway", "counted by us"],
)
def test_an_estimated_cost_is_marked(fields: dict[str, object]) -> None:
    record = priced(counted(**({"input_tokens": 1000} if "usage" not in fields else {}), **fields))
    assert record.cost is not None
    assert record.cost.estimated


def test_without_the_package_there_is_no_cost_and_no_error() -> None:
    code = (
        "import sys; sys.modules['genai_prices'] = None\n"
        "from callspan.cost import priced\n"
        "from callspan.records import CallRecord, Request, Timing, Usage\n"
        "print(priced(CallRecord(call_id='c', provider='openai', request=Request(model='gpt-4o'),"
        " usage=Usage(input_tokens=5), timing=Timing(start_ns=1))).cost)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "None"


@pytest.mark.parametrize(
    ("model", "usage", "usd"),
    [
        ("gpt-image-1",
         Usage(input_tokens=50, input_image_tokens=40, output_tokens=100, output_image_tokens=100), "0.00445"),
        ("gpt-image-1.5", Usage(input_tokens=50, output_tokens=100, output_image_tokens=90), "0.00323"),
        ("whisper-1", Usage(input_audio_seconds=12.5), "0.00125"),
        ("gpt-realtime", Usage(**SPOKEN), "0.0068536"),
        ("gpt-realtime", Usage(**SPOKEN | {"cache_read_audio_tokens": 0}), "0.0069656"),
        ("gpt-realtime", Usage(**SPOKEN | {"cache_read_audio_tokens": None}), None),
        ("gpt-4o", Usage(input_audio_seconds=12.5), None),
        ("dall-e-3", Usage(output_images=1), None),
        ("gpt-image-1", Usage(input_tokens=5, output_tokens=1, raw={"svg_usage": {"input_tokens": 9}}), None),
    ],
)  # fmt: skip
def test_images_and_sound_are_priced_by_what_was_counted(model: str, usage: Usage, usd: str | None) -> None:
    for _ in range(2):
        found = published_cost(counted(model, usage=usage))
        assert (None if found is None else found.usd) == (None if usd is None else Decimal(usd))


def test_a_batch_is_priced_as_one_and_where_the_list_has_no_such_price_half_is_a_guess() -> None:
    """The list has batch prices of some models, from some day on."""
    counts = {"input_tokens": 100_000, "output_tokens": 10_000, "batch_id": "b"}

    def cost(model: str, provider: str, host: str, **fields: object) -> tuple[Decimal, bool]:
        found = priced(counted(model, provider, server_address=host, **{**counts, **fields})).cost
        assert found is not None
        return found.usd, found.estimated

    anthropic = "api.anthropic.com"
    listed = cost("claude-sonnet-4-5", "anthropic", anthropic, tier="batch")
    assert listed == (Decimal("0.225"), False)
    assert cost("claude-sonnet-4-5", "anthropic", "gateway.example", tier="batch") == (Decimal("0.225"), True)
    long_ago = Timing(start_ns=1_700_000_000_000_000_000)
    assert cost("claude-sonnet-4-20250514", "anthropic", anthropic, timing=long_ago) == (Decimal("0.225"), True)
    whole = cost("davinci-002", "openai", "api.openai.com", batch_id=None)
    assert cost("davinci-002", "openai", "api.openai.com") == (whole[0] / 2, True)


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
                start_ns = START_NS + turn * _SECOND
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


@pytest.mark.parametrize(
    ("provider", "model"), [("openai", "no-such-model"), ("ollama", "gpt-4o"), ("unknown", "gpt-4o"), ("openai", None)]
)
def test_unknown_models_and_providers_have_no_cost(provider: str, model: str | None) -> None:
    assert priced(counted(model, provider, input_tokens=10, output_tokens=5)).cost is None
