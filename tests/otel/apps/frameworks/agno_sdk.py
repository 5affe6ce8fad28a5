"""agno: its Agent on both SDKs."""

import asyncio
import os
from typing import Any

from agno.agent import Agent
from agno.models.anthropic import Claude
from agno.models.openai import OpenAIChat, OpenAIResponses
from stage import run

from callspan.testing import ScriptedProvider

os.environ["AGNO_TELEMETRY"] = "false"


def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


def chat(provider: ScriptedProvider) -> Any:
    return OpenAIChat(id="gpt-4o", api_key="sk-test", base_url=provider.openai_url, max_retries=0)


def responses(provider: ScriptedProvider) -> Any:
    return OpenAIResponses(id="gpt-4o", api_key="sk-test", base_url=provider.openai_url, max_retries=0)


def claude(provider: ScriptedProvider) -> Any:
    options = {"base_url": provider.anthropic_url, "max_retries": 0}
    return Claude(id="claude-sonnet-4-5", api_key="sk-ant-test", client_params=options)


def agent(model: Any, **options: Any) -> Any:
    return Agent(model=model, telemetry=False, **options)


def streamed(model: Any) -> Any:
    return [event.content for event in agent(model).run("Hi", stream=True)]


def left(model: Any) -> Any:
    for event in agent(model).run("Hi", stream=True):
        if event.content:
            return event.content
    return None


async def two(make: Any, provider: ScriptedProvider) -> Any:
    return [done.content for done in await asyncio.gather(*(agent(make(provider)).arun("Hi") for _ in range(2)))]


def scenes(make: Any) -> dict[str, Any]:
    return {
        "plain": lambda provider: agent(make(provider)).run("Hi").content,
        "streamed": lambda provider: streamed(make(provider)),
        "tools": lambda provider: agent(make(provider), tools=[weather]).run("The weather?").content,
        "left": lambda provider: left(make(provider)),
        "two": lambda provider: asyncio.run(two(make, provider)),
    }


if __name__ == "__main__":
    makers = {"chat": chat, "responses": responses, "anthropic": claude}
    every = {f"{maker}:{name}": scene for maker, make in makers.items() for name, scene in scenes(make).items()}
    run(every, "agno", "openai", "anthropic")
