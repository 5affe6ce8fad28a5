"""How the command shortens ids and reads times."""

from __future__ import annotations

import click
import pytest

from callspan.cli.filter_options import MOMENT
from callspan.cli.json_rows import short_ids

A = "01a1f80a-6a2b-77e9-b42a-230a4ad2d2d1"
B = "01a1f80a-6a2b-7706-bad1-ad9a839f4ded"
C = "01a1f80a-6a2c-7000-bad1-ad9a839f4ded"


def test_an_id_is_shortened_to_a_unique_prefix() -> None:
    assert short_ids([A, B, C]) == {A: A[:18], B: B[:18], C: C[:13]}
    assert short_ids([A], besides=[B]) == {A: A[:18]}
    assert short_ids(["run-17"]) == {"run-17": "run-17"}
    assert short_ids([]) == {}


def test_an_id_that_is_a_prefix_of_another_is_not_shortened() -> None:
    shown = short_ids(["run-of-the-mill", "run-of-the-mill-2"])
    assert shown == {"run-of-the-mill": "run-of-the-mill", "run-of-the-mill-2": "run-of-the-mill-2"}


def test_ages_and_iso_times_are_accepted() -> None:
    def read(text: str) -> int:
        return MOMENT.convert(text, None, None)

    assert read("2026-11-20T08:01:40.498858Z") == 1_795_161_700_498_858_000
    assert read("2026-11-20T09:01:40+01:00") == 1_795_161_700_000_000_000
    assert abs(read("2h") - read("120m")) < 1_000_000_000
    assert read("1.5d") > read("2d")
    assert read("9999-12-31") == 2**63 - 1
    with pytest.raises(click.BadParameter, match="write 30m"):
        read("soon")
