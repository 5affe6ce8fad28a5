"""A store that keeps less content than another: what is delivered to it has none of the rest."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.points import points

from callspan.cli.commands import callspan
from callspan.delivery.recorder import store_sinks
from callspan.record.call import ErrorInfo
from callspan.record.codec import encode
from callspan.record.events import EventRecord, MessageRecord, RewardRecord
from callspan.settings import SettingError, Settings
from callspan.spool.directory import store_keys
from callspan.spool.sink import Entry
from callspan.stores.spools import spool_directory
from callspan.stores.sql_reader import SqlReader
from callspan.stores.urls import find_store, open_store

from .conftest import START_NS, Records

CANARY = "open sesame"


def with_option(url: str, option: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{option}"


@pytest.mark.parametrize("level", ["metadata", "off"])
def test_a_store_keeps_less_than_another(url: str, level: str, records: Records, tmp_path: Path) -> None:
    whole = f"sqlite:///{tmp_path}/whole.db"
    call = records.call(
        [{"role": "user", "content": CANARY}],
        CANARY,
        session_id="s1",
        error=ErrorInfo(kind="x", type="E", message=CANARY),
    )
    payloads = [
        encode(one)
        for one in (
            records.session(start_ns=START_NS, name="chat"),
            call,
            EventRecord(event_id="e", session_id="s1", event_type="tool", time_ns=START_NS, data={"result": CANARY}),
            MessageRecord(message_id="m", session_id="s1", message_type="plan", time_ns=START_NS, content=CANARY),
            RewardRecord(reward_id="r", session_id="s1", value=1.0, annotation=CANARY, time_ns=START_NS),
        )
    ]
    # A field of a newer version is not kept either, and what is no record is not set aside as it is.
    payloads[1] = payloads[1][:-1] + b',"later":"' + CANARY.encode() + b'"}'
    poison = f'{{"kind":"call","text":"{CANARY}"'.encode()
    for place in (whole, with_option(url, f"content={level}")):
        (sink,) = store_sinks(place)
        sink.open()
        sink.deliver([Entry("1-a.seg", at, at + 1, payload) for at, payload in enumerate(payloads)])
        for at, payload in enumerate([poison, payloads[1]], len(payloads)):
            sink.set_aside(Entry("1-a.seg", at, at + 1, payload), f"bad: {at}")
        sink.close()
    with contextlib.closing(open_store(whole)) as reader:
        (kept,) = reader.calls()
        assert (kept.content_level, CANARY in str(kept)) == ("full", True)
    with contextlib.closing(open_store(with_option(url, f"content={level}"))) as reader:
        (found,) = reader.calls()
        assert (found.call_id, found.content_level, found.usage) == (call.call_id, level, call.usage)
        assert len(list(reader.events("s1"))) == 3
        assert CANARY not in str([found, *reader.events("s1"), *reader.sessions()])
        if isinstance(reader, SqlReader) and not url.startswith("jsonl"):
            for table in ("content", "dead_letter", "calls", "events", "messages", "rewards"):
                rows = [bytes(one) if isinstance(one, memoryview) else one
                        for row in reader._tuples(f"SELECT * FROM {table}") for one in row]  # fmt: skip
                assert CANARY not in str(rows), table
    if url.startswith(("sqlite", "jsonl")):
        files = [one for one in tmp_path.iterdir() if one.is_file() and not one.name.startswith("whole")]
        assert files
        assert not [one.name for one in files if CANARY.encode() in one.read_bytes()]


@pytest.mark.parametrize("other", ["sqlite:///{place}/calls.db", "sqlite:///{place}/./calls.db"])
def test_the_stricter_holds_where_a_store_is_named_twice(other: str, records: Records, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/calls.db"
    for sink in store_sinks([url, f"{other.format(place=tmp_path)}?content=off"]):
        sink.open()
        sink.deliver([Entry("1-a.seg", 0, 1, encode(records.call(answer=CANARY)))])
        sink.close()
    with contextlib.closing(open_store(url)) as reader:
        assert CANARY not in str(list(reader.calls()))


SPELLINGS = [
    "postgres://host/db postgresql://host:5432/db POSTGRESQL://HOST/db postgresql://h%6fst./%64b",
    "postgresql://host/db postgresql://ann:x@host/db postgresql:///db?host=host postgresql://host?dbname=db&sslmode=off",
    "postgresql://localhost/db postgresql://127.0.0.1:5432/db postgresql://[::1]/db postgresql:///db?port=5432",
    "postgresql://ann@h postgresql://h/ann postgresql://h?user=ann",
    "postgresql://a,b:5433/db postgresql:///db?host=b,a&port=5433,5432",
    "clickhouse://host clickhouse://HOST:8123/default clickhouse+http://bob@host/",
    "clickhouse://host?secure=true clickhouse+https://host:8443/default",
    "postgresql://%2Frun%2FPG/db postgresql:///db?host=/run/PG",
]


@pytest.mark.parametrize("urls", [pytest.param(one.split(), id=one.split()[0]) for one in SPELLINGS])
def test_the_stricter_holds_however_a_server_is_spelled(urls: list[str]) -> None:
    for other in urls[1:]:
        for pair in ([urls[0], with_option(other, "content=metadata")], [with_option(urls[0], "content=off"), other]):
            (level,) = {one.content for one in map(find_store, pair)} - {"full"}
            assert {getattr(sink, "keeps", "") for sink in store_sinks(pair)} == {f" content={level}"}, pair


def test_other_databases_are_others() -> None:
    others = ["postgresql://h/dB", "postgresql://h:1/db", "postgresql://i/db", "clickhouse://h/db"]
    sinks = store_sinks(["postgresql://h/db", *(with_option(one, "content=off") for one in others)])
    assert [getattr(sink, "keeps", "") for sink in sinks] == ["", *[" content=off"] * 4]


def test_what_waits_for_a_server_waits_for_it_however_it_is_spelled(tmp_path: Path) -> None:
    one, other = "postgres://ann:x@HOST/db", "postgresql://ann:y@host:5432/db"
    assert store_keys(tmp_path, store_sinks(one)) == store_keys(tmp_path, store_sinks(other))
    assert spool_directory(Settings(), (one,)) == spool_directory(Settings(), (other,))
    both = ("clickhouse://host", one)
    assert spool_directory(Settings(), both) == spool_directory(Settings(), both[::-1])
    assert spool_directory(Settings(), (one,)) != spool_directory(Settings(), (one.replace("ann", "bob"),))


@points("option", ["content=none", "content=", "content=Full", "Content=all", "content=off&content=x"])
@pytest.mark.parametrize("base", ["sqlite:///a.db", "postgresql://host/db?sslmode=require", "clickhouse://host/db"])
def test_what_is_no_level_is_an_error(base: str, option: str) -> None:
    with pytest.raises(SettingError, match="none of full, metadata, off"):
        find_store(with_option(base, option))


@pytest.mark.parametrize("url", ["sqlite:///a.db#content=off", "clickhouse://h/db?a=1;content=off", "a.db;Content=off"])
def test_a_level_that_is_no_part_of_the_query_is_an_error(url: str) -> None:
    with pytest.raises(SettingError):
        find_store(url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://h/db?content=off&sslmode=require", ("postgresql://h/db?sslmode=require", "off")),
        ("postgresql://h/db?sslmode=require&CONTENT=metadata", ("postgresql://h/db?sslmode=require", "metadata")),
        ("clickhouse://h/db?content=off&content=full", ("clickhouse://h/db", "off")),
        ("sqlite:///a.db?content=full", ("sqlite:///a.db", "full")),
    ],
)
def test_the_driver_is_not_given_the_level(url: str, expected: tuple[str, str]) -> None:
    store = find_store(url)
    assert (store.url, store.content) == expected
    again = find_store(store.absolute_url)
    assert again.content == store.content
    plain = find_store(expected[0])
    assert (store.identity == plain.identity) == (store.content == "full")


@pytest.mark.parametrize("url", ["sqlite:///{}/a.db", "jsonl:///{}/a.jsonl", "postgresql://u@host/db"])
def test_what_waits_for_a_store_that_keeps_less_is_not_for_one_that_keeps_all(url: str, tmp_path: Path) -> None:
    """A command that names the store without its level would deliver everything."""
    plain = url.format(tmp_path)
    keys = [*store_keys(tmp_path, store_sinks(plain))]
    for level in ("full", "metadata", "off"):
        keys += store_keys(tmp_path, store_sinks(f"{plain}?content={level}"))
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_doctor_shows_the_level(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/calls.db?content=metadata"
    answer = CliRunner().invoke(callspan, ["--store", url, "doctor"])
    assert re.search(r"calls\.db .*content is metadata", " ".join(answer.stdout.split()))
