"""The versions of a record merge into one, in any order and from any process."""

from __future__ import annotations

import itertools
import random
from collections import ChainMap
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from decimal import Decimal
from operator import or_
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from callspan import erase, open_store
from callspan.record.content_level import at_level
from callspan.records import (
    CallRecord,
    Cost,
    ErrorInfo,
    Place,
    Record,
    Request,
    Response,
    SessionRecord,
    Timing,
    Totals,
    Trace,
    Usage,
    encode,
)
from callspan.stores import CallFilter, find_store

from .conftest import SECOND, START_NS, Deliver, Delivery, Records, cells, on_disk, raw, step

LEVELS = ("full", "metadata", "off")
"""From least to most strict."""
NAMES = itertools.count(10**6)
"""Session ids of all examples, which share a store."""
WORDS = st.sampled_from(["a", "b", "c.d", "", "é"])
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "name": WORDS,
        "user_id": WORDS,
        "start_ns": st.integers(0, 5),
        "end_ns": st.integers(0, 5),
        "success": st.booleans(),
        "metadata": st.dictionaries(WORDS, st.none() | st.integers(0, 3) | st.lists(st.integers(0, 1)), max_size=3),
        "content_level": st.sampled_from(LEVELS),
        "totals": st.builds(Totals, calls=st.integers(0, 3)),
    },
)


def merged(versions: Sequence[SessionRecord]) -> SessionRecord:
    """By definition: the newest value of each field and metadata key, the earliest start, the strictest level."""
    whole: dict[str, Any] = {}
    metadata: dict[str, object] = {}
    for version in versions:
        metadata |= version.metadata
        known = {name: getattr(version, name) for name in version.__struct_fields__}
        whole |= {name: value for name, value in known.items() if value is not None and value != []}
    starts = [version.start_ns for version in versions if version.start_ns is not None]
    level = max((version.content_level for version in versions), key=LEVELS.index)
    merged = {"start_ns": min(starts, default=None), "content_level": level, "metadata": metadata}
    return SessionRecord(**whole | merged)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fields=st.lists(FIELDS, min_size=1, max_size=5),
    chance=st.randoms(use_true_random=False),
    alone=st.integers(0, 5),
    sort=st.booleans(),
)
def test_session_versions_merge_equally_in_any_order(
    store: Delivery, fields: Sequence[dict[str, Any]], chance: random.Random, alone: int, sort: bool
) -> None:
    """Some arrive one by one, others in one batch, any of them repeatedly."""
    name = str(next(NAMES))
    if not sort:
        # Then only the newest may change older values, except for the earliest start and strictest level.
        said = ChainMap(*fields[:-1])
        same = [{key: said[key] for key in one.keys() - {"start_ns", "content_level"}} for one in fields[:-1]]
        fields = [*map(or_, fields[:-1], same), fields[-1]]
    versions = [SessionRecord(session_id=name, seen_ns=number, **one) for number, one in enumerate(fields, 1)]
    mixed = chance.sample([*versions, *versions], 2 * len(versions))
    mixed = [*versions, *mixed] if sort else mixed
    for version in mixed[:alone]:
        store.write(version)
    store.write(*mixed[alone:])
    with closing(open_store(store.url)) as reader:
        (found,) = reader.stored(SessionRecord, [name])
    assert found == merged(versions)


def merged_in_any_order(store: Delivery, *versions: SessionRecord) -> Iterator[SessionRecord]:
    """Write versions of a session in each order, one by one; yield what the store makes of them."""
    for order in itertools.permutations(versions):
        name = str(next(NAMES))
        for version in order:
            store.write(replace(version, session_id=name))
        yield from store.read().stored(SessionRecord, [name])


def test_reopened_session_has_one_span(store: Delivery) -> None:
    """All ids are from the newer one: its root has no parent, although the previous one had."""
    first = SessionRecord(
        session_id="", seen_ns=1, trace_id="a" * 32, span_id="b" * 16, parent_span_id="c" * 16, sampled=True,
        trace=Trace(is_parent_remote=True),
    )  # fmt: skip
    last = SessionRecord(session_id="", seen_ns=2, trace_id="d" * 32, span_id="e" * 16, sampled=True)
    for whole in merged_in_any_order(store, first, last, replace(last, seen_ns=3, name="n")):
        assert (whole.name, whole.trace_id, whole.span_id) == ("n", last.trace_id, last.span_id)
        assert (whole.parent_span_id, whole.trace) == (None, None)


def test_session_has_the_error_of_its_last_end(store: Delivery) -> None:
    """Not that of an earlier one, from which it was resumed; a status given after the end keeps it, and is kept."""
    error = ErrorInfo(kind="unknown", type="ValueError")
    failed = SessionRecord(session_id="", seen_ns=1, end_ns=1, outcome="error", error=error)
    named = SessionRecord(session_id="", seen_ns=2, outcome="crashed")
    resumed = SessionRecord(session_id="", seen_ns=3, end_ns=3, outcome="success")
    for whole in merged_in_any_order(store, failed, named):
        assert (whole.outcome, whole.error) == ("crashed", error)
    for whole in merged_in_any_order(store, failed, named, resumed):
        assert (whole.outcome, whole.error) == ("crashed", None)


def test_session_begun_again_has_no_earlier_end(store: Delivery) -> None:
    """Nor its outcome or error, unless the outcome is a word of the application; it keeps the first start."""
    error = ErrorInfo(kind="unknown", type="ValueError")
    begun = SessionRecord(session_id="", seen_ns=1, start_ns=1, resumed_ns=1)
    for outcome, failure in (("success", None), ("error", error), ("won", None)):
        ended = replace(begun, seen_ns=2, end_ns=2, outcome=outcome, error=failure)
        again = replace(begun, seen_ns=3, start_ns=3, resumed_ns=3)
        late = replace(begun, seen_ns=4, success=True)
        last = replace(again, seen_ns=5, end_ns=5, outcome="cancelled")
        for versions in ((begun, ended, again), (ended, again, late)):
            for whole in merged_in_any_order(store, *versions):
                assert (whole.start_ns, whole.resumed_ns, whole.end_ns, whole.error) == (1, 3, None, None)
                assert whole.outcome == ("won" if outcome == "won" else None)
        for whole in merged_in_any_order(store, ended, again, last):
            assert (whole.start_ns, whole.end_ns, whole.error) == (1, 5, None)
            assert whole.outcome == ("won" if outcome == "won" else "cancelled")


@pytest.mark.parametrize(("success", "outcome"), [(False, "failure"), (True, "success")])
def test_another_process_may_set_session_success(store: Delivery, success: bool, outcome: str) -> None:
    """Before its end or later; a word of the application stays."""
    for ended in ("success", "failure", "won"):
        end = SessionRecord(session_id="", seen_ns=2, end_ns=2, outcome=ended)
        for stated in (replace(end, seen_ns=at, end_ns=None, outcome=None, success=success) for at in (1, 3)):
            for whole in merged_in_any_order(store, end, stated):
                assert (whole.outcome, whole.success) == ("won" if ended == "won" else outcome, success)


@pytest.mark.parametrize(
    ("theirs", "own", "outcome"),
    [
        ("solved", "success", "solved"),
        ("failure", "success", "failure"),
        ("error", "success", "error"),
        ("solved", "cancelled", "solved"),
        ("solved", "given up", "given up"),
        (None, "error", "error"),
    ],
)
def test_explicit_status_overrides_a_default(store: Delivery, theirs: str | None, own: str, outcome: str) -> None:
    start = SessionRecord(session_id="", seen_ns=1, start_ns=1)
    stated = SessionRecord(session_id="", seen_ns=2, outcome=theirs)
    end = SessionRecord(session_id="", seen_ns=3, end_ns=3, outcome=own)
    assert {one.outcome for one in merged_in_any_order(store, start, stated, end)} == {outcome}
    assert {one.outcome for one in merged_in_any_order(store, start, stated, end, end)} == {outcome}


def test_last_default_outcome_counts(store: Delivery) -> None:
    first = SessionRecord(session_id="", seen_ns=1, start_ns=1, end_ns=2, outcome="error")
    again = SessionRecord(session_id="", seen_ns=3, end_ns=4, outcome="success")
    assert [one.outcome for one in merged_in_any_order(store, first, again)] == ["success"] * 2


def test_timestep_versions_merge_in_any_order(store: Delivery) -> None:
    ended = step("t", session_id="s1", seen_ns=8, index=3, start_ns=None, end_ns=START_NS + 9, terminated=False)
    begun = step("t", session_id="s1", seen_ns=2, index=3)
    amended = step("t", session_id="s1", seen_ns=4, index=3, start_ns=None, terminated=True)
    for one in (ended, begun, amended):
        store.write(one)
    assert list(store.read().timesteps("s1")) == [replace(ended, start_ns=START_NS)]


@pytest.mark.parametrize("at_once", [True, False])
def test_newest_call_version_counts_in_any_order(store: Delivery, records: Records, at_once: bool) -> None:
    for order in itertools.permutations(range(3)):
        begun = records.call(part="started", outcome="in_progress", response=None, usage=None, cost=None)
        ended = records.call(call_id=begun.call_id, answer="All of it.")
        versions = [(begun, ended, ended)[number] for number in order]
        for batch in [versions] if at_once else [[one] for one in versions]:
            store.write(*batch)
        store.write(records.call(call_id=begun.call_id, answer="Something else."))
        assert replace(store.read().call(begun.call_id), conversation=None) == ended
    assert store.read().count_calls() == 6


RESPONSE = {
    "id": "resp_1",
    "status": "completed",
    "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Paris."}]}],
}
BASE = CallRecord(call_id="of resp_1", provider="openai", api="responses", timing=Timing(start_ns=START_NS))
CREATED = replace(
    BASE, part="requested", outcome="in_progress", pid=7, place=Place(session_id="s1"), metadata={"user_id": "u1"},
    request=Request(model="gpt-5", body=raw({"model": "gpt-5", "input": [{"role": "user", "content": "Hi"}]})),
    response=Response(id="resp_1", status="queued", body=raw({"id": "resp_1", "status": "queued", "output": []})),
    timing=Timing(start_ns=START_NS, duration_ns=SECOND // 10),
)  # fmt: skip
ENDED = replace(BASE, part="ended", seen_in="webhook", timing=Timing(start_ns=START_NS + 3 * SECOND, duration_ns=0))
ANSWER = replace(
    BASE, part="answered", seen_in="fetch", response=Response(id="resp_1", status="completed", body=raw(RESPONSE)),
    usage=Usage(input_tokens=3, output_tokens=4, total_tokens=7), cost=Cost(usd=Decimal("0.25"), source="t"),
    timing=Timing(start_ns=START_NS - SECOND, duration_ns=5 * SECOND),
)  # fmt: skip


@pytest.mark.parametrize("together", [True, False])
def test_background_response_versions_are_one_call(store: Delivery, together: bool, records: Records) -> None:
    """In one batch or one by one, each twice, among other calls. Sums count it once."""
    orders = list(itertools.permutations([CREATED, ENDED, ANSWER]))
    for number, order in enumerate(orders):
        call_id = f"of resp_{number}"
        mine = [replace(one, call_id=call_id) for one in (*order, *order)]
        for batch in [[records.call(), *mine]] if together else [[one] for one in mine]:
            store.write(*batch)
    found = [call for call in store.read().calls() if call.api == "responses"]
    assert len(found) == len({call.call_id for call in found}) == len(orders)
    for call in found:
        assert (call.part, call.outcome, call.text) == ("answered", "success", "Paris.")
        assert (call.request.body, call.place.session_id, call.pid) == (CREATED.request.body, "s1", 7)
        assert call.timing == Timing(start_ns=START_NS, duration_ns=4 * SECOND)
        assert (call.usage, call.cost, call.content_level) == (ANSWER.usage, ANSWER.cost, "full")
    (sums,) = [one for one in store.read().summary("session") if one.key == "s1"]
    assert (sums.calls, sums.input_tokens, sums.output_tokens) == (len(orders), 3 * len(orders), 4 * len(orders))
    assert sums.cost_usd == Decimal("0.25") * len(orders)


SAID = "the canary sings at dawn"


@pytest.mark.clickhouse
@pytest.mark.parametrize("strict_first", [True, False])
@pytest.mark.parametrize("apart", [True, False])
def test_no_version_shows_more_than_the_strictest_in_clickhouse(
    clickhouse_url: str, deliver: Deliver, records: Records, strict_first: bool, apart: bool
) -> None:
    """Also if two processes look for the call before either has written it (`apart`), and in what `import` reads."""
    begun = records.call(part="started", outcome="in_progress", response=None, usage=None, cost=None)
    ended = records.call([{"role": "user", "content": SAID}], call_id=begun.call_id, seen_ns=9)
    versions = [at_level(begun, "metadata"), ended] if strict_first else [at_level(ended, "metadata"), begun]
    for version in versions:
        store = deliver(clickhouse_url)
        if apart:
            store.sink._versions_to_write = lambda given, _: [one for (one,) in given.values()]  # type: ignore[attr-defined]
        store.write(version)
    reader = store.read()
    call = reader.call(begun.call_id)
    assert (call.content_level, bytes(call.request.body), reader.count_calls()) == ("metadata", b"", 1)
    assert [*reader.calls(CallFilter(text="canary"))] == []
    (imported,) = find_store(clickhouse_url).records()  # type: ignore[attr-defined]
    assert SAID.encode() not in encode(imported)
    assert SAID not in str(cells(store, "SELECT * FROM content_versions"))
    assert SAID not in on_disk(clickhouse_url)
    if not apart:
        assert call.outcome == "success", "the newer version's facts stay"


@pytest.mark.clickhouse
def test_replaced_contents_are_not_shown_before_they_are_deleted_in_clickhouse(
    clickhouse_url: str, deliver: Deliver, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that was killed before it deletes them does so when the batch is delivered again."""
    full = said(records, SAID, "s")
    strict, store = replace(at_level(full, "metadata"), seen_ns=9), deliver(clickhouse_url)
    store.write(full, replace(full, call_id="other"), said(records, "hello", "t"))
    with monkeypatch.context() as killed, pytest.raises(OSError, match="killed"):
        killed.setattr("callspan.stores.clickhouse.sink.delete_superseded", left_by_a_killed_writer)
        store.write(strict)
    assert SAID not in str(cells(store, "SELECT * FROM contents"))
    store.write(strict)
    assert bytes(store.read().call("other").request.body) == bytes(full.request.body), "another call refers to it"
    store.write(replace(strict, call_id="other"))
    assert SAID not in str(cells(store, "SELECT * FROM content_versions"))
    assert SAID not in on_disk(clickhouse_url)


def left_by_a_killed_writer(*_: object) -> None:
    raise OSError("killed")


@pytest.mark.clickhouse
def test_contents_that_another_writer_deleted_are_written_again_in_clickhouse(
    clickhouse_url: str, deliver: Deliver, records: Records
) -> None:
    full = said(records, "q", "s")
    first, second = deliver(clickhouse_url), deliver(clickhouse_url)
    first.write(full)
    second.write(replace(at_level(full, "metadata"), seen_ns=9))
    first.write(replace(full, call_id="d"))
    assert bytes(first.read().call("d").request.body) == bytes(full.request.body)
    first.write(replace(full, call_id="e"))
    assert len(texts(clickhouse_url)) == 2


@pytest.mark.clickhouse
@pytest.mark.parametrize("named_first", [True, False])
def test_version_in_another_session_replaces_in_clickhouse(
    clickhouse_url: str, deliver: Deliver, records: Records, named_first: bool
) -> None:
    begun = records.call(part="started", outcome="in_progress", response=None, session_id="s1" if named_first else None)
    ended = records.call(call_id=begun.call_id, session_id=None if named_first else "s1", answer="All of it.")
    store = deliver(clickhouse_url)
    for version in (begun, ended):
        store.write(version)
    reader = store.read()
    (call,) = reader.calls()
    assert (call.text, call.place.session_id) == ("All of it.", ended.place.session_id)
    assert len([*reader.sessions()]) == reader.count_sessions() == (0 if named_first else 1)


OWN = replace(ANSWER, seen_in="call", pid=7, timing=Timing(start_ns=START_NS - 2 * SECOND, first_token_ns=SECOND))
SEEN = replace(CREATED, timing=Timing(start_ns=START_NS + SECOND // 2, headers_ns=7, last_chunk_ns=9))
TIMES = {
    "its own request's, as far as it saw them": (
        [replace(OWN, part="started", response=CREATED.response, timing=Timing(start_ns=OWN.timing.start_ns)), OWN],
        OWN.timing,
    ),
    "the answer's, where no request was seen": ([ENDED, ANSWER], ANSWER.timing),
    "as long as its request saw, where it ends within the provider's second": (
        [SEEN, *[replace(ENDED, timing=Timing(start_ns=START_NS, duration_ns=0))] * 2],
        replace(SEEN.timing, duration_ns=9),
    ),
}


@pytest.mark.parametrize("name", TIMES)
def test_version_times_merge_in_any_order(store: Delivery, name: str) -> None:
    versions, timing = TIMES[name]
    for number, order in enumerate(itertools.permutations(versions)):
        store.write(*(replace(one, call_id=f"c{number}") for one in order))
        assert store.read().call(f"c{number}").timing == timing


CANARY = "open sesame"


def stream(records: Records) -> Sequence[Record]:
    """The start and the end of a stream."""
    error = ErrorInfo(kind="x", type="E", message=CANARY)
    ended = records.call([{"role": "user", "content": CANARY}], CANARY, error=error)
    return replace(ended, part="started", outcome="in_progress", response=None, error=None), ended


def background(records: Records) -> Sequence[Record]:
    """A background response and its answer, read by another process."""
    answered = records.call([{"role": "user", "content": CANARY}], CANARY, part="answered", seen_in="fetch")
    return replace(answered, part="requested", seen_in="call", response=None), answered


def session(records: Records) -> Sequence[Record]:
    error = ErrorInfo(kind="x", type="E", message=CANARY)
    ended = records.session(records.new_id(), version=2, start_ns=START_NS, end_ns=START_NS + 9, error=error)
    return replace(ended, end_ns=None, seen_ns=1), ended


@pytest.mark.parametrize("made", [stream, background, session])
@pytest.mark.parametrize(("loose", "strict"), [*itertools.combinations(LEVELS, 2)])
def test_strictest_content_level_applies_to_all_versions(
    url: str, deliver: Deliver, records: Records, made: Callable[[Records], Sequence[Record]], loose: Any, strict: Any
) -> None:
    """Whichever version is stricter or arrives first, or if both arrive in one batch."""
    store = deliver(url)
    for levels, direction, at_once in itertools.product([(loose, strict), (strict, loose)], (1, -1), (True, False)):
        pair = zip(made(records), levels, strict=True)
        versions: list[Any] = [replace(at_level(one, level), content_level=level) for one, level in pair][::direction]
        for batch in [versions] if at_once else [[one] for one in versions]:
            store.write(*batch)
        store.write(*versions)
        with closing(open_store(url)) as reader:
            call = isinstance(versions[0], CallRecord)
            found: Any = next(reader.calls(CallFilter(limit=1))) if call else next(iter(reader.sessions())).session
        whole = msgspec.json.encode(replace(found, metadata={}))
        assert found.content_level == strict
        assert CANARY.encode() not in whole
        assert strict != "off" or b'"sha256"' not in whole
        assert not call or b'"role":"user"' not in whole
        erase(url, **{"calls": found.call_id} if call else {"sessions": found.session_id})


def texts(url: str) -> list[tuple[str, str]]:
    """The owner and text of each message in the store."""
    with closing(open_store(url)) as reader:
        sql = "SELECT owner, text FROM contents WHERE role IS NOT NULL ORDER BY owner, n"
        return [(str(owner), str(text)) for owner, text in reader._database.tuples(sql)]


def said(records: Records, text: str, session_id: str | None, **fields: object) -> CallRecord:
    return records.call([{"role": "user", "content": text}], f"{text}!", call_id="c", session_id=session_id, **fields)


def moved(records: Records) -> Iterator[tuple[CallRecord, CallRecord]]:
    """Two versions of a call, the second with another session."""
    yield said(records, "q", None, part="requested"), said(records, "q", "s", part="ended")
    yield said(records, "q", None, part="requested"), said(records, "q", "s", part="answered", seen_ns=9, pid=None)
    yield said(records, "q", "other", part="requested"), said(records, "q", "s", part="ended", at_s=18_000)
    yield said(records, "q", "s", part="requested"), said(records, "q", None, part="ended")


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("number", range(4))
def test_contents_are_deleted_with_their_owner(
    store: Delivery, url: str, records: Records, number: int, at_once: bool
) -> None:
    versions = list(moved(records))[number]
    for batch in [versions] if at_once else [[one] for one in versions]:
        store.write(*batch)
        found = store.read().call("c")
        session_id = found.place.session_id
        assert {owner for owner, _ in texts(url)} == {f"s:{session_id}" if session_id else "c:c"}
        assert [(one.key, one.calls) for one in store.read().summary("session")] == [(session_id, 1)]
    assert found.text == "q!"
    erase(url, **{"sessions": session_id} if session_id else {"calls": "c"})
    assert texts(url) == []


def test_unreferenced_text_can_be_stored_again(store: Delivery, records: Records) -> None:
    """By the same sink, which may know the text as stored."""
    full = said(records, "q", "s", part="requested")
    store.write(full)
    store.write(replace(at_level(full, "metadata"), content_level="metadata", part="ended"))
    store.write(replace(full, call_id="d"))
    found = store.read().call("d")
    assert (found.text, bytes(found.request.body)) == ("q!", bytes(full.request.body))
