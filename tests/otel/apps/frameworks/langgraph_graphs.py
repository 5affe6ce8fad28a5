"""LangGraph: a graph whose nodes ask ChatOpenAI and ChatAnthropic, and run a tool."""

import asyncio
from typing import Any

from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langchain_models import MAKERS
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from stage import run, weather

HI = {"messages": [("user", "Hi")]}
TOOLS = [tool(weather)]


def graph(model: Any) -> Any:
    able = model().bind_tools(TOOLS)

    def ask(state: MessagesState) -> Any:
        return {"messages": [able.invoke(state["messages"])]}

    async def ask_async(state: MessagesState) -> Any:
        return {"messages": [await able.ainvoke(state["messages"])]}

    made = StateGraph(MessagesState)
    made.add_node("ask", RunnableLambda(ask, afunc=ask_async))
    made.add_node("tools", ToolNode(TOOLS))
    made.add_edge(START, "ask")
    made.add_conditional_edges("ask", tools_condition)
    made.add_edge("tools", "ask")
    return made.compile()


def answered(model: Any) -> Any:
    return [message.text for message in graph(model).invoke(HI)["messages"]]


def chunks(model: Any) -> Any:
    return (chunk.text for chunk, _ in graph(model).stream(HI, stream_mode="messages"))


async def two(model: Any) -> Any:
    done = await asyncio.gather(graph(model).ainvoke(HI), graph(model).ainvoke(HI))
    return [each["messages"][-1].text for each in done]


if __name__ == "__main__":
    run(
        MAKERS,
        {
            "plain": answered,
            "streamed": lambda model: list(chunks(model)),
            "tools": answered,
            "left": lambda model: next(text for text in chunks(model) if text),
            "two": two,
        },
    )
