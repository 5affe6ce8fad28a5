"""Formats: the schema of records, and `callspan import` of JSON Lines and ClickHouse."""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from tests.conftest import Instrument, Read
from tests.support.commands import ask
from tests.support.identities import GONE
from tests.support.left_behind import killed, losses_of
from tests.support.processes import ran
from tests.support.records import keep

from callspan import SettingError, erase, import_records, metadata, open_store, record_call
from callspan.records import FORMAT, OtherFormatError, Record, Timing, decode, encode
from callspan.stores import CallFilter, find_store

from .conftest import SECOND, START_NS, Deliver, Delivery, Records, clickhouse, left, run

OTHERS = [FORMAT + 1, 22]
SENTENCE = (
    "{} has format {}, this callspan has format {}: name a new file or database;"
    " this one is left unchanged for the version that wrote it"
)


def of_format(url: str, other: int) -> Callable[[], object]:
    """Let a store be of another format; return a function that returns what is in it."""
    if url.startswith("sqlite"):
        path = Path(url.removeprefix("sqlite:///"))
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA user_version={other}")
        return path.read_bytes
    psycopg = pytest.importorskip("psycopg")

    def ask_server(sql: str) -> Any:
        with psycopg.connect(url) as connection:
            return connection.execute(sql).fetchall()

    ask_server(f"UPDATE callspan_layout SET version = {other} RETURNING version")
    return lambda: ask_server("SELECT c.call_id, l.version FROM calls c, callspan_layout l")


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.transactional("changes the format by SQL of its own")
def test_other_format_is_rejected_unchanged(
    url: str, records: Records, store: Delivery, other: int, tmp_path: Path
) -> None:
    """By writers, readers, deletions, imports and the check of `doctor`."""
    store.write(records.call())
    store.close()
    content = of_format(url, other)
    before = content()
    found = find_store(url)
    sink = found.sink()
    sentence = SENTENCE.format(found.path or found.name, other, FORMAT)
    imported = partial(import_records, url, tmp_path / "into.db")
    for attempt in (sink.open, sink.open, partial(open_store, url), found.try_out, imported):
        with pytest.raises(OtherFormatError) as refused:
            attempt()
        assert str(refused.value).startswith(sentence)
    receipt = erase(url, CallFilter(user_id="u1"))
    by_id = erase(url, calls=["c"])
    rewarded = ask("--store", url, "calls", "--rewards")
    assert rewarded.code == 1
    for one in (receipt.stores[0].left, by_id.stores[0].left, rewarded.err.replace("\n", " ")):
        assert sentence in str(one)
    assert content() == before
    assert not (tmp_path / "into.db").exists()


@pytest.mark.postgres
@pytest.mark.parametrize("stated", [FORMAT + 1, FORMAT])
def test_records_wait_for_a_server_of_another_layout(postgres_url: str, records: Records, stated: int) -> None:
    """Also where the format that it states is today's: the missing column is said, and no record is rejected."""
    psycopg = pytest.importorskip("psycopg")
    keep(postgres_url, records.call())

    def change(*statements: str) -> None:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    change("ALTER TABLE calls DROP COLUMN retries CASCADE", f"UPDATE callspan_layout SET version = {stated}")
    killed(postgres_url, 3)
    said = ask("--store", postgres_url, "ship")
    assert said.code == 1
    assert ("has format" if stated != FORMAT else 'column "retries"') in " ".join((said.out + said.err).split())
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT count(*) FROM calls").fetchone() == (1,)
    assert not losses_of(postgres_url).rejected
    change("ALTER TABLE calls ADD COLUMN retries bigint", f"UPDATE callspan_layout SET version = {FORMAT}")
    assert ask("--store", postgres_url, "ship").code == 0
    assert len(left(postgres_url)[1]) == 4


@pytest.mark.parametrize("other", OTHERS)
def test_json_lines_of_another_format_are_rejected_unchanged(tmp_path: Path, records: Records, other: int) -> None:
    path = tmp_path / "a.jsonl"
    line = encode(records.call()).replace(b'"schema_version":%d' % FORMAT, b'"schema_version":%d' % other)
    path.write_bytes(b"no record\n" + line + b"\n")
    before = path.read_bytes()
    for attempt in (find_store(f"jsonl:///{path}").sink().open, partial(import_records, path, tmp_path / "into.db")):
        with pytest.raises(OtherFormatError) as refused:
            attempt()
        assert str(refused.value) == SENTENCE.format(path, other, FORMAT)
    assert path.read_bytes() == before
    assert not (tmp_path / "into.db").exists()


def test_lines_of_another_format_among_others_are_counted(tmp_path: Path, records: Records) -> None:
    """As a Collector's file has them that several versions sent to."""
    line = encode(records.call())
    other = line.replace(b'"schema_version":%d' % FORMAT, b'"schema_version":22')
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([line, other, b""]))
    counts = import_records(tmp_path / "a.jsonl", tmp_path / "into.db")
    assert (counts.records["calls"], counts.unreadable) == (1, 1)


ROOT = Path(__file__).parents[2]


def test_schema_matches_the_records(records: Records) -> None:
    schema = msgspec.json.decode((ROOT / "docs" / "call_record.schema.json").read_bytes())
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    for record in [*records.every_kind(), records.call(part="started", outcome="in_progress", response=None)]:
        validator.validate(msgspec.json.decode(encode(record)))
    line = msgspec.json.decode(encode(records.call()))
    assert validator.is_valid(line | {"brand_new": 1})
    for wrong in ({"kind": "nonsense"}, {"call_id": None}, {"outcome": "ok"}, {"cost": {"usd": 0.1, "source": "x"}}):
        assert not validator.is_valid(line | wrong), wrong


def test_absent_fields_have_their_default() -> None:
    old = b'{"kind":"call","call_id":"old","schema_version":%d,"api":"responses","timing":{"start_ns":1}}' % FORMAT
    call = decode(old)
    assert (call.outcome, call.operation, call.part) == ("success", "chat", "ended")
    assert (call.request.stream, call.rate_limited) == (None, None)
    assert decode(encode(call)) == call
    reward = decode(b'{"kind":"reward","reward_id":"r","schema_version":%d,"value":1.0,"time_ns":5}' % FORMAT)
    assert (reward.objective, reward.scope) == ("reward", "event")


def test_printed_script_creates_the_tables(tmp_path: Path) -> None:
    printed, ours = tmp_path / "printed.db", tmp_path / "ours.db"
    with closing(sqlite3.connect(printed)) as connection:
        connection.executescript(ran("-m", "callspan.stores.schema", "sqlite", cwd=tmp_path).stdout)
    keep(f"sqlite:///{ours}")
    made = []
    for path in (printed, ours):
        with closing(sqlite3.connect(path)) as connection:
            made.append(connection.execute("SELECT name, sql FROM sqlite_master ORDER BY 1").fetchall())
    assert made[0] == made[1] != []
    # The next writer that opens the file finds it complete.
    keep(f"sqlite:///{printed}")


def made(records: Records) -> list[Record]:
    """Every kind of record, a session and a call in two versions, a running call, and calls outside of sessions."""
    ended = records.session(version=2, end_ns=START_NS + 9 * SECOND, outcome="success")
    begun, runs = (
        records.call(call_id=name, part="started", outcome="in_progress", response=None) for name in ("twice", "runs")
    )
    loose = [records.call(call_id=f"c{number}", at_s=number, answer=f"answer {number}") for number in range(250)]
    return [*records.every_kind(), begun, runs, *loose, records.call(call_id="twice"), ended]


def content(url: str | Path) -> list[object]:
    with closing(open_store(url)) as reader:
        inner = [*reader.timesteps("s1"), *reader.events("s1")]
        return [*map(encode, reader.calls()), *reader.sessions(), *inner, *reader.rewards()]


@pytest.fixture
def wanted(tmp_path: Path) -> list[object]:
    """The content of a SQLite store to which the records were delivered directly."""
    return content(keep(f"sqlite:///{tmp_path}/wanted.db", *made(Records())))


@pytest.mark.parametrize(
    "source", ["jsonl:///{}/a.jsonl?max_bytes=50000", pytest.param("chdb", marks=pytest.mark.clickhouse), "{}/old.db"]
)
def test_import_equals_recording_and_is_idempotent(
    source: str, request: pytest.FixtureRequest, tmp_path: Path, deliver: Deliver, wanted: list[object]
) -> None:
    url = request.getfixturevalue("clickhouse_url") if source == "chdb" else source.format(tmp_path)
    store, records = deliver(url), made(Records())
    for start in range(0, len(records), 40):
        store.write(*records[start : start + 40])
    store.write(*records[:40])  # as after a crash
    store.close()
    into = tmp_path / "into.db"
    first = import_records(url.partition("?")[0], into)
    assert (first.unreadable, first.cut_off) == (0, [])
    assert content(into) == wanted
    assert import_records(url.partition("?")[0], into) == first
    assert content(into) == wanted
    later = import_records(url.partition("?")[0], tmp_path / "later.db", since_ns=START_NS + 247 * SECOND)
    assert later.records["calls"] == 3


def test_rotated_files_are_imported_and_damage_is_counted(
    tmp_path: Path, deliver: Deliver, wanted: list[object]
) -> None:
    path = tmp_path / "a.jsonl"
    store = deliver(f"jsonl:///{path}?max_bytes=30000")
    for record in made(Records()):
        store.write(record)
    rotated = sorted(tmp_path.glob("a.jsonl.[0-9]*"))
    assert len(rotated) > 3
    for broken in (b'{"kind":"call","call_id":"c1', b"\xff\xfe\n", b'{"kind":"nothing"}\n', b"\n"):
        rotated[1].write_bytes(rotated[1].read_bytes() + broken)
    said = run(f"sqlite:///{tmp_path}/into.db", "import", str(path))
    assert "2 records could not be read" in " ".join(said.split())
    assert content(tmp_path / "into.db") == wanted


def test_logrotate_files_are_imported(tmp_path: Path, deliver: Deliver) -> None:
    """By number or date, compressed or not; other files beside them are no part of the store."""
    path, records = tmp_path / "a.jsonl", Records()
    names = ["a.jsonl.1", "a.jsonl.2.gz", "a.jsonl-20261127", "a.jsonl-20261126.gz", "a.jsonl-20261125-1764115200"]
    others = ["a.jsonl.bak", "a.jsonl-old.gz", "b.jsonl.1", "a.jsonl.01", "a.jsonl.lock"]
    store = deliver(f"jsonl:///{path}?max_bytes=100000")
    for name in (*names, *others):
        store.write(records.call(call_id=name))
        data = path.read_bytes()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        path.unlink()
    store.write(records.call(call_id="now"))
    assert import_records(path, tmp_path / "into.db").unreadable == 0
    assert left(f"sqlite:///{tmp_path}/into.db")[1] == {*names, "now"}
    for name in names:
        import_records(tmp_path / name, tmp_path / f"of {name}.db")
        assert left(f"sqlite:///{tmp_path}/of {name}.db")[1] == {name}
    for name in ("a.jsonl.bak", "a.jsonl-old.gz"):
        with pytest.raises(SettingError, match="unknown kind of store"):
            import_records(tmp_path / name, tmp_path / "into.db")
    for number in range(20):
        store.write(records.call(answer="long " * 4000, call_id=f"more {number}"))
    assert (tmp_path / "a.jsonl.3").exists()
    assert gzip.decompress((tmp_path / "a.jsonl.2.gz").read_bytes())


def test_damaged_compressed_file_is_counted(tmp_path: Path, deliver: Deliver) -> None:
    deliver(f"jsonl:///{tmp_path}/a.jsonl").write(Records().call(call_id="now"))
    (tmp_path / "a.jsonl.1.gz").write_bytes(gzip.compress(b"\n" * 9)[:20])
    (tmp_path / "a.jsonl.2.gz").write_bytes(b"no gzip")
    counts = import_records(tmp_path / "a.jsonl", tmp_path / "into.db")
    assert (counts.records["calls"], counts.unreadable) == (1, 2)


@pytest.mark.transactional("imports into it, and erases")
def test_records_erased_in_the_target_are_counted_separately(url: str, tmp_path: Path, records: Records) -> None:
    source = keep(f"sqlite:///{tmp_path}/source.db", *records.every_kind(), records.call(call_id="other"))
    whole = import_records(source, url)
    erase(url, sessions="s1")
    again = import_records(source, url)
    assert whole.erased == 0
    assert (again.records["calls"], sum(again.records.values())) == (len(left(url)[1]), 1)
    assert (again.erased, again.unreadable) == (sum(whole.records.values()) - 1, 0)
    assert f"{again.erased} records had been erased from the target" in " ".join(run(url, "import", source).split())


@pytest.mark.postgres
def test_database_is_not_imported_into_itself(postgres_url: str, tmp_path: Path, records: Records) -> None:
    keep(postgres_url, records.call(call_id="whole"), records.call(call_id="broken", at_s=1))
    with pytest.raises(SettingError, match="cannot be loaded into itself"):
        import_records(postgres_url, postgres_url)
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(postgres_url) as connection:
        connection.execute("UPDATE calls SET outcome = 'nonsense' WHERE call_id = 'broken'")
    counts = import_records(postgres_url, tmp_path / "into.db")
    assert (counts.records["calls"], counts.unreadable) == (1, 1)


@pytest.mark.clickhouse
def test_clickhouse_marks_calls_of_a_dead_process_interrupted(clickhouse_url: str) -> None:
    killed = {"part": "started", "outcome": "in_progress", "process": GONE}
    keep(clickhouse_url, Records().call([], call_id="killed", response=None, **killed))
    assert "interrupted" in run(clickhouse_url, "show", "killed")


def told(path: Path) -> list[tuple[object, ...]]:
    with closing(open_store(path)) as reader:
        return [(bytes(one.request.body), one.outcome, one.stream) for one in reader.calls()]


def test_readable_part_of_a_damaged_file_is_imported(tmp_path: Path, records: Records) -> None:
    path, saved = tmp_path / "calls.db", tmp_path / "saved.db"
    sent = ([{"role": "user", "content": os.urandom(200).hex()}] for _ in range(300))
    calls = (records.call(one, at_s=number, model=f"model-{number}") for number, one in enumerate(sent))
    keep(f"sqlite:///{path}", *calls)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.seek(path.read_bytes().index(b"model-150") // 4096 * 4096)
        file.write(bytes(4096 * 3))
    (found,) = json.loads(run(f"sqlite:///{saved}", "import", "--damaged", str(path), "--json"))
    with closing(open_store(saved)) as reader:
        calls = list(reader.calls())
    assert len(calls) == found["records"]["calls"]
    assert 250 < len(calls) < 300, "from both ends to what is damaged"
    whole = [one for call in calls for one in (call.request, call.response) if one is not None and bytes(one.body)]
    assert found["bodies"] == 2 * len(calls) - len(whole)
    assert found["cut_off"] == ["calls"]


@pytest.mark.parametrize("options", ["notes.db", "--damaged notes.db", "missing.jsonl", "missing.db", "broken.db"])
def test_unreadable_sources(options: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.db").write_text("These are notes. " * 200)
    keep("sqlite:///broken.db", Records().call())
    with Path("broken.db").open("r+b") as file:
        file.truncate(4096)
    answer = ask("--store", "sqlite:///into.db", "import", *options.split())
    assert (answer.code, answer.err.startswith(f"Error: {options.rsplit(maxsplit=1)[-1]}: ")) == (1, True), answer.err
    assert not Path("into.db").exists()


@pytest.mark.parametrize(
    ("source", "into", "damaged", "why"),
    [
        ("{}/a.jsonl", "{}/b.jsonl", False, "takes no imports: load into SQLite or Postgres"),
        ("{}/a.db", "sqlite:///{}/a.db", False, "cannot be loaded into itself"),
        ("{}/a.jsonl", "{}/a.db", True, "is not a SQLite file"),
        ("unix:///a.sock", "{}/a.db", False, "name JSON Lines, ClickHouse, Postgres or a SQLite file"),
    ],
)
def test_invalid_sources_and_targets_fail(source: str, into: str, damaged: bool, why: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=why):
        import_records(source.format(tmp_path), into.format(tmp_path), damaged=damaged)


@pytest.mark.clickhouse
def test_clickhouse_finds_a_call_by_any_of_its_ids(clickhouse_url: str, records: Records) -> None:
    begun = records.call(call_id="one-1", part="started", outcome="in_progress", span_id="ab" * 8)
    whole = records.call([{"role": "user", "content": "Grüße"}], "42 is the answer", call_id="one-1", span_id="ab" * 8)
    keep(clickhouse_url, begun, whole, records.call(call_id="other", at_s=1))
    for ident in ("one-1", "one", "ab" * 8):
        assert "42 is the answer" in run(clickhouse_url, "show", ident)
    (found,) = [json.loads(run(clickhouse_url, "show", "one-1", "--json"))["record"]]
    assert found["request"]["body"]["messages"][0]["content"] == "Grüße"
    run(clickhouse_url, "show", "nobody", code=1)


@pytest.mark.clickhouse
def test_clickhouse_rows_expire_by_ttl(clickhouse_url: str, records: Records) -> None:
    store = find_store(clickhouse_url)
    store.retain_days = 30
    sink = store.sink()
    sink.open()
    sink.close()
    keep(clickhouse_url, *records.every_kind(), records.call(call_id="late", timing=Timing(start_ns=2**61)))
    with clickhouse(clickhouse_url) as client:
        for table in ("call_versions", "call_contents", "content_versions", "session_versions", "event_versions"):
            client.command(f"OPTIMIZE TABLE {table} FINAL")
            assert "toYYYYMMDD" in str(client.command(f"SHOW CREATE TABLE {table}")), "parts of a day expire as a whole"
        assert client.query("SELECT call_id FROM calls").result_rows == [("late",)]
        assert client.query("SELECT DISTINCT owner FROM contents").result_rows == [("c:late",)]
        assert client.query("SELECT count() FROM events").result_rows == [(0,)]


@pytest.mark.parametrize(
    ("spoil", "mended"),
    [
        (lambda line: line.replace(b'"cut"', rb'"cut \ud83d"'), 1),
        (lambda line: line.replace(b'"cut"', b'"cut \xf0\x9f"'), 1),
        (lambda line: line.replace(b'"cut"', b"NaN"), 1),
        (lambda line: b"\xef\xbb\xbf" + line, 0),
        (lambda line: line.replace(b'"cut"', rb'"whole \ud83d\ude00"'), 0),
        (lambda line: line.replace(b'"Hi"', rb'"a body \ud83d"'), 1),
        (lambda line: line.replace(b'"Hi"', b'"a body \xff"'), 1),
    ],
)
def test_import_reads_lines_that_others_wrote(
    instrumented: Instrument, reading: Read, tmp_path: Path, spoil: Callable[[bytes], bytes], mended: int
) -> None:
    handle = instrumented(stores=f"jsonl:///{tmp_path}/c.jsonl", sdks=())
    with metadata(note="cut"), record_call(provider="vllm", model="m") as call:
        call.request({"model": "m", "messages": [{"role": "user", "content": "Hi"}]})
    assert handle.force_flush()
    file = tmp_path / "c.jsonl"
    lines = file.read_bytes().splitlines()
    assert b'"cut"' in lines[-1]
    assert b'"Hi"' in lines[-1]
    file.write_bytes(b"\n".join([spoil(lines[-1]), b"{garbage"]))
    counts = import_records(file, tmp_path / "c.db")
    assert (counts.records["calls"], counts.mended, counts.unreadable) == (1, mended, 1)
    (call,) = reading(f"sqlite:///{tmp_path}/c.db").calls()
    assert json.loads(bytes(call.request.body))["model"] == "m"
