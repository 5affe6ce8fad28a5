"""crewAI: its LLM on both SDKs, and a crew of one agent."""

import os
from typing import Any

os.environ |= {"CREWAI_DISABLE_TELEMETRY": "true", "OTEL_SDK_DISABLED": "false", "CREWAI_TRACING_ENABLED": "false"}

from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool
from stage import in_threads, run, weather

from callspan.testing import ScriptedProvider


def openai(provider: ScriptedProvider, **options: Any) -> Any:
    return LLM(model="openai/gpt-4o", api_key="sk-test", base_url=provider.openai_url, max_retries=0, **options)


def anthropic(provider: ScriptedProvider, **options: Any) -> Any:
    url = provider.anthropic_url
    return LLM(model="anthropic/claude-sonnet-4-5", api_key="sk-ant-test", base_url=url, max_retries=0, **options)


def tools(model: Any) -> Any:
    able = {"llm": model(), "tools": [tool("weather")(weather)]}
    agent = Agent(role="guide", goal="Tell the weather", backstory="Knows it.", **able)
    task = Task(description="The weather in Paris?", expected_output="A sentence.", agent=agent)
    return Crew(agents=[agent], tasks=[task], verbose=False).kickoff().raw


if __name__ == "__main__":
    run(
        {"openai": openai, "anthropic": anthropic},
        {
            "plain": lambda model: model().call("Hi"),
            "streamed": lambda model: model(stream=True).call("Hi"),
            "tools": tools,
            "two": lambda model: in_threads(model().call),
        },
    )
