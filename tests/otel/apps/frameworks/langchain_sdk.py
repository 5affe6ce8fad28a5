"""LangChain: ChatOpenAI and ChatAnthropic."""

import asyncio
import os
from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel
from stage import run

from callspan.testing import ScriptedProvider

os.environ["LANGSMITH_TRACING"] = "false"
PACKAGES = ("langchain-openai", "langchain-anthropic", "openai", "anthropic")


class City(BaseModel):
    """A city."""

    name: str
    people: int


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


def chat_openai(provider: ScriptedProvider) -> Any:
    return ChatOpenAI(model="gpt-5", api_key="sk-test", base_url=provider.openai_url, max_retries=0)


def chat_anthropic(provider: ScriptedProvider) -> Any:
    return ChatAnthropic(
        model="claude-sonnet-4-5", api_key="sk-ant-test", base_url=provider.anthropic_url, max_retries=0, max_tokens=64
    )


def tools(model: Any) -> Any:
    able = model.bind_tools([weather])
    question = HumanMessage("The weather in Paris?")
    first = able.invoke([question])
    call = first.tool_calls[0]
    result = ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"])
    return [call["name"], call["args"], able.invoke([question, first, result]).text]


def left(model: Any) -> Any:
    for chunk in model.stream("Hi"):
        if chunk.text:
            return chunk.text
    return None


async def two(model: Any) -> Any:
    return [message.text for message in await asyncio.gather(model.ainvoke("Hi"), model.ainvoke("Ho"))]


def scenes(make: Any) -> dict[str, Any]:
    return {
        "plain": lambda provider: make(provider).invoke("Hi").text,
        "streamed": lambda provider: [chunk.text for chunk in make(provider).stream("Hi")],
        "tools": lambda provider: tools(make(provider)),
        "structured": lambda provider: make(provider).with_structured_output(City).invoke("Which?").model_dump(),
        "left": lambda provider: left(make(provider)),
        "two": lambda provider: asyncio.run(two(make(provider))),
    }


if __name__ == "__main__":
    makers = {"openai": chat_openai, "anthropic": chat_anthropic}
    run({f"{maker}:{name}": scene for maker, make in makers.items() for name, scene in scenes(make).items()}, *PACKAGES)
