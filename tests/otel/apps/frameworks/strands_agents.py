"""Strands: its Agent on both SDKs. Its own spans are always on: one for each agent, turn, call and tool.

A stream that is left early is in `strands_sdk.py`: the spans above it are never ended.
"""

import asyncio
from typing import Any

from stage import run
from strands import Agent, tool
from strands.models.anthropic import AnthropicModel
from strands.models.openai import OpenAIModel

from callspan.testing import ScriptedProvider


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


def openai(provider: ScriptedProvider) -> Any:
    return OpenAIModel(client_args={"api_key": "sk-test", "base_url": provider.openai_url}, model_id="gpt-4o")


def anthropic(provider: ScriptedProvider) -> Any:
    options = {"api_key": "sk-ant-test", "base_url": provider.anthropic_url}
    return AnthropicModel(client_args=options, model_id="claude-sonnet-4-5", max_tokens=64)


def agent(model: Any, **options: Any) -> Any:
    return Agent(model=model, callback_handler=None, **options)


async def streamed(model: Any) -> Any:
    return [event["data"] async for event in agent(model).stream_async("Hi") if "data" in event]


async def two(make: Any, provider: ScriptedProvider) -> Any:
    return [str(done) for done in await asyncio.gather(*(agent(make(provider)).invoke_async("Hi") for _ in range(2)))]


def scenes(make: Any) -> dict[str, Any]:
    return {
        "plain": lambda provider: str(agent(make(provider))("Hi")),
        "streamed": lambda provider: asyncio.run(streamed(make(provider))),
        "tools": lambda provider: str(agent(make(provider), tools=[weather])("The weather?")),
        "two": lambda provider: asyncio.run(two(make, provider)),
    }


if __name__ == "__main__":
    makers = {"openai:traced": openai, "anthropic:traced": anthropic}
    every = {f"{maker}:{name}": scene for maker, make in makers.items() for name, scene in scenes(make).items()}
    run(every, "strands-agents", "openai", "anthropic")
