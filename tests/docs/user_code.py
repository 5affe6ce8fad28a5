"""Code as users write it, for the type checker; `make check` runs mypy on it, nothing runs the code.

Every line must be accepted under `--strict`, and every expected error is one that mypy reports: an unused
`type: ignore` is an error itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from decimal import Decimal

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from typing_extensions import assert_type

import callspan
from callspan.testing import Captured, Reply, ScriptedProvider, capture


def starts() -> None:
    handle = callspan.instrument(
        stores="sqlite:///callspan.db", content="metadata", vocabularies=("llm", "gen_ai"),
        tracer_provider=TracerProvider(), otlp=True, stream_usage=True, estimate_usage=True,
    )  # fmt: skip
    assert_type(handle, callspan.Handle)
    assert_type(handle.force_flush(1_000), bool)
    assert_type(handle.settings, callspan.Settings)
    assert_type(handle.counters(), Mapping[str, int])
    handle.uninstrument()
    callspan.instrument(content="everything")  # type: ignore[arg-type]
    callspan.instrument(max_span_bytes="64k", spool_dir=False, redact=False, prices="prices.json", chunk_log=100)
    callspan.instrument(max_spans=3)  # type: ignore[call-arg]
    callspan.instrument(fsync="sometimes")  # type: ignore[arg-type]
    callspan.instrument(sdks=("mistral",))  # type: ignore[arg-type]


def erases() -> None:
    receipt = callspan.erase("calls.db", sessions="s1", dry_run=True)
    assert_type(receipt.is_complete, bool)
    callspan.erase("calls.db", older_than_ns="30d")  # type: ignore[arg-type]


def records_by_hand(body: dict[str, object]) -> None:
    with callspan.record_call(provider="vllm", api="messages", model="m", server="http://gpu:1/v1") as call:
        assert_type(call, callspan.RecordedCall)
        call.request(body)
        call.request(b"{}")
        call.chunk({"type": "ping"})
        call.response(body)
        call.response_headers(200, {"x-request-id": "r"})
        assert_type(call.call_id, str | None)
    callspan.record_call(provider="vllm", api="chats")  # type: ignore[arg-type]
    callspan.record_call("vllm")  # type: ignore[call-arg]


async def records_by_hand_async() -> None:
    async with callspan.record_call(provider="vllm") as call:
        assert_type(call, callspan.RecordedCall)


def an_episode() -> None:
    with callspan.session("gridworld", user_id="u", metadata={"seed": 7}) as session:
        assert_type(session, callspan.Session)
        session.observation({"board": []})
        with session.timestep() as step:
            assert_type(step, callspan.Timestep)
            with step.tool("move") as tool:
                assert_type(tool, callspan.Tool)
                tool.result = 3
            step.action([3])
            step.environment({"board": []}, reward=1.0, terminated=True, truncated=False)
            step.environment(reward="good")  # type: ignore[arg-type]
            step.environment(terminated="yes")  # type: ignore[arg-type]
        session.outcome(reward=1.0, success=True)
        session.reward("good")  # type: ignore[arg-type]
    callspan.reward(Decimal(1), session_id=session.id)


@callspan.tool
def move(direction: str) -> int:
    return len(direction)


@callspan.timestep
async def think(about: str) -> str:
    return about


@callspan.invoke_agent("planner", description="plans")
async def plan(goal: str) -> list[str]:
    return [goal]


@callspan.guardrail
def is_rude(text: str) -> bool:
    return not text


def several_agents() -> None:
    with callspan.session("support", at=datetime.now(timezone.utc)) as session, session.timestep(at=1.5) as step:
        with step.invoke_agent("triage", input="hi") as agent, callspan.guardrail("rude") as check:
            check.triggered = False
            agent.output = {"to": "billing"}
        assert_type(step.handoff("billing", reason="refund"), str)
    carrier = session.carrier()
    assert_type(callspan.reward(1.0, carrier=carrier, at=1_700_000_000_000_000_000), str)
    assert_type(callspan.feedback("call", label="good", carrier=carrier), str)
    step.event("x", at="now")  # type: ignore[arg-type]


async def decorated_functions_keep_their_types() -> None:
    assert_type(move("north"), int)
    assert_type(await think("it"), str)
    assert_type(await plan("win"), list[str])
    assert_type(is_rude("hm"), bool)
    move(3)  # type: ignore[arg-type]


def in_a_test_of_theirs() -> None:
    with ScriptedProvider() as provider, capture(content="off") as seen:
        assert_type(seen, Captured)
        provider.reply(text="hi", input_tokens=3)
        provider.reply(Reply(status=429))
        provider.reply(txt="hi")  # type: ignore[call-arg]
        assert_type(provider.openai_url, str)
    assert_type(seen.records, list[callspan.CallRecord])
    assert_type(seen.spans, list[ReadableSpan])
    usage = seen.records[0].usage
    assert_type(usage.input_tokens if usage is not None else None, int | None)


def a_redactor(record: callspan.CallRecord) -> callspan.CallRecord:
    return record
