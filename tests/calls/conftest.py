"""Fixtures of the interception tests."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from importlib import import_module

import pytest
from tests.support.calls import APIS, Wire
from tests.support.mode import Mode

from callspan import settings_loader
from callspan.intercept.patching import HOOKS
from callspan.observe import unrecognized
from callspan.runtime.fail_open import failures, forget_failures
from callspan.sdk_profiles import PROFILES, SOURCES, Source
from callspan.settings_loader import variables
from callspan.testing import Capture, ScriptedProvider, capture

__all__ = ["HOOKS", "PROFILES", "SOURCES", "Source", "variables"]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine to its end, and close its clients in its event loop."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    given = pyfuncitem.funcargs

    async def whole() -> None:
        try:
            await pyfuncitem.obj(**{name: given[name] for name in inspect.signature(pyfuncitem.obj).parameters})
        finally:
            if "mode" in given:
                await given["mode"].close()

    asyncio.run(whole())
    return True


@pytest.fixture
def seen() -> Iterator[Capture]:
    with capture() as captured:
        yield captured


@pytest.fixture
def nothing_fails() -> Iterator[None]:
    """Nothing fails inside callspan while the test runs."""
    forget_failures()
    yield
    assert failures() == {}


@pytest.fixture(params=["sync", "async"])
def mode(request: pytest.FixtureRequest, provider: ScriptedProvider) -> Mode:
    """Clients."""
    return Mode(request.param, provider)


@pytest.fixture(params=[False, True], ids=["plain", "stream"])
def stream(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=["openai", "anthropic"])
def sdk(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=APIS)
def wire(request: pytest.FixtureRequest, mode: Mode) -> Wire:
    return Wire(request.param, mode)


@pytest.fixture(params=["chat_completions", "messages"])
def plain(request: pytest.FixtureRequest, mode: Mode) -> Wire:
    """Plain calls of both SDKs."""
    return Wire(request.param, mode)


@pytest.fixture(params=["plain", "stream", "raw"])
def shaped(request: pytest.FixtureRequest, plain: Wire) -> Wire:
    """Calls of every shape of both SDKs."""
    plain.shape = request.param
    return plain


@pytest.fixture
def unwarned() -> None:
    """Let warnings that come once in a process come again."""
    settings_loader.forget_warnings()
    unrecognized.forget_warnings()


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the SDKs compute shorter waits where the server asks for none."""
    for sdk in ("openai", "anthropic"):
        base = import_module(f"{sdk}._base_client")
        monkeypatch.setattr(base, "INITIAL_RETRY_DELAY", 0.004)
        monkeypatch.setattr(base, "MAX_RETRY_DELAY", 0.004)
