"""Patching beside other instrumentations, and events from bytes split anywhere."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.intercept import patching
from callspan.intercept.body_parsers import EventParser
from callspan.intercept.patching import Hook, Patches
from tests.support.logs import nothing_is_warned_of


class Unbound:
    """What can be called, but is not given the instance, such as a mock."""

    def __call__(self, request: str) -> str:
        return request


class Library:
    """Modules that stand for an HTTP library's, with classes made anew."""

    def __init__(self) -> None:
        class Base:
            def send(self, request: str, *, stream: bool = False) -> str:
                return f"sent {request}"

            number = 7
            unbound = Unbound()

            @property
            def asked(self) -> str:
                return "asked"

            @staticmethod
            def fixed(request: str) -> str:
                return request

            @classmethod
            def made(cls, request: str) -> str:
                return request

            class Inner:
                pass

        class Client(Base):
            pass

        self.module: Any = ModuleType("httpx")
        self.module.Base, self.module.Client = Base, Client


@pytest.fixture
def library() -> Any:
    return Library().module


@pytest.fixture
def patches() -> Patches:
    return Patches()


def plain(original: Callable[..., Any], **_: object) -> Callable[..., Any]:
    def send(self: Any, *args: Any, **kwargs: Any) -> str:
        return f"plain {original(self, *args, **kwargs)}"

    send.__wrapped__ = original  # type: ignore[attr-defined]
    return send


def hook(owner: str = "Client", attribute: str = "send", **fields: Any) -> Hook:
    where = (f"httpx:{owner}",)
    usual = {"where": where, "without": "sends", "make": plain, "reads": {"request": 1, "stream": 2}}
    return Hook(**(usual | {"attribute": attribute} | fields))


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put other hooks in place of ours."""
    return lambda *hooks: monkeypatch.setattr(patching, "HOOKS", hooks)


@pytest.mark.parametrize(
    ("how", "state", "answer"),
    [
        (hook(reads={"request": 1, "stream": 2}), "on", "plain sent x"),
        (hook(reads={"request": 1}), "on", "plain sent x"),
        (hook(reads={"request": 1, "timeout": 2}), "changed", "plain sent x"),
        (hook(attribute="fetch"), "missing", "sent x"),
        (hook(owner="Server"), "missing", "sent x"),
        (hook(owner="__name__"), "missing", "sent x"),
        (hook(attribute="number"), "missing", "sent x"),
        (hook(attribute="asked"), "missing", "sent x"),
        (hook(attribute="fixed"), "missing", "sent x"),
        (hook(attribute="made"), "missing", "sent x"),
        (hook(attribute="Inner"), "missing", "sent x"),
        (hook(attribute="unbound"), "missing", "sent x"),
    ],
)
def test_a_hook_is_on_missing_or_changed_and_then_removed(
    how: Hook, state: str, answer: str, library: Any, patches: Patches, table: Any
) -> None:
    table(how)
    original = vars(library.Base)["send"]
    patches._patch(patching._hooked("openai")["httpx"], "openai", library)
    (status,) = patches.status()
    assert (status.state, status.name, status.sdk) == (
        state,
        f"{how.where[0].replace(':', '.')}.{how.attribute}",
        "openai",
    )
    assert library.Client().send("x") == answer
    patches.undo("openai")
    assert vars(library.Base)["send"] is original
    assert patches.status() == []


def test_missing_names_are_reported_in_a_warning(
    library: Any, patches: Patches, table: Any, caplog: pytest.LogCaptureFixture
) -> None:
    table(hook(attribute="fetch"), hook(reads={"timeout": 1}))
    patches._patch(patching._hooked("openai")["httpx"], "openai", library)
    with nothing_is_warned_of():
        patching._warn_of_drift("anthropic", patches.status())
    with caplog.at_level(logging.WARNING):
        patching._warn_of_drift("openai", patches.status())
    assert caplog.messages == [
        "This version of openai lacks names callspan hooks; not recorded: httpx.Client.fetch (sends)",
        "This version of openai has changed functions callspan hooks; may be lost: httpx.Client.send (sends)",
    ]


END = st.sampled_from([b"\n", b"\r\n", b"\r"])
LINE = st.sampled_from(
    [b"data: {}", b"data:x", b"data:  y", b"data", b"event: e", b": c", b"", b"id: 1", b"data: \xc3\xa4"]
)


def read(pieces: list[bytes]) -> list[bytes]:
    events = EventParser()
    found = [payload for piece in pieces for payload in events.feed(piece)]
    return found + events.end()


@given(lines=st.lists(LINE, max_size=9), end=END, cuts=st.lists(st.integers(1, 6), max_size=60))
def test_any_split_of_events_gives_the_same_payloads(lines: list[bytes], end: bytes, cuts: list[int]) -> None:
    whole = b"".join(line + end for line in lines)
    pieces, at = [], 0
    for size in cuts:
        pieces.append(whole[at : at + size])
        at += size
    assert read([*pieces, whole[at:]]) == read([whole])
