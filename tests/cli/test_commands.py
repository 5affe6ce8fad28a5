"""Sub-commands on the store the demo has written, and without one: keys of JSON, exit codes, settings, the doctor."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from callspan.datasets import FORMATS
from tests.support.commands import Answer, in_its_own
from tests.support.commands import ask as in_process
from tests.support.demo import VOICE_CALLS, Demo
from tests.support.processes import plain_environment

Ask = Callable[..., Answer]


def test_calls_shows_one_line_a_call(ask: Ask) -> None:
    answer = ask("calls")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert len(lines) == 43 + VOICE_CALLS
    assert "without a price for my-policy-4b: " in lines[-3]
    assert "success, 1 retry" in answer.out
    assert "error 400" in answer.out


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


def test_a_command_that_finds_no_waiting_records_does_not_import_what_delivers_them(demo: Demo, tmp_path: Path) -> None:
    program = (
        f"import sys; from callspan.cli import main; sys.argv = ['callspan', '--store', {demo.store!r}, 'calls']\n"
        "try: main()\n"
        "finally: print([name for name in sys.modules if name.startswith('callspan.wiring')])"
    )
    environment = plain_environment() | {"XDG_STATE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout


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
    assert (store["state"], store["detail"]) == ("ok", "it can be written; nothing was")


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


def test_help_names_every_format_with_examples(ask: Any) -> None:
    output = ask("export", "--help").out
    assert all(name in output for name in FORMATS)
    assert "callspan export openai-session -o train.jsonl" in output
