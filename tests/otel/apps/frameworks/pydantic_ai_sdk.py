"""pydantic-ai: its agents on both SDKs."""

import asyncio
from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.capabilities import Instrumentation
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.instrumented import InstrumentedModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from stage import run

from callspan.testing import ScriptedProvider


class City(BaseModel):
    """A city."""

    name: str
    people: int


def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


def chat(provider: ScriptedProvider) -> Any:
    return OpenAIChatModel("gpt-5", provider=OpenAIProvider(base_url=provider.openai_url, api_key="sk-test"))


def responses(provider: ScriptedProvider) -> Any:
    return OpenAIResponsesModel("gpt-5", provider=OpenAIProvider(base_url=provider.openai_url, api_key="sk-test"))


def claude(provider: ScriptedProvider) -> Any:
    given = AnthropicProvider(base_url=provider.anthropic_url, api_key="sk-ant-test")
    return AnthropicModel("claude-sonnet-4-5", provider=given)


def streamed(model: Any) -> Any:
    async def whole() -> list[str]:
        async with Agent(model).run_stream("Hi") as result:
            return [text async for text in result.stream_text(delta=True, debounce_by=None)]

    return "".join(asyncio.run(whole()))


async def left(model: Any) -> Any:
    async with Agent(model).run_stream("Hi") as result:
        async for text in result.stream_text(delta=True, debounce_by=None):
            return text
    return None


async def two(model: Any) -> Any:
    return [done.output for done in await asyncio.gather(*(Agent(model).run("Hi") for _ in range(2)))]


def structured(model: Any) -> Any:
    return Agent(model, output_type=City).run_sync("Which?").output.model_dump()


def scenes(make: Any) -> dict[str, Any]:
    return {
        "plain": lambda provider: Agent(make(provider)).run_sync("Hi").output,
        "streamed": lambda provider: streamed(make(provider)),
        "tools": lambda provider: Agent(make(provider), tools=[weather]).run_sync("The weather?").output,
        "structured": lambda provider: structured(make(provider)),
        "left": lambda provider: asyncio.run(left(make(provider))),
        "two": lambda provider: asyncio.run(two(make(provider))),
    }


if __name__ == "__main__":
    # Its own tracing on: its span of each call is the one there is.
    traced = {
        "chat:traced:plain": lambda provider: Agent(InstrumentedModel(chat(provider))).run_sync("Hi").output,
        "chat:traced:tools": lambda provider: (
            Agent(chat(provider), tools=[weather], capabilities=[Instrumentation()]).run_sync("The weather?").output
        ),
        "chat:traced:left": lambda provider: asyncio.run(left(InstrumentedModel(chat(provider)))),
    }
    makers = {"chat": chat, "responses": responses, "anthropic": claude}
    every = {f"{maker}:{name}": scene for maker, make in makers.items() for name, scene in scenes(make).items()}
    run({**every, **traced}, "pydantic-ai-slim", "openai", "anthropic")
