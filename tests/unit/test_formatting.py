"""Formatting: numbers, money and times are written the same everywhere, and unknown is a dash, never 0."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from callspan import formatting
from callspan.formatting import UNKNOWN

MILLISECONDS = {
    0: "0 ms",
    0.04: "0.0 ms",
    9.94: "9.9 ms",
    9.96: "10 ms",
    812.4: "812 ms",
    999: "999 ms",
    999.6: "1.00 s",
    1_500: "1.50 s",
    59_960: "59.96 s",
    59_996: "1 min",
    60_000: "1 min",
    61_000: "1 min 01 s",
    125_000: "2 min 05 s",
    3_599_700: "1 h 00 min",
    93_784_000: "26 h 03 min",
}


@pytest.mark.parametrize(("ms", "shown"), MILLISECONDS.items())
def test_durations_have_a_unit_that_suits_their_size(ms: float, shown: str) -> None:
    assert formatting.milliseconds(ms) == shown
    assert formatting.duration(ms * 1e6) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [(None, UNKNOWN), (0, "0"), (7, "7"), (999, "999"), (1_000, "1k"), (1_234, "1.23k"), (3_400_000, "3.4M"),
     (5 * 10**9, "5G"), (0.5, "0.5"), (-12, "-12"), (999_499, "999k"), (999_950, "1M"), (-999_950, "-1M")],
)  # fmt: skip
def test_short_counts(number: float | None, shown: str) -> None:
    assert formatting.short_count(number) == shown


@pytest.mark.parametrize(
    ("input_tokens", "output_tokens", "shown"),
    [
        (None, None, UNKNOWN),
        (0, None, f"0→{UNKNOWN}"),
        (None, 0, f"{UNKNOWN}→0"),
        (0, 0, "0→0"),
        (12345, 6, "12,345→6"),
        (99_999, 100_000, "99,999→100k"),
    ],
)
def test_tokens_distinguish_zero_from_unknown(input_tokens: int | None, output_tokens: int | None, shown: str) -> None:
    assert formatting.tokens(input_tokens, output_tokens) == shown


@pytest.mark.parametrize(
    ("ns", "shown"),
    [
        (None, None),
        (0, "1970-01-01T00:00:00.000000Z"),
        (999, "1970-01-01T00:00:00.000000Z"),
        (1_000, "1970-01-01T00:00:00.000001Z"),
        (1_795_161_700_498_858_123, "2026-11-20T08:01:40.498858Z"),
        (2**63 - 1, "2262-04-11T23:47:16.854775Z"),
    ],
)
def test_iso_times_never_round_up(ns: int | None, shown: str | None) -> None:
    assert formatting.iso(ns) == shown


def test_a_time_of_today_is_a_time_and_any_other_has_its_day() -> None:
    noon = datetime.now(tz=timezone.utc).astimezone().replace(hour=12, minute=0, second=0, microsecond=0)
    assert formatting.local_time(int(noon.timestamp()) * 10**9) == "12:00:00"
    before = noon - timedelta(days=2)
    assert formatting.local_time(int(before.timestamp()) * 10**9).startswith(before.strftime("%Y-%m-%d "))
    assert formatting.local_time(None) == UNKNOWN
