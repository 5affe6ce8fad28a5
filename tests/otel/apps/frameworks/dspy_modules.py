"""DSPy with `engine="litellm"`, which calls the openai SDK; its threads have the caller's context by `copy_context`."""

import asyncio
import json
import os
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import dspy
from stage import run

import callspan
from callspan.testing import ScriptedProvider


def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


def model(provider: ScriptedProvider) -> Any:
    return dspy.LM(
        "openai/gpt-4o", api_key="sk-test", api_base=provider.openai_url, cache=False, num_retries=0, engine="litellm"
    )


def plain(provider: ScriptedProvider) -> Any:
    return model(provider)("Hi")


def structured(provider: ScriptedProvider) -> Any:
    with dspy.context(lm=model(provider), adapter=dspy.JSONAdapter()):
        return json.loads(json.dumps(dspy.Predict("question -> name: str, people: int")(question="Which?").toDict()))


async def two(provider: ScriptedProvider) -> Any:
    lm = model(provider)
    return await asyncio.gather(lm.acall("Hi"), lm.acall("Hi"))


def parallel(provider: ScriptedProvider) -> Any:
    """Its threads are made without the caller's context."""
    lm = model(provider)

    @callspan.copy_context
    def ask(question: str) -> Any:
        return lm(question)

    return dspy.Parallel(num_threads=2, disable_progress_bar=True)([(ask, {"question": text}) for text in ("Hi", "Ho")])


if __name__ == "__main__":
    scenes = {
        "plain": plain,
        "structured": structured,
        "two": lambda provider: asyncio.run(two(provider)),
        "parallel:two": parallel,
    }
    run(scenes, "dspy", "litellm", "openai")
