"""The program of the claude-agent-sdk, offline, against the scripted provider: every request is recorded, exactly."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Instrument, Read
from tests.support.scale import scaled
from tests.support.waiting import HANG_S

import callspan
from callspan import Handle
from callspan.records import CallRecord
from callspan.testing import ScriptedProvider

sdk = pytest.importorskip("claude_agent_sdk")
CANARY = "canary-5f2e"
BASH = {"name": "Bash", "arguments": {"command": "cat a.txt", "description": "read"}}
FAILS = {"name": "Bash", "arguments": {"command": "exit 3", "description": "fail"}}
TASK = {"name": "Task", "arguments": {"description": "look", "prompt": "Look.", "subagent_type": "general-purpose"}}
BLOCKED = {"hooks": {"PreToolUse": [{"matcher": "Bash", "hooks": [{"type": "command", "command": "exit 2"}]}]}}


class Lab:
    """Runs the program in a directory, and reads what was recorded."""

    def __init__(self, directory: Path, provider: ScriptedProvider, handle: Handle, read: Callable[[], Any]) -> None:
        self.directory, self.provider, self.handle, self._read = directory, provider, handle, read
        self.total = 0.0
        """The sum of the costs that the program states."""
        (directory / "work").mkdir()
        (directory / "work" / "a.txt").write_text(CANARY)
        self.before = dict(os.environ)

    def options(self, **fields: Any) -> Any:
        env = {
            "ANTHROPIC_BASE_URL": self.provider.anthropic_url,
            "ANTHROPIC_API_KEY": "sk-test",
            "HOME": str(self.directory),
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_MAX_RETRIES": "2",
            "IS_SANDBOX": "1",
            **fields.pop("env", {}),
        }
        return sdk.ClaudeAgentOptions(
            max_turns=8, env=env, model="claude-opus-5", permission_mode="bypassPermissions",
            cwd=str(self.directory / "work"), **fields,
        )  # fmt: skip

    async def ask(self, prompt: str = CANARY, **fields: Any) -> None:
        options = self.options(**fields)
        env = dict(options.env)
        cost = 0.0
        try:
            async for message in sdk.query(prompt=prompt, options=options):
                cost = getattr(message, "total_cost_usd", None) or cost
        finally:
            self.total += cost
            assert (options.env, dict(os.environ)) == (env, self.before), "the application's own are as they were"

    def run(self, *prompts: str, **fields: Any) -> None:
        async def all_of_them() -> None:
            with callspan.session("coding", session_id="ours"):
                await asyncio.gather(*(self.ask(prompt, **fields) for prompt in prompts or (CANARY,)))

        try:
            asyncio.run(asyncio.wait_for(all_of_them(), HANG_S))
        except sdk.ClaudeSDKError as error:  # failed and killed runs end with one
            assert str(error)
        time.sleep(2.5)  # an agent that has ended is given a second

    def records(self) -> tuple[list[CallRecord], list[Any]]:
        assert self.handle.force_flush()
        reader = self._read()
        calls = sorted(reader.calls(), key=lambda call: call.timing.start_ns)
        return calls, [event for event in reader.events("ours") if getattr(event, "event_type", "") == "tool"]


@pytest.fixture
def lab(tmp_path: Path, provider: ScriptedProvider, instrumented: Instrument, reading: Read) -> Callable[..., Lab]:
    def start(**settings: Any) -> Lab:
        store = f"sqlite:///{tmp_path}/c.db"
        handle = instrumented(**{"stores": store, "receive": True, **settings})
        return Lab(tmp_path, provider, handle, lambda: reading(store))

    return start


def script(provider: ScriptedProvider, name: str) -> dict[str, Any]:
    """Have the provider answer as a run needs; return the options of the run."""
    match name:
        case "tools":
            provider.reply(tool_calls=[BASH], input_tokens=400, cache_write_tokens=300)
            provider.reply(tool_calls=[BASH, FAILS], input_tokens=500, cache_read_tokens=300)
        case "subagent":
            provider.reply(tool_calls=[TASK])
            provider.reply(tool_calls=[BASH])
        case "retries":
            provider.reply(status=429, retry_after_s=0.001)
            provider.reply(status=500, retry_after_s=0.001)
        case "failure":
            for _ in range(3):
                provider.reply(status=500, retry_after_s=0.001)
        case "refusal":
            provider.reply(refusal="I will not.")
        case "blocked":
            provider.reply(tool_calls=[BASH])
            return {"settings": json.dumps(BLOCKED)}
        case "cut":
            provider.reply(text="one two three four", cut_after=4)
    provider.reply(text=f"Done. {CANARY}", repeat=True)
    return {}


RUNS = ("text", "tools", "subagent", "retries", "failure", "refusal", "blocked", "cut")


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("way", scaled(["files"], ["files", "lines"]))
def test_every_request_is_one_exact_record(
    lab: Callable[..., Lab], provider: ScriptedProvider, name: str, way: str
) -> None:
    """Or an attempt of one. With a redactor bodies come in log lines."""
    running = lab(**({} if way == "files" else {"redact": lambda record: record}))
    running.run(**script(provider, name))
    calls, tools = running.records()
    assert sum(len(call.attempts) for call in calls) == len(provider.requests)
    recorded = [json.dumps(json.loads(bytes(call.request.body))) for call in calls]
    served = [json.dumps(request.json) for request in provider.requests]
    assert set(recorded) == set(served), "every member, in its order"
    assert {call.place.session_id for call in calls} == {"ours"}
    answered = [call for call in calls if call.outcome == "success"]
    computed = sum((call.cost.usd for call in answered if call.cost is not None), Decimal(0))
    assert float(computed) == pytest.approx(running.total, abs=1e-12)
    wanted = {tool.id: call.call_id for call in answered for tool in call.tool_calls or ()}
    assert {tool.tool_call_id: tool.call_id for tool in tools} == wanted
    assert all(tool.data["result"] for tool in tools)
    assert list((running.directory / "c.db.spool" / "agents").rglob("*.json")) == []
    assert len(calls) == len({call.call_id for call in calls})
    expected = {"retries": ([2], ["success"]), "failure": ([2], ["error"])}.get(name)
    if expected is not None:
        assert ([call.retries for call in calls], [call.outcome for call in calls]) == expected


@pytest.mark.parametrize("level", ["metadata", "off"])
def test_no_content_below_full(lab: Callable[..., Lab], provider: ScriptedProvider, level: str) -> None:
    running = lab(content=level)
    running.run(**script(provider, "tools"))
    calls, tools = running.records()
    assert (len(calls), len(tools)) == (len(provider.requests), 3)
    assert float(sum(call.cost.usd for call in calls if call.cost is not None)) == pytest.approx(running.total)
    for file in running.directory.glob("c.db*"):
        for part in [file] if file.is_file() else [path for path in file.rglob("*") if path.is_file()]:
            assert CANARY.encode() not in part.read_bytes(), part


def test_two_agents_at_once(lab: Callable[..., Lab], provider: ScriptedProvider) -> None:
    running = lab()
    script(provider, "text")
    running.run("first", "second")
    calls, _ = running.records()
    assert len(calls) == len(provider.requests) == 2
    assert len({call.request.conversation_id for call in calls}) == 2


def test_killed_program_loses_no_request(lab: Callable[..., Lab], provider: ScriptedProvider) -> None:
    running = lab()
    provider.reply(tool_calls=[BASH])
    provider.reply(tool_calls=[BASH])
    provider.reply(text="never read to its end " * 20, chunk_delay_s=1.0)

    def kill() -> None:
        while len(provider.requests) < 3:
            time.sleep(0.05)
        time.sleep(0.5)
        listed = subprocess.run(
            ["pgrep", "-P", str(os.getpid()), "claude"], capture_output=True, text=True, check=False
        )
        for pid in listed.stdout.split():
            os.kill(int(pid), 9)

    threading.Thread(target=kill, daemon=True).start()
    running.run()
    calls, _ = running.records()
    assert [call.outcome for call in calls] == ["success", "success", "interrupted"]


def test_what_the_agent_starts_inherits_nothing(lab: Callable[..., Lab], provider: ScriptedProvider) -> None:
    """Neither a tool, a hook nor an MCP server gets the address."""
    running = lab()
    work = running.directory / "work"
    command = f"env > {work}/tool.env"
    provider.reply(tool_calls=[{"name": "Bash", "arguments": {"command": command, "description": "d"}}])
    provider.reply(text="Done.", repeat=True)
    hook = {"type": "command", "command": f"env > {work}/hook.env"}
    server = {"type": "stdio", "command": "sh", "args": ["-c", f"env > {work}/server.env; sleep 3"]}
    running.run(
        settings=json.dumps({"hooks": {"PreToolUse": [{"matcher": "Bash", "hooks": [hook]}]}}),
        mcp_servers={"s": server},
    )
    for name in ("tool", "hook", "server"):
        assert not re.search("OTEL_|/v1/logs", (work / f"{name}.env").read_text()), name


def test_settings_of_the_user_win(
    lab: Callable[..., Lab], provider: ScriptedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    running = lab()
    script(provider, "text")
    running.run(env={"CLAUDE_CODE_ENABLE_TELEMETRY": "1"})
    assert running.records()[0] == []
    assert "its telemetry is set up elsewhere" in caplog.text
