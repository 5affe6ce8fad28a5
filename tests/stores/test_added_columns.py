"""A new record field is one row of `columns`: old files and databases get its column, old and new rows are read."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tests.points import points

from callspan.record.call import CallRecord, ErrorInfo
from callspan.record.events import SessionRecord
from callspan.record.usage import Usage
from callspan.stores import sql_reader
from callspan.stores.columns import CALLS, LAYOUT, SESSIONS, TABLES, Column, Table
from callspan.stores.schema import DIALECTS, main, statements
from callspan.stores.sqlite import file as sqlite_file
from callspan.stores.urls import open_store

from .conftest import START_NS, Delivery, Records

NEXT = LAYOUT + 1
AUDIO = Column("audio_tok", ("usage", "input_audio_tokens"), "int", since=NEXT)
TROUBLE = Column("trouble", ("error", "message"), "word", since=NEXT)


@pytest.fixture
def upgrade(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Make this process one of the next release, which has two more columns."""

    def upgraded() -> None:
        calls = CALLS._replace(columns=(*CALLS.columns, AUDIO))
        sessions = SESSIONS._replace(columns=(*SESSIONS.columns, TROUBLE))
        for table in (calls, sessions):
            monkeypatch.setitem(TABLES, table.kind, table)
        monkeypatch.setattr(sql_reader, "CALLS", calls)
        monkeypatch.setattr(sql_reader, "SESSIONS", sessions)
        for place in ("postgres.connection", "clickhouse.connection"):
            with contextlib.suppress(ImportError):
                monkeypatch.setattr(f"callspan.stores.{place}.LAYOUT", NEXT)
        later = partial(sqlite_file._migrate, layout=NEXT)
        monkeypatch.setattr(sqlite_file, "MIGRATIONS", (*sqlite_file.MIGRATIONS, later))

    return upgraded


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgres", marks=pytest.mark.postgres),
        pytest.param("clickhouse", marks=pytest.mark.clickhouse),
    ]
)
def sql_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/calls.db"
    return str(request.getfixturevalue(f"{request.param}_url"))


def test_an_older_store_gets_the_new_columns_and_loses_nothing(
    sql_url: str, records: Records, upgrade: Callable[[], None], deliver: Callable[[str], Delivery]
) -> None:
    def call(session_id: str, tokens: int) -> CallRecord:
        return records.call(session_id=session_id, usage=Usage(input_tokens=9, input_audio_tokens=tokens))

    def run(session_id: str) -> SessionRecord:
        return records.session(session_id, start_ns=START_NS, error=ErrorInfo(kind="api", type="E", message="Oh no."))

    old = deliver(sql_url)
    old.write(call("a", 4), run("a"))
    before = [*old.read().calls()]
    old.sink.close()
    upgrade()
    # A reader of the new release before any writer of it.
    reader = open_store(sql_url)
    assert [*reader.calls()] == before
    reader.close()
    new = deliver(sql_url)
    new.segment = "2-b.seg"
    new.write(call("b", 5), run("b"))
    reader = new.read()
    found = {one.place.session_id: one for one in reader.calls()}
    assert found["a"] == before[0]
    assert {name: one.usage and one.usage.input_audio_tokens for name, one in found.items()} == {"a": 4, "b": 5}
    errors = {one.session.session_id: one.session.error for one in reader.sessions()}
    assert {name: error and error.message for name, error in errors.items()} == {"a": "Oh no.", "b": "Oh no."}
    assert isinstance(reader, sql_reader.SqlReader)
    assert list(reader._tuples("SELECT session_id, audio_tok FROM calls ORDER BY 1")) == [("a", None), ("b", 5)]
    assert list(reader._tuples("SELECT session_id, trouble FROM sessions ORDER BY 1")) == [("a", None), ("b", "Oh no.")]


def test_a_later_layout_does_not_change_the_first_one() -> None:
    tables = [_with(table, AUDIO) if table is CALLS else table for table in TABLES.values()]
    for dialect in DIALECTS:
        assert statements(dialect, 1, tables) == statements(dialect, 1)
        (added,) = statements(dialect, NEXT, tables)
        assert added.startswith(f"ALTER TABLE {'call_rows' if dialect == 'sqlite' else 'calls'} ADD COLUMN")
        assert statements(dialect, NEXT) == []


def test_columns_of_later_layouts_may_be_unknown() -> None:
    """Rows that are there already have no value for them."""
    later = [column for table in TABLES.values() for column in table.columns if column.since > 1]
    assert not any(column.required for column in later)


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


@points("arguments", [[], ["nonsense"], ["sqlite", "postgres"]])
def test_the_script_of_no_known_dialect_is_wrong_usage(arguments: list[str]) -> None:
    assert main(arguments) == 2


def _with(table: Table, column: Column) -> Table:
    return table._replace(columns=(*table.columns, column))
