"""Whose contents are: those of the session of the merged row, or of a call outside of sessions."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest

from callspan import CallRecord, erase, open_store

from .conftest import Delivery, Records, delete_session


@pytest.fixture
def store(url: str, deliver: Callable[[str], Delivery]) -> Delivery:
    return deliver(url)


def texts(url: str) -> list[tuple[str, str]]:
    with contextlib.closing(open_store(url)) as reader:
        sql = "SELECT owner, text FROM contents WHERE role IS NOT NULL ORDER BY owner, n"
        return [(str(owner), str(text)) for owner, text in reader._database.tuples(sql)]


def said(records: Records, text: str, session_id: str | None, **fields: object) -> CallRecord:
    return records.call([{"role": "user", "content": text}], f"{text}!", call_id="c", session_id=session_id, **fields)


def versions(records: Records) -> Iterator[tuple[CallRecord, CallRecord]]:
    yield said(records, "q", None, part="requested"), said(records, "q", "s", part="ended")
    yield said(records, "q", None, part="requested"), said(records, "q", "s", part="answered", seen_ns=9, pid=None)
    yield said(records, "q", "other", part="requested"), said(records, "q", "s", part="ended")
    yield said(records, "q", "s", part="requested"), said(records, "q", None, part="ended")


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("number", range(4))
def test_deleting_takes_what_any_version_wrote(
    store: Delivery, url: str, records: Records, number: int, at_once: bool
) -> None:
    first, second = list(versions(records))[number]
    if at_once:
        store.write(first, second)
    else:
        store.write(first)
        assert {owner for owner, _ in texts(url)} == {
            f"s:{first.place.session_id}" if first.place.session_id else "c:c"
        }
        store.write(second)
    with contextlib.closing(open_store(url)) as reader:
        found = reader.call("c")
    assert found is not None
    assert found.text == "q!"
    owner = f"s:{found.place.session_id}" if found.place.session_id else "c:c"
    assert {one for one, _ in texts(url)} == {owner}
    if found.place.session_id is not None:
        delete_session(url, found.place.session_id)
    else:
        erase(url, calls="c")
    assert texts(url) == []


def test_a_call_that_leaves_a_session_takes_only_its_own_contents(store: Delivery, url: str, records: Records) -> None:
    beside = records.call([{"role": "user", "content": "shared"}], "stays", session_id="s")
    store.write(beside, said(records, "shared", "s", part="requested"))
    store.write(said(records, "shared", None, part="ended"))
    assert {text for owner, text in texts(url) if owner == "s:s"} == {"shared", "stays"}
    with contextlib.closing(open_store(url)) as reader:
        assert bytes(reader.call(beside.call_id).request.body) == bytes(beside.request.body)  # type: ignore[union-attr]


def test_deleting_one_call_of_a_session_leaves_what_others_have(store: Delivery, url: str, records: Records) -> None:
    history = [{"role": "user", "content": "first"}]
    longer = [*history, {"role": "user", "content": "secret"}]
    store.write(records.call(history, "a", session_id="s"), records.call(longer, "b", call_id="c", session_id="s"))
    erase(url, calls="c")
    assert {text for _, text in texts(url)} == {"first", "a"}


def test_a_stricter_version_removes_what_it_forbids(store: Delivery, url: str, records: Records) -> None:
    store.write(said(records, "secret", "s", part="requested"))
    store.write(said(records, "secret", "s", part="ended", content_level="metadata"))
    assert texts(url) == []


def test_a_call_is_read_as_fast_from_a_long_session(store: Delivery, url: str, records: Records) -> None:
    """By the index on owner and number, not by all that the session owns."""
    ids = {}
    for session_id, count in (("short", 20), ("long", 4_000)):
        asked = ([{"role": "user", "content": f"{session_id} {number}"}] for number in range(count))
        calls = [records.call(one, f"To {one}", session_id=session_id) for one in asked]
        store.write(*calls)
        ids[session_id] = calls[-1].call_id
    with contextlib.closing(open_store(url)) as reader:

        def least_s(call_id: str) -> float:
            taken = []
            for _ in range(7):
                began = time.perf_counter()
                assert reader.call(call_id) is not None
                taken.append(time.perf_counter() - began)
            return min(taken)

        assert least_s(ids["long"]) < 3 * least_s(ids["short"])
