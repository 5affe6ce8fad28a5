"""The content level in force, or the stricter one of the open session or step that something belongs to."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import nullcontext
from threading import Thread
from typing import Any

import pytest
from tests.sessions.conftest import open_scopes
from tests.support.calls import everywhere

import callspan
from callspan.testing import capture

SECRET = "open sesame"


def in_step(session: Any) -> None:
    with session.timestep() as step:
        step.observation(SECRET)
        step.action(SECRET)
        step.environment(SECRET, reward=1.0)
        step.reward(1.0, annotation=SECRET)
        with step.environment_step(SECRET) as environment:
            environment.set_result(SECRET)
        with step.tool("t", arguments=SECRET) as tool:
            tool.result = SECRET
        step.handoff("other", reason=SECRET)
    step.reward(1.0, annotation=SECRET)
    callspan.reward(1.0, timestep_id=step.id, annotation=SECRET)


def operations(session: Any) -> None:
    for operation in (
        session.tool("t", arguments=SECRET),
        session.invoke_agent("a", input=SECRET),
        session.guardrail("g", input=SECRET),
    ):
        with operation:
            operation.output = SECRET
            with callspan.tool("inner", arguments=SECRET):
                pass


def in_another_thread(session: Any) -> None:
    thread = Thread(target=lambda: session.event("seen", SECRET))
    thread.start()
    thread.join()


def failed(session: Any) -> None:
    with pytest.raises(ValueError, match=SECRET), session.using(), callspan.timestep():
        raise ValueError(SECRET)
    session.end(ValueError(SECRET))


def begun_again(session: Any) -> None:
    with callspan.session(session_id="s") as again:
        again.event("seen", SECRET)


def nested(session: Any) -> None:
    with session.using(), callspan.session("inner", session_id="inner") as inner:
        inner.event("seen", SECRET)
    with callspan.session("other", parent=session) as inner:
        inner.event("seen", SECRET)
    with callspan.session("another", parent="s") as inner:
        inner.event("seen", SECRET)


ACTS: dict[str, Callable[[Any], object]] = {
    "event": lambda session: session.event("seen", SECRET),
    "failed event": lambda session: session.event("seen", error=ValueError(SECRET)),
    "message": lambda session: session.message(SECRET),
    "reward": lambda session: session.reward(1.0, annotation=SECRET),
    "after its end": lambda session: (session.end(), session.reward(1.0, annotation=SECRET)),
    "reward by id": lambda _: callspan.reward(1.0, session_id="s", annotation=SECRET),
    "timestep": in_step,
    "operations": operations,
    "another thread": in_another_thread,
    "failure": failed,
    "the same id again": begun_again,
    "nested": nested,
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
@pytest.mark.parametrize(
    ("at_its_start", "block", "later"),
    [
        ({}, "off", {}),
        ({"content": "full"}, "full", {"content": "off"}),
        ({"content": "off"}, "full", {"content": "full"}),
        ({}, "full", {"redact": callspan.redact_texts(lambda _: "")}),
    ],
)
def test_later_records_keep_the_level(at_its_start: Any, block: Any, later: Any, act: Callable[[Any], object]) -> None:
    with capture(**at_its_start) as seen:
        with callspan.content(block):
            session = callspan.session("tenant", session_id="s").start(current=False)
        if later:
            callspan.instrument(**later)
        act(session)
        session.end()
    assert SECRET not in everywhere(seen)
    if block == "off":
        assert {record.content_level for record in seen.sessions} == {"off"}


def test_calls_and_feedback_inherit_the_level(chat: Callable[..., None]) -> None:
    """Feedback while it is open; after its end, and that of a call outside, it has the level in force."""
    with capture() as seen:
        with callspan.content("off"):
            session = callspan.session("tenant").start()
        chat(SECRET)
        with session.timestep():
            chat(SECRET)
        for record in seen.records:
            with callspan.content("full"):
                callspan.feedback(record.call_id, annotation=SECRET)
                callspan.reward(1.0, call_id=record.call_id, annotation=SECRET)
        session.end()
        with session.using():
            chat(SECRET)
        assert SECRET not in everywhere(seen)
        chat(SECRET)
        callspan.feedback(seen.records[0].call_id, annotation=SECRET)
    assert [record.content_level for record in seen.records] == ["off", "off", "off", "full"]
    assert seen.records[-1].text == SECRET
    assert [reward.annotation for reward in seen.rewards] == [None] * 4 + [SECRET]


@pytest.mark.parametrize("setting", ["full", "metadata", "off"])
@pytest.mark.parametrize("block", ["full", "metadata", "off", None])
def test_record_states_the_stricter_level(setting: Any, block: Any, chat: Callable[..., None]) -> None:
    with capture(content=setting) as seen, callspan.content(block) if block else nullcontext():
        with callspan.session("s", session_id="s"):
            chat(SECRET)
        expected = max(setting, block or "full")
        assert seen.records[0].content_level == expected
    assert {record.content_level for record in seen.sessions} == {expected}


@pytest.mark.parametrize(
    "enter", [lambda own: own.timestep(), lambda own: own.using(), lambda own: own.tool("t", arguments=SECRET)]
)
def test_nested_scope_cannot_relax_the_level(enter: Callable[[Any], Any], chat: Callable[..., None]) -> None:
    """A scope that was begun outside the block is entered, bound or ended within it."""
    with capture() as seen:
        session = callspan.session("tenant").start(current=False)
        with session.using():
            bound = callspan.copy_context(chat)
        with callspan.content("off"):
            with enter(session):
                chat(SECRET)
            bound(SECRET)
            session.end()
            chat(SECRET)
        chat(SECRET)
    assert [record.content_level for record in seen.records] == ["off", "off", "off", "full"]
    assert [record.text for record in seen.records] == [None, None, None, SECRET]


def test_dropped_scopes_are_not_kept() -> None:
    with capture():
        callspan.session("dropped").start(current=False).timestep().start(current=False)
        gc.collect()
        assert open_scopes() == 0
