"""Ids as the application knows them: whatever is in them, they are recorded, found and erased by the same text."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import openai
import pytest

import callspan
from callspan import erase, open_store
from callspan.records import (
    EventRecord,
    MessageRecord,
    Place,
    Record,
    Response,
    RewardRecord,
    SessionRecord,
    TimestepRecord,
)
from callspan.stores import CallFilter, encode
from callspan.stores.importing import import_records
from callspan.testing import ScriptedProvider

from .conftest import START_NS, Records

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


def of_another_program(records: Records, nul: str) -> list[Record]:
    """Records of every kind; a program that does not replace NUL wrote them."""
    place = Place(session_id=nul, timestep_id=nul)
    return [
        SessionRecord(session_id=nul, seen_ns=1, start_ns=START_NS, user_id=nul, metadata={"run": nul}),
        TimestepRecord(timestep_id=nul, session_id=nul, seen_ns=1, index=0, user_step_id=nul, start_ns=START_NS),
        EventRecord(event_id=nul, session_id=nul, event_type="seen", time_ns=START_NS),
        MessageRecord(message_id=nul, session_id=nul, message_type="note", time_ns=START_NS, content=nul),
        RewardRecord(reward_id=nul, call_id=f"response {nul}", value=1.0, scope="call", time_ns=START_NS),
        records.call(call_id=nul, place=place, response=Response(id=f"response {nul}")),
    ]


def test_an_id_with_nul_of_another_program_finds_and_erases_its_records(
    url: str, records: Records, tmp_path: Path
) -> None:
    nul = "a\0b"
    lines = tmp_path / "other.jsonl"
    lines.write_bytes(b"".join(encode(one) + b"\n" for one in of_another_program(records, nul)))
    assert b"\\u0000" in lines.read_bytes()
    for _ in range(2):
        assert set(import_records(lines, url).records.values()) == {1}
    with closing(open_store(url)) as reader:
        call, session, step = reader.call(nul), reader.session(nul), reader.timestep(nul)
        assert call is not None
        assert session is not None
        assert step is not None
        assert (session.calls, session.timesteps, session.events) == (1, 1, 3)
        assert len(list(reader.events(nul))) == 3
        assert len(list(reader.stored(EventRecord, [nul]))) == 1
        assert [one.value for one in reader.rewards(call)] == [1.0]
        by_metadata = CallFilter(metadata=(("run", nul),))
        for which in (CallFilter(session_id=nul), CallFilter(timestep_id=nul), CallFilter(user=nul), by_metadata):
            assert [one.call_id for one in reader.calls(which)] == [call.call_id]
    assert erase(url, sessions=nul).stores[0].total == 6
    assert set(import_records(lines, url).records.values()) == {1}
    with closing(open_store(url)) as reader:
        assert reader.session(nul) is reader.call(nul) is reader.timestep(nul) is None
