"""smolagents: its ToolCallingAgent on the openai SDK."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from smolagents import OpenAIServerModel, ToolCallingAgent, tool
from smolagents.models import ChatMessage, MessageRole
from stage import run

import callspan
from callspan.testing import ScriptedProvider

HI = [ChatMessage(role=MessageRole.USER, content="Hi")]


@tool
def weather(city: str) -> str:
    """The weather in a city.

    Args:
        city: Its name.
    """
    return f"rain in {city}"


def model(provider: ScriptedProvider) -> Any:
    return OpenAIServerModel(model_id="gpt-4o", api_base=provider.openai_url, api_key="sk-test")


def plain(provider: ScriptedProvider) -> Any:
    return model(provider).generate(HI).content


def streamed(provider: ScriptedProvider) -> Any:
    return [delta.content for delta in model(provider).generate_stream(HI)]


def left(provider: ScriptedProvider) -> Any:
    for delta in model(provider).generate_stream(HI):
        if delta.content:
            return delta.content
    return None


def tools(provider: ScriptedProvider) -> Any:
    agent = ToolCallingAgent(tools=[weather], model=model(provider), verbosity_level=0, max_steps=2)
    return str(agent.run("The weather in Paris?"))


def two(provider: ScriptedProvider) -> Any:
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(callspan.copy_context(lambda _: plain(provider)), range(2)))


if __name__ == "__main__":
    scenes = {"plain": plain, "streamed": streamed, "tools": tools, "left": left, "two": two}
    run(scenes, "smolagents", "openai")
