"""Tables fit the screen: the least important columns are dropped first, none is too narrow."""

from __future__ import annotations

import pytest
from rich.text import Text

from callspan.cli.screen import Column, fitted
from callspan.formatting import UNKNOWN

from .conftest import drawn

COLUMNS = (Column("started", rank=2), Column("name", shrinks=True), Column("cost", right=True, rank=1, known=True))
ROWS = [("10:30:59", "a long name that goes on", "$0.10"), ("10:31:00", "short", "$12.34")]


def shown(width: int, rows: list[tuple[str, str, str]] = ROWS) -> list[str]:
    return drawn(fitted(COLUMNS, rows, width)).splitlines()


def test_a_wide_screen_shows_every_column_completely() -> None:
    assert shown(60) == [
        "started   name                        cost",
        "10:30:59  a long name that goes on   $0.10",
        "10:31:00  short                     $12.34",
    ]


@pytest.mark.parametrize(
    ("width", "head"),
    [(42, "started   name                        cost"), (30, "started   name            cost"),
     (24, "started  name       cost"), (23, "name               cost"), (15, "name       cost"), (14, "name")],
)  # fmt: skip
def test_columns_shrink_first_then_gaps_then_columns_are_dropped_by_rank(width: int, head: str) -> None:
    lines = shown(width)
    assert lines[0] == head
    assert max(map(len, lines)) <= width


def test_truncated_cells_end_with_an_ellipsis() -> None:
    assert shown(15)[1:] == ["a long …   $0.10"[:15], "short     $12.34"[:15]] or "…" in shown(15)[1]


def test_a_column_without_known_values_is_dropped() -> None:
    assert "cost" not in shown(80, [("1", "a", UNKNOWN), ("2", "b", UNKNOWN)])[0]
    assert "cost" in shown(80, [("1", "a", UNKNOWN), ("2", "b", "$1.00")])[0]


def test_a_table_without_rows_has_only_its_head() -> None:
    assert shown(80, []) == ["started  name"]


def test_wide_characters_count_twice() -> None:
    lines = drawn(fitted((Column("a"), Column("b")), [(Text("日本"), "x"), (Text("ab"), "y")], 80)).splitlines()
    assert lines == ["a     b", "日本  x", "ab    y"]
