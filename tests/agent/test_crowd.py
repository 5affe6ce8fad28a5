"""Many concurrent sessions with calls of both real SDKs: no mixing, no losses, no leaks."""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider

import callspan
from callspan.agent.scope import Scope
from callspan.testing import capture

httpx2 = pytest.importorskip("httpx2", reason="needs SDKs on httpx2")
_MIB = 1024 if sys.platform == "linux" else 1024 * 1024


def echo(request: Any) -> Any:
    """Echo what was asked, as either provider would answer."""
    body = json.loads(request.content)
    text = body["messages"][-1]["content"]
    if request.url.path.endswith("/v1/messages"):
        answer = {"id": "m", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "end_turn"}
        content = [{"type": "text", "text": text}]
        usage = {"input_tokens": 3, "output_tokens": 1}
        return httpx2.Response(200, json={**answer, "stop_sequence": None, "content": content, "usage": usage})
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}
    answer = {"id": "c", "object": "chat.completion", "created": 1, "model": "gpt"}
    return httpx2.Response(200, json={**answer, "choices": [choice], "usage": usage})


async def reply_to(request: Any) -> Any:
    await asyncio.sleep(0)
    return echo(request)


async def crowd(sessions: int, steps: int) -> None:
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(reply_to))
    first = openai.AsyncOpenAI(api_key="k", http_client=http)
    second = anthropic.AsyncAnthropic(api_key="k", http_client=http)

    async def episode(number: int) -> None:
        async with callspan.session("crowd", session_id=f"crowd-{steps}-{number}") as own:
            for index in range(steps):
                async with own.timestep() as step:
                    messages: Any = [{"role": "user", "content": f"{number}/{index}"}]
                    await asyncio.gather(
                        first.chat.completions.create(model="gpt", messages=messages),
                        second.messages.create(model="claude", max_tokens=9, messages=messages),
                    )
                    step.environment(index, reward=1.0)

    async with http:
        await asyncio.gather(*(episode(number) for number in range(sessions)))


def _is_of_crowd(scope: Scope) -> bool:
    return (scope._place.session_id or "").startswith("crowd-")


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("sessions", "steps"), [(25, 4), (200, 8)])
def test_concurrent_sessions_with_calls_of_both_sdks_keep_their_own(tmp_path: Path, sessions: int, steps: int) -> None:
    with capture():
        asyncio.run(crowd(1, 1))  # what the first calls of a process import and build is not held by sessions
    path = tmp_path / "crowd.db"
    handle = callspan.instrument(stores=f"sqlite:///{path}", tracer_provider=TracerProvider())
    try:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        asyncio.run(crowd(sessions, steps))
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / _MIB
        assert handle.force_flush(300_000)
        counters = handle.counters()
    finally:
        handle.uninstrument()
    gc.collect()
    assert [kept for kept in gc.get_objects() if isinstance(kept, Scope) and _is_of_crowd(kept)] == []
    assert grown < 20 + 0.35 * sessions, "MiB at the peak, of which each open session may hold a little"
    assert {name: count for name, count in counters.items() if name.startswith("dropped") and count} == {}
    with closing(sqlite3.connect(path)) as store:
        wanted = """
            SELECT c.session_id, t.timestep, c.provider, count(*),
                   min(m.text), max(m.text), min(c.trace_id = t.trace_id)
            FROM calls c JOIN timesteps t USING (timestep_id, session_id)
            JOIN call_messages m ON m.call_id = c.call_id AND m.role = 'user'
            GROUP BY 1, 2, 3"""
        found = {(session, step, provider): facts for session, step, provider, *facts in store.execute(wanted)}
        (events,) = store.execute("SELECT count(*) FROM events").fetchone()
        (traces,) = store.execute("SELECT count(DISTINCT trace_id) FROM sessions").fetchone()
        totals = [json.loads(row[0]) for row in store.execute("SELECT totals FROM sessions")]
    expected = {
        (f"crowd-{steps}-{number}", step, provider): [1, f"{number}/{step}", f"{number}/{step}", 1]
        for number in range(sessions)
        for step in range(steps)
        for provider in ("openai", "anthropic")
    }
    assert found == expected
    assert events == sessions * steps
    assert traces == sessions
    assert [total["calls"] for total in totals] == [2 * steps] * sessions
