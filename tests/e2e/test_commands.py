"""Every sub-command that reads, on the store the demo has written: output, filters, exit codes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from callspan import plugin
from callspan.cli import run
from tests.e2e.conftest import Answer, Demo, in_its_own, in_process, plain_environment

Ask = Callable[..., Answer]


def first_id(ask: Ask, *options: str) -> str:
    found: str = ask("calls", "--limit", "1", "--json", *options).json[0]["call_id"]
    return found


def test_the_default_store_is_that_of_the_exporter() -> None:
    assert run.DEFAULT_STORE == plugin.DEFAULT_STORE


def test_calls_shows_one_line_a_call(ask: Ask) -> None:
    answer = ask("calls")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert len(lines) == 45
    assert "without a price for my-policy-4b: " in lines[-3]
    assert "success, 1 retry" in answer.out
    assert "error 400" in answer.out


def test_calls_of_one_session_by_the_beginning_of_its_id(ask: Ask) -> None:
    rows = ask("sessions", "--json").json
    (longest,) = [row for row in rows if row["metadata"].get("mode") == "sync"]
    listed = ask("calls", "--session", longest["session_id"][:20], "--reverse", "--json").json
    assert [call["timestep_position"] for call in listed] == [0, 0, 0, 1, 2, 3]
    assert ask("calls", "--session", "nobody").code == 1


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


def test_show_gives_a_call_in_full(ask: Ask) -> None:
    call_id = first_id(ask, "--text", "could go west")
    answer = ask("show", first_id(ask, "--model", "gpt-4.1-mini", "--user", "demo", "--reverse"))
    assert answer.code == 0
    for part in ("chat gpt-4.1-mini", "provider", "openai chat_completions at 127.0.0.1", "tools       look, move",
                 "You are a robot", 'look({"direction":"east"})', "tool_calls", "214 in, 15 out"):  # fmt: skip
        assert part in answer.out
    assert "ended by closed" in ask("show", call_id).out


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


@pytest.mark.parametrize(
    "arguments",
    [
        ["--store", "teapot://x", "calls"],
        ["calls", "--since", "yesterday-ish"],
        ["calls", "--limit", "0"],
        ["stats", "--by", "weather"],
        ["show", "a", "b", "c"],
        ["calls", "--rewards", "--failed"],
        ["calls", "--follow", "--sort", "cost"],
        ["teapot"],
        ["prune"],
    ],
)
def test_wrong_usage_is_exit_code_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    answer = in_process(*arguments)
    assert answer.code == 2
    assert answer.err.startswith("Usage:")


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
