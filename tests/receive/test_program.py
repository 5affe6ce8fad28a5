"""The program of the claude-agent-sdk, offline, against the scripted provider: every request is recorded, exactly."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from tests.conftest import Instrument, Read
from tests.receive.conftest import agents_ended
from tests.support.processes import plain_environment
from tests.support.rig import until
from tests.support.scale import scaled
from tests.support.waiting import HANG_S, until_async

import callspan
from callspan import Handle
from callspan.records import CallRecord, Tree, is_agent, links_of, task_of
from callspan.testing import Reply, ScriptedProvider

sdk = pytest.importorskip("claude_agent_sdk")
CANARY = "canary-5f2e"
BASH = {"name": "Bash", "arguments": {"command": "cat a.txt", "description": "read"}}
FAILS = {"name": "Bash", "arguments": {"command": "exit 3", "description": "fail"}}
WRITES = {"name": "Bash", "arguments": {"command": "touch b.txt", "description": "write"}}
TASK = {"name": "Task", "arguments": {"description": "look", "prompt": "Look.", "subagent_type": "general-purpose"}}
ADD = {"name": "mcp__calc__add", "arguments": {"a": 1}}
BLOCKED = {"hooks": {"PreToolUse": [{"matcher": "Bash", "hooks": [{"type": "command", "command": "exit 2"}]}]}}
ENDLESS = "never read to its end " * 60
LARGE = "word " * 30_000
"""More than a log line holds."""
COMPACTING = {"CLAUDE_AUTOCOMPACT_PCT_OVERRIDE": "10", "CLAUDE_CODE_MAX_CONTEXT_TOKENS": "200000"}


class Run(NamedTuple):
    """What is asked of the program."""

    prompts: tuple[str, ...] = (CANARY,)
    """Turns of one conversation."""
    options: Mapping[str, Any] = MappingProxyType({})
    interrupted: bool = False
    """Whether the first answer is interrupted while it comes."""
    uncounted: bool = False
    """Whether the program's total has tokens of which no event tells, or was read before its last request."""
    added: tuple[float, ...] = (0.0,)
    """What the program may add to the cost of its calls."""
    expected: tuple[list[int], list[str]] | None = None
    """Retries and outcomes of the calls."""


class Lab:
    """Runs the program in a directory, and reads what was recorded."""

    def __init__(self, directory: Path, provider: ScriptedProvider, handle: Handle, read: Callable[[], Any]) -> None:
        self.directory, self.provider, self.handle, self.read = directory, provider, handle, read
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
            max_turns=8, env=env, model="claude-opus-5", cwd=str(self.directory / "work"),
            **{"permission_mode": "bypassPermissions", **fields},
        )  # fmt: skip

    async def ask(self, run: Run) -> None:
        options = self.options(**run.options)
        env = dict(options.env)
        cost = 0.0
        try:
            async for message in self._converse(run, options):
                cost = getattr(message, "total_cost_usd", None) or cost
        finally:
            self.total += cost
            assert (options.env, dict(os.environ)) == (env, self.before), "the application's own are as they were"

    async def _converse(self, run: Run, options: Any) -> Any:
        if len(run.prompts) == 1 and not run.interrupted:
            async for message in sdk.query(prompt=run.prompts[0], options=options):
                yield message
            return
        async with sdk.ClaudeSDKClient(options) as client:
            for number, prompt in enumerate(run.prompts):
                await client.query(prompt)
                if run.interrupted and number == 0:
                    await until_async(lambda: self.provider.requests)
                    await asyncio.sleep(1.0)  # the first chunks have come
                    await client.interrupt()
                async for message in client.receive_response():
                    yield message

    def run(self, *runs: Run, beside: Callable[[], Awaitable[object]] | None = None) -> None:
        async def all_of_them() -> None:
            with callspan.session("coding", session_id="ours"):
                others = [] if beside is None else [beside()]
                await asyncio.gather(*(self.ask(run) for run in runs), *others)

        try:
            asyncio.run(asyncio.wait_for(all_of_them(), HANG_S))
        except sdk.ClaudeSDKError as error:  # failed and killed runs end with one
            assert str(error)
        agents_ended()

    def records(self) -> tuple[list[CallRecord], list[Any]]:
        assert self.handle.force_flush()
        reader = self.read()
        calls = sorted(reader.calls(), key=lambda call: call.timing.start_ns)
        return calls, [event for event in reader.events("ours") if getattr(event, "event_type", "") == "tool"]


@pytest.fixture
def lab(tmp_path: Path, provider: ScriptedProvider, instrumented: Instrument, reading: Read) -> Callable[..., Lab]:
    def start(**settings: Any) -> Lab:
        store = f"sqlite:///{tmp_path}/c.db"
        handle = instrumented(**{"stores": store, "receive": True, **settings})
        return Lab(tmp_path, provider, handle, lambda: reading(store))

    return start


def script(provider: ScriptedProvider, name: str) -> Run:
    """Have the provider answer as a run needs; return the run."""
    replies, run = SCENES[name]
    for reply in replies:
        provider.reply(**reply)
    provider.reply(text=f"Done. {CANARY}", repeat=True)
    return run._replace(options={"mcp_servers": {"calc": calculator()}}) if name == "mcp" else run


def calculator() -> Any:
    @sdk.tool("add", "Adds", {"a": int})  # type: ignore[untyped-decorator]
    async def add(arguments: dict[str, Any]) -> dict[str, Any]:
        return {"content": [{"type": "text", "text": f"{CANARY} {arguments['a']}"}]}

    return sdk.create_sdk_mcp_server("calc", tools=[add])


START_COST = 12 * 5e-6 + 1 * 25e-6
"""Of the tokens in the first event of a stream. The program adds them, if it has read that before the stream is cut."""
FAILED = {"status": 500, "retry_after_s": 0.001}
LATE = {"text": ENDLESS, "chunk_delay_s": 0.3}
SCENES: dict[str, tuple[list[dict[str, Any]], Run]] = {
    "text": ([], Run()),
    "tools": (
        [
            {"tool_calls": [BASH], "input_tokens": 400, "cache_write_tokens": 300},
            {"tool_calls": [BASH, FAILS], "input_tokens": 500, "cache_read_tokens": 300},
        ],
        Run(),
    ),
    "mcp": ([{"tool_calls": [ADD]}], Run()),
    "blocked": ([{"tool_calls": [BASH]}], Run(options={"settings": json.dumps(BLOCKED)})),
    "denied": ([{"tool_calls": [WRITES]}], Run(options={"permission_mode": "default"})),
    "subagent": ([{"tool_calls": [TASK]}, {"tool_calls": [BASH]}], Run()),
    "subagents": ([{"tool_calls": [TASK, TASK]}], Run(uncounted=True)),
    "retries": ([{"status": 429, "retry_after_s": 0.001}, FAILED], Run(expected=([2], ["success"]))),
    "overloaded": ([{"status": 529, "retry_after_s": 0.001}, {"text": "a part", "finish_reason": "max_tokens"}], Run()),
    "failure": ([FAILED, FAILED, FAILED], Run(expected=([2], ["error"]))),
    "hanging": ([{"hang": True}], Run(options={"env": {"API_TIMEOUT_MS": "4000"}}, expected=([1], ["success"]))),
    "bad request": ([{"status": 400}], Run(prompts=(CANARY, "more"))),
    "refusal": ([{"refusal": "I will not."}], Run()),
    "cut": ([{"text": "one two three four", "cut_after": 4}], Run(added=(0.0, START_COST))),
    "malformed": ([{"malformed": True}], Run(uncounted=True)),
    "thinking": ([{"text": "x", "reasoning": "let me think"}], Run(prompts=(CANARY, "more"))),
    "partial messages": ([], Run(prompts=(CANARY, "more"), options={"include_partial_messages": True})),
    "large": ([], Run(prompts=(f"{CANARY} {LARGE}", "more"))),
    "compaction": ([], Run(prompts=(CANARY, "more", "/compact", "after"))),
    "automatic compaction": (
        [{"text": "a", "input_tokens": 190_000}, {"tool_calls": [BASH], "input_tokens": 195_000}],
        Run(prompts=(CANARY, "more", "after"), options={"env": COMPACTING}),
    ),
    "interrupt": (
        [LATE],
        Run(
            prompts=(CANARY, "more"),
            interrupted=True,
            uncounted=True,
            expected=([0, 0], ["interrupted", "success"]),
        ),
    ),
}
"""The answers of the provider, before those without end, and what is asked.

The program repeats a bad request in another form, and adds the tokens of a malformed stream to those of the next one.
"""
BARE = ("tools", "mcp", "subagent", "failure", "large", "compaction", "interrupt")
"""Those that are run at each level without content."""


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("way", scaled(["files"], ["files", "lines"]))
def test_every_request_is_one_exact_record(
    lab: Callable[..., Lab], provider: ScriptedProvider, name: str, way: str
) -> None:
    """Or an attempt of one. With a redactor bodies come in log lines."""
    running = lab(**({} if way == "files" else {"redact": lambda record: record}))
    run = script(provider, name)
    running.run(run)
    calls, tools = running.records()
    bodies = [body for call in calls for body in len(call.attempts) * [json_of(call)]]
    missing = bodies.count(None)
    exact = Counter(filter(None, bodies))
    served = Counter(without_thinking(request.content) for request in provider.requests)
    assert exact <= served, "every member, in its order"
    assert exact.total() + missing == served.total() == len(bodies)
    cut = [call for call in calls if not bytes(call.request.body)]
    assert {(note.what, note.why) for call in cut for note in call.redactions} <= {("request.body", "size")}
    assert bool(cut) == (name == "large" and way == "lines")
    check_costs(running, run, calls, name)
    check_tools(calls, tools)
    assert {call.place.session_id for call in calls} == {"ours"}
    assert len(calls) == len({call.call_id for call in calls})
    assert list((running.directory / "c.db.spool" / "agents").rglob("*.json")) == []
    if run.expected is not None:
        assert ([call.retries for call in calls], [call.outcome for call in calls]) == run.expected


def two_tasks(request: Any) -> Reply:
    """Two subagents at once, each of which runs a tool; their last words name an agent that is not there."""
    first, whole = (json.dumps(part) for part in (request.body["messages"][0], request.body["messages"]))
    task = next((task for task in ("alpha", "beta") if f"Do {task}." in first), None)
    if '"tool_result"' in whole:
        return Reply(text=f"Done: {task}, agentId: made_up")
    if task is not None:
        return Reply(tool_calls=[{"name": "Bash", "arguments": {"command": f"echo {task}", "description": task}}])
    tasks = (TASK["arguments"] | {"description": f"the {task}", "prompt": f"Do {task}."} for task in ("alpha", "beta"))
    return Reply(tool_calls=[{"name": "Task", "arguments": {**task, "run_in_background": False}} for task in tasks])


def test_subagents_at_once_are_below_their_tasks(lab: Callable[..., Lab], provider: ScriptedProvider) -> None:
    running = lab()
    provider.reply(responder=two_tasks, repeat=True)
    running.run(Run())
    assert running.handle.force_flush()
    records = [*running.read().entries("ours")]
    tree = Tree(map(links_of, records))
    agents = [number for number, record in enumerate(records) if is_agent(record)]
    tasks = {task_of(records[tree.parents[number]]): number for number in agents}
    assert set(tasks) == {"the alpha", "the beta"}
    for task, number in tasks.items():
        inside = [records[inner] for inner, _ in tree.below(number)]
        assert sum(isinstance(record, CallRecord) for record in inside) == 2
        (tool,) = (record for record in inside if not isinstance(record, CallRecord))
        assert f"the {tool.data['arguments']['description']}" == task


def json_of(call: CallRecord) -> str | None:
    body = bytes(call.request.body)
    return without_thinking(body) if body else None


def without_thinking(body: bytes) -> str:
    """The body as JSON; the program logs no thinking."""
    tree = json.loads(body)
    for message in tree["messages"]:
        for part in message["content"] if isinstance(message["content"], list) else ():
            if part.get("type") == "thinking":
                part["thinking"] = "…"
    return json.dumps(tree)


def check_costs(running: Lab, run: Run, calls: list[CallRecord], name: str) -> None:
    costs = [call.cost.usd for call in calls if call.cost is not None and call.cost.usd is not None]
    computed = float(sum(costs, Decimal(0)))
    stated = sum(call.metadata.get("extra", {}).get("stated_cost_usd", 0) for call in calls)  # type: ignore[attr-defined]
    if name != "malformed":
        assert any(computed + added == pytest.approx(stated, abs=1e-12) for added in run.added)
    if not run.uncounted:
        assert any(computed + added == pytest.approx(running.total, abs=1e-12) for added in run.added)


def check_tools(calls: list[CallRecord], tools: list[Any]) -> None:
    wanted = {
        tool.id: call.call_id for call in calls if call.outcome == "success" for tool in call.tool_calls or ()
    }  # fmt: skip
    assert {tool.tool_call_id: tool.call_id for tool in tools} == wanted
    assert all(tool.data["result"] for tool in tools)


@pytest.mark.parametrize("name", scaled(BARE[:1], BARE))
@pytest.mark.parametrize("level", ["metadata", "off"])
def test_no_content_below_full(lab: Callable[..., Lab], provider: ScriptedProvider, level: str, name: str) -> None:
    running = lab(content=level)
    run = script(provider, name)
    running.run(run)
    calls, _ = running.records()
    if not run.interrupted:  # of which no event tells
        assert sum(call.metadata.get("purpose") is not None for call in calls) == len(calls)
        assert sum(1 + (call.retries or 0) for call in calls) == len(provider.requests)
        check_costs(running, run, calls, name)
    for file in running.directory.glob("c.db*"):
        for part in [file] if file.is_file() else [path for path in file.rglob("*") if path.is_file()]:
            assert CANARY.encode() not in part.read_bytes(), part


@pytest.mark.parametrize("name", ["text", "tools"])
def test_two_agents_at_once(lab: Callable[..., Lab], provider: ScriptedProvider, name: str) -> None:
    running = lab()
    script(provider, name)
    running.run(Run(prompts=("first",)), Run(prompts=("second",)))
    calls, tools = running.records()
    assert len(calls) == len(provider.requests)
    assert len({call.request.conversation_id for call in calls}) == 2
    check_costs(running, Run(), calls, name)
    check_tools(calls, tools)


@pytest.mark.parametrize("is_streaming", [False, True])
@pytest.mark.parametrize("name", ["text", "tools"])
def test_calls_of_the_sdk_of_the_model_beside_an_agent(
    lab: Callable[..., Lab], provider: ScriptedProvider, name: str, is_streaming: bool
) -> None:
    """Nothing is recorded twice, and each by its own way."""
    anthropic = pytest.importorskip("anthropic")
    running = lab()
    script(provider, name)
    ours = {"max_tokens": 9, "model": "claude-opus-5", "messages": [{"role": "user", "content": "beside"}]}

    async def beside() -> None:
        async with anthropic.AsyncAnthropic(api_key="k", base_url=provider.anthropic_url) as client:
            for _ in range(5):
                answer = await client.messages.create(stream=is_streaming, **ours)
                if is_streaming:
                    assert [event async for event in answer]

    running.run(Run(), beside=beside)
    calls, _ = running.records()
    by_sdk = Counter((call.sdk or "").partition("/")[0] for call in calls)
    assert sum(by_sdk.values()) == len(provider.requests)
    assert by_sdk["anthropic"] == 5
    served = Counter(json.dumps(request.json) for request in provider.requests)
    assert Counter(json_of(call) for call in calls) == served


def child_pids(parent: int) -> list[int]:
    listed = subprocess.run(["pgrep", "-P", str(parent), "claude"], capture_output=True, text=True, check=False)
    return [int(pid) for pid in listed.stdout.split()]


@pytest.mark.parametrize("way", ["files", "lines"])
def test_killed_program_loses_no_request(lab: Callable[..., Lab], provider: ScriptedProvider, way: str) -> None:
    running = lab(**({} if way == "files" else {"redact": lambda record: record}))
    provider.reply(tool_calls=[BASH])
    provider.reply(tool_calls=[BASH])
    provider.reply(text=ENDLESS, chunk_delay_s=1.0)

    async def kill() -> None:
        await until_async(lambda: len(provider.requests) == 3)
        await asyncio.sleep(2.0)  # an interval of its exporter
        for pid in child_pids(os.getpid()):
            os.kill(pid, signal.SIGKILL)

    running.run(Run(), beside=kill)
    calls, _ = running.records()
    assert [call.outcome for call in calls] == ["success", "success", "interrupted"]


APPLICATION = """
import asyncio, sys
import callspan
from claude_agent_sdk import ClaudeAgentOptions, query

async def main():
    with callspan.session("coding", session_id="ours"):
        options = ClaudeAgentOptions(model="claude-opus-5", permission_mode="bypassPermissions", cwd=sys.argv[2])
        async for message in query(prompt="canary-5f2e", options=options):
            print(type(message).__name__, flush=True)

redact = (lambda record: record) if sys.argv[3] == "lines" else None
callspan.instrument(stores=f"sqlite:///{sys.argv[1]}", receive=True, redact=redact)
asyncio.run(main())
"""


@pytest.mark.parametrize("way", ["files", "lines"])
def test_killed_application_loses_no_request(
    tmp_path: Path, provider: ScriptedProvider, reading: Read, way: str
) -> None:
    """Nor does what its program had reported, or put into files, wait longer than until the next agent."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "a.txt").write_text(CANARY)
    environment = plain_environment(
        ANTHROPIC_BASE_URL=provider.anthropic_url, ANTHROPIC_API_KEY="sk-test", HOME=str(tmp_path), IS_SANDBOX="1",
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
    )  # fmt: skip
    command = [sys.executable, "-c", APPLICATION, str(tmp_path / "c.db"), str(tmp_path / "work"), way]
    provider.reply(tool_calls=[BASH])
    provider.reply(tool_calls=[BASH])
    provider.reply(text=ENDLESS, chunk_delay_s=1.0)
    provider.reply(text=f"Done. {CANARY}", repeat=True)
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True) as killed:
        until(lambda: len(provider.requests) == 3)
        time.sleep(2.5)  # intervals of its exporter
        programs = child_pids(killed.pid)
        killed.kill()
    for pid in programs:
        os.kill(pid, signal.SIGKILL)
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, timeout=HANG_S)
    reader = reading(f"sqlite:///{tmp_path}/c.db")
    calls = sorted(reader.calls(), key=lambda call: call.timing.start_ns)
    assert [call.outcome for call in calls] == ["success", "success", "interrupted", "success"]
    assert Counter(json_of(call) for call in calls) == Counter(json.dumps(r.json) for r in provider.requests)
    assert {call.place.session_id for call in calls} == {"ours"}
    assert not list((tmp_path / "c.db.spool" / "agents").rglob("*.json"))


def test_what_the_agent_starts_inherits_nothing(lab: Callable[..., Lab], provider: ScriptedProvider) -> None:
    """Neither a tool, a hook nor an MCP server gets the address."""
    running = lab()
    work = running.directory / "work"
    command = f"env > {work}/tool.env"
    provider.reply(tool_calls=[{"name": "Bash", "arguments": {"command": command, "description": "d"}}])
    provider.reply(text="Done.", repeat=True)
    hook = {"type": "command", "command": f"env > {work}/hook.env"}
    server = {"type": "stdio", "command": "sh", "args": ["-c", f"env > {work}/server.env; sleep 3"]}
    settings = json.dumps({"hooks": {"PreToolUse": [{"matcher": "Bash", "hooks": [hook]}]}})
    running.run(Run(options={"settings": settings, "mcp_servers": {"s": server}}))
    for name in ("tool", "hook", "server"):
        assert not re.search("OTEL_|/v1/logs", (work / f"{name}.env").read_text()), name


def test_settings_of_the_user_win(
    lab: Callable[..., Lab], provider: ScriptedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    running = lab()
    script(provider, "text")
    running.run(Run(options={"env": {"CLAUDE_CODE_ENABLE_TELEMETRY": "1"}}))
    assert running.records()[0] == []
    assert "its telemetry is set up elsewhere" in caplog.text
