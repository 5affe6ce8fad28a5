"""A provider for each test, and real SDK clients of it, so that one test body runs in sync and in async code."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anthropic
import openai
import pytest

from callspan.testing import ScriptedProvider

MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]


class Sdk:
    """The two SDKs, pointed at a provider; what is called on them is run to its end and collected."""

    def __init__(self, provider: ScriptedProvider, mode: str) -> None:
        self.provider, self.mode = provider, mode

    def openai(self, use: Callable[[Any], Any], **settings: Any) -> Any:
        """The result of `use(client)`; of a stream the list of its items."""
        settings = {"base_url": self.provider.openai_url, "api_key": "key", "max_retries": 0, **settings}
        if self.mode == "sync":
            return _use_sync(openai.OpenAI(**settings), use)
        return asyncio.run(_use_async(openai.AsyncOpenAI, settings, use))

    def anthropic(self, use: Callable[[Any], Any], **settings: Any) -> Any:
        """As `openai`, with the other SDK."""
        settings = {"base_url": self.provider.anthropic_url, "api_key": "key", "max_retries": 0, **settings}
        if self.mode == "sync":
            return _use_sync(anthropic.Anthropic(**settings), use)
        return asyncio.run(_use_async(anthropic.AsyncAnthropic, settings, use))

    def chat(self, **fields: Any) -> Any:
        return self.openai(lambda c: c.chat.completions.create(**{"model": "gpt-5", "messages": MESSAGES, **fields}))

    def responses(self, **fields: Any) -> Any:
        return self.openai(lambda c: c.responses.create(**{"model": "gpt-5", "input": "What?", **fields}))

    def messages(self, **fields: Any) -> Any:
        given = {"model": "claude-scripted", "max_tokens": 64, "messages": MESSAGES, **fields}
        return self.anthropic(lambda c: c.messages.create(**given))


def _use_sync(client: Any, use: Callable[[Any], Any]) -> Any:
    with client:
        result = use(client)
        if hasattr(result, "__enter__") and not hasattr(result, "__next__"):
            with result as helper:
                return [list(helper), _final(helper)]
        return list(result) if isinstance(result, Iterator) else result


async def _use_async(make: Callable[..., Any], settings: dict[str, Any], use: Callable[[Any], Any]) -> Any:
    async with make(**settings) as client:
        result = use(client)
        if inspect.isawaitable(result):
            result = await result
        if hasattr(result, "__aenter__") and not hasattr(result, "__anext__"):
            async with result as helper:
                return [[event async for event in helper], await _final(helper)]
        return [item async for item in result] if isinstance(result, AsyncIterator) else result


def _final(helper: Any) -> Any:
    names = ("get_final_completion", "get_final_response", "get_final_message")
    return next(getattr(helper, name) for name in names if hasattr(helper, name))()


@pytest.fixture(params=["sync", "async"])
def sdk(provider: ScriptedProvider, request: pytest.FixtureRequest) -> Sdk:
    return Sdk(provider, request.param)


@pytest.fixture
def sync_sdk(provider: ScriptedProvider) -> Sdk:
    """For what does not depend on how the SDK is used."""
    return Sdk(provider, "sync")
