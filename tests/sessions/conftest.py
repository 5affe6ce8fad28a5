"""Fixtures: what `capture()` saw, by kind and name, and a process in which callspan was never on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any

import openai
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from tests.sessions import sdk_clients

from callspan.agent import misuse, runtime
from callspan.agent.registry import REGISTRY, isolated_ids
from callspan.record.merging import merged_scope
from callspan.records import Record, SessionRecord, decode, encode
from callspan.runtime.fail_open import failures, forget_failures
from callspan.testing import Capture, ScriptedProvider, capture

elsewhere = isolated_ids
"""Context manager of a process that has seen none of these sessions, steps and calls."""
raised_misuse = misuse.usage_errors
"""Context manager in which misuse raises, as in `capture()`."""


@contextmanager
def logged_misuse() -> Iterator[None]:
    """Log misuse within `capture()`, as outside of it."""
    raising = misuse._raising.copy()
    misuse._raising.clear()
    try:
        yield
    finally:
        misuse._raising[:] = raising


@pytest.fixture
def no_clients_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget the clients of a test at its end."""
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # its import would ask the network
    yield
    sdk_clients.KEPT.clear()


def open_scopes() -> int:
    return len(REGISTRY.episodes) + len(REGISTRY.open_steps)


def known_objects() -> int:
    """The number of objects of SDKs whose call is known."""
    return len(REGISTRY.call_ids)


def failed() -> dict[str, int]:
    """Return what has failed inside callspan since it was last asked."""
    found = failures()
    forget_failures()
    return found


class Seen:
    """What a program under test left behind: records in the order of writing, spans in the order of their end."""

    def __init__(self, captured: Capture) -> None:
        self._captured = captured

    @property
    def records(self) -> list[Record]:
        return self._captured.everything

    @property
    def spans(self) -> list[ReadableSpan]:
        return self._captured.spans

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def the(self, name: str) -> Any:
        (span,) = self.named(name)
        return span

    def of(self, kind: type) -> list[Any]:
        """All records of a kind, without the announcements of tools, agents and guardrails."""
        found = [one for one in self.records if isinstance(one, kind)]
        return [one for one in found if not getattr(one, "event_type", "").endswith("_start")]

    def ended(self, kind: type) -> list[Any]:
        return [record for record in self.of(kind) if record.end_ns is not None]


def merged_versions(versions: Sequence[SessionRecord]) -> SessionRecord:
    """A session as stores have it, by versions that arrive in this order."""
    return reduce(merged_scope, versions)


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent is not None else None


@pytest.fixture
def seen(caplog: pytest.LogCaptureFixture) -> Iterator[Seen]:
    """At the end nothing may have failed inside callspan, nothing logged an error, and every record can be stored."""
    misuse.forget_warnings()
    failed()
    with capture() as captured, logged_misuse():
        yield Seen(captured)
        for record in captured.everything:
            decode(encode(record))
    assert failed() == {}
    assert [entry for entry in caplog.get_records("call") if entry.levelno >= logging.ERROR] == []


@pytest.fixture
def chat(provider: ScriptedProvider, client: openai.OpenAI) -> Callable[..., None]:
    """Make a chat completion that gets this answer."""

    def call(answer: str) -> None:
        provider.reply(text=answer)
        client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": answer}])

    return call


@pytest.fixture
def new_process() -> Iterator[None]:
    """A process in which `instrument()` was never called."""
    runtime.forget()
    misuse.forget_warnings()
    yield
    runtime.remove()
    misuse.forget_warnings()
