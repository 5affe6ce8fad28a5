"""Fixtures of the tests of attempts: callers of every shape, and SDKs whose waits are short."""

from __future__ import annotations

from importlib import import_module

import pytest

from tests.attempts.caller import Caller
from tests.intercept.conftest import mode, run, seen
from tests.intercept.mode import Mode

__all__ = ["mode", "run", "seen"]


@pytest.fixture(params=["chat_completions", "messages"])
def api(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=["plain", "stream", "raw"])
def caller(request: pytest.FixtureRequest, mode: Mode, api: str) -> Caller:
    """Every shape of call of both SDKs, sync and async."""
    return Caller(mode, api, request.param)


@pytest.fixture
def plain(mode: Mode, api: str) -> Caller:
    """Plain calls of both SDKs, sync and async."""
    return Caller(mode, api, "plain")


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the SDKs compute shorter waits where the server asks for none."""
    for sdk in ("openai", "anthropic"):
        base = import_module(f"{sdk}._base_client")
        monkeypatch.setattr(base, "INITIAL_RETRY_DELAY", 0.004)
        monkeypatch.setattr(base, "MAX_RETRY_DELAY", 0.004)
