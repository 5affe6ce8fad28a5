"""`callspan doctor` and `callspan ship`: what they find, and what they leave as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

import callspan
from callspan.cli import doctor
from callspan.cli.doctor import NOT_YET, store_check
from callspan.delivery.leftovers import waiting
from callspan.delivery.recorder import forget_warnings
from callspan.spool import directory
from tests.support.commands import ask
from tests.support.left_behind import leave_behind
from tests.support.receiver import OtlpReceiver
from tests.support.records import keep, made


def test_a_setting_that_is_no_default_is_reported_with_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSPAN_CONTENT", "metadata")
    found = {check.name: check for check in doctor.every_check("postgresql://me:secret@127.0.0.1:9/d?password=secret")}
    assert found["content"].detail == "metadata  (CALLSPAN_CONTENT)"
    assert found["stores"].detail == "postgresql://127.0.0.1:9/d  (CALLSPAN_STORES or --store)"
    assert "media" not in found
    assert not any("secret" in f"{check}" for check in found.values())


def test_an_invalid_setting_fails_its_check_and_the_others_continue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSPAN_FSYNC", "perhaps")
    monkeypatch.setenv("CALLSPAN_STORES", "teapot://x,postgresql://u:pass/word-8@h/db,console://")
    found = list(doctor.every_check(""))
    failed = [
        check.detail
        for check in found
        if (check.area, check.name, check.state) == ("settings", "environment", "failed")
    ]
    assert [detail.partition("=")[0].partition(":")[0] for detail in failed] == ["CALLSPAN_STORES"] * 2 + [
        "CALLSPAN_FSYNC"
    ]
    assert "word-8" not in str(found)
    assert found[-2].name == "others", "the settings in force are listed"


@pytest.mark.parametrize("endpoint", ["http://u:pass/word-8@h", "ba nana"])
def test_an_endpoint_that_is_not_an_address_fails_its_check(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    found = [check for check in doctor.every_check("") if check.area == "spans"]
    assert [check.state for check in found] == ["failed", "note", "note"]
    assert "is not a valid address" in found[0].detail
    assert "pass" not in str(found)


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize(("status", "state"), [(200, "ok"), (401, "failed")])
def test_a_receiver_of_traces_is_asked(
    status: int, state: str, protocol: str, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.status = status
    url = f"http://{receiver.serve_grpc()}" if protocol == "grpc" else receiver.url
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    spans = [check for check in doctor.every_check("") if check.area == "spans"]
    states = {check.name: check.state for check in spans}
    assert states == {"OTLP traces": state, "OTLP metrics": "note", "OTLP logs": "note"}, spans


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_receiver_that_nobody_reaches_fails_and_no_password_is_shown(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:secret@127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    spans = [check for check in doctor.every_check("") if check.area == "spans"]
    assert [check.state for check in spans] == ["failed", "note", "note"]
    assert "secret" not in str(spans)


def test_what_waits_is_reported_and_shipped(store: str) -> None:
    keep(store)
    leave_behind(store, made("late"))
    assert [one.records for one in waiting(store)] == [1]
    answer = ask("--store", store, "ship", "--json")
    assert (answer.code, answer.json["waiting"]) == (0, {})
    assert [result["delivered"] for result in answer.json["stores"].values()] == [1]
    assert ask("--store", store, "show", "late", "--json").json["call_id"] == "late"


def test_ship_says_what_could_not_be_delivered(store: str, tmp_path: Path) -> None:
    leave_behind(store, made("late"))
    (tmp_path / "calls.db").mkdir()
    answer = ask("--store", store, "ship")
    assert (answer.code, "1 record still waits" in " ".join(answer.out.split())) == (1, True)


def test_the_process_of_doctor_stays_instrumented(tmp_path: Path) -> None:
    """As that of a notebook, or of an application that runs the command by click."""
    handle = callspan.instrument(stores=tmp_path / "calls.jsonl", sdks="openai")
    ask("doctor")
    assert repr(handle).startswith("<Handle in force ")
    handle.uninstrument()


def test_a_store_that_does_not_exist_is_not_made(store: str, tmp_path: Path) -> None:
    assert store_check(store) == (None, f"{NOT_YET}: it is made with the first record")
    assert store_check(store.replace("/calls", "/new/place/calls"))[0] is None
    (tmp_path / "file").write_text("")
    trouble, seen = store_check(store.replace("/calls", "/file/calls"))
    reason = f"no file can be made in {tmp_path / 'file'} (Not a directory)"
    assert (trouble, seen) == (f"it does not exist, and cannot be made: {reason}", "")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc, where not even root can make a file")
def test_a_store_and_a_spool_that_can_never_exist_fail_in_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSPAN_SPOOL_DIR", "/proc/spool")
    answer = ask("--store", "sqlite:////proc/a.db", "doctor", "--json")
    failed = {one["name"]: one["detail"] for one in answer.json["checks"] if one["state"] == "failed"}
    assert answer.code == 1
    assert "cannot be made: no file can be made in /proc" in failed["sqlite:////proc/a.db"]
    assert "no file can be made in /proc" in failed["spool"]


def test_a_spool_on_a_network_file_system_fails_in_doctor_and_is_warned_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also one that is mounted on demand, which is listed after another one at the same place."""
    share, mounts = tmp_path / "share", tmp_path / "mounts"
    mounts.write_text(f"overlay / overlay rw 0 0\nauto {share} autofs rw 0 0\nserver:/x {share} nfs4 rw 0 0\n")
    monkeypatch.setattr(directory, "_MOUNTS", mounts)
    store = f"sqlite:///{share}/calls.db"
    forget_warnings()
    callspan.instrument(stores=store)
    callspan.instrument(content="off")
    callspan.uninstrument()
    assert caplog.text.count("on a network file system") == 1
    (failed,) = [check for check in doctor.every_check(store) if check.name == "spool"]
    assert (failed.state, "is on a network file system" in failed.detail) == ("failed", True)
