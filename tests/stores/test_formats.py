"""A store of another format is refused by one sentence, and never changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from callspan import erase
from callspan.cli.commands import callspan
from callspan.delivery.recorder import store_sinks
from callspan.records import FORMAT, OtherFormatError, encode
from callspan.spool.directory import store_keys
from callspan.spool.segment import Segment, encode_frame
from callspan.stores import CallFilter
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


def run_jsonl(url: str, other: int) -> Callable[[], object]:
    path = Path(url.removeprefix("jsonl:///"))
    ours, theirs = (f'"schema_version":{number}'.encode() for number in (FORMAT, other))
    path.write_bytes(path.read_bytes().replace(ours, theirs))
    path.with_name(f"{path.name}.lock").unlink()
    return lambda: {file.name: file.read_bytes() for file in path.parent.iterdir()}


MAKE = {
    "jsonl": run_jsonl,
    "sqlite": run_sqlite,
    "postgresql": run_postgres,
    "clickhouse": run_clickhouse,
    "chdb": run_clickhouse,
}


@pytest.fixture(
    params=[
        "sqlite",
        "jsonl",
        pytest.param("postgres", marks=pytest.mark.postgres),
        pytest.param("clickhouse", marks=pytest.mark.clickhouse),
    ]
)
def url_of_any(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param in {"sqlite", "jsonl"}:
        return f"{request.param}:///{tmp_path}/store/calls.db"
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.mark.parametrize("other", OTHERS)
def test_a_store_of_another_format_is_refused_and_not_changed(
    url_of_any: str, records: Records, deliver: Callable[[str], Delivery], other: int
) -> None:
    """By writers, readers, the removal of records and the test of `doctor`."""
    store = deliver(url_of_any)
    store.write(records.call())
    (entry,) = store.entries([records.session()])
    store.close()
    content = MAKE[url_of_any.partition(":")[0].partition("+")[0]](url_of_any, other)
    before = content()
    place = url_of_any.partition(":///")[2] if url_of_any.startswith(("sqlite", "jsonl")) else safe_name(url_of_any)
    (sink,) = sinks_for(url_of_any)
    attempts: list[Callable[[], Any]] = [
        sink.open, lambda: open_store(url_of_any), lambda: prune(url_of_any, 1), lambda: sink.try_out(entry),
    ]  # fmt: skip
    for attempt in attempts:
        with pytest.raises(OtherFormatError) as refused:
            attempt()
        assert str(refused.value) == SENTENCE.format(place, other, FORMAT)
    receipt = erase(url_of_any, CallFilter(user="u1"))
    by_id = erase(url_of_any, calls=["c"], everywhere=True)
    rewarded = CliRunner().invoke(callspan, ["--store", url_of_any, "calls", "--rewards"])
    assert rewarded.exit_code == 1
    for one in (receipt.stores[0].left, by_id.stores[0].left, rewarded.output.replace("\n", " ")):
        assert SENTENCE.format(place, other, FORMAT) in str(one)
    assert content() == before


def test_erasing_leaves_segments_of_another_format_as_they_are_and_says_so(
    tmp_path: Path, records: Records, deliver: Callable[[str], Delivery]
) -> None:
    url, spool = f"sqlite:///{tmp_path}/calls.db", tmp_path / "calls.db.spool"
    deliver(url).write(records.call(call_id="c"))
    spool.mkdir(exist_ok=True)
    segment = Segment.create(spool, store_keys(spool, store_sinks(url)))
    ours, theirs = (f'"schema_version":{number}'.encode() for number in (FORMAT, FORMAT - 1))
    payload = encode(records.call(call_id="c"))
    assert ours in payload
    segment.append(encode_frame(payload.replace(ours, theirs)))
    segment.release()
    before = segment.path.read_bytes()
    receipt = erase(url, calls=["c"])
    assert (receipt.stores[0].calls, receipt.is_complete) == (1, False)
    assert segment.path.name in str(receipt.stores[-1].left)
    assert segment.path.read_bytes() == before


def test_the_rotated_files_of_a_store_have_its_format_too(
    tmp_path: Path, records: Records, deliver: Callable[[str], Delivery]
) -> None:
    path = tmp_path / "calls.jsonl"
    store = deliver(f"jsonl:///{path}")
    store.write(records.call())
    rotated = path.rename(f"{path}.1")
    path.touch()
    rotated.write_bytes(rotated.read_bytes().replace(b'"schema_version":%d' % FORMAT, b'"schema_version":1'))
    with pytest.raises(OtherFormatError) as refused:
        open_store(store.url)
    assert str(refused.value) == SENTENCE.format(rotated, 1, FORMAT)


def test_a_file_that_another_format_replaced_gets_nothing(
    tmp_path: Path, records: Records, deliver: Callable[[str], Delivery]
) -> None:
    """Of a process that has it open, and of a reader."""
    path = tmp_path / "calls.jsonl"
    store = deliver(f"jsonl:///{path}")
    store.write(records.call())
    reader = store.read()
    path.rename(tmp_path / "away")
    path.write_bytes(theirs := b'{"kind":"call","call_id":"c","schema_version":1}\n')
    for attempt in (lambda: store.write(records.call()), lambda: list(reader.calls())):
        with pytest.raises(OtherFormatError):
            attempt()
    assert path.read_bytes() == theirs


def test_content_does_not_state_a_format(records: Records, deliver: Callable[[str], Delivery], tmp_path: Path) -> None:
    store = deliver(f"jsonl:///{tmp_path}/calls.jsonl")
    store.write(records.call([{"role": "user", "content": "x", "schema_version": 1}], call_id='"schema_version":1'))
    assert store.read().count_calls() == 1


def test_a_file_whose_head_was_cut_is_read_and_written_on(
    records: Records, deliver: Callable[[str], Delivery], tmp_path: Path
) -> None:
    """Whatever format the content of what is left of its first record states, however long that is."""
    path = tmp_path / "calls.jsonl"
    store = deliver(f"jsonl:///{path}")
    stating = {"role": "user", "content": "x" * 100_000, "kind": "call", "schema_version": 1}
    for _ in range(2):
        store.write(records.call([stating]))
    store.close()
    whole = path.read_bytes()
    path.write_bytes(whole[90:])
    assert open_store(store.url).count_calls() == 1
    deliver(store.url).write(records.call())
    assert open_store(store.url).count_calls() == 2
    path.write_bytes(whole[90:].replace(b'"schema_version":%d' % FORMAT, b'"schema_version":1'))
    with pytest.raises(OtherFormatError):
        open_store(store.url)
