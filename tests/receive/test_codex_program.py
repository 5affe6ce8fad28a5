"""The `codex` program, offline, against the scripted provider. `make nightly` installs it beside the interpreter."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Read
from tests.support.processes import plain_environment
from tests.support.waiting import HANG_S

from callspan.testing import ScriptedProvider

PATH = os.pathsep.join([str(Path(sys.prefix) / "node_modules" / ".bin"), os.environ["PATH"]])
pytestmark = pytest.mark.skipif(shutil.which("codex", path=PATH) is None, reason="needs `codex`, which npm installs")
CANARY = "canary-77b1"
TOOL = {"name": "exec_command", "arguments": {"cmd": "cat a.txt; env > tool.env"}}
CONFIG = """
model = "gpt-5"
model_provider = "scripted"
[model_providers.scripted]
name = "OpenAI"
base_url = "{url}"
wire_api = "responses"
env_key = "OPENAI_API_KEY"
"""


def run(directory: Path, provider: ScriptedProvider, *options: str, **settings: str) -> tuple[int, str]:
    """Run it in a directory; return its exit code and the last line."""
    (directory / "a.txt").write_text(CANARY)
    (directory / "config.toml").write_text(CONFIG.format(url=provider.openai_url))
    environment = plain_environment(
        CODEX_HOME=str(directory), HOME=str(directory), OPENAI_API_KEY="sk-test", PATH=PATH, **settings
    )
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
