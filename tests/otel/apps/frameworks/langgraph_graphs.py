"""LangGraph: a graph whose nodes ask ChatOpenAI and ChatAnthropic, and run a tool."""

import asyncio
from typing import Any

from langchain_core.runnables import RunnableLambda
from langchain_models import MAKERS, weather
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from stage import run

HI = {"messages": [("user", "Hi")]}


def graph(model: Any) -> Any:
    able = model.bind_tools([weather])

    def ask(state: MessagesState) -> Any:
        return {"messages": [able.invoke(state["messages"])]}

    async def ask_async(state: MessagesState) -> Any:
        return {"messages": [await able.ainvoke(state["messages"])]}

    made = StateGraph(MessagesState)
    made.add_node("ask", RunnableLambda(ask, afunc=ask_async))
    made.add_node("tools", ToolNode([weather]))
    made.add_edge(START, "ask")
    made.add_conditional_edges("ask", tools_condition)
    made.add_edge("tools", "ask")
    return made.compile()


def answered(model: Any) -> Any:
    return [message.text for message in graph(model).invoke(HI)["messages"]]


def streamed(model: Any) -> Any:
    return [chunk.text for chunk, _ in graph(model).stream(HI, stream_mode="messages")]


def left(model: Any) -> Any:
    for chunk, _ in graph(model).stream(HI, stream_mode="messages"):
        if chunk.text:
            return chunk.text
    return None


async def two(model: Any) -> Any:
    done = await asyncio.gather(*(graph(model).ainvoke(HI) for _ in range(2)))
    return [each["messages"][-1].text for each in done]


def scenes(make: Any) -> dict[str, Any]:
    return {
        "plain": lambda provider: answered(make(provider)),
        "streamed": lambda provider: streamed(make(provider)),
        "tools": lambda provider: answered(make(provider)),
        "left": lambda provider: left(make(provider)),
        "two": lambda provider: asyncio.run(two(make(provider))),
    }


if __name__ == "__main__":
    every = {f"{maker}:{name}": scene for maker, make in MAKERS.items() for name, scene in scenes(make).items()}
    run(every, "langgraph", "langchain-openai", "langchain-anthropic", "openai", "anthropic")
