"""Sums over calls: unknown stays unknown, costs are exact, days are UTC."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from callspan.stores import CallFilter, Reader, Summary

from .conftest import MIDNIGHT_NS, SECOND, Holding, made

DAY = 86_400
pytestmark = pytest.mark.parametrize("holding", ["sqlite"], indirect=True)
"""JSON Lines are summed by the same SQL; tests/stores compares each store with it."""


def only(reader: Reader, by: Any = "provider", **which: Any) -> Summary:
    (found,) = reader.summary(by, CallFilter(**which))
    return found


@pytest.mark.parametrize(
    ("counts", "total"),
    [
        ([None, None], None),
        ([0, None], 0),
        ([0, 0], 0),
        ([None, 7, None, 5], 12),
        ([2**40, None, 2**40], 2**41),
        ([2**40 + 1, 3], 3),
        ([2**62, None], None),
    ],
)
@pytest.mark.parametrize("counter", ["input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens"])
def test_unreported_tokens_are_unknown_and_reported_zero_is_zero(
    holding: Holding, counter: str, counts: list[int | None], total: int | None
) -> None:
    summary = only(holding(*(made(f"c{at}", **{counter: tokens}) for at, tokens in enumerate(counts))))
    others = {"input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens"} - {counter}
    assert getattr(summary, counter) == total
    assert {getattr(summary, other) for other in others} == {None}
    assert summary.calls == len(counts)


@pytest.mark.parametrize(
    ("amounts", "total", "without"),
    [
        ([None], None, 1),
        (["0"], "0", 0),
        (["0.1", "0.2"], "0.3", 0),
        (["0.000000000001", None, "0.000000000002"], "0.000000000003", 1),
        (["0.0000000000001", "0.0000000000002"], "0.0000000000003", 0),
        (["0.0000000000001", "1"], "1.0000000000001", 0),
        (["99999999.999999999999", "0.000000000001"], "100000000", 0),
        (["-0.5", "0.25"], "-0.25", 0),
        (["1E-20", "9000000"], "9000000.00000000000000000001", 0),
        (["1E+3", "1"], "1001", 0),
    ],
)
def test_costs_are_summed_exactly(holding: Holding, amounts: list[str | None], total: str | None, without: int) -> None:
    summary = only(holding(*(made(f"c{at}", usd=usd) for at, usd in enumerate(amounts))))
    assert summary.cost_usd == (None if total is None else Decimal(total))
    assert summary.calls_without_cost == without


@pytest.mark.parametrize(
    ("outcomes", "errors", "cancelled"),
    [
        (["success"], 0, 0),
        (["error", "timeout", "success"], 2, 0),
        (["cancelled", "cancelled", "started"], 0, 2),
        (["error", "cancelled"], 1, 1),
    ],
)
def test_failed_and_cancelled_calls_are_counted_separately(
    holding: Holding, outcomes: list[Any], errors: int, cancelled: int
) -> None:
    summary = only(holding(*(made(f"c{at}", outcome=outcome) for at, outcome in enumerate(outcomes))))
    assert (summary.calls, summary.errors, summary.cancelled) == (len(outcomes), errors, cancelled)


@pytest.mark.parametrize(
    ("seconds", "days"),
    [
        ([-1e-9, 0], {"2025-10-09": 1, "2025-10-10": 1}),
        ([0, DAY - 1e-9], {"2025-10-10": 2}),
        ([DAY - 1e-9, DAY], {"2025-10-10": 1, "2025-10-11": 1}),
        ([-DAY, -DAY - 1e-9], {"2025-10-09": 1, "2025-10-08": 1}),
        ([83 * DAY - 1e-9, 83 * DAY], {"2025-12-31": 1, "2026-01-01": 1}),
        ([142 * DAY, 141 * DAY], {"2026-02-28": 1, "2026-03-01": 1}),
    ],
)
def test_days_end_at_midnight_utc(holding: Holding, seconds: list[float], days: dict[str, int]) -> None:
    calls = [made(f"c{at}") for at in range(len(seconds))]
    moved = [
        msgspec.structs.replace(
            call,
            timing=msgspec.structs.replace(
                call.timing, start_ns=MIDNIGHT_NS + _exact_ns(second), duration_ns=2 * SECOND
            ),
        )
        for call, second in zip(calls, seconds, strict=True)
    ]
    assert {summary.key: summary.calls for summary in holding(*moved).summary("day")} == days


def _exact_ns(seconds: float) -> int:
    whole = round(seconds)
    return whole * SECOND + (0 if seconds == whole else -1)


@pytest.mark.parametrize(
    ("by", "keys"),
    [
        ("model", [("m1", 3), ("m2", 2), (None, 1)]),
        ("provider", [("openai", 4), ("anthropic", 2)]),
        ("session", [(None, 3), ("s1", 2), ("s2", 1)]),
        ("day", [("2025-10-10", 5), ("2025-10-11", 1)]),
    ],
)
def test_the_largest_group_comes_first(holding: Holding, by: Any, keys: list[tuple[str | None, int]]) -> None:
    reader = holding(
        made("a", provider="openai", model="m1", session_id="s1"),
        made("b", provider="openai", model="m1", response_model="m2"),
        made("c", provider="openai", response_model="m2", session_id="s1"),
        made("d", provider="anthropic", model="m1"),
        made("e", provider="anthropic", model="m2", session_id="s2"),
        made("f", DAY, provider="openai"),
    )
    assert [(summary.key, summary.calls) for summary in reader.summary(by)] == keys


def test_groups_of_one_size_are_in_the_order_of_their_keys(holding: Holding) -> None:
    reader = holding(*(made(name, model=name or None) for name in ("b", "c", "a")), made("none"))
    assert [summary.key for summary in reader.summary("model")] == [None, "a", "b", "c"]


def test_no_calls_give_no_groups(holding: Holding) -> None:
    reader = holding(made("a", outcome="error"))
    assert list(reader.summary("day", CallFilter(errors=False))) == []


@pytest.mark.parametrize(
    ("times", "p50", "p95"),
    [
        ([10], 10, 10),
        ([10, 20], 15, 19.5),
        ([30, 10, 20], 20, 29),
        ([1, 2, 3, 4, 1000], 3, 800.8),
    ],
)
def test_times_are_those_of_calls_that_succeeded_and_reported_them(
    holding: Holding, times: list[int], p50: float, p95: float
) -> None:
    calls = [made(f"c{at}", duration_ns=ms * 10**6, first_token_ns=ms * 10**5) for at, ms in enumerate(times)]
    others = [
        made("failed", outcome="error", duration_ns=10**15, first_token_ns=10**15),
        made("stopped", outcome="cancelled", duration_ns=10**15),
        made("silent"),
    ]
    summary = only(holding(*calls, *others))
    assert (summary.p50_ms, summary.p95_ms) == (pytest.approx(p50), pytest.approx(p95))
    assert summary.ttft_p50_ms == pytest.approx(p50 / 10)


def test_times_without_a_source_are_unknown(holding: Holding) -> None:
    summary = only(holding(made("a"), made("b", outcome="error", duration_ns=5)))
    assert (summary.p50_ms, summary.p95_ms, summary.ttft_p50_ms) == (None, None, None)


@pytest.mark.parametrize(("counts", "total"), [([None], None), ([0, None], 0), ([2, 1, None], 3)])
def test_retries_are_added_where_they_are_known(holding: Holding, counts: list[int | None], total: int | None) -> None:
    assert only(holding(*(made(f"c{at}", retries=number) for at, number in enumerate(counts)))).retries == total


def test_the_last_time_of_a_group_is_the_latest_end_of_its_calls(holding: Holding) -> None:
    summary = only(holding(made("long", 0, duration_ns=9 * SECOND), made("open", 5), made("short", 3, duration_ns=1)))
    assert (summary.first_ns, summary.last_ns) == (MIDNIGHT_NS, MIDNIGHT_NS + 9 * SECOND)


def test_a_filter_holds_for_sums_too(holding: Holding) -> None:
    reader = holding(
        made("a", model="m", input_tokens=1), made("b", 1, model="m", input_tokens=10), made("c", 2, model="n")
    )
    assert only(reader, "model", model="m", since_ns=MIDNIGHT_NS + 1).input_tokens == 10
