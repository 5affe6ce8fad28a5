"""LlamaIndex: its OpenAI and Anthropic models, and its FunctionAgent."""

import asyncio
from typing import Any

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.llms.anthropic import Anthropic
from llama_index.llms.openai import OpenAI
from stage import run, weather

from callspan.testing import ScriptedProvider

HI = [ChatMessage("Hi")]


def openai(provider: ScriptedProvider) -> Any:
    return OpenAI(model="gpt-4o", api_key="sk-test", api_base=provider.openai_url, max_retries=0)


def anthropic(provider: ScriptedProvider) -> Any:
    return Anthropic(model="claude-sonnet-4-5", api_key="sk-ant-test", base_url=provider.anthropic_url, max_retries=0)


async def tools(model: Any) -> Any:
    return str(await FunctionAgent(tools=[weather], llm=model(), streaming=False).run("The weather?"))


async def two(model: Any) -> Any:
    same = model()
    return [done.message.content for done in await asyncio.gather(same.achat(HI), same.achat(HI))]


if __name__ == "__main__":
    run(
        {"openai": openai, "anthropic": anthropic},
        {
            "plain": lambda model: model().chat(HI).message.content,
            "streamed": lambda model: [chunk.delta for chunk in model().stream_chat(HI)],
            "tools": tools,
            "left": lambda model: next(chunk.delta for chunk in model().stream_chat(HI) if chunk.delta),
            "two": two,
        },
    )
