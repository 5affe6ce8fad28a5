"""Events from bytes: the same payloads for all splits of the bytes and all line ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from callspan.intercept.body_parsers import EventParser

END = st.sampled_from([b"\n", b"\r\n", b"\r"])
LINE = st.sampled_from(
    [b"data: {}", b"data:x", b"data:  y", b"data", b"event: e", b": c", b"", b"id: 1", b"data: \xc3\xa4"]
)


def read(pieces: list[bytes]) -> list[bytes]:
    events = EventParser()
    found = [payload for piece in pieces for payload in events.feed(piece)]
    return found + events.end()


@given(lines=st.lists(LINE, max_size=9), end=END, cuts=st.lists(st.integers(1, 6), max_size=60))
def test_any_split_of_events_gives_the_same_payloads(lines: list[bytes], end: bytes, cuts: list[int]) -> None:
    whole = b"".join(line + end for line in lines)
    pieces, at = [], 0
    for size in cuts:
        pieces.append(whole[at : at + size])
        at += size
    assert read([*pieces, whole[at:]]) == read([whole])
