"""SQLite files that are damaged, dropped, newer, locked or read-only: the message for each, and the recovery."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from callspan.cli import commands
from callspan.cli.store_check import store_check
from callspan.records import FORMAT, encode
from callspan.spool.spool import Spool
from callspan.stores import StoreError
from callspan.stores.sqlite.reader import SQLiteReader
from callspan.stores.sqlite.recovery import recover
from callspan.stores.urls import open_store, sinks_for

from .conftest import Delivery, Records

CALLS = 300
PAGE = 4096
RECOVER = "recover what can be read: callspan recover"
NO_HEADER = "restore this one from a backup, or try `.recover` of sqlite.org's sqlite3"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file of 300 calls in 10 sessions, its log folded in."""
    path = tmp_path_factory.mktemp("good") / "calls.db"
    delivery, records = Delivery(f"sqlite:///{path}"), Records()
    for number in range(10):
        messages = [{"role": "user", "content": f"question {number} {random.Random(number).randbytes(90).hex()}"}]
        delivery.write(
            records.session(session_id=f"s{number}", start_ns=number),
            *(
                records.call(
                    [*messages, {"role": "user", "content": f"part {part} of {number}. " * 20}], session_id=f"s{number}"
                )
                for part in range(CALLS // 10)
            ),
        )
    delivery.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path, good: bytes) -> Path:
    made = tmp_path / "calls.db"
    made.write_bytes(good)
    return made


def run_sql(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def flip(path: Path, at: int) -> None:
    overwrite(path, at, bytes([path.read_bytes()[at] ^ 1]))


def damages() -> dict[str, Callable[[Path], object]]:
    def cut(path: Path) -> None:
        os.truncate(path, path.stat().st_size * 4 // 5)

    def hole(path: Path) -> None:
        size = path.stat().st_size
        overwrite(path, size // 2, bytes(size // 5))

    return {
        "cut": cut,
        "hole": hole,
        "first byte": lambda path: flip(path, 0),
        "page size": lambda path: flip(path, 17),
        "all zero": lambda path: overwrite(path, 0, bytes(path.stat().st_size)),
        "only text": lambda path: path.write_text("no database at all\n" * 100),
        "newer": lambda path: run_sql(path, "PRAGMA user_version = 99"),
        "of another program": lambda path: (path.unlink(), run_sql(path, "CREATE TABLE theirs (a)")),
        "calls dropped": lambda path: run_sql(path, "DROP TABLE calls"),
        "contents dropped": lambda path: run_sql(path, "DROP TABLE content"),
    }


EXPECTED = {
    "cut": RECOVER,
    "hole": RECOVER,
    "first byte": NO_HEADER,
    "page size": NO_HEADER,
    "all zero": "header is damaged (zero bytes after a power failure, say)",
    "only text": "another kind of file, or",
    "newer": f"has format 99, this callspan has format {FORMAT}: move it away, or read it with",
    "of another program": "an SQLite file of another application; name another file",
    "calls dropped": "calls missing (dropped?); restore the file from a backup, or move it away: a new one is made",
    "contents dropped": "content missing (dropped?); restore the file from a backup, or move it away: a new one is",
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_reading_says_what_is_wrong_and_what_to_do(path: Path, kind: str) -> None:
    damages()[kind](path)
    with pytest.raises(StoreError) as raised, contextlib.closing(open_store(path)) as reader:
        list(reader.calls())
    assert EXPECTED[kind] in str(raised.value)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("kind", EXPECTED)
def test_delivery_says_the_same_in_its_warning_and_loses_nothing(
    path: Path, kind: str, good: bytes, records: Records, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the file is put right under the running process: every record arrives, once."""
    damages()[kind](path)
    spool = Spool(path.with_name("spool"), sinks_for(f"sqlite:///{path}"))
    made = [records.call([{"role": "user", "content": f"q{one}"}], call_id=f"new-{one}") for one in range(20)]
    for record in made:
        spool.append(encode(record))
    if not spool.flush(0.2):
        assert any(EXPECTED[kind] in message for message in caplog.messages), caplog.messages
        path.with_name("new").write_bytes(good)
        for name in ("calls.db-wal", "calls.db-shm"):
            path.with_name(name).unlink(missing_ok=True)
        path.with_name("new").replace(path)
        assert spool.flush(20)
    spool.close(5)
    with contextlib.closing(open_store(path)) as reader:
        stored = [call.call_id for call in reader.calls()]
    assert len(stored) == len(set(stored)) == CALLS + len(made)


@pytest.mark.parametrize("kind", ["cut", "first byte", "only text", "newer", "calls dropped"])
def test_doctor_says_the_same(path: Path, kind: str) -> None:
    damages()[kind](path)
    trouble, _ = store_check(f"sqlite:///{path}")
    assert trouble is not None
    assert EXPECTED[kind] in trouble


def test_doctor_distinguishes_a_directory_from_an_empty_file(tmp_path: Path) -> None:
    directory = tmp_path / "calls.db"
    directory.mkdir()
    trouble, _ = store_check(f"sqlite:///{directory}")
    assert trouble == f"{directory} is a directory: name a file in it"


def test_a_locked_file_is_reported_as_locked(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="locked by another process; end that one, or wait for it"):
            SQLiteReader(path, wait_s=0.05)
        other.execute("ROLLBACK")


PROBE = """
import sys
from callspan.stores import StoreError
from callspan.stores.urls import open_store
try:
    reader = open_store(sys.argv[1])
    print(sum(1 for _ in reader.calls()))
except StoreError as error:
    print(error)
"""


def without_rights(path: Path) -> str:
    """Read a store in a process that has no rights but those of its user, root or not."""
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    if drop and shutil.which("setpriv") is None:
        pytest.skip("root may read and write everything, and setpriv is missing")
    done = subprocess.run([*drop, sys.executable, "-c", PROBE, str(path)], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr[-500:]


@pytest.mark.skipif(sys.platform != "linux", reason="needs the rights of Unix")
def test_missing_permissions_are_reported_and_a_file_in_a_read_only_directory_can_be_read(path: Path) -> None:
    path.chmod(0)
    assert "unable to open database file: no permission to read the file" in without_rights(path)
    path.chmod(0o400)
    assert without_rights(path).strip() == str(CALLS)
    try:
        path.parent.chmod(0o500)
        assert without_rights(path).strip() == str(CALLS)
        with contextlib.closing(sqlite3.connect(path)) as writer:
            writer.execute("CREATE TABLE theirs (a)")
            shutil.copy(path.with_name("calls.db-wal"), path.with_name("kept"))
        path.with_name("kept").replace(path.with_name("calls.db-wal"))
        assert "no permission to write the directory; copy the file and its -wal" in without_rights(path)
        path.parent.chmod(0)
        assert "ermission" in without_rights(path)
    finally:
        path.parent.chmod(0o700)


@pytest.mark.parametrize(("kind", "least"), [("cut", 150), ("hole", 100), ("bits", 200)])
def test_what_can_be_read_is_recovered(path: Path, kind: str, least: int) -> None:
    """Bodies are exact, or absent."""
    with contextlib.closing(open_store(path)) as reader:
        before = {call.call_id: call for call in reader.calls()}
    chance = random.Random(4)
    if kind == "bits":
        for _ in range(15):
            flip(path, chance.randrange(30_000, path.stat().st_size))
    else:
        damages()[kind](path)
    damaged, recovered = path.read_bytes(), path.with_name("calls-recovered.db")
    done = CliRunner().invoke(commands.callspan, ["recover", str(path), str(recovered), "--json"])
    assert done.exit_code == 0, done.output
    assert path.read_bytes() == damaged
    with contextlib.closing(open_store(recovered)) as reader:
        after = list(reader.calls())
        assert len(list(reader.sessions())) >= 1
    assert least <= len(after) == msgspec.json.decode(done.stdout)["calls"] <= CALLS
    bodies = [
        (bytes(call.request.body), bytes(before[call.call_id].request.body)) for call in after if call.call_id in before
    ]
    others = sum(found not in (b"", b"null", kept) for found, kept in bodies)
    assert others <= (CALLS // 20 if kind == "bits" else 0), "a changed reference between rows cannot be recognised"
    assert sum(found == kept for found, kept in bodies) > least // 2


def test_every_kind_of_record_is_recovered(tmp_path: Path, records: Records) -> None:
    delivery = Delivery(f"sqlite:///{tmp_path}/calls.db")
    delivery.write(*records.every_kind())
    run_sql(tmp_path / "calls.db", "INSERT INTO dead_letter VALUES ('1-a.seg:0', 'no record', x'00', 1)")
    recovered = recover(tmp_path / "calls.db", tmp_path / "new.db")
    assert min(recovered.records.values()) > 0
    assert (recovered.unread, recovered.cut_off, recovered.bodies) == ({}, [], 0)
    with contextlib.closing(open_store(tmp_path / "new.db")) as reader:
        assert list(reader.calls()) == list(delivery.read().calls())
        assert [*reader.timesteps("s1"), *reader.events("s1")] == [
            *delivery.read().timesteps("s1"), *delivery.read().events("s1"),
        ]  # fmt: skip
    delivery.close()


@pytest.mark.parametrize("kind", ["all zero", "calls dropped"])
def test_what_cannot_be_recovered_leaves_no_file(path: Path, kind: str) -> None:
    if kind == "calls dropped":
        run_sql(path, *(f"DELETE FROM {name}" for name in ("calls", "sessions")))
    else:
        damages()[kind](path)
    new = path.with_name("new.db")
    done = CliRunner().invoke(commands.callspan, ["recover", str(path), str(new)])
    assert done.exit_code == 1
    assert "restore" in done.stderr
    assert not new.exists()
    new.touch()
    assert "exists; name a new file" in CliRunner().invoke(commands.callspan, ["recover", str(path), str(new)]).stderr


def recovery_of(path: Path, *options: str) -> Result:
    return CliRunner().invoke(commands.callspan, ["recover", str(path), str(path.with_name("new.db")), *options])


def pages(path: Path, table: str) -> list[int]:
    """Pages below the root of a table, in the order of its keys."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    page = path.read_bytes()[(root - 1) * PAGE : root * PAGE]
    assert page[0] in {2, 5}, "the root is no interior page"
    cells = [int.from_bytes(page[at : at + 2], "big") for at in range(12, 12 + 2 * int.from_bytes(page[3:5], "big"), 2)]
    return [int.from_bytes(page[at : at + 4], "big") for at in cells]


def by_lookups(path: Path, table: str, key: str, keys: Sequence[object]) -> tuple[list[object], int]:
    """The keys of the rows that can be read one by one, and how many cannot be looked up."""
    found, failed = [], 0
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for one in keys:
            try:
                found += connection.execute(f"SELECT {key}, * FROM {table} WHERE {key} = ?", (one,)).fetchall()
            except sqlite3.DatabaseError:
                failed += 1
    return [row[0] for row in found], failed


@pytest.mark.parametrize("apart", [1, 5], ids=["side by side", "far apart"])
def test_every_row_behind_a_hole_is_recovered_and_the_hole_is_counted(path: Path, apart: int, records: Records) -> None:
    delivery = Delivery(f"sqlite:///{path}")
    delivery.write(*records.every_kind())
    delivery.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        names = [row[1] for row in connection.execute("PRAGMA table_info(events)")]
    copied = {name: name for name in names} | {"event_id": "'n' || i", "data": "json_object('a', hex(zeroblob(500)))"}
    run_sql(
        path,
        "WITH RECURSIVE n (i) AS (SELECT 2 UNION SELECT i + 1 FROM n WHERE i < 9000)"
        f" INSERT INTO events (rowid, {', '.join(copied)})"
        f" SELECT i * {apart}, {', '.join(copied.values())} FROM n, events WHERE event_id = 'e1'",
    )
    overwrite(path, (pages(path, "events")[2] - 1) * PAGE, bytes(PAGE))
    readable, failing = by_lookups(path, "events", "rowid", range(1, 9001 * apart))
    assert 5000 < len(readable) < 9000
    done = recovery_of(path, "--json")
    assert done.exit_code == 0, done.output
    found = msgspec.json.decode(done.stdout)
    assert found["events"] == len(readable)
    assert found["unread"] == {"events": failing}
    assert found["cut_off"] == []


def test_the_ids_and_bodies_that_cannot_be_read_are_said(path: Path) -> None:
    run_sql(path, "UPDATE content SET data = x'0102' WHERE id IN (SELECT output FROM calls WHERE id = 7)")
    damages()["cut"](path)
    done = recovery_of(path)
    said = " ".join(done.output.split())
    assert "What could not be read: " in said
    assert "an unknown number of calls" in said
    assert "requests and answers of the calls." in said


def test_a_table_whose_schema_is_damaged_is_left_out_and_counted(path: Path) -> None:
    run_sql(
        path, "PRAGMA writable_schema = ON", "UPDATE sqlite_master SET sql = replace(sql, 'start_ns', 'start_ms')"
        " WHERE name = 'sessions'",
    )  # fmt: skip
    done = recovery_of(path, "--json")
    assert done.exit_code == 0, done.output
    found = msgspec.json.decode(done.stdout)
    assert (found["calls"], found["sessions"], found["unread"]) == (CALLS, 0, {"sessions": 10})


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
from callspan.cli.commands import callspan
callspan()
"""


def test_a_recovery_that_fails_leaves_no_file(path: Path) -> None:
    """As on a full disk; the next run, with room, is not refused."""
    arguments = ["recover", str(path), str(path.with_name("new.db"))]
    done = subprocess.run([sys.executable, "-c", LIMITED, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "disk I/O error" in done.stderr
    assert [file.name for file in path.parent.glob("new.db*")] == []
    assert recovery_of(path).exit_code == 0


def test_dead_letters_before_and_behind_a_hole_are_recovered(path: Path) -> None:
    run_sql(
        path,
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION SELECT i + 1 FROM n WHERE i < 3000) INSERT INTO dead_letter"
        " SELECT printf('1-a.seg:%05d', i), 'no record', zeroblob(20), i FROM n",
    )
    overwrite(path, (pages(path, "dead_letter")[20] - 1) * PAGE, bytes(PAGE))
    readable, _ = by_lookups(path, "dead_letter", "key", [f"1-a.seg:{number:05d}" for number in range(1, 3001)])
    assert 2900 < len(readable) < 3000
    found = msgspec.json.decode(recovery_of(path, "--json").stdout)
    with contextlib.closing(sqlite3.connect(path.with_name("new.db"))) as connection:
        rows = connection.execute("SELECT key, reason, frame, time_ns FROM dead_letter").fetchall()
    assert (found["dead_letter"], found["cut_off"]) == (len(rows), ["dead_letter"])
    assert {*readable} <= {row[0] for row in rows}
    assert all(row[1:] == ("no record", bytes(20), int(row[0][-5:])) for row in rows)


def test_a_file_of_another_format_is_refused_and_not_read_as_of_todays(path: Path) -> None:
    run_sql(path, f"PRAGMA user_version = {FORMAT - 1}")
    done = recovery_of(path)
    assert done.exit_code == 1
    assert f"has format {FORMAT - 1}, this callspan has format {FORMAT}" in " ".join(done.stderr.split())
    assert not path.with_name("new.db").exists()


@pytest.mark.parametrize("command", [("show",), ("calls",), ("export", "openai", "-o", "{}"), ("report", "-o", "{}")])
def test_commands_that_read_damaged_contents_say_how_to_recover_them(path: Path, command: tuple[str, ...]) -> None:
    run_sql(path, "UPDATE content SET data = x'0102'")
    arguments = [part.format(path.with_name("out")) for part in command]
    done = CliRunner().invoke(commands.callspan, ["--store", str(path), *arguments])
    assert done.exit_code == 1
    assert RECOVER in done.stderr
    assert not path.with_name("out").exists()


def test_a_call_whose_contents_are_gone_is_read_without_them(path: Path) -> None:
    run_sql(path, "DELETE FROM content WHERE id % 7 = 0", "DELETE FROM ctx WHERE id % 11 = 0")
    with contextlib.closing(open_store(path)) as reader:
        calls = list(reader.calls())
    assert len(calls) == CALLS
    assert 0 < sum(not bytes(call.request.body).startswith(b"{") for call in calls) < CALLS
