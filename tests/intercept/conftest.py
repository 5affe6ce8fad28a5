"""Fixtures of the interception tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from callspan.testing import Captured, ScriptedProvider, capture
from tests.intercept.mode import Mode


@pytest.fixture
def seen() -> Iterator[Captured]:
    with capture() as captured:
        yield captured


@pytest.fixture(params=["sync", "async"])
def mode(request: pytest.FixtureRequest, provider: ScriptedProvider) -> Mode:
    return Mode(request.param, provider)


@pytest.fixture
def run(mode: Mode) -> Callable[[Callable[[], Awaitable[Any]]], Any]:
    """Run a test's body to its end and close its clients."""

    def runner(body: Callable[[], Awaitable[Any]]) -> Any:
        async def whole() -> Any:
            try:
                return await body()
            finally:
                await mode.close()

        return asyncio.run(whole())

    return runner
