"""Published prices: exact, of the right model, unknown if not listed."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal

import pytest

from callspan.cost import priced
from callspan.cost.published import published_cost
from callspan.records import Timing, Usage

from .conftest import MakeCall

pytest.importorskip("genai_prices", reason="needs published prices: pip install 'callspan[cost]'")


def test_cached_input_has_its_own_price_and_is_not_counted_twice(call: MakeCall) -> None:
    record = priced(call("gpt-4o", input_tokens=1000, cache_read_tokens=600, output_tokens=100))
    assert record.cost is not None
    assert record.cost.usd == Decimal("0.00275")
    assert record.cost.source.startswith("genai-prices ")
    assert not record.cost.estimated


def test_an_hour_in_the_cache_costs_more_than_five_minutes(call: MakeCall) -> None:
    def usd(**split: int) -> Decimal:
        record = priced(
            call("claude-sonnet-4-20250514", "anthropic", input_tokens=9000, cache_write_tokens=9000, **split)
        )
        assert record.cost is not None
        return record.cost.usd

    assert usd(cache_write_5m_tokens=9000) == Decimal("0.03375")
    assert usd(cache_write_1h_tokens=9000) == Decimal("0.054")
    assert usd(cache_write_5m_tokens=8000, cache_write_1h_tokens=1000) == Decimal("0.036")


@pytest.mark.parametrize(
    ("requested", "usd"),
    [("gpt-4", "0.033"), ("gpt-4-turbo", "0.0115"), ("gpt-4o", "0.003"), ("gpt-4o-mini", "0.00018")],
)
def test_a_model_is_not_priced_as_one_whose_name_begins_alike(call: MakeCall, requested: str, usd: str) -> None:
    record = priced(call(requested, input_tokens=1000, output_tokens=50))
    assert record.cost is not None
    assert record.cost.usd == Decimal(usd)


def test_counts_that_contradict_one_another_have_no_cost(call: MakeCall) -> None:
    assert priced(call(input_tokens=10, cache_read_tokens=50)).cost is None


def test_what_the_provider_states_comes_first(call: MakeCall) -> None:
    usage = Usage(input_tokens=1000, output_tokens=100, cost_usd=Decimal("0.000123456789012345"))
    record = priced(call(usage=usage))
    assert record.cost is not None
    assert (record.cost.usd, record.cost.source) == (Decimal("0.000123456789012345"), "provider")


def test_an_existing_cost_is_kept(call: MakeCall) -> None:
    record = priced(call(input_tokens=10))
    assert priced(record) is record


@pytest.mark.parametrize(
    "fields",
    [
        {"outcome": "cancelled"},
        {"server_address": "gateway.example"},
        {"usage": Usage(input_tokens=1000, output_tokens=1, estimated=True)},
    ],
    ids=["cut", "behind a gateway", "counted by us"],
)
def test_an_estimated_cost_is_marked(call: MakeCall, fields: dict[str, object]) -> None:
    record = priced(call(**({"input_tokens": 1000} if "usage" not in fields else {}), **fields))
    assert record.cost is not None
    assert record.cost.estimated


def test_the_service_tier_has_its_price(call: MakeCall) -> None:
    def usd(tier: str | None) -> tuple[Decimal, bool]:
        record = priced(call("gpt-5", tier=tier, input_tokens=1_000_000, output_tokens=1000))
        assert record.cost is not None
        return record.cost.usd, record.cost.estimated

    assert usd("default") == usd(None)
    flex, priority = usd("flex"), usd("priority")
    assert flex[0] <= usd(None)[0] <= priority[0]
    assert flex[0] < usd(None)[0] or flex[1], "a tier without a price of its own is marked"


def test_prices_are_imported_with_the_first_call_that_is_priced() -> None:
    code = "import sys, callspan, callspan.wiring; callspan.instrument(); print('genai_prices' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


def test_without_the_package_there_is_no_cost_and_no_error(call: MakeCall) -> None:
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
        (
            "gpt-image-1",
            Usage(input_tokens=50, input_image_tokens=40, output_tokens=100, output_image_tokens=100),
            "0.00445",
        ),
        ("gpt-image-1.5", Usage(input_tokens=50, output_tokens=100, output_image_tokens=90), "0.00323"),
        ("whisper-1", Usage(input_audio_seconds=12.5), "0.00125"),
        ("gpt-4o", Usage(input_audio_seconds=12.5), None),
        ("dall-e-3", Usage(output_images=1), None),
        ("gpt-image-1", Usage(input_tokens=5, output_tokens=1, raw={"svg_usage": {"input_tokens": 9}}), None),
    ],
)
def test_images_and_sound_are_priced_by_what_was_counted(
    call: MakeCall, model: str, usage: Usage, usd: str | None
) -> None:
    for _ in range(2):
        found = published_cost(call(model, usage=usage))
        assert (None if found is None else found.usd) == (None if usd is None else Decimal(usd))


def test_a_batch_is_priced_as_one_and_where_the_list_has_no_such_price_half_is_a_guess(call: MakeCall) -> None:
    """The list has batch prices of some models, from some day on."""
    counts = {"input_tokens": 100_000, "output_tokens": 10_000, "batch_id": "b"}

    def cost(model: str, provider: str, host: str, **fields: object) -> tuple[Decimal, bool]:
        found = priced(call(model, provider, server_address=host, **{**counts, **fields})).cost
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
