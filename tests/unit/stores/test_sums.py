"""Sums over calls: unknown stays unknown, costs are exact, days are UTC."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from callspan.stores import CallFilter, Reader, Summary

from .conftest import Holding, made

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
