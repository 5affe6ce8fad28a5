"""LangChain: ChatOpenAI and ChatAnthropic."""

import asyncio
from typing import Any

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_models import MAKERS
from stage import City, run, weather


def tools(model: Any) -> Any:
    able = model().bind_tools([tool(weather)])
    question = HumanMessage("The weather in Paris?")
    first = able.invoke([question])
    call = first.tool_calls[0]
    result = ToolMessage(weather(**call["args"]), tool_call_id=call["id"])
    return [call["name"], call["args"], able.invoke([question, first, result]).text]


async def two(model: Any) -> Any:
    same = model()
    return [message.text for message in await asyncio.gather(same.ainvoke("Hi"), same.ainvoke("Ho"))]


if __name__ == "__main__":
    run(
        MAKERS,
        {
            "plain": lambda model: model().invoke("Hi").text,
            "streamed": lambda model: [chunk.text for chunk in model().stream("Hi")],
            "tools": tools,
            "structured": lambda model: model().with_structured_output(City).invoke("Which?").model_dump(),
            "left": lambda model: next(chunk.text for chunk in model().stream("Hi") if chunk.text),
            "two": two,
        },
    )
