"""Which tests are slow is said in one place, and what it names is there."""

from __future__ import annotations

from pathlib import Path

from tests.nightly import FILES

ROOT = Path(__file__).parents[2]


def test_at_most_thirty_files_are_left_to_the_night_and_all_of_them_are_there() -> None:
    assert len(FILES) <= 30
    assert [file for file in FILES if not (ROOT / file).is_file()] == []
