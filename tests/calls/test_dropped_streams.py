"""Dropped streams end on a background thread: no other call waits for their redactor."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

import callspan
from callspan.records import CallRecord
from callspan.testing import ScriptedProvider

QUESTION: Any = [{"role": "user", "content": "Hi"}]
LONG_S = 20


class Slow:
    """A redactor that takes as long as the test wants it to, for streams that were dropped."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.redacted: list[tuple[str, str]] = []

    def __call__(self, record: Any) -> Any:
        if isinstance(record, CallRecord) and record.outcome == "cancelled":
            self.begun.set()
            assert self.may_end.wait(LONG_S)
        if isinstance(record, CallRecord) and record.outcome != "in_progress":
            self.redacted.append((record.outcome, threading.current_thread().name))
        return record


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def url(slow: Slow, tmp_path: Path) -> Iterator[str]:
    with ScriptedProvider() as provider:
        provider.reply(text="one two three", repeat=True)
        handle = callspan.instrument(redact=slow, stores=f"jsonl:///{tmp_path}/calls.jsonl")
        try:
            yield provider.openai_url
        finally:
            slow.may_end.set()
            assert handle.force_flush()
            handle.uninstrument()


def others(client: openai.OpenAI) -> None:
    """What an application does meanwhile: each of it used to carry out the ends that were noted."""
    client.chat.completions.create(model="gpt-5", messages=QUESTION)
    list(client.chat.completions.create(model="gpt-5", messages=QUESTION, stream=True))
    with callspan.session() as session, session.timestep() as step:
        step.reward(1.0)
        client.chat.completions.create(model="gpt-5", messages=QUESTION)
    with callspan.record_call(provider="mine") as call:
        call.request({"model": "m", "messages": QUESTION})


def test_no_call_waits_for_a_slow_redactor_of_a_dropped_stream(url: str, slow: Slow) -> None:
    with openai.OpenAI(api_key="k", base_url=url) as client:
        next(iter(client.chat.completions.create(model="gpt-5", messages=QUESTION, stream=True)))
        gc.collect()
        others(client)
        assert slow.begun.wait(LONG_S)
        others(client)
        # Had one of them waited, it would have done so until the redactor gave up.
        assert [outcome for outcome, _ in slow.redacted] == ["success"] * 8
        assert {thread for _, thread in slow.redacted} == {"MainThread"}
        slow.may_end.set()
        assert callspan.instrument().force_flush()
    ended = [thread for outcome, thread in slow.redacted if outcome == "cancelled"]
    assert ended == ["callspan-deferred-ends"]
