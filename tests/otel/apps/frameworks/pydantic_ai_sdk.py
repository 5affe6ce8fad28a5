"""pydantic-ai: its agents on both SDKs."""

import asyncio
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.capabilities import Instrumentation
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.instrumented import InstrumentedModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from stage import City, run, weather

from callspan.testing import ScriptedProvider


def openai_model(provider: ScriptedProvider, kind: Any) -> Any:
    return kind("gpt-5", provider=OpenAIProvider(base_url=provider.openai_url, api_key="sk-test"))


def chat(provider: ScriptedProvider, **options: Any) -> Any:
    return Agent(openai_model(provider, OpenAIChatModel), **options)


def responses(provider: ScriptedProvider, **options: Any) -> Any:
    return Agent(openai_model(provider, OpenAIResponsesModel), **options)


def claude(provider: ScriptedProvider, **options: Any) -> Any:
    given = AnthropicProvider(base_url=provider.anthropic_url, api_key="sk-ant-test")
    return Agent(AnthropicModel("claude-sonnet-4-5", provider=given), **options)


def traced(provider: ScriptedProvider, **options: Any) -> Any:
    """With its own tracing: its span of each call is the one there is."""
    return chat(provider, capabilities=[Instrumentation()], **options)


def with_traced_model(provider: ScriptedProvider, **options: Any) -> Any:
    return Agent(InstrumentedModel(openai_model(provider, OpenAIChatModel)), **options)


async def streamed(agent: Any) -> Any:
    async with agent().run_stream("Hi") as result:
        return "".join([text async for text in result.stream_text(delta=True, debounce_by=None)])


async def left(agent: Any) -> Any:
    async with agent().run_stream("Hi") as result:
        async for text in result.stream_text(delta=True, debounce_by=None):
            return text
    return None


async def two(agent: Any) -> Any:
    return [done.output for done in await asyncio.gather(agent().run("Hi"), agent().run("Hi"))]


if __name__ == "__main__":
    run(
        {
            "chat": chat, "responses": responses, "anthropic": claude, "traced": traced,
            "traced model": with_traced_model,
        },
        {
            "plain": lambda agent: agent().run_sync("Hi").output,
            "streamed": streamed,
            "tools": lambda agent: agent(tools=[weather]).run_sync("The weather?").output,
            "structured": lambda agent: agent(output_type=City).run_sync("Which?").output.model_dump(),
            "left": left,
            "two": two,
        },
    )  # fmt: skip
