"""A store that does not answer: nobody waits for it who makes calls, and no record is lost."""

from __future__ import annotations

import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from tests.intercept import sdks
from tests.scale import scaled

import callspan
from callspan.background import LOOK_UPS, on_own_thread
from callspan.cli.doctor import every_check
from callspan.records import CallRecord, EventRecord, RewardRecord
from callspan.reported import look_ups
from callspan.reported.look_ups import LOOK_UP_S
from callspan.stores.urls import open_store
from callspan.testing import Captured, ScriptedProvider, capture
from callspan.wiring import WIRING

SECRET = "whsec_c2VjcmV0"
SOON_S = 2.5
"""Below what a look-up may take, and above what a busy machine adds."""
SHORT_S = 3.0
"""What a look-up may take where not the 5 s themselves are tested."""
FOREIGN: list[str] = []
"""Threads of others on which a connection to a store was opened while `WATCHING`."""
WATCHING: list[bool] = []


def watch(event: str, _: tuple[Any, ...]) -> None:
    if event == "sqlite3.connect" and WATCHING and not on_own_thread():
        FOREIGN.append(threading.current_thread().name)


sys.addaudithook(watch)


@contextmanager
def watched() -> Iterator[None]:
    """Connections to stores are opened on threads of callspan only."""
    FOREIGN.clear()
    WATCHING.append(True)
    try:
        yield
    finally:
        WATCHING.clear()
    assert FOREIGN == []


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program has the file for itself; in a rollback journal, as of an older program."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=DELETE")
        other.execute("BEGIN EXCLUSIVE")
        yield


@pytest.fixture
def client(provider: ScriptedProvider) -> Iterator[Any]:
    with openai.OpenAI(api_key="k", base_url=provider.openai_url, max_retries=0, webhook_secret=SECRET) as one:
        yield one


@pytest.fixture
def store(tmp_path: Path, client: Any) -> Path:
    """A store with a call."""
    path = tmp_path / "calls.db"
    with capture(stores=f"sqlite:///{path}"):
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        assert WIRING.flush(30)
    return path


def created(client: Any, path: Path, **around: Any) -> str:
    """A background response of another process: this one knows nothing of it."""
    with capture(stores=f"sqlite:///{path}"), callspan.session("jobs", session_id="jobs"):
        answer = client.responses.create(model="gpt-5", input="Hi", background=True, **around)
        assert WIRING.flush(30)
    return str(answer.id)


@contextmanager
def delivered_first(*, is_first: bool = True) -> Iterator[None]:
    """The stores have what is written in the block before they are asked about it."""
    asked = threading.Event()
    if is_first:
        LOOK_UPS.put(partial(asked.wait, 30))
    try:
        yield
        assert WIRING.pipeline is not None
        assert WIRING.pipeline.recorder.flush(30)
    finally:
        asked.set()
    assert WIRING.flush(30)


def timed(act: Callable[[], object]) -> float:
    start = time.monotonic()
    act()
    return time.monotonic() - start


def versions(seen: Captured) -> list[tuple[str, bool, bool]]:
    """Stage, and whether it has content and usage."""
    calls = [one for one in seen.everything if isinstance(one, CallRecord)]
    return [(one.stage, bool(one.response and bytes(one.response.body)), bool(one.usage)) for one in calls]


@pytest.mark.parametrize("is_first", [False, True], ids=["", "delivered first"])
def test_a_poll_gets_its_content_and_its_link_from_the_store(
    provider: ScriptedProvider, client: Any, store: Path, *, is_first: bool
) -> None:
    """Its first version is without content; the second is what the level of the creation allows."""
    provider.reply(text="Well.", polls=0)
    job = created(client, store)
    with watched(), capture(stores=f"sqlite:///{store}") as seen, delivered_first(is_first=is_first):
        client.responses.retrieve(job)
    assert unanswered(store) == []
    assert versions(seen) == [("withheld", False, True), ("completed", True, True)]
    (span,) = seen.spans
    assert (span.name, len(span.links)) == ("fetch_response", 1)
    assert (span.attributes or {})["session.id"] == "jobs"
    with closing(open_store(f"sqlite:///{store}")) as reader:
        (call,) = (one for one in reader.calls() if one.api == "responses")
    assert (call.text, call.outcome, call.redactions) == ("Well.", "success", [])


def test_a_response_has_one_span_also_where_its_record_is_delivered_before_the_look_up(
    provider: ScriptedProvider, client: Any, store: Path
) -> None:
    """In the process that created it, and in one that did not; none in a process that reads it later."""
    provider.reply(text="Well.", polls=0)
    url = f"sqlite:///{store}"
    with capture(stores=url) as seen:
        job = client.responses.create(model="gpt-5", input="Hi", background=True).id
        with delivered_first():
            client.responses.retrieve(job)
        assert versions(seen)[1:] == [("first", True, True)]
        assert [one.name for one in seen.spans] == ["chat gpt-5", "fetch_response"]
    with capture(stores=url) as later:
        with delivered_first():
            client.responses.retrieve(job)
        assert versions(later) == [("withheld", False, True)]
        assert later.spans == []


@pytest.mark.parametrize("wait_s", scaled([SHORT_S], [SHORT_S, LOOK_UP_S]))
def test_while_the_store_is_blocked_polls_and_webhooks_return_at_once(
    provider: ScriptedProvider, client: Any, store: Path, monkeypatch: pytest.MonkeyPatch, wait_s: float
) -> None:
    """The record stays as it was written first; the span has no link; the look-up is counted."""
    monkeypatch.setattr(look_ups, "LOOK_UP_S", wait_s)
    provider.reply(text="Well.", polls=0)
    job = created(client, store)
    payload, headers = provider.webhook(job, SECRET)
    with capture(stores=f"sqlite:///{store}") as seen, locked(store), watched():
        took = [
            timed(lambda: client.webhooks.unwrap(payload, headers)),
            timed(lambda: client.responses.retrieve(job)),
        ]
        assert max(took) < SOON_S
        assert LOOK_UPS.drain(30)
    assert versions(seen) == [("first", False, False), ("withheld", False, True)]
    (span,) = seen.spans
    assert (span.name, span.links) == ("fetch_response", ())
    (said,) = unanswered(store)
    assert said.startswith("1 look-up without an answer from a store, last at 20")


@pytest.mark.skipif(sdks.ANTHROPIC < (2, 0), reason="needs the sessions of anthropic 2")
def test_a_hosted_call_has_one_span_also_where_its_record_is_delivered_before_the_look_up(
    provider: ScriptedProvider, store: Path
) -> None:
    """None in a process that reads it later."""
    provider.reply(text="There is one file.", input_tokens=120, output_tokens=8)
    agent = {"type": "agent", "id": "agent_1", "model": "claude-sonnet-4-5", "name": "Finder", "system": "Find."}
    with anthropic.Anthropic(api_key="k", base_url=provider.anthropic_url, max_retries=0) as client:
        events: Any = client.beta.sessions.events
        identity = client.beta.sessions.create(agent=agent, environment_id="env_1").id  # type: ignore[arg-type]
        events.send(identity, events=[{"type": "user.message", "content": [{"type": "text", "text": "Hi"}]}])
        for spans in (1, 0):
            with capture(stores=f"sqlite:///{store}") as seen:
                with delivered_first():
                    list(events.list(identity))
                assert len(seen.spans) == spans
                assert any(has_content for _, has_content, _ in versions(seen)) == bool(spans)


@pytest.mark.skipif(sdks.ANTHROPIC < (2, 0), reason="needs the sessions of anthropic 2")
def test_a_hosted_session_is_read_while_its_store_is_blocked(
    provider: ScriptedProvider, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it did is written without content first, and with it once a store has answered; nothing twice."""
    monkeypatch.setattr(look_ups, "LOOK_UP_S", SHORT_S)
    provider.reply(
        text="Let me look.", tool_calls=[{"name": "bash", "arguments": {"command": "ls"}, "result": "a.txt"}]
    )
    provider.reply(text="There is one file.", input_tokens=120, output_tokens=8)
    agent = {"type": "agent", "id": "agent_1", "model": "claude-sonnet-4-5", "name": "Finder", "system": "Find."}
    with anthropic.Anthropic(api_key="k", base_url=provider.anthropic_url, max_retries=0) as client:
        events: Any = client.beta.sessions.events
        identity = client.beta.sessions.create(agent=agent, environment_id="env_1").id  # type: ignore[arg-type]
        events.send(identity, events=[{"type": "user.message", "content": [{"type": "text", "text": "Hi"}]}])
        with capture(stores=f"sqlite:///{store}") as blocked, locked(store), watched():
            assert timed(lambda: list(events.list(identity))) < SOON_S
            assert LOOK_UPS.drain(30)
            assert versions(blocked) == [("withheld", False, True)] * 2
            assert [bool(one.data) for one in blocked.events] == [False]
            assert len(blocked.spans) == 3, "two model requests and a tool"
        with watched(), capture(stores=f"sqlite:///{store}") as seen:
            list(events.list(identity))
            assert WIRING.flush(30)
            assert versions(seen)[0] == ("withheld", False, True)
            assert [one[1:] for one in versions(seen)][-2:] == [(True, True)] * 2
            assert [bool(one.data) for one in seen.events] == [False, True]
    with closing(open_store(f"sqlite:///{store}")) as reader:
        found = [call for call in reader.calls() if call.api == "sessions"]
        assert {call.text for call in found} == {"Let me look.", "There is one file."}
        assert [one.data for one in reader.events(identity) if isinstance(one, EventRecord)] != [None]


def test_rewards_by_id_return_at_once_and_are_placed_by_the_store(
    provider: ScriptedProvider, client: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first version has what was given; the second the session and step of its target, and the content."""
    monkeypatch.setattr(look_ups, "LOOK_UP_S", SHORT_S)
    url = f"sqlite:///{store}"
    with capture(stores=url) as made, callspan.session("jobs", session_id="s1"), callspan.timestep():
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        assert WIRING.flush(30)
        (call,) = made.records
    with capture(stores=url) as blocked, locked(store), watched():
        give = partial(callspan.feedback, call.call_id, 1.0, annotation="polite")
        assert max(timed(give), timed(lambda: callspan.reward(2.0, session_id="s1"))) < SOON_S
        assert LOOK_UPS.drain(30)
        assert rewards(blocked) == [("first", None, None), ("first", "s1", None)]
    with watched(), capture(stores=url) as seen:
        given = callspan.feedback(call.call_id, 1.0, annotation="polite")
        assert WIRING.flush(30)
        assert rewards(seen) == [("first", None, None), ("completed", "s1", "polite")]
        (span,) = seen.spans
    assert span.context.trace_id == int(str(call.trace_id), 16)
    with closing(open_store(url)) as reader:
        rows = [one for one in reader.events("s1") if isinstance(one, RewardRecord)]
        (found,) = [one for one in rows if one.reward_id == given]
    assert (found.timestep_id, found.annotation) == (call.place.timestep_id, "polite")


def unanswered(store: Path) -> list[str]:
    """What `callspan doctor` says of look-ups."""
    checks = every_check(f"sqlite:///{store}")
    return [one.detail for one in checks if one.name == "look-ups" and one.state == "note"]


def rewards(seen: Captured) -> list[tuple[str, str | None, str | None]]:
    return [(one.stage, one.session_id, one.annotation) for one in seen.rewards]
