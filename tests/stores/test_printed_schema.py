"""The script that creates the tables manually."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from callspan.stores.schema import main
from callspan.stores.sqlite import file as sqlite_file


def test_the_printed_script_creates_the_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sqlite"]) == 0
    path = tmp_path / "calls.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(capsys.readouterr().out)
        made = connection.execute("SELECT name, sql FROM sqlite_master ORDER BY 1").fetchall()
    ours = tmp_path / "ours.db"
    sqlite_file.open_for_writing(ours).close()
    with contextlib.closing(sqlite3.connect(ours)) as connection:
        assert made == connection.execute("SELECT name, sql FROM sqlite_master ORDER BY 1").fetchall()
    # The file is complete for a writer that opens it next.
    sqlite_file.open_for_writing(path).close()


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["sqlite", "postgres"]])
def test_the_script_of_no_known_dialect_is_wrong_usage(arguments: list[str]) -> None:
    assert main(arguments) == 2
