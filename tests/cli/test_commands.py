"""Sub-commands on the store the demo has written, and without one: keys of JSON, exit codes, settings, the doctor."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from tests.support.commands import Answer, in_its_own
from tests.support.commands import ask as in_process
from tests.support.programs import Demo

Ask = Callable[..., Answer]


def test_json_keys_are_stable(ask: Ask) -> None:
    assert set(ask("calls", "--limit", "1", "--json").json[0]) == {
        "call_id", "session_id", "session_name", "timestep_position", "timestep_id", "trace_id", "span_id",
        "start", "start_ns",
        "provider", "api", "operation", "model", "response_model", "outcome", "error_type", "error_kind",
        "error_message", "http_status", "retries", "rate_limited", "stream", "stream_end", "finish_reasons",
        "input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens", "cost_usd", "cost_reason",
        "duration_ms", "first_token_ms", "server_ms", "output", "unrecognized", "user", "metadata", "response_id",
        "request_id", "batch_id", "custom_id", "content_level", "finish_reason",
    }  # fmt: skip


def test_the_store_may_be_named_before_or_after_the_sub_command(demo: Demo, tmp_path: Path) -> None:
    assert in_process("calls", "--store", demo.store, "--json").code == 0
    assert in_process("--json", "--store", demo.store, "calls").json
    assert in_its_own("calls", "--json", cwd=tmp_path, env={"CALLSPAN_STORES": demo.store}).code == 0


@pytest.mark.parametrize("command", ["sessions", "calls", "show x", "stats", "delete --older-than 1d --yes"])
def test_a_missing_store_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.chdir(tmp_path)
    answer = in_process(*command.split())
    assert (answer.code, answer.out) == (1, "")
    assert "callspan.db" in answer.err
    assert "Traceback" not in answer.err
    assert "callspan run app.py" in answer.err
    assert "--store" in answer.err
    assert not list(tmp_path.iterdir())


def test_a_reading_command_ignores_invalid_settings_of_the_environment(tmp_path: Path) -> None:
    answer = in_its_own("calls", cwd=tmp_path, env={"CALLSPAN_MEDIA": "carrier pigeon"})
    assert (answer.code, "no such file" in answer.err) == (1, True), "the command itself has run"


def test_only_the_readable_stores_of_the_environment_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CALLSPAN_STORES", "teapot://u:pass/word-8@h/db,b.db")
    answer = in_process("calls")
    assert (answer.code, "teapot" in answer.err, "b.db: there is no such file" in answer.err) == (1, True, True)
    monkeypatch.setenv("CALLSPAN_STORES", "teapot://u:pass/word-8@h/db")
    refused = in_process("calls")
    assert (refused.code, "teapot" in refused.err) == (2, True), "no other store is read instead"
    assert "word-8" not in answer.err + refused.err


def test_version_is_that_of_the_package() -> None:
    assert in_process("--version").out == f"callspan {metadata.version('callspan')}\n"


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
    assert (store["state"], store["detail"]) == ("ok", "can be written")
