"""LiteLLM: its OpenAI provider, which calls the openai SDK, sync and async."""

import asyncio
import os
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
from pydantic import BaseModel
from stage import run

from callspan.testing import ScriptedProvider


class City(BaseModel):
    name: str
    people: int


TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
HI = [{"role": "user", "content": "Hi"}]


def options(provider: ScriptedProvider) -> dict[str, Any]:
    return {"model": "openai/gpt-4o", "api_key": "sk-test", "api_base": provider.openai_url, "num_retries": 0}


def plain(provider: ScriptedProvider) -> Any:
    return litellm.completion(messages=HI, **options(provider)).choices[0].message.content


def streamed(provider: ScriptedProvider) -> Any:
    chunks = litellm.completion(messages=HI, stream=True, **options(provider))
    return [chunk.choices[0].delta.content for chunk in chunks]


def tools(provider: ScriptedProvider) -> Any:
    first = litellm.completion(messages=HI, tools=[TOOL], **options(provider)).choices[0].message
    call = first.tool_calls[0]
    result = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
    second = litellm.completion(messages=[*HI, first.model_dump(), result], tools=[TOOL], **options(provider))
    return [call.function.name, call.function.arguments, second.choices[0].message.content]


def structured(provider: ScriptedProvider) -> Any:
    return litellm.completion(messages=HI, response_format=City, **options(provider)).choices[0].message.content


def plain_async(provider: ScriptedProvider) -> Any:
    return asyncio.run(litellm.acompletion(messages=HI, **options(provider))).choices[0].message.content


def left(provider: ScriptedProvider) -> Any:
    for chunk in litellm.completion(messages=HI, stream=True, **options(provider)):
        if chunk.choices[0].delta.content:
            return chunk.choices[0].delta.content
    return None


async def two(provider: ScriptedProvider) -> Any:
    done = await asyncio.gather(*(litellm.acompletion(messages=HI, **options(provider)) for _ in range(2)))
    return [each.choices[0].message.content for each in done]


if __name__ == "__main__":
    run(
        {
            "plain": plain,
            "streamed": streamed,
            "tools": tools,
            "structured": structured,
            "async:plain": plain_async,
            "left": left,
            "async:two": lambda provider: asyncio.run(two(provider)),
        },
        "litellm",
        "openai",
    )
