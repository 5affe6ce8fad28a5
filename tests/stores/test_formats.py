"""A store of another format is refused by one sentence, and never changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from callspan.record.formats import FORMAT, OtherFormatError
from callspan.stores.retention import prune
from callspan.stores.urls import open_store, safe_name, sinks_for

from .conftest import Delivery, Records

OTHERS = [1, FORMAT - 1, FORMAT + 1]
SENTENCE = (
    "{} has format {}, this callspan has format {}: move it away, or read it with the version that wrote it"
    " (callspan export)"
)


def run_postgres(url: str, other: int) -> Callable[[], object]:
    import psycopg

    with psycopg.connect(url) as connection:
        connection.execute("UPDATE callspan_layout SET version = %s", (other,))

    def content() -> object:
        with psycopg.connect(url) as connection:
            sql = "SELECT (SELECT count(*) FROM calls), (SELECT max(version) FROM callspan_layout)"
            return connection.execute(sql).fetchone()

    return content


def run_clickhouse(url: str, other: int) -> Callable[[], object]:
    from callspan.stores.clickhouse.connection import connect

    with closing(connect(url)) as client:
        client.command("TRUNCATE TABLE callspan_layout")
        client.command(f"INSERT INTO callspan_layout VALUES ({other})")

    def content() -> object:
        with closing(connect(url)) as client:
            sql = "SELECT (SELECT count() FROM calls), (SELECT max(version) FROM callspan_layout)"
            return client.query(sql).result_rows

    return content


def run_sqlite(url: str, other: int) -> Callable[[], object]:
    path = Path(url.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={other}")
    return path.read_bytes


MAKE = {"sqlite": run_sqlite, "postgresql": run_postgres, "clickhouse": run_clickhouse, "chdb": run_clickhouse}


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgres", marks=pytest.mark.postgres),
        pytest.param("clickhouse", marks=pytest.mark.clickhouse),
    ]
)
def sql_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store/calls.db"
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.mark.parametrize("other", OTHERS)
def test_a_store_of_another_format_is_refused_and_not_changed(
    sql_url: str, records: Records, deliver: Callable[[str], Delivery], other: int
) -> None:
    """By writers, readers, the removal of records and the test of `doctor`."""
    store = deliver(sql_url)
    store.write(records.call())
    (entry,) = store.entries([records.session()])
    store.close()
    content = MAKE[sql_url.partition(":")[0].partition("+")[0]](sql_url, other)
    before = content()
    place = sql_url.removeprefix("sqlite:///") if sql_url.startswith("sqlite") else safe_name(sql_url)
    (sink,) = sinks_for(sql_url)
    attempts: list[Callable[[], Any]] = [
        sink.open, lambda: open_store(sql_url), lambda: prune(sql_url, 1), lambda: sink.try_out(entry),
    ]  # fmt: skip
    for attempt in attempts:
        with pytest.raises(OtherFormatError) as refused:
            attempt()
        assert str(refused.value) == SENTENCE.format(place, other, FORMAT)
    assert content() == before
