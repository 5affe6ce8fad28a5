"""crewAI: its LLM on both SDKs, and a crew of one agent."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

os.environ |= {"CREWAI_DISABLE_TELEMETRY": "true", "OTEL_SDK_DISABLED": "false", "CREWAI_TRACING_ENABLED": "false"}

from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool
from stage import run

import callspan
from callspan.testing import ScriptedProvider


@tool("weather")
def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


def openai(provider: ScriptedProvider, **options: Any) -> Any:
    return LLM(model="openai/gpt-4o", api_key="sk-test", base_url=provider.openai_url, max_retries=0, **options)


def anthropic(provider: ScriptedProvider, **options: Any) -> Any:
    url = provider.anthropic_url
    return LLM(model="anthropic/claude-sonnet-4-5", api_key="sk-ant-test", base_url=url, max_retries=0, **options)


def tools(model: Any) -> Any:
    agent = Agent(role="guide", goal="Tell the weather", backstory="Knows it.", llm=model, tools=[weather])
    task = Task(description="The weather in Paris?", expected_output="A sentence.", agent=agent)
    return Crew(agents=[agent], tasks=[task], verbose=False).kickoff().raw


def two(model: Any) -> Any:
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(callspan.copy_context(model.call), ["Hi", "Ho"]))


def scenes(make: Any) -> dict[str, Any]:
    return {
        "plain": lambda provider: make(provider).call("Hi"),
        "streamed": lambda provider: make(provider, stream=True).call("Hi"),
        "tools": lambda provider: tools(make(provider)),
        "two": lambda provider: two(make(provider)),
    }


if __name__ == "__main__":
    makers = {"openai": openai, "anthropic": anthropic}
    every = {f"{maker}:{name}": scene for maker, make in makers.items() for name, scene in scenes(make).items()}
    run(every, "crewai", "openai", "anthropic")
