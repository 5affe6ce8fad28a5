"""Programs of agents: all that has a span of its own, a support desk, and facts of `callspan demo`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import openai
import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, use_span
from tests.support import sdks

import callspan
from callspan.testing import ScriptedProvider

REMOTE = SpanContext(
    0xA << 120, 0xB << 56, is_remote=True, trace_flags=TraceFlags(3), trace_state=TraceState([("vendor", "1")])
)
QUESTION: Any = [{"role": "user", "content": "Hi"}]
TRANSFER = {"id": "call_9", "type": "function", "function": {"name": "transfer_to_billing", "arguments": "{}"}}
VOICE_CALLS = 2 if find_spec("websockets") and sdks.version("websockets") >= (15,) and sdks.OPENAI >= (2, 30) else 0
"""Calls of the demo by voice: what the user says, and the answer."""
SPOKEN = ("chat gpt-realtime", "generate_content whisper-1")
"""Names of their spans."""
DEMO_SPANS = 100 + VOICE_CALLS


def run_all() -> None:
    """A session with all that has a span of its own, and rewards after its end."""
    with callspan.session("s", session_id="own") as session:
        with session.timestep("t") as step:
            step.observation("a wall")
            with step.tool("look", arguments={}) as tool:
                tool.result = 1
            with step.invoke_agent("a"), callspan.guardrail("g"):
                pass
            with step.environment_step("a wall") as environment:
                environment.set_result("sky", reward=1)
            step.action("north")
            step.handoff("other", "a", call="call_10")
        with callspan.record_call(provider="vllm"):
            pass
    session.reward(0.5)
    callspan.reward(0.7, session_id=session.id, objective="late")


def support_desk(provider: ScriptedProvider) -> None:
    """Agents, tools that fail, a hosted tool's text as its error, messages, rewards and an environment."""
    client = openai.OpenAI(api_key="k", base_url=provider.openai_url, max_retries=1)
    with client, callspan.session("desk", user_id="u", group_id="g", metadata={"a": 1, "tags": ["x"]}) as session:
        session.message("hello", sender="user", receiver="agent", metadata={"b": 2}, call="c1", causal_influence=["m1"])
        with session.timestep("turn", turn=7, step_id="own") as step:
            with step.invoke_agent("triage", input={"q": 1}, description="Sorts.") as agent:
                client.chat.completions.create(model="m", messages=QUESTION)
                with session.invoke_agent("inner") as inner:
                    with pytest.raises(ZeroDivisionError), callspan.tool("bad", arguments={"x": 1}):
                        _ = 1 / 0
                    inner.output = "none"
                callspan.handoff("billing", call=TRANSFER, reason={"why": "refund"})
                agent.output = "done"
            with step.tool("said", call="call_1", arguments={"x": "é" * 9}) as tool:
                tool.error = "no"
            with callspan.guardrail("safe", input="x") as check:
                check.triggered, check.output = True, {"word": "x"}
            step.action("go", system="robot")
            step.environment("obs", reward=1.5, terminated=True, truncated=False, before="wall")
            step.reward(0.5, "style", source="judge", annotation="fine", label="good")
            step.event("note", {"a": [1, None]}, name="n", error=ValueError("lost"))
        provider.reply(status=500, retry_after_s=0.001)
        list(client.chat.completions.create(model="m", messages=QUESTION, stream=True))
        with pytest.raises(RuntimeError), session.timestep("broken"):
            raise RuntimeError("half")
        session.outcome(reward=2, success=True, status="won")
    callspan.reward(0.7, session_id=session.id, objective="late", source="judge", annotation="later")


def robot(provider: ScriptedProvider) -> None:
    """Steps with a history that grows, an environment and late rewards; agents and a tool that show what calls show."""
    system, task = {"role": "system", "content": "You move a robot."}, {"role": "user", "content": "Fetch the key."}
    with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:

        def ask(answer: str, *more: Any, model: str = "m") -> Any:
            provider.reply(text=answer)
            stream = client.chat.completions.create(model=model, messages=[system, task, *more], stream=True)
            return [*stream][-1]

        with callspan.session("robot") as session:
            session.observation({"at": [0, 0]})
            for number in range(3):
                with session.timestep(f"turn {number}") as step:
                    said = {"role": "assistant", "content": "Yes"}, {"role": "user", "content": f"{number}?"}
                    last = ask(f"I go {number}.", *said[: 2 * number], model=f"m{number}")
                    step.action([number])
                    step.environment([number, 1], reward=0.5, terminated=number == 2)
        step.reward(1, objective="by object")
        callspan.reward(2, timestep_id=step.id, objective="by id")
        callspan.feedback(last.id, label="thumbs up", objective="of the call")
        with callspan.session("crew") as crew:
            with crew.invoke_agent("planner", input={"goal": "key"}) as agent:
                ask("North.")
                agent.output = {"plan": ["north"]}
            with crew.invoke_agent("actor"):
                ask("Going north.")
            with crew.tool("search"):
                ask("Of the tool alone.")
        crew.outcome(reward=3)


def everything(provider: ScriptedProvider) -> None:
    """All that has a span of its own, below a span of another process."""
    del provider
    with use_span(NonRecordingSpan(REMOTE)):
        run_all()


def loose(provider: ScriptedProvider) -> None:
    """What is in no session: calls, an agent with a call and a tool in it, feedback."""
    with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        first = client.chat.completions.create(model="m", messages=QUESTION)
        with callspan.invoke_agent("lone", input="q") as agent:
            client.chat.completions.create(model="m", messages=QUESTION)
            with callspan.tool("look", arguments={"x": 1}) as tool:
                tool.result = 2
            agent.output = "a"
    callspan.reward(1.0, call_id=first.id)
