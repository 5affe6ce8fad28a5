"""smolagents: its ToolCallingAgent on the openai SDK."""

from typing import Any

from smolagents import OpenAIServerModel, ToolCallingAgent, tool
from smolagents.models import ChatMessage, MessageRole
from stage import in_threads, run, weather

from callspan.testing import ScriptedProvider

HI = [ChatMessage(role=MessageRole.USER, content="Hi")]


def openai(provider: ScriptedProvider) -> Any:
    return OpenAIServerModel(model_id="gpt-4o", api_base=provider.openai_url, api_key="sk-test")


def plain(model: Any) -> Any:
    return model().generate(HI).content


def tools(model: Any) -> Any:
    agent = ToolCallingAgent(tools=[tool(weather)], model=model(), verbosity_level=0, max_steps=2)
    return str(agent.run("The weather in Paris?"))


if __name__ == "__main__":
    run(
        {"openai": openai},
        {
            "plain": plain,
            "streamed": lambda model: [delta.content for delta in model().generate_stream(HI)],
            "tools": tools,
            "left": lambda model: next(delta.content for delta in model().generate_stream(HI) if delta.content),
            "two": lambda model: in_threads(lambda _: plain(model)),
        },
    )
