"""Fixtures: a process without settings, the demo's store, the URL of one that is not there yet, a call with bodies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.support.commands import callspan
from tests.support.processes import plain_environment
from tests.support.programs import Demo
from tests.support.records import made, raw

from callspan.records import CallRecord, Request, Response


@pytest.fixture(autouse=True)
def _no_settings(no_settings: None) -> None:
    """Every test of the command."""


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    made = Demo(tmp_path_factory.mktemp("demo"))
    settings = dict.fromkeys(set(os.environ) - set(plain_environment()))
    result = CliRunner().invoke(
        callspan, ["--store", made.store, "demo", "--json"], catch_exceptions=False, env=settings
    )
    assert (result.exit_code, result.stderr) == (0, "")
    return made


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'calls.db'}"


def chat_call(call_id: str, text: str = "Left.", **fields: Any) -> CallRecord:
    question = {"model": "gpt-5", "messages": [{"role": "user", "content": "Which way?"}]}
    answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}
    given: dict[str, Any] = {
        "provider": "openai",
        "api": "chat_completions",
        "request": Request(model="gpt-5", body=raw(question)),
        "response": Response(model="gpt-5", finish_reasons=["stop"], body=raw(answer)),
    }
    return made(call_id, **(given | fields))
