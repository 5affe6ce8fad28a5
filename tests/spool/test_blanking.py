"""Erasing what waits on disk: segments, also of running processes and damaged parts of them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Final

import openai

import callspan
from callspan import erase
from callspan.delivery.recorder import store_sinks
from callspan.records import FORMAT, Record, encode
from callspan.spool.directory import count_records, store_keys
from callspan.spool.segment import Segment, encode_frame
from callspan.stores import CallFilter, EmptyStoreError
from tests.provider import FullProvider
from tests.spool.rig import until
from tests.stores.conftest import Records

CANARY = "the canary sings at dawn"
HERS = CallFilter(user="u1")


def canaries(place: Path) -> int:
    return sum(path.read_bytes().count(CANARY.encode()) for path in place.rglob("*") if path.is_file())


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def waiting(records: Records) -> list[Record]:
    return [
        records.call(said(CANARY), call_id="a", metadata={"user_id": "u1"}),
        records.call(said("another one"), call_id="b", metadata={"user_id": "u2"}),
        records.session("s", user_id="u1", metadata={"note": CANARY}),
        records.call(said(CANARY), call_id="c", session_id="s"),
    ]


def held(spool: Path, urls: str, *found: Record) -> Segment:
    """A segment that a process is writing, for these stores."""
    segment = Segment.create(spool, store_keys(spool, store_sinks(urls)))
    for record in found:
        segment.append(encode_frame(encode(record)))
    return segment


def test_what_a_running_process_has_not_delivered_goes_and_the_rest_is_delivered(tmp_path: Path) -> None:
    url, spool = f"sqlite:///{tmp_path}/calls", tmp_path / "calls.spool"
    segment = held(spool, url, *waiting(Records()))
    assert erase(url, HERS, dry_run=True).stores[1].calls == 2
    receipt = erase(url, HERS)
    assert (receipt.stores[1].store, receipt.stores[1].sessions, receipt.stores[1].calls) == ("spool", 1, 2)
    assert (receipt.is_complete, canaries(tmp_path)) == (True, 0)
    assert count_records(segment.path) == 1
    segment.append(encode_frame(encode(Records().call(said("later"), call_id="d"))))
    segment.release()
    Path(tmp_path / "calls").touch()
    with contextlib.closing(callspan.open_store(url, deliver=True)) as reader:
        assert {call.call_id for call in reader.calls()} == {"b", "d"}
    assert not list(spool.glob("*.bad"))


def test_a_segment_that_another_store_still_needs_stays_and_is_said(tmp_path: Path) -> None:
    url, spool = f"sqlite:///{tmp_path}/calls", tmp_path / "calls.spool"
    both = f"{url},jsonl:///{tmp_path}/other.jsonl"
    segment = held(spool, both, *waiting(Records()))
    receipt = erase(url, HERS)
    assert not receipt.is_complete
    assert "3 of these records also wait for stores that were not named" in (receipt.stores[1].left or "")
    assert canaries(tmp_path) == 3
    assert erase(both, HERS).is_complete
    assert canaries(tmp_path) == 0
    segment.release()


def test_damaged_parts_go(tmp_path: Path) -> None:
    url, spool = f"sqlite:///{tmp_path}/calls", tmp_path / "calls.spool"
    found = waiting(Records())
    segment = held(spool, url, *found)
    bad = segment.path
    bad.with_name(f"{bad.name}.0.bad").write_bytes(encode(found[0])[5:])
    bad.with_name(f"{bad.name}.9.bad").write_bytes(encode(found[1])[5:])
    assert erase(url, HERS).is_complete
    assert canaries(tmp_path) == 0
    assert [path.name for path in spool.glob("*.bad")] == [f"{bad.name}.9.bad"]
    segment.release()


def test_nothing_is_left_of_calls_that_were_delivered_while_their_process_goes_on(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/calls"
    with FullProvider() as provider, openai.OpenAI(base_url=provider.openai_url, api_key="k") as client:
        handle = callspan.instrument(stores=url)
        for _ in range(5):
            with callspan.session("talk", user_id="u1"):
                client.chat.completions.create(model="m", messages=said(CANARY))
            client.chat.completions.create(model="m", messages=said(CANARY + " outside"), user="u1")
        client.chat.completions.create(model="m", messages=said("kept"))
        assert handle.force_flush(30_000)
        assert canaries(tmp_path) > 10
        receipt = callspan.erase(url, HERS)
        assert (receipt.stores[0].calls, receipt.is_complete, canaries(tmp_path)) == (10, True, 0)
        client.chat.completions.create(model="m", messages=said("later"))
        assert handle.force_flush(30_000)
        handle.uninstrument()
    assert not list(tmp_path.rglob("*.bad"))
    with contextlib.closing(callspan.open_store(url)) as reader:
        assert reader.count_calls() == 2
    assert canaries(tmp_path) == 0


def test_what_waits_for_a_store_that_cannot_erase_goes_when_it_is_named(tmp_path: Path) -> None:
    both = f"sqlite:///{tmp_path}/calls,unix://{tmp_path}/no.sock"
    segment = held(tmp_path / "calls.spool", both, *waiting(Records()))
    receipt = erase(both, HERS)
    assert (receipt.is_complete, [*receipt.by_hand], canaries(tmp_path)) == (True, [f"unix://{tmp_path}/no.sock"], 0)
    assert count_records(segment.path) == 1
    segment.release()


def test_what_cannot_be_erased_yet_or_not_be_told_apart_is_said(tmp_path: Path) -> None:
    url, spool = f"sqlite:///{tmp_path}/calls", tmp_path / "calls.spool"
    segment = held(spool, url, *waiting(Records()))
    nameless = segment.path.with_name(f"{segment.path.name}.0.bad")
    nameless.write_bytes(CANARY.encode())
    old = Segment.create(spool, store_keys(spool, store_sinks(url)))
    old.append(
        encode_frame(encode(waiting(Records())[0]).replace(b'"schema_version":%d' % FORMAT, b'"schema_version":1'))
    )
    left = erase(url, HERS).stores[1].left or ""
    assert f"{nameless}: a damaged part of a record, and nothing in it says of which" in left
    assert f"{old.path} has format 1" in left
    segment.release()
    old.release()


_WRITER: Final = """
import sys, time
import callspan, openai
from callspan.testing import ScriptedProvider
with ScriptedProvider() as provider, openai.OpenAI(base_url=provider.openai_url, api_key="k") as client:
    handle = callspan.instrument(stores=sys.argv[1])
    until, number = time.monotonic() + 4, 0
    while time.monotonic() < until:
        number += 1
        for user, text in (("u1", "the canary sings at dawn"), ("u2", f"another one {number}")):
            with callspan.session(f"talk {number % 7}", session_id=f"{user}-{number % 7}", user_id=user):
                messages = [{"role": "user", "content": text}]
                client.chat.completions.create(model="m", messages=messages, stream=number % 3 == 0, user=user)
    handle.uninstrument()
print(number)
"""


def test_while_a_process_goes_on_nothing_erased_comes_back_and_nothing_of_others_is_lost(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path}/calls"
    gone = set[str]()
    with subprocess.Popen([sys.executable, "-c", _WRITER, url], stdout=subprocess.PIPE, text=True) as writer:
        until((tmp_path / "calls").exists)
        while writer.poll() is None:
            with contextlib.suppress(EmptyStoreError), contextlib.closing(callspan.open_store(url)) as reader:
                gone |= {call.call_id for call in reader.calls(HERS)}
                receipt = erase(url, calls=gone) if gone else erase(url, HERS)
                assert receipt.is_complete, receipt
        written, _ = writer.communicate()
    assert writer.returncode == 0
    assert len(gone) > 10
    with contextlib.closing(callspan.open_store(url, deliver=True)) as reader:
        assert gone.isdisjoint(call.call_id for call in reader.calls())
    receipt = erase(url, HERS)
    assert (receipt.is_complete, canaries(tmp_path)) == (True, 0)
    with contextlib.closing(callspan.open_store(url)) as reader:
        assert [call.user for call in reader.calls()] == ["u2"] * int(written)
    assert not list(tmp_path.rglob("*.bad"))
