"""The contract of stores, tested with each of them."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.wire import corpus

from callspan import erase, open_store
from callspan.cli.store_check import store_check
from callspan.records import (
    CallRecord,
    Cost,
    ErrorInfo,
    EventRecord,
    Place,
    Request,
    Response,
    RewardRecord,
    SessionRecord,
    Stream,
    TimestepRecord,
    Timing,
    Usage,
)
from callspan.stores import CallFilter, find_store

from .conftest import SECOND, START_NS, Delivery, Records, raw

HOSTILE = "quote \" ' ; DROP TABLE calls; -- \\ \n \t \u2028 é 漢 \U0001f600 %s :x ? \x1a \x7f"


def bare(record: CallRecord | None) -> CallRecord:
    """The record without what readers derive."""
    assert record is not None
    return replace(record, conversation=None)


def test_every_kind_of_record_is_read_back_as_it_was_written(store: Delivery, records: Records) -> None:
    session, step, call_record, *events = records.every_kind()
    store.write(session, step, call_record, *events)
    reader = store.read()
    assert isinstance(call_record, CallRecord)
    assert bare(reader.call(call_record.call_id)) == call_record
    assert list(reader.timesteps("s1")) == [step]
    assert list(reader.events("s1")) == events
    found = reader.session("s1")
    assert found is not None
    assert found.session == session


def test_records_are_found_by_their_whole_ids_alone(store: Delivery, records: Records) -> None:
    """Without bodies; ids with quotes and prefixes of ids are like others."""
    session, step, call_record, *more = records.every_kind()
    assert isinstance(call_record, CallRecord)
    (event,) = (one for one in more if isinstance(one, EventRecord))
    other = records.session("s1\"'\\ é", name="other")
    unanswered = records.call(response=None)
    store.write(session, step, call_record, unanswered, other, event, records.session("s10"))
    reader = store.read()
    assert list(reader.stored(SessionRecord, ["s1"])) == [session]
    several = reader.stored(SessionRecord, ["s1", "none", other.session_id])
    assert sorted(one.session_id for one in several) == ["s1", other.session_id]
    assert list(reader.stored(TimestepRecord, ["t1"])) == [step]
    ids = [call_record.call_id, unanswered.call_id, *(f"c{number}" for number in range(500))]
    calls = {one.call_id: one for one in reader.stored(CallRecord, ids)}
    assert [bytes(calls[one].request.body) for one in ids[:2]] == [b"", b""]
    assert calls[ids[0]].place == call_record.place
    assert list(reader.stored(EventRecord, [event.event_id])) == [event]
    assert [*reader.stored(CallRecord, ["c"]), *reader.stored(SessionRecord, [])] == []
    last = chr(sys.maxunicode)
    assert (reader.session(last), reader.call(last), reader.call("\ud7ff")) == (None, None, None)


def test_calls_are_read_without_the_bodies_that_are_not_wanted(store: Delivery, records: Records) -> None:
    store.write(records.call(), records.call(messages=[{"role": "user", "content": "Why?"}], answer="So."))
    reader = store.read()
    every = list(reader.calls())
    for content, wants_output in (("response", True), ("none", False)):
        found = list(reader.calls(CallFilter(content=content)))
        assert [one.call_id for one in found] == [one.call_id for one in every]
        for one, whole in zip(found, every, strict=True):
            assert whole.response is not None
            assert whole.conversation is not None
            request = replace(whole.request, body=msgspec.Raw(b""))
            response = whole.response if wants_output else replace(whole.response, body=msgspec.Raw(b""))
            assert bare(one) == replace(bare(whole), request=request, response=response)
            assert (one.conversation is not None) == wants_output
            assert one.conversation is None or one.conversation.output == whole.conversation.output
            assert one.conversation is None or one.conversation.input == []


def test_records_may_come_in_any_order_and_again(store: Delivery, records: Records) -> None:
    written = [*records.every_kind(), records.session(version=2, end_ns=START_NS + SECOND, outcome="success")]
    random.Random(7).shuffle(written)
    store.write(*written)
    found = store.read().session("s1")
    assert found is not None
    assert (found.session.name, found.session.outcome, found.session.metadata["seed"]) == ("gridworld", "success", 7)
    assert (found.timesteps, found.calls, found.events) == (1, 1, 3)
    before = snapshot(store)
    store.write(*written)
    store.sink.close()
    store.sink.open()
    store.write(*written)
    assert snapshot(store) == before


def snapshot(store: Delivery) -> object:
    reader = store.read()
    return (
        list(reader.calls()),
        list(reader.sessions()),
        list(reader.events("s1")),
        list(reader.timesteps("s1")),
        list(reader.summary("model")),
    )


def test_unknown_values_stay_unknown(store: Delivery, records: Records) -> None:
    """None is never 0 or an empty text, in columns and in sums."""
    lonely = CallRecord(call_id=records.new_id(), timing=Timing(start_ns=START_NS))
    store.write(lonely)
    reader = store.read()
    assert bare(reader.call(lonely.call_id)) == lonely
    (sums,) = reader.summary("model")
    assert sums.key is None
    assert (sums.input_tokens, sums.cost_usd, sums.retries, sums.p50_ms, sums.ttft_p50_ms) == (None,) * 5
    assert sums.calls_without_cost == 1


def test_an_unknown_field_of_a_newer_callspan_is_harmless(store: Delivery, records: Records) -> None:
    payload = json.loads(msgspec.json.encode(records.call()))
    payload["brand_new"] = {"a": [1]}
    store.write(json.dumps(payload).encode())
    assert store.read().count_calls() == 1


@pytest.mark.parametrize("text", [HOSTILE, "nul \0 inside", "lone \ud800 surrogate", "", " ", "\x1a", "x" * 100_000])
def test_hostile_text_is_kept(store: Delivery, records: Records, text: str) -> None:
    """Bodies come back exactly; in other texts what no store can hold is replaced."""
    clean = text.replace("\ud800", "\ufffd")
    made = records.call([{"role": "user", "content": clean}], answer=clean, session_id=text, service=text)
    store.write(made, records.session(session_id=text, version=1, name=text))
    (found,) = store.read().calls()
    assert bytes(found.request.body) == bytes(made.request.body)
    assert found.response is not None
    assert made.response is not None
    assert bytes(found.response.body) == bytes(made.response.body)
    # Postgres has no NUL in its texts.
    assert found.place.session_id in {clean, clean.replace("\0", "\ufffd")}


COUNTS = st.none() | st.integers(0, 2**70)
WORD = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
"""Without NUL, for which U+FFFD is decoded."""
TEXT = st.none() | WORD
RAW = st.none() | st.dictionaries(WORD, st.none() | st.integers(-5, 5), max_size=2)


@given(
    usage=st.none() | st.builds(Usage, input_tokens=COUNTS, cache_write_5m_tokens=COUNTS, raw=RAW),
    place=st.builds(Place, session_id=TEXT, timestep=st.none() | st.integers(-(2**64), 2**64)),
    metadata=st.dictionaries(WORD, st.integers(0, 9), max_size=2),
    response=st.none() | st.builds(Response, id=TEXT, model=TEXT, finish_reasons=st.lists(TEXT, max_size=3)),
    stream=st.none() | st.builds(Stream, end=st.sampled_from(["complete", "closed"]), chunks=st.integers(0, 9)),
    cost=st.none() | st.builds(Cost, usd=st.decimals(0, 10**12, allow_nan=False), source=WORD),
    sampled=st.none() | st.booleans(),
    retries=st.none() | st.integers(0, 5),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_call_is_read_back_as_it_was_written(store: Delivery, records: Records, **fields: object) -> None:
    made = CallRecord(call_id=records.new_id(), timing=Timing(start_ns=START_NS), **fields)  # type: ignore[arg-type]
    store.write(made)
    with closing(open_store(store.url)) as reader:
        assert bare(reader.call(made.call_id)) == made


@pytest.mark.parametrize(
    "fields",
    [
        {"data": 0, "reward": -0.0},
        {"data": "", "reward": 1e300},
        {"data": [None], "time_ns": 2**70},
        {"error": ErrorInfo(kind="x", type="E"), "name": ""},
    ],
)
def test_an_event_keeps_odd_values(store: Delivery, fields: dict[str, object]) -> None:
    made = EventRecord(**{"event_id": "e", "session_id": "s", "event_type": "x", "time_ns": 0, **fields})
    store.write(made)
    assert list(store.read().events("s")) == [made]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(st.characters(codec="utf-8"), max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
BODIES = st.dictionaries(
    st.sampled_from(["messages", "input", "prompt", "system", "instructions", "tools", "model", "", "x"]), JSON
)


@given(body=BODIES | JSON, answer=JSON)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_body_comes_back_with_its_bytes_and_its_key_order(
    store: Delivery, records: Records, body: object, answer: object
) -> None:
    made = records.call(request=Request(body=raw(body)), response=Response(body=raw(answer)))
    store.write(made)
    with closing(open_store(store.url)) as reader:  # there are many examples
        found = reader.call(made.call_id)
    assert found is not None
    assert found.response is not None
    assert bytes(found.request.body) == bytes(raw(body))
    assert bytes(found.response.body) == bytes(raw(answer))


@pytest.mark.parametrize(
    "body",
    [
        rb'{"a":1.0,"b":1e5,"messages":[{"content":"\u00e9\ud83d\ude00\u0000","n":10000000000000000000000}],"c":-0}',
        b'{"messages":[{"role":"user","content":"\\u001a0,5;"},{"content":[{"text":"lifted? \\u001a3,4; and more"}]}]}',
        b'{"system":"short","messages":{"not":"a list"},"tools":null,"":"an empty key"}',
        b'{"b":1,"a":2,"messages":[1,null,"text",{"z":1,"a":2}],"c":3}',
        b'{"instructions":"%s","tools":[{"name":"t"}],"text":{"format":{"schema":"%s"}}}' % (b"x" * 999, b"y" * 500),
        b'{"messages":' + b"[" * 400 + b"]" * 400 + b"}",
    ],
    ids=["spelling", "the byte that marks", "odd fields", "order", "large values", "deep"],
)
def test_a_body_comes_back_as_it_was_spelled(store: Delivery, records: Records, body: bytes) -> None:
    made = records.call(request=Request(body=msgspec.Raw(body)), response=Response(body=msgspec.Raw(body)))
    store.write(made)
    found = store.read().call(made.call_id)
    assert found is not None
    assert found.response is not None
    assert (bytes(found.request.body), bytes(found.response.body)) == (body, body)


def test_recorded_requests_and_answers_come_back_byte_for_byte(store: Delivery, records: Records) -> None:
    """Every recorded exchange: whatever providers and frameworks have sent."""
    made = {}
    for exchange in corpus.load():
        request = None if exchange.request is None else raw(exchange.request)
        answer = msgspec.Raw(exchange.body.strip().encode()) if is_json(exchange.body) else None
        record = records.call(
            api=exchange.endpoint,
            request=Request() if request is None else Request(body=request),
            response=None if answer is None else Response(body=answer),
        )
        store.write(record)
        made[record.call_id] = (bytes(request or b""), bytes(answer or b""))
    found = {
        one.call_id: (bytes(one.request.body), bytes(one.response.body) if one.response else b"")
        for one in store.read().calls()
    }
    assert found == made
    assert len(made) == len(corpus.load())


def is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return False
    return True


def test_calls_are_filtered(store: Delivery, records: Records) -> None:
    failed = {"outcome": "error", "error": ErrorInfo(kind="server", type="500", message="Straße gesperrt")}
    made = [
        records.call(at_s=0, session_id="a", answer="The QUICK fox"),
        records.call(at_s=1, session_id="a", model="claude", provider="anthropic"),
        records.call([{"role": "user", "content": [{"type": "text", "text": "Straße"}]}], at_s=2, **failed),
        records.call(at_s=3, outcome="in_progress", part="started", place=Place(session_id="b", timestep_id="t9")),
    ]
    store.write(*made)
    reader = store.read()

    def chosen(**which: object) -> list[int]:
        found = reader.calls(CallFilter(**which))  # type: ignore[arg-type]
        return [[one.call_id for one in made].index(one.call_id) for one in found]

    assert chosen() == [3, 2, 1, 0]
    assert chosen(newest_first=False, limit=2, offset=1) == [1, 2]
    assert chosen(offset=3) == [0]
    assert chosen(session_id="a") == [1, 0]
    assert chosen(in_session=True) == [3, 1, 0]
    assert chosen(in_session=False) == [2]
    assert sum(one.calls for one in reader.summary("session", CallFilter(in_session=False))) == 1
    assert chosen(timestep_id="t9") == [3]
    assert chosen(model="claude") == chosen(model="claude-2025-08-07") == [1]
    assert chosen(provider="openai", errors=True) == [2]
    assert chosen(errors=False) == [1, 0]
    assert chosen(since_ns=START_NS + SECOND, until_ns=START_NS + 3 * SECOND) == [2, 1]
    assert chosen(text="quick") == [0]
    assert chosen(text="STRASSE") == [2]
    assert chosen(text="100% absent_") == []
    assert chosen(error_text="STRASSE G") == chosen(error_text="500") == [2]
    assert chosen(error_text="quick") == chosen(error_text="%") == chosen(error_text="{part}' OR 1 = 1 --") == []
    for hostile in ("5\0", "5\ud800"):
        for name in ("text", "error_text", "user", "model", "session_id"):
            assert chosen(**{name: hostile}) == chosen(**{name: hostile}, limit=1) == []
        assert chosen(metadata=(("k", hostile),)) == []
    assert reader.count_calls(CallFilter(session_id="a", limit=1)) == 2


def test_sums_are_exact_and_failed_calls_do_not_lower_averages(store: Delivery, records: Records) -> None:
    """Costs as decimals beyond picodollars; latencies of successes only; calls without usage left out."""
    tiny = Decimal("0.00000000000000000001")
    timing = {"start_ns": START_NS, "duration_ns": 9 * SECOND}
    store.write(
        *[records.call(at_s=i, cost=Cost(usd=Decimal("0.1"), source="x")) for i in range(10)],
        records.call(at_s=20, cost=Cost(usd=tiny, source="x")),
        records.call(outcome="error", usage=None, cost=None, retries=2, timing=Timing(**timing)),
        records.call(model="other", cost=Cost(usd=Decimal(10) ** 9, source="x")),
    )
    first, other = store.read().summary("model")
    assert first.key == "gpt-5"
    assert (first.calls, first.errors, first.calls_without_cost, first.retries) == (12, 1, 1, 2)
    assert first.cost_usd == Decimal("1.00000000000000000001")
    assert (first.input_tokens, first.output_tokens, first.cache_read_tokens) == (110, 55, None)
    assert (first.p50_ms, first.p95_ms, first.ttft_p50_ms) == (1000, 1000, 250)
    assert (first.first_ns, first.last_ns) == (START_NS, START_NS + 21 * SECOND)
    assert other.cost_usd == Decimal(10) ** 9


def test_sums_are_grouped_with_true_percentiles(store: Delivery, records: Records) -> None:
    for number, milliseconds in enumerate([100, 5, 1, 2, 50]):
        timing = Timing(start_ns=START_NS + (number // 3) * 86_400 * SECOND, duration_ns=milliseconds * 1_000_000)
        store.write(records.call(session_id="a" if number < 4 else None, timing=timing))
    store.write(records.call(provider="anthropic", session_id="a"))
    reader = store.read()
    assert [(one.key, one.calls) for one in reader.summary("day")] == [("2025-10-09", 4), ("2025-10-10", 2)]
    assert [(one.key, one.calls) for one in reader.summary("session")] == [("a", 5), (None, 1)]
    openai, other = reader.summary("provider")
    assert (openai.key, openai.calls, openai.p50_ms, openai.p95_ms) == ("openai", 5, 5, pytest.approx(90))
    assert (other.key, other.calls) == ("anthropic", 1)
    (only,) = reader.summary("provider", CallFilter(session_id="a", provider="openai"))
    assert only.calls == 4


def test_sessions_are_listed_newest_first_with_their_counts(store: Delivery, records: Records) -> None:
    store.write(
        records.session("old", start_ns=START_NS, end_ns=START_NS + 1, outcome="success"),
        records.session("new", start_ns=START_NS + SECOND, end_ns=START_NS + 2 * SECOND, outcome="error"),
        records.call(session_id="new", at_s=1),
        records.call(session_id="new", at_s=5, model="claude", outcome="timeout"),
        records.call(session_id="unannounced", at_s=0.5),
        EventRecord(event_id="e1", session_id="new", event_type="environment", time_ns=1, reward=1.5),
        RewardRecord(reward_id="r1", session_id="new", event_id="e1", value=1.5, time_ns=2),
        RewardRecord(reward_id="r2", session_id="new", value=1.0, time_ns=3),
        RewardRecord(reward_id="r3", session_id="new", objective="style", value=7.0, time_ns=3),
        RewardRecord(reward_id="r4", session_id="old", event_id="e1", value=1.5, time_ns=2),
        RewardRecord(reward_id="r5", session_id="old", scope="session", value=9.0, time_ns=3),
    )
    reader = store.read()
    new, unannounced, old = reader.sessions()
    assert [one.session.session_id for one in (new, unannounced, old)] == ["new", "unannounced", "old"]
    assert (new.calls, new.errors, new.events, new.models) == (2, 1, 4, ["claude", "gpt-5"])
    assert (new.reward, old.reward, unannounced.reward) == (2.5, 9.0, None)
    assert new.last_ns == START_NS + 6 * SECOND
    assert (new.input_tokens, old.input_tokens, old.cost_usd) == (20, None, None)
    assert [one.session.session_id for one in reader.sessions(limit=1)] == ["new"]
    assert [one.session.session_id for one in reader.sessions(since_ns=START_NS + 1)] == ["new", "unannounced"]
    assert reader.session("ne") == new
    assert reader.session("un") == unannounced
    assert reader.session("nothing") is None
    assert reader.session("") is None


_KILLED: Final = """
import os, signal, sys, threading
from pathlib import Path
from callspan.delivery.store_sink import StoreSink
from callspan.records import encode
from callspan.spool.spool import Spool
from callspan.stores.spools import target_of
from callspan.stores.urls import find_store
from conftest import Records

appended, store = threading.Event(), find_store(sys.argv[1])

def sink_of_all():
    "One batch delivers everything: no store is there before the last record is appended."
    appended.wait()
    return StoreSink(store)

def kill(event, arguments):
    if event == "open" and str(arguments[0]).endswith(".cursor") and arguments[2] & os.O_CREAT:
        os.kill(os.getpid(), signal.SIGKILL)

spool, records = Spool([Path(sys.argv[2])], {target_of(store): sink_of_all}), Records()
sys.addaudithook(kill)
for record in (*records.every_kind(), records.call(call_id="other", session_id="s2"), records.session("s2")):
    spool.append(encode(record))
appended.set()
spool.flush(60)
"""


def test_a_kill_between_the_commit_and_the_spools_cursor_doubles_nothing_and_brings_nothing_back(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next process delivers the batch again: what is there stays as it is, what was erased meanwhile stays gone."""
    spool = tmp_path / "spool"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    process = subprocess.run([sys.executable, "-c", _KILLED, url, str(spool)], env=environment, check=False, timeout=90)
    assert process.returncode == -signal.SIGKILL
    assert len(list(spool.glob("*/*.segment"))) == 1
    assert not list(spool.glob("*/*.cursor")), "nothing says that the store has it"
    assert erase(url, sessions="s1").stores[0].calls == 1

    monkeypatch.setenv("CALLSPAN_SPOOL_DIR", str(spool))
    with closing(open_store(url, deliver=True)) as reader:
        assert not list(spool.glob("*/*.segment"))
        assert [one.call_id for one in reader.calls()] == ["other"]
        assert [one.session.session_id for one in reader.sessions()] == ["s2"]
        assert [*reader.events("s1"), *reader.timesteps("s1")] == []


def test_processes_that_write_at_once_lose_nothing_and_double_nothing(url: str) -> None:
    script = str(Path(__file__).with_name("writer.py"))
    writers = [subprocess.Popen([sys.executable, script, url, str(number)]) for number in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    with closing(open_store(url)) as reader:
        found = [one.call_id for one in reader.calls()]
        session = reader.session("shared")
    assert len(found) == len(set(found)) == 3 * 20 + 20
    assert session is not None
    assert session.session.seen_ns == 19


def test_a_store_is_tried_out_and_nothing_stays(store: Delivery, records: Records) -> None:
    store.write(records.session("mine", name="mine"))
    assert store_check(store.url) == (None, "can be written")
    assert [summary.session.name for summary in store.read().sessions()] == ["mine"]
    with closing(find_store(store.url).database(writes=True)) as database:  # type: ignore[attr-defined]
        database.run("ALTER TABLE sessions RENAME TO others")
    assert "sessions" in str(store_check(store.url)[0])
