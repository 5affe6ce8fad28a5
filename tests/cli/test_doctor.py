"""`callspan doctor` and `ship`: what they find; commands that look change nothing of what an application owns."""

from __future__ import annotations

import fcntl
import os
import shlex
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
from tests.support.commands import ask
from tests.support.left_behind import directory_of, leave_behind
from tests.support.receiver import OtlpReceiver
from tests.support.records import keep, left, made, session
from tests.support.rig import in_child
from tests.support.waiting import HANG_S, until

import callspan
from callspan.records import Attempt


@pytest.fixture(autouse=True)
def without_leftovers(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that applications of this user left waits in the temporary directories."""
    monkeypatch.setenv("TMPDIR", str(tmp_path_factory.mktemp("temporary")))
    monkeypatch.setattr("callspan.spool.directory._ALWAYS", ())


def checked(urls: str = "", area: str = "") -> list[dict[str, str]]:
    found = ask(*(("--store", urls) if urls else ()), "doctor", "--json").json["checks"]
    return [check for check in found if area in ("", check["area"])]


def test_doctor_reports_the_source_of_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSPAN_CONTENT_ON_SPANS", "no")
    monkeypatch.setenv("CALLSPAN_ENABLED", "on")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "false")
    everything = checked("postgresql://me:secret@127.0.0.1:9/d?password=secret")
    found = {check["name"]: check["detail"] for check in everything}
    assert found["content"] == "off  (OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT)"
    assert found["content_on_spans"] == "False  (CALLSPAN_CONTENT_ON_SPANS)"
    assert found["enabled"] == "False  (OTEL_SDK_DISABLED)"
    assert found["stores"] == "postgresql://127.0.0.1:9/d  (CALLSPAN_STORES or --store)"
    assert "media" not in found
    assert "secret" not in str(everything)


def test_doctor_works_in_a_bundle_without_package_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.MetadataPathFinder.find_distributions", lambda *_: iter(()))
    (check,) = checked(area="versions")
    assert check["detail"].startswith("version unknown, Python 3")


def test_sdk_below_the_supported_version_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "anthropic-0.33.1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: anthropic\nVersion: 0.33.1\n")
    assert not [check for check in checked(area="SDKs") if "not supported" in check["detail"]]
    monkeypatch.syspath_prepend(str(tmp_path))
    (check,) = [check for check in checked(area="SDKs") if "not supported" in check["detail"]]
    assert (check["name"], check["state"]) == ("anthropic", "warning")
    assert "0.33.1" in check["detail"]
    assert check["advice"] == 'pip install "anthropic>=0.34"'


def test_agents_whose_calls_are_not_received_are_named(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("claude-agent-sdk", "openai-codex"):
        package = tmp_path / f"{name.replace('-', '_')}-9.9.dist-info"
        package.mkdir()
        (package / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "codex").write_text("#!/bin/sh\n")
    (tmp_path / "codex").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    left_bodies = Path(f"{store.removeprefix('sqlite:///')}.spool") / "agents" / "7-abc"
    left_bodies.mkdir(parents=True)
    (left_bodies / "a.request.json").write_text("{}")
    claude, codex, program, bodies = checked(store, "agents")
    for sdk in (claude, codex):
        assert (sdk["state"], sdk["detail"].partition(",")[0]) == ("warning", "9.9")
        assert "CALLSPAN_RECEIVE=on" in sdk["advice"]
    assert (program["state"], program["detail"].partition(", ")[2]) == ("note", "recorded under `callspan run codex`")
    assert (bodies["state"], bodies["detail"].partition(" in ")[0]) == (
        "warning",
        "1 file of agents of an ended process",
    )
    monkeypatch.setenv("CALLSPAN_RECEIVE", "on")
    assert [check["state"] for check in checked(store, "agents")[:2]] == ["ok", "ok"]


def test_invalid_setting_fails_only_its_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSPAN_FSYNC", "perhaps")
    monkeypatch.setenv("CALLSPAN_STORES", "teapot://x,postgresql://u:pass/word-8@h/db,console://")
    found = checked("console://")
    wrong = [check["detail"] for check in found if check["name"] == "environment" and check["state"] == "failed"]
    named = [detail.partition("=")[0].partition(":")[0] for detail in wrong]
    assert named == ["CALLSPAN_STORES"] * 2 + ["CALLSPAN_FSYNC"]
    assert "word-8" not in str(found)
    assert found[-2]["name"] == "others", "the settings in force are listed"


@pytest.mark.parametrize("endpoint", ["http://u:pass/word-8@h", "ba nana"])
def test_invalid_endpoint_fails_its_check(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    found = checked(area="spans")
    assert [check["state"] for check in found] == ["failed", "note", "note"]
    assert "is not a valid address" in found[0]["detail"]
    assert "pass" not in str(found)


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize(("status", "state"), [(200, "ok"), (401, "failed"), (None, "failed")])
def test_doctor_probes_the_trace_receiver(
    status: int | None, state: str, protocol: str, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody listens where there is no status; no password is shown."""
    receiver.status = status or 200
    url = f"http://{receiver.serve_grpc()}" if protocol == "grpc" else receiver.url
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url if status else "http://user:secret@127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    spans = checked(area="spans")
    states = {check["name"]: check["state"] for check in spans}
    assert states == {"OTLP traces": state, "OTLP metrics": "note", "OTLP logs": "note"}, spans
    assert "secret" not in str(spans)


def test_ship_reports_undelivered_records(store: str, tmp_path: Path) -> None:
    leave_behind(store, made("late"))
    (tmp_path / "calls.db").mkdir()
    answer = ask("--store", store, "ship")
    assert (answer.code, "1 record still waits" in " ".join(answer.out.split())) == (1, True)


def test_doctor_reports_missing_permissions_of_another_user(store: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be several users")

    def is_told() -> bool:
        os.setuid(12_345)
        failed = {one["name"]: one["detail"] for one in checked(store, "stores") if one["state"] == "failed"}
        return "Permission denied); records wait in" in failed["spool"]

    in_child(is_told)


def test_damaged_store_fails_its_check(store: str) -> None:
    keep(store, made("a"))
    path = Path(store.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (root,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'calls'").fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)
    (found,) = checked(store, area="stores")
    assert (found["state"], "import --damaged" in found["detail"]) == ("failed", True)


def test_requests_without_an_answer_are_told_with_the_remedy(tmp_path: Path) -> None:
    """By doctor, of the last day, and in a column of stats, once there are any."""
    url = f"sqlite:///{tmp_path}/a.db"
    unanswered = Attempt(number=1, start_ns=0, error_kind="timeout", may_be_billed=True)
    keep(url, made("answered", at_ns=time.time_ns()))
    assert (checked(url, "cost"), "may be billed" in ask("--store", url, "stats").out) == ([], False)
    keep(url, made("timed-out", at_ns=time.time_ns(), outcome="timeout", attempts=[unanswered, unanswered]))
    (check,) = checked(url, "cost")
    assert (check["state"], check["name"]) == ("warning", url)
    assert check["detail"].startswith("2 requests of the last day without an answer")
    assert "timeout" in (check["advice"] or "")
    titles, row = ask("--store", url, "stats").out.splitlines()[:2]
    assert (titles.endswith("may be billed"), row.split()[-1]) == (True, "2")


def test_doctor_creates_no_store(store: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    urls = [store, *(store.replace("/calls", f"/{place}/calls") for place in ("new/place", "file"))]
    found = [(check["state"], check["detail"]) for check in checked(",".join(urls), "stores")]
    not_yet = ("note", "does not exist yet: it is made with the first record")
    reason = f"no file can be made in {tmp_path / 'file'} (Not a directory)"
    assert found == [not_yet, not_yet, ("failed", f"it does not exist, and cannot be made: {reason}")]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc, where not even root can make a file")
def test_impossible_store_and_spool_fail_their_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSPAN_SPOOL_DIR", "/proc/spool")
    answer = ask("--store", "sqlite:////proc/a.db", "doctor", "--json")
    failed = {one["name"]: one["detail"] for one in answer.json["checks"] if one["state"] == "failed"}
    assert answer.code == 1
    assert "cannot be made: no file can be made in /proc" in failed["sqlite:////proc/a.db"]
    assert "no file can be made in /proc" in failed["spool"]


def test_spool_on_nfs_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also one that is mounted on demand, which is listed after another one at the same place."""
    share, mounts = tmp_path / "share", tmp_path / "mounts"
    mounts.write_text(f"overlay / overlay rw 0 0\nauto {share} autofs rw 0 0\nserver:/x {share} nfs4 rw 0 0\n")
    monkeypatch.setattr("callspan.runtime.file_lock._MOUNTS", mounts)
    store = f"sqlite:///{share}/calls.db"
    callspan.instrument(stores=store)
    callspan.instrument(content="off")
    callspan.uninstrument()
    assert caplog.text.count("on a network file system") == 1
    (failed,) = [check for check in checked(store) if check["name"] == "spool"]
    assert (failed["state"], "is on a network file system" in failed["detail"]) == ("failed", True)


LOOKING: Final = [
    "doctor", "calls", "sessions", "show s0", "stats", "report -o -", "export openai -o -", "delete s0 --dry-run",
    "delete --older-than 1d --dry-run", "reprice --dry-run",
]  # fmt: skip


@pytest.fixture
def owned(tmp_path: Path) -> str:
    """A store of two sessions."""
    return keep(f"sqlite:///{tmp_path}/calls.db", session("s0"), session("s1"))


def files(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", LOOKING)
def test_doctor_changes_no_file(owned: str, command: str, tmp_path: Path) -> None:
    before = files(tmp_path)
    assert ask("--store", owned, *command.split()).code <= 1
    after = files(tmp_path)
    assert before.items() <= after.items()
    assert {name[-4:] for name in after.keys() - before.keys()} <= {"-wal", "-shm"}, "SQLite's"


def test_store_is_not_an_output_file(tmp_path: Path) -> None:
    """Nor by another name."""
    store = tmp_path / "calls.db"
    keep(str(store), session("s0"))
    (tmp_path / "link").symlink_to(store)
    before = store.read_bytes()
    for command in (("report",), ("export", "openai")):
        for output in (store, tmp_path / "link"):
            answer = ask("--store", str(store), *command, "-o", str(output))
            assert answer.code == 1
            assert "the store itself; name another file" in answer.err
    assert store.read_bytes() == before


def test_locked_store_is_reported_and_left_unchanged(owned: str, tmp_path: Path) -> None:
    locks = "import sqlite3, sys; one = sqlite3.connect(sys.argv[1]); one.execute('BEGIN IMMEDIATE'); "
    program = [sys.executable, "-c", f"{locks} print(flush=True); sys.stdin.read()", str(tmp_path / "calls.db")]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        before = files(tmp_path)
        begun = time.monotonic()
        (check,) = checked(owned, "stores")
        assert "locked by another process" in check["detail"]
        assert time.monotonic() - begun < HANG_S
        assert files(tmp_path) == before
        assert left(owned)[0] == {"s0", "s1"}


def test_backlogs_are_listed_by_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what the directory holds: one store has it all."""
    monkeypatch.chdir(tmp_path)
    both = f"sqlite:///calls.db,jsonl:///{tmp_path}/calls.jsonl"
    handle = callspan.instrument(stores=both)
    with (tmp_path / "calls.jsonl.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with callspan.session("s"):
            pass
        until(lambda: [count for name, count in handle.counters().items() if name.startswith("shipped.sqlite")] == [2])
        assert not handle.force_flush(100)
        sqlite, jsonl = (check["detail"] for check in checked(both, "stores"))
    handle.uninstrument()
    assert "wait" not in sqlite
    assert f"2 records wait for it in {directory_of(both).absolute()}" in jsonl


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o600])
@pytest.mark.parametrize("name", ["calls.db", "my calls.jsonl"])
def test_doctor_keeps_file_mode_and_reports_other_readers(tmp_path: Path, name: str, mode: int) -> None:
    path = tmp_path / name
    path.touch()
    path.chmod(mode)
    url = f"jsonl:///{path}" if name.endswith("jsonl") else str(path)
    keep(url, made())
    warnings = [check for check in checked(url, "stores") if "other users can read" in check["detail"]]
    assert path.stat().st_mode & 0o777 == mode
    assert [check["state"] for check in warnings] == ["warning"] * (mode != 0o600)
    if warnings:
        assert str(path) in warnings[0]["detail"]
        assert warnings[0]["advice"].endswith(f"chmod 600 {shlex.quote(str(path))}")


def test_fleet_lists_the_newest_record_of_each_process(tmp_path: Path) -> None:
    """A process id is used again by a later process; records of other programs state no host."""
    now_ns, minute_ns = time.time_ns(), 60 * 10**9
    written = keep(
        f"sqlite:///{tmp_path}/w.db",
        made("c1", at_ns=now_ns - 9 * minute_ns, took_ns=minute_ns, host="a", pid=7, process="boot-1", service="shop"),
        made("c2", at_ns=now_ns - 5 * minute_ns, took_ns=None, host="a", pid=7, process="boot-1", service="shop"),
        made("c3", at_ns=now_ns - 3 * minute_ns, took_ns=minute_ns, host="a", pid=7, process="boot-2", service="shop"),
        made("c4", at_ns=now_ns - 90 * minute_ns, took_ns=minute_ns, host="b", pid=8, process="p"),
        made("c5", at_ns=now_ns - 3 * 24 * 60 * minute_ns, host="gone", pid=9, process="p"),
        session("s1", start_ns=now_ns - minute_ns, host="b", pid=8, process="p"),
        made("c6", at_ns=now_ns - 200 * minute_ns, took_ns=0),
    )
    found = ask("--store", written, "doctor", "--fleet", "--json").json
    assert [(row["host"], row["pid"], row["service"], row["calls"], row["sessions"]) for row in found] == [
        ("b", 8, None, 1, 1), ("a", 7, "shop", 1, 0), ("a", 7, "shop", 2, 0), (None, None, None, 1, 0),
    ]  # fmt: skip
    assert [(now_ns - row["newest_ns"]) // minute_ns for row in found] == [1, 2, 5, 200]
    assert len(ask("--store", written, "doctor", "--fleet", "--json", "--since", "1h").json) == 3
    shown = ask("--store", written, "doctor", "--fleet").out
    assert "5 min" in shown
    assert "'What to alert on'" in shown
    assert ask("--store", written, "doctor", "--fleet", "--since", "0s").code == 1
    assert ask("--store", written, "doctor", "--since", "1h").code == 2
