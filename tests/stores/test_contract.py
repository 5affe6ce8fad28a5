"""The contract of stores, tested with each store."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from contextlib import closing, suppress
from decimal import Decimal
from pathlib import Path
from typing import Final, get_args

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.support.left_behind import leave_behind
from tests.support.processes import ran
from tests.support.records import keep, made, session
from tests.support.waiting import HANG_S
from tests.wire import corpus

from callspan import Settings, erase, open_store
from callspan.records import (
    FORMAT,
    Attempt,
    CallRecord,
    Cost,
    ErrorInfo,
    EventRecord,
    OtherFormatError,
    Place,
    Request,
    Response,
    RewardRecord,
    SessionRecord,
    Stream,
    TimestepRecord,
    Timing,
    Trace,
    Usage,
    encode,
    links_of,
)
from callspan.stores import CallFilter, Grouping, Rejected, find_store
from callspan.stores.tables.facts import CALLS, TABLES

from .conftest import SECOND, START_NS, Delivery, Records, event, raw


def bare(record: CallRecord | None) -> CallRecord:
    """The record without derived data, and the run that the store found for it."""
    place = Place(timestep_id=record.place.timestep_id) if record.place.inferred else record.place
    return replace(record, conversation=None, place=place)


COMPUTED = {
    "finish_reason": "length",
    "http_status": 503,
    "end_ns": 1_000_000_000_000_000_700,
    "cost_picousd": 20_000_000_000,
    "request_id": "req_last",
    "user_id": "ada",
    "organization_id": "org",
    "project_id": "proj",
    "may_be_billed": 1,
    "run_id": "run",
    "agent_id": "agent",
    "workflow_id": "flow",
    "tags": ["a", "b"],
}


def test_fact_is_named_by_the_end_of_its_path() -> None:
    """With its unit, and once for each kind of record."""
    for table in TABLES.values():
        names = [fact.name for fact in table.facts]
        assert len(names) == len(set(names)), table.name
        others = [one.name for one in table.fields if not "_".join(one.path).endswith(one.name.removesuffix("_s"))]
        assert others == (["timestep"] if table.name == "timesteps" else []), "the field `index`, a word of SQL"


def test_computed_columns_are_distinct(store: Delivery, records: Records) -> None:
    """Not that of its neighbour: columns are written by name."""
    assert {column.name for column in CALLS.columns if column.computed and not column.sql} == COMPUTED.keys()
    ids = {name: value for name, value in COMPUTED.items() if name.endswith("_id") and name != "request_id"}
    attempts = [
        Attempt(number=1, start_ns=0, request_id="req_1", may_be_billed=True),
        Attempt(number=2, start_ns=5, request_id="req_last", status=503),
    ]
    store.write(
        records.call(
            call_id="c",
            attempts=attempts,
            metadata={**ids, "tags": ["a", "b"]},
            timing=Timing(start_ns=10**18, duration_ns=700),
            cost=Cost(usd=Decimal("0.02"), source="test"),
            response=Response(finish_reasons=["stop", "length"]),
        )
    )
    database = store.sink._database  # type: ignore[attr-defined]
    (row,) = database.rows(f"SELECT {', '.join(COMPUTED)} FROM calls")
    tags = row["tags"] if isinstance(row["tags"], list) else json.loads(row["tags"])  # an array only in Postgres
    assert {**dict(row), "tags": tags} == COMPUTED


def test_every_kind_of_record_round_trips(store: Delivery, records: Records) -> None:
    session, step, call_record, *events = records.every_kind()
    store.write(session, step, call_record, *events)
    reader = store.read()
    assert bare(reader.call(call_record.call_id)) == call_record
    assert list(reader.timesteps("s1")) == [step]
    placed = [replace(one, timestep_id="t1") if isinstance(one, RewardRecord) else one for one in events]
    assert list(reader.events("s1")) == placed, "the reward is in the step of its event"
    # It began long ago, and nobody knows whether its process runs.
    assert reader.session("s1").session == replace(session, outcome="unknown")


def test_links_of_the_tree_are_those_of_the_records(store: Delivery, records: Records) -> None:
    """All steps, and what began before a time; of a run its end alone."""
    agent = {"event_type": "agent", "metadata": {"agent_id": "g1"}}
    task = {"event_type": "tool", "call_id": "c1", "metadata": {"subagent_id": "g1"}}
    kept = [
        TimestepRecord(timestep_id="t1", session_id="s1", seen_ns=1, index=0, span_id="a", parent_span_id="b"),
        TimestepRecord(
            timestep_id="t2", session_id="s1", seen_ns=1, index=1, start_ns=START_NS + SECOND, parent_timestep_id="t1"
        ),
        records.call(call_id="c1", place=Place(session_id="s1", timestep_id="t1"), span_id="c", parent_span_id="a"),
        records.call(call_id="c2", session_id="s1", at_s=1, metadata={"agent_id": "g1"}),
        EventRecord(event_id="e1", session_id="s1", time_ns=START_NS + 1, **agent),
        EventRecord(event_id="e2", session_id="s1", time_ns=START_NS + 2, timestep_id="t1", **task),
        EventRecord(event_id="e3", session_id="s1", time_ns=START_NS + 3, span_id="d", **agent),
        EventRecord(event_id="e4-start", session_id="s1", time_ns=START_NS + 4, event_type="tool_start", span_id="e"),
        records.call(call_id="c5", session_id="s1", trace=Trace(state="a=b", scope_span_id="d")),
        event("e5", session_id="s1", trace=Trace(scope_span_id="d")),
        TimestepRecord(timestep_id="t3", session_id="s1", seen_ns=1, index=2, trace=Trace(scope_span_id="d")),
        event("e6", session_id="s1", data={"scope_span_id": "no"}, trace=Trace(state="a=b")),
    ]  # fmt: skip
    start = EventRecord(
        event_id="e3-start", session_id="s1", time_ns=START_NS + 3, event_type="agent_start", span_id="d"
    )
    late = [
        records.call(call_id="c3", session_id="s1", at_s=2),
        EventRecord(event_id="e9", session_id="s1", time_ns=START_NS + 2 * SECOND, event_type="note"),
        records.call(call_id="c4", session_id="s2"),
    ]
    store.write(SessionRecord(session_id="s1", seen_ns=1), *kept, start, *late)
    with closing(open_store(store.url)) as reader:
        links = [*reader.tree_links("s1", START_NS + 2 * SECOND)]
    assert sorted(links) == sorted(map(links_of, kept))


def test_records_are_found_only_by_complete_ids(store: Delivery, records: Records) -> None:
    """Without bodies."""
    session, step, call, *_ = records.every_kind()
    store.write(session, step, call, records.session("s10"))
    reader = store.read()
    assert list(reader.stored(SessionRecord, ["s1", "none"])) == [session]
    assert list(reader.stored(TimestepRecord, ["t1"])) == [step]
    (found,) = reader.stored(CallRecord, [*(f"c{number}" for number in range(500)), call.call_id])
    assert (found.place, bytes(found.request.body)) == (call.place, b"")
    assert list(reader.stored(CallRecord, [call.call_id[:-1]])) == []
    last = "\U0010ffff"
    assert (reader.session(last), reader.call(last), reader.call("\ud7ff")) == (None, None, None)


def test_scores_and_labels_are_asked_with_calls_or_their_ids(store: Delivery, records: Records) -> None:
    reward = RewardRecord(
        reward_id="r1", objective="judge", value=0.5, label="good", scope="call", call_id="c1", time_ns=START_NS
    )
    store.write(records.call(call_id="c1"), records.call(call_id="c2"), reward)
    reader = store.read()
    for ask, value in ((reader.call_scores, 0.5), (reader.call_labels, ["good"])):
        assert ask(reader.calls(), ["judge"]) == ask(reader.ids(), ["judge"]) == {"c1": {"judge": value}, "c2": {}}


def test_calls_are_read_without_unrequested_bodies(store: Delivery, records: Records) -> None:
    store.write(records.call(), records.call(messages=[{"role": "user", "content": "Why?"}], answer="So."))
    reader = store.read()
    every = list(reader.calls())
    for content, wants_output in (("response", True), ("none", False)):
        for one, whole in zip(reader.calls(CallFilter(content=content)), every, strict=True):
            request = replace(whole.request, body=msgspec.Raw(b""))
            response = whole.response if wants_output else replace(whole.response, body=msgspec.Raw(b""))
            assert bare(one) == replace(bare(whole), request=request, response=response)
            shown = replace(whole.conversation, input=[]) if wants_output else None
            assert one.conversation == shown


@pytest.mark.transactional("deletes from a table that is a view there")
def test_call_with_deleted_contents_has_no_bodies(store: Delivery, records: Records) -> None:
    """A reader has found the row already."""
    store.write(records.call(call_id="c"))
    store.sink._database.run("DELETE FROM contents")  # type: ignore[attr-defined]
    found = store.read().call("c")
    assert (bytes(found.request.body), bytes(found.response.body)) == (b"", b"")


def test_records_may_arrive_in_any_order_and_twice(store: Delivery, records: Records) -> None:
    written = [*records.every_kind(), records.session(version=2, end_ns=START_NS + SECOND, outcome="success")]
    random.Random(7).shuffle(written)
    found: list[object] = []
    for _ in range(3):
        store.write(*written)
        reader = store.read()
        inside = [*reader.timesteps("s1"), *reader.events("s1")]
        found.append([*reader.calls(), *reader.sessions(), *inside, *reader.summary("model")])
        store.sink.close()
        store.sink.open()
    assert found[0] == found[1] == found[2]
    (summary,) = store.read().sessions()
    session = summary.session
    assert (session.name, session.outcome, session.metadata["seed"]) == ("gridworld", "success", 7)
    assert (summary.timesteps, summary.calls, summary.events) == (1, 1, 3)


def test_unknown_values_stay_unknown(store: Delivery, records: Records) -> None:
    """None is never 0 or an empty text, in columns and in sums."""
    lonely = CallRecord(call_id=records.new_id(), timing=Timing(start_ns=START_NS))
    store.write(lonely)
    reader = store.read()
    assert bare(reader.call(lonely.call_id)) == lonely
    (sums,) = reader.summary("model")
    assert sums.key is None
    assert (sums.input_tokens, sums.cost_usd, sums.retries) == (None,) * 3
    assert (sums.duration_p50_ns, sums.first_token_p50_ns) == (None, None)
    assert sums.calls_without_cost == 1


COUNTS = st.none() | st.integers(0, 2**70)
WORD = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
"""Text without NUL, which is decoded as U+FFFD."""
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
def test_any_call_round_trips(store: Delivery, records: Records, **fields: object) -> None:
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
def test_event_keeps_odd_values(store: Delivery, fields: dict[str, object]) -> None:
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
def test_body_keeps_bytes_and_key_order(store: Delivery, records: Records, body: object, answer: object) -> None:
    made = records.call(request=Request(body=raw(body)), response=Response(body=raw(answer)))
    store.write(made)
    with closing(open_store(store.url)) as reader:  # there are many examples
        found = reader.call(made.call_id)
    assert bytes(found.request.body) == bytes(raw(body))
    assert bytes(found.response.body) == bytes(raw(answer))


@pytest.mark.parametrize(
    "body",
    [
        rb'{"a":1.0,"b":1e5,"messages":[{"content":"\u00e9\ud83d\ude00\u0000","n":10000000000000000000000}],"c":-0}',
        b'{"messages":[{"role":"user","content":"\\u001a0,5;"},{"content":[{"text":"lifted? \\u001a3,4; and more"}]}]}',
        b'{"system":"short","messages":{"not":"a list"},"tools":null,"":"an empty key"}',
        b'{"b":1,"a":2,"messages":[1,null,"text",{"z":1,"a":2}],"c":3}',
        b'{"":null}',
        b'{"":"%s"}' % (b"x" * 5000),
        b'{"instructions":"%s","tools":[{"name":"t"}],"text":{"format":{"schema":"%s"}}}' % (b"x" * 999, b"y" * 500),
        b'{"messages":' + b"[" * 400 + b"]" * 400 + b"}",
        rb'{"messages":[{"content":"a long text that is spelled otherwise only at its end: \u00e9, and no more"}]}',
        b'{"messages":[{"role": "user", "content": "with spaces"}]}',
        b'{"messages":[{"content":[{"text":"a text of some length"},{"text":"another text of that length"}]}]}',
    ],
    ids=[
        "escapes",
        "marking byte",
        "odd fields",
        "order",
        "only an empty key",
        "a large one",
        "large values",
        "deep",
        "late escapes",
        "spaces",
        "two",
    ],
)
def test_body_keeps_its_spelling(store: Delivery, records: Records, body: bytes) -> None:
    made = records.call(request=Request(body=msgspec.Raw(body)), response=Response(body=msgspec.Raw(body)))
    store.write(made)
    found = store.read().call(made.call_id)
    assert (bytes(found.request.body), bytes(found.response.body)) == (body, body)


def test_recorded_bodies_round_trip_byte_for_byte(store: Delivery, records: Records) -> None:
    """For every recorded exchange of providers and frameworks."""
    made = {}
    for exchange in corpus.load():
        request = Request() if exchange.request is None else Request(body=raw(exchange.request))
        response = None
        with suppress(msgspec.DecodeError, UnicodeEncodeError):  # of a stream, whose body is no JSON
            msgspec.json.decode(exchange.body)
            response = Response(body=msgspec.Raw(exchange.body.strip().encode()))
        record = records.call(api=exchange.endpoint, request=request, response=response)
        store.write(record)
        made[record.call_id] = record
    assert {one.call_id: bare(one) for one in store.read().calls()} == made
    assert len(made) == len(corpus.load())


_KILLED: Final = """
import os, runpy, signal, sys

def kill(event, arguments):
    if event == "open" and str(arguments[0]).endswith(".cursor") and arguments[2] & os.O_CREAT:
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
runpy.run_module("callspan.cli", run_name="__main__")
"""
"""A command that is killed when it starts to write its cursor."""


@pytest.mark.transactional("erases, and the embedded engine serves one process")
def test_kill_after_the_commit_duplicates_nothing(
    url: str, tmp_path: Path, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next process delivers the batch again: stored records are unchanged, records erased meanwhile stay erased."""
    spool = tmp_path / "spool"
    monkeypatch.setenv("CALLSPAN_SPOOL_DIR", str(spool))
    made = (*records.every_kind(), records.call(call_id="other", session_id="s2"), records.session("s2"))
    segment = leave_behind(url, *made, settings=Settings(spool_dir=spool))
    ran("-c", _KILLED, "--store", url, "ship", cwd=tmp_path, code=-9, CALLSPAN_SPOOL_DIR=str(spool))
    assert segment.exists()
    assert not list(spool.glob("*/*.cursor")), "nothing says that the store has it"
    assert erase(url, sessions="s1").stores[0].calls == 1
    with closing(open_store(url, deliver=True)) as reader:
        assert not segment.exists()
        assert [one.call_id for one in reader.calls()] == ["other"]
        assert [one.session.session_id for one in reader.sessions()] == ["s2"]
        assert [*reader.events("s1"), *reader.timesteps("s1")] == []


_WRITER: Final = """
import sys
from tests.support.records import Delivery, Records

url, number = sys.argv[1:]
delivery, records = Delivery(url), Records()
for index in range(20):
    own = records.call(call_id=f"call-{number}-{index}", session_id=f"s{number}", answer=f"answer {number} {index}")
    delivery.write(own, records.call(call_id=f"shared-{index}"), records.session("shared", version=index))
delivery.close()
"""


@pytest.mark.transactional("the embedded engine serves one process")
def test_concurrent_writers_lose_and_duplicate_nothing(url: str) -> None:
    root = Path(__file__).parents[2]
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, url, str(number)], cwd=root) for number in range(3)]
    assert [writer.wait(HANG_S) for writer in writers] == [0, 0, 0]
    with closing(open_store(url)) as reader:
        found = [one.call_id for one in reader.calls()]
        newest = reader.session("shared").session.seen_ns
    assert len(found) == len(set(found)) == 3 * 20 + 20
    assert newest == 19


@pytest.mark.transactional("begins a transaction")
def test_store_check_leaves_nothing(store: Delivery, records: Records) -> None:
    store.write(records.session("mine", name="mine"))
    assert str(find_store(store.url).try_out()).startswith("can be written")
    assert [summary.session.name for summary in store.read().sessions()] == ["mine"]
    with closing(find_store(store.url).database(writes=True)) as database:  # type: ignore[attr-defined]
        database.run("ALTER TABLE sessions RENAME TO others")
    with pytest.raises(Exception, match="sessions"):
        find_store(store.url).try_out()


REFUSED = (msgspec.DecodeError, OtherFormatError, UnicodeDecodeError, RecursionError)
_DEEP: Final = b"[" * 5_000 + b"]" * 5_000
_BODIES: Final = {
    "too deep": b'{"messages":' + _DEEP + b"}",
    "half a surrogate pair": rb'{"messages":[{"role":"user","content":"\ud800"}]}',
    "a NUL": rb'{"messages":[{"role":"user","content":"a\u0000b"}]}',
    "a number of 400 digits": b'{"messages":[{"role":"user","content":' + b"9" * 400 + b"}]}",
    "no JSON": b"hello",
    "no UTF-8": b'{"messages":[{"role":"user","content":"\xff\xfe"}]}',
    "a key twice": b'{"messages":[],"messages":[{"role":"user"}]}',
    "a list": b"[1,2]",
    "messages that are none": b'{"messages":[1,null,"x",[2],{"role":{"a":1},"content":[{"type":5,"text":{"x":1}}]}]}',
}
_FIELDS: Final[dict[str, dict[str, object]]] = {
    "more tokens than 63 bits": {"usage": Usage(input_tokens=2**70, output_tokens=-5)},
    **{
        f"a cost of {usd}": {"cost": Cost(usd=Decimal(usd), source="mine")}
        for usd in ("Infinity", "NaN", "sNaN", "1E+400", "1E-400", "1E+999999", "1E-999999", "1E+9999999999", "-1")
    },
    "a time behind 2262": {"timing": Timing(start_ns=2**63 + 5)},
    "an id of nothing": {"call_id": ""},
    "an id with a NUL": {"call_id": "a\0b"},
    "half a pair in an id": {"call_id": "a\ud800b", "service": "\ud800"},
}
_CALL: Final = b'{"kind":"call","schema_version":%d,"call_id":"x","timing":{"start_ns":1},' % FORMAT
_PAYLOADS: Final = {
    "metadata too deep": _CALL + b'"metadata":{"a":' + _DEEP + b"}}",
    "an unknown field of a newer callspan": _CALL + b'"brand_new":{"a":[1]}}',
    "an unknown field too deep": _CALL + b'"new_field":' + _DEEP + b"}",
    "no request": _CALL + b'"request":null}',
    "an unknown half of a pair": _CALL + rb'"new_field":"\ud800"}',
    "half a pair as id": rb'{"kind":"call","schema_version":%d,"call_id":"\ud800","timing":{"start_ns":1}}' % FORMAT,
    "a version beyond 63 bits": b'{"kind":"session","session_id":"s","schema_version":%d,"seen_ns":%s}'
    % (FORMAT, b"9" * 20),
    "nothing": b"",
    "bytes": bytes(range(256)),
}


def payloads(records: Records) -> dict[str, bytes]:
    made = dict(_PAYLOADS)
    for name, body in _BODIES.items():
        made[f"asked: {name}"] = encode(records.call(request=Request(model="m", body=msgspec.Raw(body))))
        made[f"answered: {name}"] = encode(records.call(response=Response(model="m", body=msgspec.Raw(body))))
    return made | {name: encode(records.call(**fields)) for name, fields in _FIELDS.items()}  # type: ignore[arg-type]


def test_any_record_is_stored_or_rejected(store: Delivery, records: Records) -> None:
    reader, taken = store.read(), []
    for name, payload in payloads(records).items():
        with suppress(Rejected, *REFUSED):
            store.write(payload)
            taken.append(name)
        found = list(reader.calls())
        assert len(found) == reader.count_calls(), name
        for by in get_args(Grouping):
            kept = list(reader.summary(by))
            assert sum(one.calls for one in kept) == len(found), name
        assert list(reader.calls(CallFilter(text="b"))) is not None
        list(reader.sessions())
    assert {
        "answered: a list", "asked: a number of 400 digits", "a cost of 1E-400", "an unknown field of a newer callspan",
    } <= {*taken}  # fmt: skip
    last = records.call(session_id="after it all")
    store.write(last)
    assert [one.call_id for one in reader.calls(CallFilter(session_id="after it all"))] == [last.call_id]


def test_processes_are_listed_with_their_newest_record(url: str) -> None:
    """Of versions of a record only the newest counts; a process that wrote nothing since then is left out."""
    place = {"host": "a", "pid": 7, "process": "p", "service": "shop"}
    keep(url, made("c1", **place), made("c2", at_ns=START_NS + SECOND, took_ns=None, **place))
    keep(url, made("c1", took_ns=3 * SECOND, **place), session("s1", start_ns=START_NS + 5 * SECOND, host="b"))
    with open_store(url) as reader:
        newest = [*reader.processes(START_NS)]
        assert [*reader.processes(START_NS + SECOND)][1].calls == 1
        assert [*reader.processes(START_NS + 9 * SECOND)] == []
    assert newest[0] == ("b", None, None, 0, 1, START_NS + 5 * SECOND)
    assert newest[1][:5] == ("a", 7, "shop", 2, 0)
