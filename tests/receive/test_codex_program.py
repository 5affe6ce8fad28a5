"""The `codex` program, offline, against the scripted provider: as a command, and by its SDK, which brings it."""

from __future__ import annotations

import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Instrument, Read
from tests.receive.conftest import agents_ended, forget_warnings
from tests.support.processes import plain_environment
from tests.support.waiting import HANG_S

import callspan
from callspan.testing import ScriptedProvider

sdk = pytest.importorskip("openai_codex")
bundled = pytest.importorskip("codex_cli_bin")
PATH = os.pathsep.join([str(bundled.bundled_codex_path().parent), os.environ["PATH"]])
# The SDK does not close the pipes of its program.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
CANARY = "canary-77b1"
TOOL = {"name": "exec_command", "arguments": {"cmd": "cat a.txt; env > tool.env"}}
CONFIG = """
model = "gpt-5"
model_provider = "scripted"
approval_policy = "never"
sandbox_mode = "danger-full-access"
[model_providers.scripted]
name = "OpenAI"
base_url = "{url}"
wire_api = "responses"
env_key = "OPENAI_API_KEY"
"""


def prepare(directory: Path, provider: ScriptedProvider) -> dict[str, str]:
    """Write what it reads in a directory; return its variables."""
    (directory / "a.txt").write_text(CANARY)
    (directory / "config.toml").write_text(CONFIG.format(url=provider.openai_url))
    return {"CODEX_HOME": str(directory), "HOME": str(directory), "OPENAI_API_KEY": "sk-test"}


def run(directory: Path, provider: ScriptedProvider, *options: str, **settings: str) -> tuple[int, str]:
    """Run it in a directory; return its exit code and the last line."""
    environment = plain_environment(PATH=PATH, **prepare(directory, provider), **settings)
    command = [sys.executable, "-m", "callspan.cli", "run", "codex", *options, "exec", "--skip-git-repo-check"]
    done = subprocess.run(
        [*command, "--dangerously-bypass-approvals-and-sandbox", f"Read a.txt. {CANARY}"], cwd=directory, check=False,
        env=environment, capture_output=True, text=True, timeout=HANG_S, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.returncode, done.stderr.splitlines()[-1]


def served(provider: ScriptedProvider) -> int:
    return sum(request.path == "/v1/responses" for request in provider.requests)


def stored(directory: Path, reading: Read) -> tuple[list[Any], list[Any]]:
    reader = reading(f"sqlite:///{directory}/callspan.db")
    calls = sorted(reader.calls(), key=lambda call: call.timing.start_ns)
    events = reader.events(calls[0].place.session_id)
    return calls, [event for event in events if getattr(event, "event_type", "") == "tool"]


def test_every_answered_request_is_one_record(tmp_path: Path, provider: ScriptedProvider, reading: Read) -> None:
    provider.reply(tool_calls=[TOOL], input_tokens=400, cache_read_tokens=100, output_tokens=20)
    provider.reply(status=500)
    provider.reply(text="Done.", input_tokens=500, output_tokens=9)
    assert run(tmp_path, provider) == (0, "callspan: 2 calls recorded")
    calls, (tool,) = stored(tmp_path, reading)
    assert sum(len(call.attempts) for call in calls) == served(provider) == 3
    usages = [(call.usage.input_tokens, call.usage.output_tokens, call.usage.cache_read_tokens) for call in calls]
    assert usages == [(400, 20, 100), (500, 9, 0)]
    assert sum(call.cost.usd for call in calls) == Decimal("0.0013025")
    assert (tool.call_id, tool.data["arguments"]) == (calls[0].call_id, TOOL["arguments"])
    assert CANARY in tool.data["result"]
    assert "/v1/logs" not in (tmp_path / "tool.env").read_text()


@pytest.mark.parametrize("level", ["metadata", "off"])
def test_no_content_below_full(tmp_path: Path, provider: ScriptedProvider, reading: Read, level: str) -> None:
    provider.reply(tool_calls=[TOOL])
    provider.reply(text=f"Done. {CANARY}")
    assert run(tmp_path, provider, CALLSPAN_CONTENT=level) == (0, "callspan: 2 calls recorded")
    calls, tools = stored(tmp_path, reading)
    assert (len(calls), len(tools)) == (2, 1)
    for file in (path for path in tmp_path.glob("callspan.db*/**/*") if path.is_file()):
        assert CANARY.encode() not in file.read_bytes(), file
    assert CANARY.encode() not in (tmp_path / "callspan.db").read_bytes()


def test_settings_of_the_user_win(tmp_path: Path, provider: ScriptedProvider) -> None:
    provider.reply(text="Done.")
    code, said = run(tmp_path, provider, "-c", "otel.environment=mine")
    assert (code, said.startswith("callspan: no call recorded; the telemetry of codex is set up elsewhere")) == (
        0,
        True,
    )


def test_programs_of_the_sdk_are_recorded_in_the_session(
    tmp_path: Path, provider: ScriptedProvider, reading: Read, instrumented: Instrument
) -> None:
    handle = instrumented(stores=f"sqlite:///{tmp_path}/callspan.db", receive=True)
    provider.reply(tool_calls=[TOOL], input_tokens=400)
    provider.reply(text="Done.", input_tokens=500)
    config = sdk.CodexConfig(cwd=str(tmp_path), env=prepare(tmp_path, provider))
    before = repr(config)
    with callspan.session("coding", session_id="ours"), sdk.Codex(config) as codex:
        assert codex.thread_start().run("Read a.txt.").final_response == "Done."
    assert repr(config) == before, "the application's own are as they were"
    agents_ended()
    assert handle.force_flush()
    calls, tools = stored(tmp_path, reading)
    assert [(call.place.session_id, call.usage.input_tokens) for call in calls] == [("ours", 400), ("ours", 500)]
    assert [tool.call_id for tool in tools] == [calls[0].call_id]


@pytest.mark.parametrize("receive", [False, True])
def test_programs_of_the_sdk_that_are_not_received_are_said(
    tmp_path: Path,
    provider: ScriptedProvider,
    instrumented: Instrument,
    caplog: pytest.LogCaptureFixture,
    receive: bool,
) -> None:
    """Without the receiver, and with a command of the application's own."""
    forget_warnings()
    instrumented(stores=f"sqlite:///{tmp_path}/callspan.db", receive=receive)
    command = (str(bundled.bundled_codex_path()), "app-server", "--listen", "stdio://") if receive else None
    config = sdk.CodexConfig(cwd=str(tmp_path), env=prepare(tmp_path, provider), launch_args_override=command)
    with callspan.session("coding"), sdk.Codex(config):
        assert "agent codex: callspan does not receive its telemetry" in caplog.text
