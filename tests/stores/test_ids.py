"""Ids as the application knows them: whatever is in them, they are recorded, found and erased by the same text."""

from __future__ import annotations

from contextlib import closing

import openai
import pytest

import callspan
from callspan import erase
from callspan.stores import CallFilter
from callspan.stores.urls import open_store
from callspan.testing import ScriptedProvider

IDS = ("a\"b'c", "a\\b\\", "a\0b", "a\ud800b", "a%_b", "a:b ? :id", "Straße\nς", "a'; DROP TABLE calls; --")


def record(url: str, ident: str) -> str:
    """Record a session with a call, an event and a reward, and a call outside of it; return that one's id."""
    handle = callspan.instrument(stores=url)
    with ScriptedProvider() as provider, openai.OpenAI(base_url=provider.openai_url, api_key="k") as client:
        asked = [{"role": "user", "content": "Where is it?"}]
        with callspan.session("s", session_id=ident, user_id=ident, group_id=ident) as session:
            client.chat.completions.create(model="m", messages=asked)  # type: ignore[arg-type]
            session.event("seen", data={"at": 1})
        callspan.reward(1.0, session_id=ident)
        with callspan.metadata(user_id=ident):
            client.chat.completions.create(model="m", messages=asked)  # type: ignore[arg-type]
        assert handle.force_flush(30_000)
    handle.uninstrument()
    with closing(open_store(url)) as reader:
        return next(reader.calls(CallFilter(in_session=False))).call_id


@pytest.mark.parametrize("ident", IDS)
def test_an_id_finds_and_erases_what_was_recorded_with_it(url: str, ident: str) -> None:
    outside = record(url, ident)
    with closing(open_store(url)) as reader:
        found = reader.session(ident)
        assert found is not None
        whole = found.session.session_id
        assert (found.calls, found.reward, len(list(reader.events(ident)))) == (1, 1.0, 2)
        for which in (CallFilter(session_id=ident), CallFilter(group=ident), CallFilter(text="where IS")):
            assert whole in {one.place.session_id for one in reader.calls(which)}
        assert {one.call_id for one in reader.calls(CallFilter(user=ident))} >= {outside}
        assert [one.session.session_id for one in reader.sessions(which=CallFilter(user=ident))] == [whole]
    assert erase(url, sessions=ident).stores[0].sessions == 1
    with closing(open_store(url)) as reader:
        assert (reader.session(ident), reader.is_erased("session", ident)) == (None, True)
        assert [one.call_id for one in reader.calls()] == [outside]
    receipt = erase(url, CallFilter(user=ident))
    assert (receipt.stores[0].calls, receipt.is_complete) == (1, True)
    with closing(open_store(url)) as reader:
        assert list(reader.calls()) == list(reader.rewards()) == []
