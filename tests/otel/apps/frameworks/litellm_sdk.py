"""LiteLLM: its OpenAI provider, which calls the openai SDK, sync and async."""

import asyncio
import os
from functools import partial
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
from stage import City, run

from callspan.testing import ScriptedProvider

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
HI = [{"role": "user", "content": "Hi"}]


def openai(provider: ScriptedProvider, complete: Any = litellm.completion) -> Any:
    place = {"api_key": "sk-test", "api_base": provider.openai_url}
    return partial(complete, model="openai/gpt-4o", **place, num_retries=0)


def plain(openai: Any, **options: Any) -> Any:
    return openai()(messages=HI, **options).choices[0].message.content


def chunks(openai: Any) -> Any:
    return (chunk.choices[0].delta.content for chunk in openai()(messages=HI, stream=True))


def tools(openai: Any) -> Any:
    complete = openai()
    first = complete(messages=HI, tools=[TOOL]).choices[0].message
    call = first.tool_calls[0]
    result = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
    second = complete(messages=[*HI, first.model_dump(), result], tools=[TOOL])
    return [call.function.name, call.function.arguments, second.choices[0].message.content]


async def plain_async(openai: Any) -> Any:
    return (await openai(litellm.acompletion)(messages=HI)).choices[0].message.content


async def two(openai: Any) -> Any:
    return await asyncio.gather(plain_async(openai), plain_async(openai))


if __name__ == "__main__":
    run(
        {"openai": openai},
        {
            "plain": plain,
            "streamed": lambda openai: list(chunks(openai)),
            "tools": tools,
            "structured": lambda openai: plain(openai, response_format=City),
            "async:plain": plain_async,
            "left": lambda openai: next(text for text in chunks(openai) if text),
            "async:two": two,
        },
    )
