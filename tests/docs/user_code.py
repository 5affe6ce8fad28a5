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
from callspan.testing import Capture, Reply, ScriptedProvider, capture


def starts() -> None:
    handle = callspan.instrument(stores="sqlite:///callspan.db", content="metadata", tracer_provider=TracerProvider())
    assert_type(handle, callspan.Handle)
    assert_type(handle.counters(), Mapping[str, int])
    callspan.instrument(max_record_bytes="64k", spool_dir=False, redact=False, prices="prices.json", chunk_log=100)
    callspan.instrument(content="everything")  # type: ignore[arg-type]
    callspan.instrument(max_spans=3)  # type: ignore[call-arg]
    callspan.instrument(fsync="sometimes")  # type: ignore[arg-type]
    callspan.instrument(sdks=("mistral",))  # type: ignore[arg-type]
    callspan.erase("calls.db", older_than_ns="30d")  # type: ignore[arg-type]


async def records_by_hand(body: dict[str, object]) -> None:
    with callspan.record_call(provider="vllm", api="messages", model="m") as call:
        assert_type(call, callspan.RecordedCall)
        call.request(body)
        call.request(b"{}")
    async with callspan.record_call(provider="vllm") as again:
        assert_type(again, callspan.RecordedCall)
    callspan.record_call("vllm")  # type: ignore[call-arg]


def an_episode() -> None:
    with callspan.session("gridworld", at=datetime.now(timezone.utc)) as session:
        assert_type(session, callspan.Session)
        with session.timestep(at=1.5) as step:
            assert_type(step, callspan.Timestep)
            with step.tool("move") as tool:
                assert_type(tool, callspan.Tool)
            step.environment(reward="good")  # type: ignore[arg-type]
            step.environment(terminated="yes")  # type: ignore[arg-type]
            step.event("x", at="now")  # type: ignore[arg-type]
        session.reward("good")  # type: ignore[arg-type]
    assert_type(callspan.reward(Decimal(1), carrier=session.carrier(), at=1_700_000_000_000_000_000), str | None)


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


async def decorated_functions_keep_their_types() -> None:
    assert_type(move("north"), int)
    assert_type(await think("it"), str)
    assert_type(await plan("win"), list[str])
    assert_type(is_rude("hm"), bool)
    move(3)  # type: ignore[arg-type]


def in_a_test_of_theirs() -> None:
    with ScriptedProvider() as provider, capture(content="off") as seen:
        assert_type(seen, Capture)
        provider.reply(Reply(status=429))
        provider.reply(txt="hi")  # type: ignore[call-arg]
    assert_type(seen.records, list[callspan.CallRecord])
    assert_type(seen.spans, list[ReadableSpan])
