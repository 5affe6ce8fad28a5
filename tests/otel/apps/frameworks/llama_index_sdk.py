"""LlamaIndex: its OpenAI and Anthropic models, and its FunctionAgent."""

import asyncio
from typing import Any

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.llms.anthropic import Anthropic
from llama_index.llms.openai import OpenAI
from stage import run

from callspan.testing import ScriptedProvider

HI = [ChatMessage("Hi")]


def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


def openai(provider: ScriptedProvider) -> Any:
    return OpenAI(model="gpt-4o", api_key="sk-test", api_base=provider.openai_url, max_retries=0)


def anthropic(provider: ScriptedProvider) -> Any:
    return Anthropic(model="claude-sonnet-4-5", api_key="sk-ant-test", base_url=provider.anthropic_url, max_retries=0)


def streamed(model: Any) -> Any:
    return [chunk.delta for chunk in model.stream_chat(HI)]


def left(model: Any) -> Any:
    for chunk in model.stream_chat(HI):
        if chunk.delta:
            return chunk.delta
    return None


async def tools(model: Any) -> Any:
    return str(await FunctionAgent(tools=[weather], llm=model, streaming=False).run("The weather?"))


async def two(model: Any) -> Any:
    return [done.message.content for done in await asyncio.gather(model.achat(HI), model.achat(HI))]


def scenes(make: Any) -> dict[str, Any]:
    return {
        "plain": lambda provider: make(provider).chat(HI).message.content,
        "streamed": lambda provider: streamed(make(provider)),
        "tools": lambda provider: asyncio.run(tools(make(provider))),
        "left": lambda provider: left(make(provider)),
        "two": lambda provider: asyncio.run(two(make(provider))),
    }


if __name__ == "__main__":
    makers = {"openai": openai, "anthropic": anthropic}
    every = {f"{maker}:{name}": scene for maker, make in makers.items() for name, scene in scenes(make).items()}
    run(every, "llama-index-core", "llama-index-llms-openai", "llama-index-llms-anthropic", "openai", "anthropic")
