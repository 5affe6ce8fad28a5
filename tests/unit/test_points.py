"""One test of many points fails with every point that does."""

from __future__ import annotations

import pytest

from tests.points import PointsError, points


def test_every_point_that_fails_is_named_and_the_first_is_the_cause() -> None:
    @points("number, wanted", [(1, 1), (2, 3), (4, 4), (5, 6)])
    def equal(number: int, wanted: int) -> None:
        assert number == wanted, "not so"

    with pytest.raises(PointsError) as raised:
        equal()
    lines = str(raised.value).splitlines()
    assert lines[0] == "2 of 4 points fail:"
    assert [line.partition(":")[0] for line in lines[1:]] == ["  number=2, wanted=3", "  number=5, wanted=6"]
    assert isinstance(raised.value.__cause__, AssertionError)


def test_points_of_points_are_named_with_both_and_by_their_ids() -> None:
    @points("b", [1, 2], ids=["one", "two"])
    @points("a", [1, 2], ids=str)
    def differ(a: int, b: int) -> None:
        if a == b:
            pytest.fail("alike")

    with pytest.raises(PointsError) as raised:
        differ()
    assert str(raised.value).split("\n") == [
        "2 of 2 points fail:",
        "  one: PointsError: 1 of 2 points fail:",
        "    a=1: Failed: alike",
        "  two: PointsError: 1 of 2 points fail:",
        "    a=2: Failed: alike",
    ]


def test_where_all_hold_nothing_is_reported_and_fixtures_are_left_to_pytest() -> None:
    seen = []

    @points("a", "xy")
    def takes(fixture: str, a: str) -> None:
        seen.append(fixture + a)

    takes(fixture="f")
    assert seen == ["fx", "fy"]
    assert list(takes.__signature__.parameters) == ["fixture"]  # type: ignore[attr-defined]


def test_no_points_and_unused_names_are_refused() -> None:
    with pytest.raises(AssertionError):
        points("a", [])
    with pytest.raises(AssertionError, match="does not take b"):
        points("b", [1])(lambda a: None)
