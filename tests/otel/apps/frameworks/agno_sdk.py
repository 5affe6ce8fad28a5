"""agno: its Agent on both SDKs."""

import asyncio
import os
from typing import Any

from agno.agent import Agent
from agno.models.anthropic import Claude
from agno.models.openai import OpenAIChat, OpenAIResponses
from stage import run, weather

from callspan.testing import ScriptedProvider

os.environ["AGNO_TELEMETRY"] = "false"


def chat(provider: ScriptedProvider, kind: Any = OpenAIChat, **options: Any) -> Any:
    model = kind(id="gpt-4o", api_key="sk-test", base_url=provider.openai_url, max_retries=0)
    return Agent(model=model, telemetry=False, **options)


def responses(provider: ScriptedProvider, **options: Any) -> Any:
    return chat(provider, OpenAIResponses, **options)


def claude(provider: ScriptedProvider, **options: Any) -> Any:
    client = {"base_url": provider.anthropic_url, "max_retries": 0}
    model = Claude(id="claude-sonnet-4-5", api_key="sk-ant-test", client_params=client)
    return Agent(model=model, telemetry=False, **options)


async def two(agent: Any) -> Any:
    return [done.content for done in await asyncio.gather(agent().arun("Hi"), agent().arun("Hi"))]


if __name__ == "__main__":
    run(
        {"chat": chat, "responses": responses, "anthropic": claude},
        {
            "plain": lambda agent: agent().run("Hi").content,
            "streamed": lambda agent: [event.content for event in agent().run("Hi", stream=True)],
            "tools": lambda agent: agent(tools=[weather]).run("The weather?").content,
            "left": lambda agent: next(one.content for one in agent().run("Hi", stream=True) if one.content),
            "two": two,
        },
    )
