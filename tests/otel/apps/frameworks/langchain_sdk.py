"""LangChain: ChatOpenAI and ChatAnthropic."""

import asyncio
from typing import Any

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_models import MAKERS, weather
from pydantic import BaseModel
from stage import run

PACKAGES = ("langchain-openai", "langchain-anthropic", "openai", "anthropic")


class City(BaseModel):
    """A city."""

    name: str
    people: int


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
    run({f"{maker}:{name}": scene for maker, make in MAKERS.items() for name, scene in scenes(make).items()}, *PACKAGES)
