"""Strands: its Agent on both SDKs. Its own spans are always on: one for each agent, turn, call and tool."""

import asyncio
from contextlib import suppress
from typing import Any

from stage import run, weather
from strands import Agent, tool
from strands.models.anthropic import AnthropicModel
from strands.models.openai import OpenAIModel

from callspan.testing import ScriptedProvider


def openai(provider: ScriptedProvider, **options: Any) -> Any:
    client = {"api_key": "sk-test", "base_url": provider.openai_url}
    return Agent(model=OpenAIModel(client_args=client, model_id="gpt-4o"), callback_handler=None, **options)


def anthropic(provider: ScriptedProvider, **options: Any) -> Any:
    client = {"api_key": "sk-ant-test", "base_url": provider.anthropic_url}
    model = AnthropicModel(client_args=client, model_id="claude-sonnet-4-5", max_tokens=64)
    return Agent(model=model, callback_handler=None, **options)


async def streamed(agent: Any) -> Any:
    return [event["data"] async for event in agent().stream_async("Hi") if "data" in event]


async def left(agent: Any) -> Any:
    async for event in agent().stream_async("Hi"):
        if "data" in event:
            return event["data"]
    return None


async def cancelled(agent: Any) -> Any:
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(streamed(agent), 5)


async def two(agent: Any) -> Any:
    return [str(done) for done in await asyncio.gather(agent().invoke_async("Hi"), agent().invoke_async("Hi"))]


if __name__ == "__main__":
    run(
        {"openai:traced": openai, "anthropic:traced": anthropic},
        {
            "plain": lambda agent: str(agent()("Hi")),
            "streamed": streamed,
            "tools": lambda agent: str(agent(tools=[tool(weather)])("The weather?")),
            "left": left,
            "cancelled": cancelled,
            "two": two,
        },
    )
