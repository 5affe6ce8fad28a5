"""The maintenance sub-commands: doctor, ship."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from callspan.cli import doctor
from callspan.fail_open import Once
from callspan.intercept import other_instrumentations
from callspan.records import SessionRecord
from tests.e2e.conftest import Demo, in_its_own, in_process
from tests.left_behind import leave_behind


def test_doctor_finds_sdks_hooks_and_a_store_that_keeps_records(demo: Demo) -> None:
    answer = in_process("--store", demo.store, "doctor", "--json")
    assert answer.code == 0
    found = {(check["area"], check["name"]): check for check in answer.json["checks"]}
    hooks = {}
    for sdk in ("openai", "anthropic"):
        check = found["SDKs", sdk]
        assert check["state"] == "ok"
        set_ = re.search(r", (\d+) of \1 hooks can be set$", check["detail"])
        assert set_
        hooks[sdk] = int(set_[1])
    assert hooks["openai"] > hooks["anthropic"], "those of websockets and webhooks are looked at too"
    (store,) = [check for (area, _), check in found.items() if area == "stores"]
    assert (store["state"], store["detail"]) == ("ok", "a test record was written, read back and taken out again")
    assert found["settings", "content"]["detail"] == "full"


def test_doctor_reads_as_a_page(tmp_path: Path) -> None:
    answer = in_its_own(
        "doctor", cwd=tmp_path, env={"CALLSPAN_STORES": "sqlite:///calls.db", "CALLSPAN_CONTENT": "off"}
    )
    assert answer.code == 0
    assert "All checks passed." in answer.out
    assert "off  (CALLSPAN_CONTENT)" in answer.out
    assert "fsync" not in answer.out, "settings with their defaults are not listed"
    assert "arguments of instrument() in an application are not seen here" in " ".join(answer.out.split())
    assert max(map(len, answer.out.splitlines())) <= 100


def test_doctor_reports_a_platform_that_is_only_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PLATFORMS", ("pytest",))
    (note,) = [check for check in doctor.every_check("") if check.name == "pytest"]
    assert note.state == "note"
    assert "two spans" in note.detail


def test_doctor_names_other_instrumentations_like_the_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(other_instrumentations, "found", lambda: ["openinference-instrumentation-openai"])
    (warning,) = [check for check in doctor.every_check("") if check.name == "openinference-instrumentation-openai"]
    assert warning.state == "warning"
    monkeypatch.setattr(other_instrumentations, "_warned", Once())
    other_instrumentations.warn_once(other_instrumentations.found())
    assert caplog.messages == [f"{warning.name} {warning.detail}. {warning.advice}".rstrip(".")]


def test_ship_says_what_could_not_be_delivered(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'callspan.db'}"
    leave_behind(store, SessionRecord(session_id="s", seen_ns=1, start_ns=1))
    (tmp_path / "callspan.db").mkdir()
    answer = in_process("--store", store, "ship", "--timeout", "0.3")
    assert answer.code == 1
    assert "1 record still waits" in " ".join(answer.out.split())
