"""instructor: structured output out of both SDKs."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import instructor
import openai
from pydantic import BaseModel
from stage import run

import callspan
from callspan.testing import ScriptedProvider


class City(BaseModel):
    """A city."""

    name: str
    people: int


REQUEST = {"messages": [{"role": "user", "content": "Which city?"}]}


def from_openai(provider: ScriptedProvider, **options: Any) -> Any:
    client = openai.OpenAI(api_key="sk-test", base_url=provider.openai_url, max_retries=0)
    return instructor.from_openai(client, **options)


def from_anthropic(provider: ScriptedProvider, **options: Any) -> Any:
    client = anthropic.Anthropic(api_key="sk-ant-test", base_url=provider.anthropic_url, max_retries=0)
    return instructor.from_anthropic(client, **options)


def openai_structured(provider: ScriptedProvider) -> Any:
    return from_openai(provider).chat.completions.create(model="gpt-5", response_model=City, **REQUEST).model_dump()


def openai_as_json(provider: ScriptedProvider) -> Any:
    client = from_openai(provider, mode=instructor.Mode.JSON)
    return client.chat.completions.create(model="gpt-5", response_model=City, **REQUEST).model_dump()


def openai_streamed(provider: ScriptedProvider) -> Any:
    parts = from_openai(provider).chat.completions.create_partial(model="gpt-5", response_model=City, **REQUEST)
    return [part.model_dump() for part in parts][-1]


def anthropic_structured(provider: ScriptedProvider) -> Any:
    create = from_anthropic(provider).messages.create
    return create(model="claude-sonnet-4-5", max_tokens=64, response_model=City, **REQUEST).model_dump()


def openai_left(provider: ScriptedProvider) -> Any:
    parts = from_openai(provider).chat.completions.create_partial(model="gpt-5", response_model=City, **REQUEST)
    return next(part.name for part in parts if part.name)


def openai_two(provider: ScriptedProvider) -> Any:
    client = from_openai(provider)

    def ask(_: int) -> Any:
        return client.chat.completions.create(model="gpt-5", response_model=City, **REQUEST).model_dump()

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(callspan.copy_context(ask), range(2)))


def retried(provider: ScriptedProvider) -> Any:
    """An answer that is no city is asked for again: two calls, two spans."""
    create = from_openai(provider).chat.completions.create
    return create(model="gpt-5", response_model=City, max_retries=2, **REQUEST).model_dump()


if __name__ == "__main__":
    run(
        {
            "openai:structured": openai_structured,
            "openai-json:structured": openai_as_json,
            "openai-streamed:structured": openai_streamed,
            "anthropic:structured": anthropic_structured,
            "openai:retried": retried,
            "openai:left:structured": openai_left,
            "openai:two:structured": openai_two,
        },
        "instructor",
        "openai",
        "anthropic",
    )
