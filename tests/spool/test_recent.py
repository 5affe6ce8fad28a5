"""What was read of a segment for one store is there for the others: bounded, soon forgotten, and never in its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from callspan.spool.blanking import erase
from callspan.spool.recent import Recent
from callspan.spool.segment import Segment, encode_frame
from callspan.stores import Entry

ALL = 1 << 30


def payload(number: int, size: int = 20) -> bytes:
    return (b'{"number":%d,"x":"' % number).ljust(size, b"x") + b'"}'


@pytest.fixture
def segment(tmp_path: Path) -> Segment:
    made = Segment.create(tmp_path, ("one", "two"))
    for number in range(10):
        made.append(encode_frame(payload(number)))
    return made


def entry(number: int, size: int = 10) -> Entry:
    return Entry("s", number * 100, number * 100 + 100, b"x" * size, shared={})


def test_two_stores_get_the_same_entries_which_are_made_into_something_once(segment: Segment) -> None:
    made: list[bytes] = []

    def length(payload: bytes) -> int:
        made.append(payload)
        return len(payload)

    for entries in (segment.batch(0, 4, ALL).entries, segment.batch(0, 100, ALL).entries):
        assert [one.payload for one in entries] == [payload(number) for number in range(len(entries))]
        assert all(one.once(length, one.payload) == len(one.payload) for one in entries)
    assert made == [payload(number) for number in range(10)]


def test_whatever_sizes_stores_read_in_each_gets_everything_once(segment: Segment) -> None:
    sizes, places = (3, 1, 7), [0, 0, 0]
    found: list[list[bytes]] = [[], [], []]
    for turn in range(10):
        segment.append(encode_frame(payload(10 + turn)))
        for number, size in enumerate(sizes):
            batch = segment.batch(places[number], size, ALL)
            found[number] += [one.payload for one in batch.entries]
            places[number] = batch.end
    for number, at in enumerate(places):
        found[number] += [one.payload for one in segment.batch(at, 100, ALL).entries]
    assert found == [[payload(number) for number in range(20)]] * 3


def test_one_store_alone_keeps_nothing(tmp_path: Path) -> None:
    alone = Segment.create(tmp_path, ("one",))
    alone.append(encode_frame(payload(0)))
    (found,) = alone.batch(0, 100, ALL).entries
    assert found.shared is None
    assert found.once(len, found.payload) == len(found.payload)


def test_a_damaged_frame_is_a_gap_for_every_store(segment: Segment) -> None:
    (third,) = segment.batch(0, 100, ALL).entries[3:4]
    place = segment.path
    data = bytearray(place.read_bytes())
    data[third.start + 15] ^= 1
    fresh = Segment.create(place.parent, ("one", "two"))
    fresh.append(bytes(data))
    for _ in range(2):
        batch = fresh.batch(0, 100, ALL)
        assert [(gap.start, gap.end) for gap in batch.gaps] == [(third.start, third.end)]
        assert len(batch.entries) == 9


def test_it_is_bounded() -> None:
    recent = Recent()
    recent.add(0, 300, [entry(number, 1 << 19) for number in range(3)])
    assert recent.after(0) == ((), 0)
    found, after = recent.after(100)
    assert ([one.start for one in found], after) == ([100, 200], 300)


def test_what_every_store_has_is_forgotten() -> None:
    recent = Recent()
    recent.add(0, 300, [entry(number) for number in range(3)])
    recent.discard_before(200)
    assert recent.after(100) == ((), 100)
    assert [one.start for one in recent.after(200)[0]] == [200]


def test_it_is_forgotten_soon_because_another_process_may_erase_it() -> None:
    now = 0.0
    recent = Recent(lambda: now)
    recent.add(0, 100, [entry(0)])
    now = 1.9
    recent.add(100, 200, [entry(1)])
    assert [one.start for one in recent.after(0)[0]] == [0, 100]
    now = 2.1
    assert recent.after(0) == ((), 0)
    recent.add(200, 300, [entry(2)])
    assert recent.after(100) == ((), 100)
    assert [one.start for one in recent.after(200)[0]] == [200]


def test_what_was_erased_for_good_no_other_store_gets(segment: Segment) -> None:
    """At once, also by another process, which knows nothing of what this one has read."""
    assert len(segment.batch(0, 8, ALL).entries) == 8
    gone = payload(3)
    assert erase(segment.path.parent, ("one", "two"), gone.__eq__, unnamed=False).records == 1
    found = [one.payload for one in segment.batch(0, 100, ALL).entries]
    assert found == [payload(number) for number in range(10) if number != 3]
    assert [one.payload for one in segment.batch(0, 100, ALL).entries] == found


def test_what_a_late_store_reads_does_not_replace_what_the_others_need() -> None:
    recent = Recent()
    recent.add(500, 600, [entry(5)])
    recent.add(0, 100, [entry(0)])
    assert [one.start for one in recent.after(500)[0]] == [500]
