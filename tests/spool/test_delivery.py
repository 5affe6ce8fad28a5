"""Delivery: every record reaches every store in time, by its own process, the next one or a reading command."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.conftest import Instrument
from tests.support.calls import QUESTION
from tests.support.commands import ask as in_process
from tests.support.commands import interrupted
from tests.support.left_behind import count_loss, killed, leave_behind, losses_of, of_another_version, start
from tests.support.records import SECOND, START_NS, Records, keep
from tests.support.rig import coming_and_going
from tests.support.scale import scaled
from tests.support.waiting import HANG_MS, HANG_S, until

import callspan
from callspan import Handle
from callspan.records import FORMAT, Timing
from callspan.runtime.file_lock import try_lock
from callspan.spool.segment import OWN_SUFFIX, opened
from callspan.testing import ScriptedProvider

pytestmark = pytest.mark.usefixtures("no_settings")


def test_flush_beside_a_hanging_store_returns_in_time(client: openai.OpenAI, tmp_path: Path) -> None:
    """The flush returns False, at once if the store failed before. A second end has no effect."""
    handle = callspan.instrument(stores=f"unix://{tmp_path}/nobody.sock", spool_dir=tmp_path / "spool")
    client.chat.completions.create(model="gpt-5", messages=QUESTION)
    begun = time.monotonic()
    assert not handle.force_flush(1_000)
    assert time.monotonic() - begun < HANG_S
    handle.uninstrument()
    begun = time.monotonic()
    handle.uninstrument()
    callspan.uninstrument()
    assert time.monotonic() - begun < HANG_S
    assert list((tmp_path / "spool").iterdir()), "the record waits for the next process"


@pytest.mark.parametrize("content", ["full", "off"])
def test_console_prints_one_line_per_call(
    content: str, provider: ScriptedProvider, client: openai.OpenAI, instrumented: Instrument, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """For debugging: provider, model, outcome, duration; texts only if content is on; no control characters."""
    handle = instrumented(stores="console://", content=content, spool_dir=tmp_path / "spool")
    provider.reply(text="I am\x1b[31m well.\nIndeed.", input_tokens=11, output_tokens=4)
    client.chat.completions.create(model="gpt-5", messages=QUESTION)
    list(client.chat.completions.create(model="gpt-5", messages=QUESTION, stream=True))
    provider.reply(status=400)
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="gpt-5", messages=QUESTION)
    assert handle.force_flush(HANG_MS)
    stderr = capsys.readouterr().err.splitlines()
    assert len(stderr) == 3
    assert "openai chat gpt-5  success  11+4 tokens" in stderr[0]
    assert stderr[0].isprintable()
    assert ("'How are you?' -> 'I am" in stderr[0]) is (content == "full")
    assert "error bad_input" in stderr[-1]


@contextmanager
def recorded(stores: str, text: str = "Hello") -> Iterator[Handle]:
    """Record one call in this process, which is instrumented for the block."""
    handle = callspan.instrument(stores=stores)
    try:
        with callspan.record_call(provider="mine", model="m") as call:
            call.response({"choices": [{"message": {"role": "assistant", "content": text}}]})
        yield handle
    finally:
        handle.uninstrument()


def record(store: str, text: str = "Hello") -> None:
    """Record one call in this process and have it delivered."""
    with recorded(store, text) as handle:
        assert handle.force_flush(HANG_MS)


ODD = (b'{"kind":"call"}', b"no JSON", b"[]", b"null", b'{"kind":"call","schema_version":99}')
LATER = '{"kind": "call", "schema_version": 99}'


def test_stores_receive_equal_records_and_rejections_a_reason(tmp_path: Path) -> None:
    first, second = f"sqlite:///{tmp_path}/a.db", f"jsonl:///{tmp_path}/b.jsonl"
    records, both = Records(), f"{first},{second}"
    made, last = records.every_kind(), records.call()
    directory = leave_behind(both, *made, *made, *ODD, last).parent
    shipped = in_process("--store", both, "ship", "--json")
    assert shipped.code == 0
    delivered = [(one["delivered"], one["rejected"]) for one in shipped.json["stores"].values()]
    assert delivered == [(2 * len(made) + 1, len(ODD))] * 2
    rejected = [json.loads(line) for line in (directory / "rejected.jsonl").read_text().splitlines()]
    refused = ['{"kind": "call"}', '"no JSON"', "[]", "null", LATER]
    assert Counter((one["store"], json.dumps(one["record"])) for one in rejected) == Counter(
        (url, record) for url in (first, second) for record in refused
    )
    assert all("not a record: " in one["reason"] for one in rejected)
    counted = {name.rpartition("/")[2]: loss.count for name, loss in losses_of(both).rejected.items()}
    assert counted == {"a.db": len(ODD), "b.jsonl": len(ODD)}
    lines = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    with closing(callspan.open_store(first)) as reader:
        calls, events = list(reader.calls()), list(reader.events("s1"))
    assert {one.call_id for one in calls} == {line["call_id"] for line in lines if line["kind"] == "call"}
    assert last.call_id in {one.call_id for one in calls}
    assert len(events) == 3


@pytest.mark.parametrize(("scheme", "driver"), [("postgresql", "psycopg"), ("clickhouse", "clickhouse_connect")])
def test_outage_is_logged_once_without_passwords(
    scheme: str, driver: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(driver)
    monkeypatch.setenv("CALLSPAN_SPOOL_DIR", str(tmp_path / "spool"))
    with recorded(f"{scheme}://ann:hunter2@127.0.0.1:1/db") as handle:
        until(lambda: "Connection refused" in caplog.text, lambda: caplog.text)
        assert not handle.force_flush(100)
    assert {one.name for one in caplog.records} == {"callspan"}
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert "hunter2" not in caplog.text
    assert not any(b"hunter2" in data or b"ann" in data for data in files)


@pytest.fixture
def theirs(store: str) -> Path:
    """The segment of a process of another version."""
    return of_another_version(leave_behind(store, Records().call()))


def segments(place: Path) -> list[Path]:
    return list((place / "calls.db.spool").rglob("*.segment"))


@pytest.mark.parametrize("records", [False, True], ids=["nothing recorded", "a call recorded"])
def test_flush_delivers_records_of_a_killed_process(store: str, records: bool) -> None:
    killed(store)
    handle = callspan.instrument(stores=store)
    if records:
        with callspan.record_call(provider="mine", model="m"):
            pass
    assert handle.force_flush(HANG_MS)
    with closing(callspan.open_store(store)) as reader:
        assert reader.count_calls() == 3 + records
    handle.uninstrument()


def test_flush_does_not_wait_for_another_running_process(store: str) -> None:
    segment = leave_behind(store, Records().call())
    segment = segment.rename(segment.with_name(f"{1:020d}-1-another{OWN_SUFFIX}"))
    handle = callspan.instrument(stores=store)
    with opened(segment, os.O_RDWR) as descriptor:
        assert try_lock(descriptor)
        assert handle.force_flush(HANG_MS)
    assert segment.exists()
    assert handle.force_flush(HANG_MS)
    assert not segment.exists()
    handle.uninstrument()


def test_flush_is_false_for_unreadable_segments(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_behind(store, Records().call())
    handle = callspan.instrument(stores=store)
    with monkeypatch.context() as patch:
        patch.setattr("callspan.spool.spool.os.access", lambda path, mode: False)
        assert not handle.force_flush(HANG_MS)
    assert handle.force_flush(HANG_MS)
    handle.uninstrument()


@pytest.mark.parametrize("damage", [b"X", b"\0", b"\r", b" "])
def test_damaged_line_end_loses_no_record(store: str, damage: bytes) -> None:
    """The lines before and after it are whole, as their checksums say."""
    ids = [f"c{number}" for number in range(6)]
    records = Records()
    segment = leave_behind(store, *(records.call(call_id=one, at_s=at) for at, one in enumerate(ids)))
    data = segment.read_bytes()
    ends = [at for at, byte in enumerate(data) if byte == ord("\n")]
    for end in ends[1:4]:
        data = data[:end] + damage + data[end + 1 :]
    segment.write_bytes(data)
    with closing(callspan.open_store(store, deliver=True)) as reader:
        assert {call.call_id for call in reader.calls()} == {*ids}
    assert not losses_of(store).damaged
    assert not segment.exists()


def test_damaged_block_loses_only_its_records(store: str) -> None:
    """Each that still has its beginning is counted."""
    records = Records()
    segment = leave_behind(store, *(records.call(call_id=f"c{number}", at_s=number) for number in range(6)))
    data = segment.read_bytes()
    first = next(at for at, byte in enumerate(data) if byte == ord("\n"))
    with segment.open("r+b") as file:
        for place in (first - 20, first + 400):  # the ends of two lines, the second between its neighbours
            file.seek(data.index(b"\n", place) - 20)
            file.write(bytes(21))
    with closing(callspan.open_store(store, deliver=True)) as reader:
        assert {call.call_id for call in reader.calls()} == {"c2", "c3", "c4", "c5"}
    assert [loss.count for loss in losses_of(store).damaged.values()] == [2]


def test_segments_of_another_version_are_reported_and_kept(store: str, theirs: Path) -> None:
    count_loss(store, "dropped", "cap")
    count_loss(store, "unrecorded", "POST /v1/unknown")
    before = [(path, path.read_bytes()) for path in sorted(theirs.parent.iterdir())]
    shipped = in_process("--store", store, "ship", "--json")
    assert (shipped.code, [one["path"] for one in shipped.json["findings"]]) == (1, [str(theirs)])
    assert shipped.json["waiting"] == {}
    doctor = in_process("--store", store, "doctor", "--json")
    said = {check["name"]: check["detail"] for check in doctor.json["checks"]}
    detail = f"{theirs} has version {FORMAT + 1} of the format, and is left alone: 1 segment, "
    assert (doctor.code, said["another version"].startswith(detail)) == (0, True)
    assert said.keys() >= {"dropped: cap", "POST /v1/unknown"}
    assert [(path, path.read_bytes()) for path in sorted(theirs.parent.iterdir())] == before
    theirs.unlink()
    assert not in_process("--store", store, "ship", "--json").json["findings"]


@pytest.mark.parametrize("by", ["ship", "calls", "process"])
def test_leftovers_beside_a_foreign_segment_are_delivered(store: str, theirs: Path, by: str) -> None:
    before = theirs.read_bytes()
    killed(store)
    if by == "process":
        record(store)
    else:
        assert in_process("--store", store, by).code == (by == "ship")
    with closing(callspan.open_store(store)) as reader:
        assert reader.count_calls() == 3 + (by == "process")
    assert list(theirs.parent.glob("*.segment")) == [theirs]
    assert theirs.read_bytes() == before


def test_store_of_another_format_delays_its_records(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, healthy = tmp_path / "a.db", f"sqlite:///{tmp_path}/b.db"
    refused = f"sqlite:///{path}"
    keep(refused)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={FORMAT + 1}")
    before = path.read_bytes()
    sentence = f"{path} has format {FORMAT + 1}, this callspan has format {FORMAT}: name a new file or database"
    with recorded(f"{refused},{healthy}") as handle:
        until(lambda: sentence in caplog.text, lambda: caplog.text)
        assert not handle.force_flush(100)
    assert len(in_process("--store", healthy, "calls", "--json").json) == 1
    assert len([line for line in caplog.messages if sentence in line]) == 1
    assert [in_process("--store", refused, command).code for command in ("ship", "calls")] == [1, 1]
    found = in_process("--store", refused, "doctor", "--json").json["checks"]
    assert [check["detail"].startswith(sentence) for check in found if check["state"] == "failed"] == [True]
    assert path.read_bytes() == before
    path.rename(tmp_path / "away")
    assert len(in_process("--store", refused, "calls", "--json").json) == 1


DEAD = "postgresql://me:geheim@127.0.0.1:1/db"


READING: list[tuple[tuple[str, ...], Callable[[Any], int]]] = [
    (("calls", "--json"), len),
    (("show", "last", "--json"), lambda found: len(found["loose_calls"])),
    (("stats", "--json"), lambda found: found[0]["calls"]),
    (("sessions", "--json"), lambda found: found[0]["calls"]),
    (("report", "-o", "{}/report.html", "--json"), lambda found: found["calls"]),
    (("export", "openai", "-o", "{}/rows.jsonl", "--json"), lambda found: found["rows"]),
]
"""Reading commands, each with the number of calls that it shows."""


@pytest.mark.parametrize("beside", ["", f",{DEAD}"], ids=["alone", "beside a dead one"])
def test_reading_commands_deliver_first(tmp_path: Path, beside: str) -> None:
    records = Records()
    for command, counted in READING:
        store = f"sqlite:///{tmp_path}/{command[0]}.db"
        made = [records.session("one"), *(records.call(session_id="one") for _ in range(3))]
        segment = leave_behind(f"{store}{beside}", *made)
        answer = in_process("--store", store, *(word.format(tmp_path) for word in command))
        assert answer.code == 0, answer.err
        assert answer.err.startswith("Delivered "), command
        assert counted(answer.json) == 3, command
        assert segment.exists() is bool(beside), "it is left to the store that does not have it"
        again = in_process("--store", store, "calls", "--json")
        assert (len(again.json), again.err) == (3, "")


@pytest.mark.parametrize("read_as", ["with the other", "alone", "in Python"])
def test_backlog_beside_another_store_is_read(read_as: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records for a server wait beside the file that is named with it. The environment may name both."""
    store = f"sqlite:///{tmp_path}/elsewhere/calls.db"
    both = f"jsonl:///{tmp_path}/calls.jsonl,{store}"
    leave_behind(both, Records().call())
    if read_as == "alone":
        monkeypatch.setenv("CALLSPAN_STORES", both)
    if read_as == "in Python":
        callspan.open_store(both, deliver=True).close()
    else:
        named = store if read_as == "alone" else both
        assert str(in_process("--store", both, "doctor", "--json").json).count("; 1 record waits for it") == 2
        assert len(in_process("--store", named, "calls", "--json").json) == 1
    shipped = in_process("--store", both, "ship", "--json").json["stores"]
    assert [one["delivered"] for one in shipped.values()] == [1, 0]


@pytest.mark.parametrize(
    "written, read",
    [("link", "real/a"), ("real/a", "link"), ("linked/a", "real/a"), ("real/a", "linked/a"), ("moved", "moved")],
)
def test_backlog_is_found_under_any_name_of_a_file(written: str, read: str, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to("real")
    (tmp_path / "link").symlink_to("real/a")
    segment = leave_behind(f"sqlite:///{tmp_path}/{written}", Records().session("one"))
    (tmp_path / "moved").symlink_to("real/a")
    assert len(in_process("--store", f"sqlite:///{tmp_path}/{read}", "sessions", "--json").json) == 1
    assert not segment.exists()


def test_linked_file_is_rotated_and_the_link_kept(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    store = f"jsonl:///{tmp_path}/link?max_bytes=1"
    for ident in "ab":
        leave_behind(store, Records().session(ident))
        assert in_process("--store", store, "ship").code == 0
    assert [(tmp_path / name).read_text().count('"kind"') for name in ("file", "file.1", "link")] == [1, 1, 1]
    assert (tmp_path / "link").is_symlink()


def test_backlog_of_a_running_process_is_reported(store: str) -> None:
    segment = leave_behind(store, *(Records().call(call_id=ident) for ident in "abc"))
    with segment.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        answer = in_process("--store", store, "calls", "--json")
        assert answer.code == 1
        assert "3 records wait in" in answer.err
        assert "a running process has them" in answer.err
    assert len(in_process("--store", store, "calls", "--json").json) == 3


def test_damaged_store_reports_waiting_records_and_the_reason(store: str, tmp_path: Path) -> None:
    leave_behind(store, *(Records().call(call_id=ident) for ident in "abc"))
    (tmp_path / "calls.db").write_bytes(b"not a database, by far" * 100)
    answer = in_process("--store", store, "calls")
    assert answer.code == 1
    for line, begins in zip(answer.err.splitlines(), ("3 records wait in ", "Error: "), strict=True):
        assert line.startswith(begins)
        assert "another kind of file" in line


def test_short_processes_lose_nothing(store: str, tmp_path: Path) -> None:
    """They are too short to deliver. Five run at once; some are killed, some exit, while others read."""
    count = scaled(5, 40)
    with coming_and_going(tmp_path / "calls.db"):
        for begun in range(0, count, 5):
            running = [start(store, 5, "kill" if number % 2 else "end") for number in range(begun, begun + 5)]
            for process in running:
                process.communicate(timeout=HANG_S)
    assert sum(row["calls"] for row in in_process("--store", store, "stats", "--json").json) == 5 * count
    assert not segments(tmp_path)


def test_command_deletes_delivered_segments_of_a_killed_process(store: str, tmp_path: Path) -> None:
    killed(store, end="delivered")
    assert segments(tmp_path)
    assert len(in_process("--store", store, "calls", "--json").json) == 3
    assert not segments(tmp_path)


@pytest.mark.parametrize("chosen", ["one", "--older-than 2100-01-01"])
def test_delete_removes_waiting_records_of_every_store(chosen: str, tmp_path: Path) -> None:
    stores = f"sqlite:///{tmp_path}/calls.db,sqlite:///{tmp_path}/other.db"
    leave_behind(stores, Records().session("one", start_ns=START_NS), Records().call(session_id="one"))
    answer = in_process("--store", stores, "delete", *chosen.split(), "--yes", "--json")
    assert (answer.code, answer.json["stores"][0]["calls"], answer.json["stores"][0]["sessions"]) == (0, 1, 1)
    for store in stores.split(","):
        for listed in ("sessions", "calls"):
            assert in_process("--store", store, listed, "--json").json == []


def test_deleted_file_beside_its_spool_is_not_reported_as_new(tmp_path: Path) -> None:
    (tmp_path / "calls.db.spool").mkdir()
    for command in (("calls",), ("delete", "--older-than", "1d", "--yes")):
        answer = in_process("--store", f"sqlite:///{tmp_path}/calls.db", *command)
        assert answer.code == 1
        assert f"but its spool {tmp_path}/calls.db.spool is there: the file was deleted or moved" in answer.err
        assert "nothing was recorded there yet" not in answer.err
    (tmp_path / "calls.db.spool").rmdir()
    assert "nothing was recorded there yet" in in_process("--store", f"sqlite:///{tmp_path}/calls.db", "calls").err


def next_output(process: subprocess.Popen[str]) -> str:
    line = process.stdout.readline()
    assert "\x1b" not in line
    return str(json.loads(line)["output"])


def test_tail_prints_calls_until_interrupted(tmp_path: Path) -> None:
    """Also what killed processes leave: before it starts, when there is only a spool, and meanwhile.

    And what took longer than the SDKs' time limit, in a new file.
    """
    store = f"sqlite:///{tmp_path}/callspan.db"
    killed(store, 1)
    with interrupted("calls", "--follow", cwd=tmp_path) as first:
        assert "Hello 0" in first.stdout.readline()
    with interrupted("calls", "--follow", "--json", cwd=tmp_path) as process:
        assert next_output(process) == "Hello 0"
        record(store, "One \x1b[31m")
        assert next_output(process).startswith("One")
        killed(store, 2)
        assert [next_output(process) for _ in range(2)] == ["Hello 0", "Hello 1"]
        for file in tmp_path.glob("callspan.db*"):
            if file.is_file():
                file.unlink()
        took_ns = 601 * SECOND  # a timeout of the SDKs
        timing = Timing(start_ns=time.time_ns() - took_ns, duration_ns=took_ns + SECOND)
        keep(store, Records().call(answer="Late", timing=timing))
        assert next_output(process) == "Late"
    assert (first.returncode, process.returncode) == (0, 0)
