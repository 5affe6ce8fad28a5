"""openai-agents: its Runner on the Responses API, over HTTP and websockets, and on chat completions."""

import asyncio
from functools import partial
from typing import Any

import openai
from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
from agents.models.openai_responses import OpenAIResponsesWSModel
from stage import City, run, weather

from callspan.testing import ScriptedProvider

set_tracing_disabled(disabled=True)


def agent_of(kind: Any, provider: ScriptedProvider, **options: Any) -> Agent[Any]:
    client = openai.AsyncOpenAI(api_key="sk-test", base_url=provider.openai_url, max_retries=0)
    return Agent(name="guide", model=kind(model="gpt-5", openai_client=client), **options)


async def answer(agent: Any) -> Any:
    return (await Runner.run(agent, "Hi")).final_output


async def structured(agent: Any) -> Any:
    return (await answer(agent(output_type=City))).model_dump()


async def streamed(agent: Any) -> Any:
    result = Runner.run_streamed(agent(), "Hi")
    kinds = [event.type async for event in result.stream_events()]
    return [len(kinds), result.final_output]


async def left(agent: Any) -> Any:
    events = Runner.run_streamed(agent(), "Hi").stream_events()
    async for event in events:
        if event.type == "raw_response_event" and "delta" in event.data.type:
            await events.aclose()
            return event.data.type
    return None


async def two(agent: Any) -> Any:
    return await asyncio.gather(answer(agent()), answer(agent()))


if __name__ == "__main__":
    kinds = {
        "responses": OpenAIResponsesModel,
        "websocket": OpenAIResponsesWSModel,
        "chat": OpenAIChatCompletionsModel,
    }
    run(
        {api: partial(agent_of, kind) for api, kind in kinds.items()},
        {
            "plain": lambda agent: answer(agent()),
            "streamed": streamed,
            "tools": lambda agent: answer(agent(tools=[function_tool(weather)])),
            "structured": structured,
            "left": left,
            "two": two,
        },
    )
