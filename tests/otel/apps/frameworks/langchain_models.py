"""The models and the tool of the scenes on LangChain."""

import os
from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from callspan.testing import ScriptedProvider

os.environ["LANGSMITH_TRACING"] = "false"


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


MAKERS = {"openai": chat_openai, "anthropic": chat_anthropic}
