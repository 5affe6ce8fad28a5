"""openai-agents: its Runner on the Responses API, over HTTP and websockets, and on chat completions."""

import asyncio
from typing import Any

import openai
from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
from agents.models.openai_responses import OpenAIResponsesWSModel
from pydantic import BaseModel
from stage import run

from callspan.testing import ScriptedProvider

set_tracing_disabled(disabled=True)
PACKAGES = ("openai-agents", "openai")


class City(BaseModel):
    name: str
    people: int


@function_tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


def agent(provider: ScriptedProvider, kind: Any, **options: Any) -> Agent[Any]:
    client = openai.AsyncOpenAI(api_key="sk-test", base_url=provider.openai_url, max_retries=0)
    return Agent(name="guide", model=kind(model="gpt-5", openai_client=client), **options)


def plain(provider: ScriptedProvider, kind: Any, **options: Any) -> Any:
    output = asyncio.run(Runner.run(agent(provider, kind, **options), "Hi")).final_output
    return output.model_dump() if isinstance(output, BaseModel) else output


def streamed(provider: ScriptedProvider, kind: Any) -> Any:
    async def whole() -> list[Any]:
        result = Runner.run_streamed(agent(provider, kind), "Hi")
        kinds = [event.type async for event in result.stream_events()]
        return [len(kinds), result.final_output]

    return asyncio.run(whole())


async def left(provider: ScriptedProvider, kind: Any) -> Any:
    events = Runner.run_streamed(agent(provider, kind), "Hi").stream_events()
    async for event in events:
        if event.type == "raw_response_event" and "delta" in event.data.type:
            await events.aclose()
            return event.data.type
    return None


async def two(provider: ScriptedProvider, kind: Any) -> Any:
    done = await asyncio.gather(*(Runner.run(agent(provider, kind), "Hi") for _ in range(2)))
    return [each.final_output for each in done]


def scenes(kind: Any) -> dict[str, Any]:
    return {
        "plain": lambda provider: plain(provider, kind),
        "streamed": lambda provider: streamed(provider, kind),
        "tools": lambda provider: plain(provider, kind, tools=[weather]),
        "structured": lambda provider: plain(provider, kind, output_type=City),
        "left": lambda provider: asyncio.run(left(provider, kind)),
        "two": lambda provider: asyncio.run(two(provider, kind)),
    }


if __name__ == "__main__":
    kinds = {
        "responses": OpenAIResponsesModel,
        "websocket": OpenAIResponsesWSModel,
        "chat": OpenAIChatCompletionsModel,
    }
    run({f"{api}:{name}": scene for api, kind in kinds.items() for name, scene in scenes(kind).items()}, *PACKAGES)
