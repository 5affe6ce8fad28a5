"""How the command says numbers, times and ids."""

from __future__ import annotations

from decimal import Decimal

import click
import pytest

from callspan.cli.filters import MOMENT
from callspan.cli.rows import short_ids
from callspan.cli.screen import duration, iso, money, reward, tokens

A = "01a1f80a-6a2b-77e9-b42a-230a4ad2d2d1"
B = "01a1f80a-6a2b-7706-bad1-ad9a839f4ded"
C = "01a1f80a-6a2c-7000-bad1-ad9a839f4ded"


@pytest.mark.parametrize(
    ("usd", "said"),
    [
        (None, "\N{EN DASH}"),
        ("0", "$0.00"),
        ("0.00000043", "$0.000000430"),
        ("0.000144", "$0.000144"),
        ("0.5", "$0.500"),
        ("1", "$1.00"),
        ("1234.567", "$1234.57"),
    ],
)
def test_money_is_never_rounded_to_nothing(usd: str | None, said: str) -> None:
    assert money(None if usd is None else Decimal(usd)) == said


@pytest.mark.parametrize(
    ("ns", "said"),
    [
        (None, "\N{EN DASH}"),
        (0, "0 ms"),
        (1_234_000, "1.2 ms"),
        (812_400_000, "812 ms"),
        (1_240_000_000, "1.24 s"),
        (123e9, "2 min 03 s"),
    ],
)
def test_durations_are_said_as_people_do(ns: float | None, said: str) -> None:
    assert duration(ns) == said


def test_what_is_unknown_is_no_zero() -> None:
    assert tokens(None, None) == "\N{EN DASH}"
    assert tokens(0, None) == "0→\N{EN DASH}"
    assert reward(None) == "\N{EN DASH}"
    assert reward(0.0) == "+0"
    assert iso(None) is None


def test_iso_times_are_utc_and_exact_to_the_microsecond() -> None:
    assert iso(1_795_161_700_498_858_891) == "2026-11-20T08:01:40.498858Z"


def test_an_id_is_shortened_to_what_tells_it_from_its_neighbours() -> None:
    assert short_ids([A, B, C]) == {A: A[:18], B: B[:18], C: C[:13]}
    assert short_ids([A], besides=[B]) == {A: A[:18]}
    assert short_ids(["run-17"]) == {"run-17": "run-17"}
    assert short_ids([]) == {}


def test_one_id_that_begins_another_stays_whole() -> None:
    shown = short_ids(["run-of-the-mill", "run-of-the-mill-2"])
    assert shown == {"run-of-the-mill": "run-of-the-mill", "run-of-the-mill-2": "run-of-the-mill-2"}


def test_times_are_read_as_people_write_them() -> None:
    def read(text: str) -> int:
        return MOMENT.convert(text, None, None)

    assert read("2026-11-20T08:01:40.498858Z") == 1_795_161_700_498_858_000
    assert read("2026-11-20T09:01:40+01:00") == 1_795_161_700_000_000_000
    assert abs(read("2h") - read("120m")) < 1_000_000_000
    assert read("1.5d") > read("2d")
    assert read("9999-12-31") == 2**63 - 1
    with pytest.raises(click.BadParameter, match="write 30m"):
        read("soon")
