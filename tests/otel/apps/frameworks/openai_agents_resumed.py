"""openai-agents: a run that waits for an approval and goes on in the same process; prints what is recorded as JSON."""

from __future__ import annotations

import asyncio
import json

from agents import Agent, OpenAIResponsesModel, RunConfig, Runner, function_tool, set_trace_processors
from openai import AsyncOpenAI

from callspan.testing import ScriptedProvider, capture


@function_tool(needs_approval=True)
async def pay(eur: int) -> str:
    """Pay."""
    return f"paid {eur}"


async def resumed(provider: ScriptedProvider) -> None:
    provider.reply(tool_calls=[{"name": "pay", "arguments": {"eur": 1}}])
    provider.reply(text="Done.")
    config = RunConfig(group_id="thread-1")
    async with AsyncOpenAI(base_url=provider.openai_url, api_key="k") as client:
        planner = Agent(name="planner", model=OpenAIResponsesModel("gpt-5", client), tools=[pay])
        state = (await Runner.run(planner, "Pay.", run_config=config)).to_state()
        for wish in state.get_interruptions():
            state.approve(wish)
        await Runner.run(planner, state, run_config=config)


if __name__ == "__main__":
    set_trace_processors([])
    with capture() as seen, ScriptedProvider() as provider:
        asyncio.run(resumed(provider))
    found = {
        "calls": [record.place.session_id for record in seen.records],
        "tools": [event.data for event in seen.events if event.event_type == "tool"],
    }
    print("RESULT " + json.dumps(found))
