"""A process without settings, the URL of a store that is not there yet, and a call with its bodies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from callspan.records import CallRecord, Request, Response
from tests.records import made, raw


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("CALLSPAN_", "OTEL_", "OPENAI_", "ANTHROPIC_", "COLUMNS")):
            monkeypatch.delenv(name)


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
