"""On Windows callspan warns once and records nothing; a program that uses it runs unchanged."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.processes import ran

from callspan.testing import ScriptedProvider

WARNING = "callspan records nothing on Windows; use it on Linux, on macOS, in WSL or in a container\n"
PROGRAM = """
import asyncio
import openai
import callspan
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

STORES = ("sqlite:///calls.db", "calls.jsonl", "postgresql://u@h/d", "clickhouse://h/d", "unix:///r.sock", "console://")
for url in (*STORES, "otlp+http://h:1?records"):
    handle = callspan.instrument(stores=url, ENABLED)
callspan.OpenAIInstrumentor().instrument()
exporter = callspan.CallRecordExporter(EXPORTED)
spans = TracerProvider()
spans.add_span_processor(SimpleSpanProcessor(exporter))

@callspan.tool
def add(a, b):
    return a + b

@callspan.session("conversation")
async def talk():
    async with callspan.timestep("first") as step:
        step.action(add(1, 2))
    client = openai.AsyncOpenAI(api_key="k")
    answer = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
    return answer.choices[0].message.content, answer.usage.total_tokens

@callspan.timestep
def count():
    yield from range(3)

print(LOOP.run_until_complete(talk()))
with callspan.session("episode", user_id="u1") as session, callspan.metadata(tags=["a"]), callspan.content("off"):
    with session.timestep() as step, callspan.invoke_agent("planner") as agent, callspan.guardrail("check") as check:
        step.observation("a wall")
        step.environment("open", reward=1, terminated=True)
        agent.output, check.triggered = 1, False
    callspan.handoff("billing")
    callspan.reward(1.0)
    stream = openai.OpenAI(api_key="k").chat.completions.create(
        model="m", messages=[{"role": "user", "content": "Hi"}], stream=True
    )
    print(len([chunk for chunk in stream]), [*count()], callspan.current_session() is session)
    session.outcome(1.0, success=True, status="done")
with callspan.record_call(model="own", provider="own"):
    pass
attributes = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "m"}
with spans.get_tracer("other").start_as_current_span("chat m", attributes=attributes):
    pass
handle.force_flush(timeout_millis=100)
print(callspan.last_call_id())
callspan.uninstrument()
import os
print(sorted(os.listdir()))
"""


def outcome(program: str, directory: Path, **names: str) -> tuple[str, str]:
    for name, text in names.items():
        program = program.replace(name, text)
    directory.mkdir()
    with ScriptedProvider() as provider:
        provider.reply(text="Hello!", repeat=True)
        done = ran("-c", program, cwd=directory, OPENAI_BASE_URL=provider.openai_url, HOME=str(directory))
        assert len(provider.requests) == 2
    return done.stdout, done.stderr


def test_program_runs_as_if_disabled(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra otlp is not installed")
    windows = "from tests.calls.windows import LOOP\n" + PROGRAM
    linux = "import asyncio\nLOOP = asyncio.new_event_loop()\n" + PROGRAM
    expected, _ = outcome(linux, tmp_path / "linux", ENABLED="enabled=False", EXPORTED="'unused.jsonl'")
    printed, said = outcome(windows, tmp_path / "windows", ENABLED="enabled=True", EXPORTED="'calls.jsonl'")
    assert said == WARNING
    assert printed.splitlines()[:-1] == expected.splitlines()[:-1]
    assert printed.splitlines()[-1] == "[]"


def test_capture_keeps_nothing(tmp_path: Path) -> None:
    program = """
from tests.calls.windows import LOOP
import callspan
from callspan.testing import capture
with capture() as seen, callspan.session("a") as session:
    session.action(1)
print(seen.records, seen.spans)
LOOP.close()
"""
    done = ran("-W", "error", "-c", program, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("[] []\n", WARNING)
