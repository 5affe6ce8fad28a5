"""Mode: runs one test body with the sync and the async clients."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anthropic
import openai
from typing_extensions import Self

if TYPE_CHECKING:
    from callspan.testing import ScriptedProvider


class Colour:
    """Sync or async calls behind the same awaitable face."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def is_async(self) -> bool:
        return self.name == "async"

    async def wait(self, value: Any) -> Any:
        """The result of a call of either colour."""
        return await value if inspect.isawaitable(value) else value

    async def items(self, stream: Any) -> AsyncIterator[Any]:
        """The items of a stream of either colour, as they come."""
        if self.is_async:
            async for item in stream:
                yield item
        else:
            for item in stream:
                yield item

    async def next(self, stream: Any) -> Any:
        return await stream.__anext__() if self.is_async else next(stream)

    async def all(self, stream: Any) -> list[Any]:
        return [item async for item in self.items(stream)]

    async def whole(self, value: Any) -> Any:
        """The result of a call of either colour; the items of a stream."""
        result = await self.wait(value)
        return await self.all(result) if isinstance(result, Iterator | AsyncIterator) else result

    async def collect(self) -> None:
        """Collect what was dropped; an async generator is closed by its loop, and only then what it refers to."""
        for _ in range(3):
            gc.collect()
            for _ in range(4):
                await asyncio.sleep(0)

    @asynccontextmanager
    async def entered(self, manager: Any) -> AsyncIterator[Any]:
        """A `with` or `async with` block."""
        if self.is_async:
            async with manager as value:
                yield value
        else:
            with manager as value:
                yield value


class Mode(Colour):
    """Clients of one colour, of a scripted provider."""

    def __init__(self, name: str, provider: ScriptedProvider) -> None:
        super().__init__(name)
        self.provider = provider
        self._open: list[Any] = []

    def openai(self, **options: Any) -> Any:
        kind = openai.AsyncOpenAI if self.is_async else openai.OpenAI
        given = {"base_url": self.provider.openai_url, "max_retries": 0, **options}
        return self.keep(kind(api_key="sk-test", **given))

    def anthropic(self, **options: Any) -> Any:
        kind = anthropic.AsyncAnthropic if self.is_async else anthropic.Anthropic
        given = {"base_url": self.provider.anthropic_url, "max_retries": 0, **options}
        return self.keep(kind(api_key="sk-ant-test", **given))

    def keep(self, client: Any) -> Any:
        """Close the client with the test."""
        self._open.append(client)
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the clients; not for async ones, which end with their event loop."""
        asyncio.run(self.close())

    async def close(self) -> None:
        while self._open:
            await self.wait(self._open.pop().close())
