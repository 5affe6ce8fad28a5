"""Local stores: every record once and complete, from any number of writers."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import anthropic
import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider

import callspan
from callspan.record.call import CallRecord
from callspan.record.codec import decode, encode
from callspan.record.events import Record
from callspan.spool.sink import Entry
from callspan.stores.base import CallFilter, Reader
from callspan.stores.urls import sinks_for
from callspan.testing import Captured, ScriptedProvider, capture
from callspan.wiring import Handle
from tests.e2e.ask import QUESTION


def entries(payloads: list[bytes]) -> list[Entry]:
    """Payloads as the shipper hands them to a store."""
    made, offset = [], 0
    for payload in payloads:
        made.append(Entry("1-a.seg", offset, offset + len(payload), payload))
        offset += len(payload)
    return made


def an_episode(provider: ScriptedProvider, steps: int = 2) -> Captured:
    """All that an episode with calls, tools, messages, events and rewards leaves."""
    with capture() as seen, openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        with callspan.session("s", metadata={"seed": 7}) as session:
            for number in range(steps):
                with session.timestep() as step:
                    session.observation({"at": number})
                    client.chat.completions.create(model="gpt-5", messages=QUESTION)
                    with step.tool("dig", arguments={"depth": number}) as tool:
                        tool.result = "gold"
                    step.environment({"at": number + 1}, reward=0.5, terminated=number == steps - 1)
            session.outcome(reward=1.0, success=True)
        return seen


@pytest.mark.parametrize("kind", ["sqlite", "jsonl"])
def test_a_session_is_read_back_as_it_was_recorded(
    kind: str, provider: ScriptedProvider, reading: Callable[[object], Reader], tmp_path: Path
) -> None:
    """Session, steps, calls with what was said, tools, events, messages, rewards: all of it, in order."""
    seen = an_episode(provider)
    url = f"{kind}:///{tmp_path}/calls.{kind}"
    sink = sinks_for(url)[0]
    sink.open()
    sink.deliver(entries([encode(record) for record in seen.everything]))
    sink.close()
    reader = reading(url)
    (summary,) = reader.sessions()
    assert summary.session == seen.sessions[-1]
    assert (summary.timesteps, summary.calls, summary.reward, summary.models) == (2, 2, 1.0, ["gpt-5"])
    ended = [record for record in seen.timesteps if record.end_ns is not None]
    assert list(reader.timesteps(summary.session.session_id)) == ended
    calls = list(reader.calls(CallFilter(newest_first=False)))
    assert [call.call_id for call in calls] == [record.call_id for record in seen.records]
    assert [call.conversation for call in calls] == [record.conversation for record in seen.records]
    events = [one for one in seen.events if getattr(one, "event_type", None) != "tool_start"]
    assert list(reader.events(summary.session.session_id)) == events


def test_ten_writers_of_one_call_leave_one_row(provider: ScriptedProvider, tmp_path: Path) -> None:
    """The same id from ten threads at once, older and newer versions mixed: one row, the newer one."""
    seen = an_episode(provider, steps=1)
    (record,) = (one for one in seen.everything if isinstance(one, CallRecord))
    payload = encode(record)
    older = json.dumps({**json.loads(payload), "part": "started", "outcome": "started"}).encode()
    gate = threading.Barrier(10)

    def write(number: int) -> None:
        sink = sinks_for(f"sqlite:///{tmp_path}/calls.db")[0]
        gate.wait()
        sink.open()
        sink.deliver(entries([payload if number % 2 else older]))
        sink.close()

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(write, range(10)))
    with closing(sqlite3.connect(tmp_path / "calls.db")) as connection:
        rows = connection.execute("SELECT call_id, part, outcome FROM calls").fetchall()
    assert rows == [(record.call_id, "ended", "success")]


def test_a_thousand_sessions_of_fifty_workers_are_all_there(
    instrumented: Callable[..., Handle], reading: Callable[[object], Reader], tmp_path: Path
) -> None:
    """Fifty threads, twenty sessions each, steps and events in each: nothing lost, nothing mixed, nothing left."""
    handle = instrumented(stores=f"sqlite:///{tmp_path}/calls.db")

    def work(worker: int) -> None:
        for number in range(20):
            with callspan.session("s", session_id=f"{worker}-{number}") as session, session.timestep() as step:
                step.action(worker)
                step.environment(number, reward=1.0)

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(work, range(50)))
    assert handle.force_flush(60_000)
    counters = handle.counters()
    assert {name: count for name, count in counters.items() if "drop" in name and count} == {}
    with closing(sqlite3.connect(tmp_path / "calls.db")) as connection:
        counts = connection.execute(
            "SELECT (SELECT count(*) FROM sessions WHERE outcome = 'success'), (SELECT count(*) FROM timesteps), "
            "(SELECT count(*) FROM events), (SELECT count(DISTINCT session_id) FROM events)"
        ).fetchone()
    assert counts == (1000, 1000, 2000, 1000)
    one = reading(tmp_path / "calls.db").session("7-19")
    assert one is not None
    assert (one.timesteps, one.events, one.reward) == (1, 2, 1.0)


def test_use_of_a_model_is_summed_for_a_time_and_a_provider(
    provider: ScriptedProvider, instrumented: Callable[..., Handle], reading: Callable[[object], Reader], tmp_path: Path
) -> None:
    """Calls, tokens, first and last use by model, narrowed by time and by provider; dates are written down."""
    handle = instrumented(stores=f"sqlite:///{tmp_path}/calls.db")
    with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        for model in ("gpt-5", "gpt-5", "gpt-5-mini"):
            client.chat.completions.create(model=model, messages=QUESTION)
    assert handle.force_flush(60_000)
    reader = reading(tmp_path / "calls.db")
    newest, middle, oldest = reader.calls()
    late = CallFilter(since_ns=middle.timing.start_ns)
    assert {one.key: one.calls for one in reader.summary("model", late)} == {"gpt-5": 1, "gpt-5-mini": 1}
    assert list(reader.summary("model", CallFilter(since_ns=newest.timing.start_ns + 1))) == []
    assert list(reader.summary("model", CallFilter(provider="anthropic"))) == []
    first = next(iter(reader.summary("model")))
    assert first.first_ns == oldest.timing.start_ns
    assert (first.key, first.calls, first.input_tokens) == ("gpt-5", 2, 24)
    assert first.p50_ms is not None


def test_a_row_has_what_is_expected_of_it(provider: ScriptedProvider, tmp_path: Path) -> None:
    """Sizes, error, tokens, latency and trace of a call are columns, so that a query needs no JSON; so of a failure."""
    provider.reply(status=429, retry_after_s=0.001)
    provider.reply(input_tokens=15, cache_read_tokens=7, reasoning_tokens=2, output_tokens=4, delay_s=0.05)
    provider.reply(input_tokens=20, cache_read_tokens=3, cache_write_tokens=5, output_tokens=1, on="/messages")
    provider.reply(status=400, error_type="invalid_request_error", on="/messages")
    handle = callspan.instrument(stores=f"sqlite:///{tmp_path}/calls.db", tracer_provider=TracerProvider())
    with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        answer = client.chat.completions.with_raw_response.create(model="gpt-5", messages=QUESTION)
    first = (len(provider.requests[-1].content), len(answer.content))
    with anthropic.Anthropic(api_key="k", base_url=provider.anthropic_url) as claude:
        claude.messages.create(model="claude-sonnet-5", max_tokens=9, messages=QUESTION)
        with pytest.raises(anthropic.BadRequestError):
            claude.messages.create(model="claude-sonnet-5", max_tokens=9, messages=QUESTION)
    handle.uninstrument()
    with closing(sqlite3.connect(tmp_path / "calls.db")) as connection:
        rows = connection.execute(
            "SELECT in_tok, out_tok, cache_read_tok, cache_write_tok, reasoning_tok, retries, rate_limited, "
            "http_status, error_type, error_kind, outcome, unrecognized, duration_ns >= 50000000, "
            "end_ns - start_ns = duration_ns, length(trace_id), length(span_id), request_bytes, "
            "abs(response_bytes - ?) < 99 FROM calls ORDER BY start_ns",
            (first[1],),
        ).fetchall()
    assert rows[0] == (15, 4, 7, 0, 2, 1, 1, 200, None, None, "success", 0, 1, 1, 32, 16, first[0], 1)
    assert rows[1][:11] == (20, 1, 3, 5, None, 0, 0, 200, None, None, "success")
    assert rows[2][:11] == (None,) * 5 + (0, 0, 400, "invalid_request_error", "bad_input", "error")


def test_a_session_travels_as_json_and_comes_back_equal(provider: ScriptedProvider) -> None:
    """Strict compact JSON with the name of each type; reloaded, the same objects."""
    records: list[Record] = an_episode(provider).everything
    lines = [encode(record) for record in records]
    assert all(b"\n" not in line and json.loads(line)["kind"] for line in lines)
    assert {json.loads(line)["kind"] for line in lines} == {"session", "timestep", "call", "event", "message", "reward"}
    again = [decode(line) for line in lines]
    assert again == records
    assert [type(record) for record in again] == [type(record) for record in records]
