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


def openai(provider: ScriptedProvider) -> Any:
    place = {"api_key": "sk-test", "api_base": provider.openai_url}
    return dspy.LM("openai/gpt-4o", **place, cache=False, num_retries=0, engine="litellm")


def structured(model: Any) -> Any:
    with dspy.context(lm=model(), adapter=dspy.JSONAdapter()):
        return json.loads(json.dumps(dspy.Predict("question -> name: str, people: int")(question="Which?").toDict()))


async def two(model: Any) -> Any:
    lm = model()
    return await asyncio.gather(lm.acall("Hi"), lm.acall("Hi"))


def parallel(model: Any) -> Any:
    """Its threads are made without the caller's context."""
    ask = callspan.copy_context(model())
    return dspy.Parallel(num_threads=2, disable_progress_bar=True)([(ask, {"prompt": text}) for text in ("Hi", "Ho")])


if __name__ == "__main__":
    scenes = {"plain": lambda model: model()("Hi"), "structured": structured, "two": two, "parallel:two": parallel}
    run({"openai": openai}, scenes)
