"""Formats: the published schema of records; a store of another format is refused in one sentence, and never changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from tests.support.commands import ask
from tests.support.processes import ran

from callspan import erase, open_store
from callspan.records import (
    FORMAT,
    CallRecord,
    OtherFormatError,
    RewardRecord,
    decode,
    encode,
)
from callspan.stores import CallFilter, find_store

from .conftest import Delivery, Records

OTHERS = [1, FORMAT - 1, FORMAT + 1]
SENTENCE = (
    "{} has format {}, this callspan has format {}: move it away, or read it with the version that wrote it"
    " (callspan export)"
)
OF_FILES = "{0} has another layout; load it into a new file: callspan import {0} --into "


def run_postgres(url: str, other: int) -> Callable[[], object]:
    import psycopg

    with psycopg.connect(url) as connection:
        connection.execute("UPDATE callspan_layout SET version = %s", (other,))

    def content() -> object:
        with psycopg.connect(url) as connection:
            sql = "SELECT (SELECT count(*) FROM calls), (SELECT max(version) FROM callspan_layout)"
            return connection.execute(sql).fetchone()

    return content


def run_sqlite(url: str, other: int) -> Callable[[], object]:
    path = Path(url.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={other}")
    return path.read_bytes


MAKE = {"sqlite": run_sqlite, "postgresql": run_postgres}


@pytest.mark.parametrize("other", OTHERS)
def test_a_store_of_another_format_is_refused_and_not_changed(
    url: str, records: Records, store: Delivery, other: int
) -> None:
    """By writers, readers, the removal of records and the test of `doctor`."""
    store.write(records.call())
    store.close()
    content = MAKE[url.partition(":")[0]](url, other)
    before = content()
    found = find_store(url)
    sink = found.sink()
    sentence = (OF_FILES if url.startswith("sqlite") else SENTENCE).format(found.path or found.name, other, FORMAT)
    attempts: list[Callable[[], Any]] = [
        sink.open, *[lambda: sink.deliver([records.session()])] * 2, lambda: open_store(url),
        found.try_out,
    ]  # fmt: skip
    for attempt in attempts:
        with pytest.raises(OtherFormatError) as refused:
            attempt()
        assert str(refused.value).startswith(sentence)
    receipt = erase(url, CallFilter(user="u1"))
    by_id = erase(url, calls=["c"])
    rewarded = ask("--store", url, "calls", "--rewards")
    assert rewarded.code == 2
    for one in (receipt.stores[0].left, by_id.stores[0].left, rewarded.err.replace("\n", " ")):
        assert sentence in str(one)
    assert content() == before


ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = msgspec.json.decode((ROOT / "docs" / "call_record.schema.json").read_bytes())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_records_of_every_kind_follow_it(validator: Draft202012Validator, records: Records) -> None:
    for record in [*records.every_kind(), records.call(part="started", outcome="in_progress", response=None)]:
        validator.validate(msgspec.json.decode(encode(record)))


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "nonsense"},
        {"call_id": None},
        {"outcome": "ok"},
        {"cost": {"usd": 0.1, "source": "x"}},
    ],
)
def test_what_breaks_the_schema_is_refused(
    validator: Draft202012Validator, records: Records, change: dict[str, object]
) -> None:
    line = msgspec.json.decode(encode(records.call()))
    assert validator.is_valid(line)
    assert validator.is_valid(line | {"brand_new": 1})
    assert not validator.is_valid(line | change)


def test_records_of_earlier_versions_can_still_be_read() -> None:
    """They left out what had its default."""
    old = b'{"kind":"call","call_id":"old","schema_version":%d,"api":"responses","timing":{"start_ns":1}}' % FORMAT
    call = decode(old)
    assert isinstance(call, CallRecord)
    assert (call.outcome, call.operation, call.part) == ("success", "chat", "ended")
    assert (call.request.stream, call.rate_limited) == (None, None)
    assert decode(encode(call)) == call
    reward = decode(b'{"kind":"reward","reward_id":"r","schema_version":%d,"value":1.0,"time_ns":5}' % FORMAT)
    assert isinstance(reward, RewardRecord)
    assert (reward.objective, reward.scope) == ("reward", "event")


def test_the_printed_script_creates_the_tables(tmp_path: Path) -> None:
    printed, ours = tmp_path / "printed.db", tmp_path / "ours.db"
    with closing(sqlite3.connect(printed)) as connection:
        connection.executescript(ran("-m", "callspan.stores.schema", "sqlite", cwd=tmp_path).stdout)
    Delivery(f"sqlite:///{ours}").close()
    made = []
    for path in (printed, ours):
        with closing(sqlite3.connect(path)) as connection:
            made.append(connection.execute("SELECT name, sql FROM sqlite_master ORDER BY 1").fetchall())
    assert made[0] == made[1] != []
    # The file is complete for a writer that opens it next.
    Delivery(f"sqlite:///{printed}").close()
