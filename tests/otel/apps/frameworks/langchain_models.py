"""The models of the scenes on LangChain and LangGraph."""

import os
from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI

from callspan.testing import ScriptedProvider

os.environ["LANGSMITH_TRACING"] = "false"


def openai(provider: ScriptedProvider) -> Any:
    return ChatOpenAI(model="gpt-5", api_key="sk-test", base_url=provider.openai_url, max_retries=0)


def anthropic(provider: ScriptedProvider) -> Any:
    place = {"api_key": "sk-ant-test", "base_url": provider.anthropic_url}
    return ChatAnthropic(model="claude-sonnet-4-5", **place, max_retries=0, max_tokens=64)


MAKERS = {"openai": openai, "anthropic": anthropic}
