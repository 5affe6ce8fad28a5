"""instructor: structured output out of both SDKs."""

from typing import Any

import anthropic
import instructor
import openai
from stage import City, in_threads, run

from callspan.testing import ScriptedProvider

CITY = {"messages": [{"role": "user", "content": "Which city?"}], "response_model": City}


def from_openai(provider: ScriptedProvider, **options: Any) -> Any:
    client = openai.OpenAI(api_key="sk-test", base_url=provider.openai_url, max_retries=0)
    return instructor.from_openai(client, **options).chat.completions


def as_json(provider: ScriptedProvider) -> Any:
    return from_openai(provider, mode=instructor.Mode.JSON)


def from_anthropic(provider: ScriptedProvider) -> Any:
    client = anthropic.Anthropic(api_key="sk-ant-test", base_url=provider.anthropic_url, max_retries=0)
    return instructor.from_anthropic(client, max_tokens=64).messages


def structured(messages: Any, **options: Any) -> Any:
    return messages().create(model="gpt-5", **CITY, **options).model_dump()


def parts(messages: Any) -> Any:
    return messages().create_partial(model="gpt-5", **CITY)


def left(messages: Any) -> Any:
    return next(part.name for part in parts(messages) if part.name)


def two(messages: Any) -> Any:
    return in_threads(lambda _: structured(messages))


def retried(messages: Any) -> Any:
    """An answer that is no city is asked for again: two calls, two spans."""
    return structured(messages, max_retries=2)


if __name__ == "__main__":
    run(
        {"openai": from_openai, "json": as_json, "anthropic": from_anthropic},
        {
            "structured": structured,
            "streamed:structured": lambda messages: [part.model_dump() for part in parts(messages)][-1],
            "retried": retried,
            "left:structured": left,
            "two:structured": two,
        },
    )
