"""Events from bytes: the same payloads for all splits of the bytes and all line ends."""

from __future__ import annotations

import pytest
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


@pytest.mark.parametrize(
    ("sent", "payloads"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a \n\n", [b" a "]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b": c\nevent: e\nid: 1\ndata: a\n\n", [b"a"]),
        (b"event: e\n\n", []),
        (b"data: a", [b"a"]),
        (b"data: a\n", [b"a"]),
        (b"data: a\n\n\n\ndata: b\n\n", [b"a", b"b"]),
        (b"", []),
        (b"\n\n", []),
    ],
)
def test_payloads_of_events(sent: bytes, payloads: list[bytes]) -> None:
    assert read([sent]) == payloads


def test_an_event_is_given_as_soon_as_it_has_ended() -> None:
    events = EventParser()
    assert events.feed(b"data: a\n") == []
    assert events.feed(b"\nda") == [b"a"]
    assert events.feed(b"ta: b\n\n") == [b"b"]
    assert events.end() == []


@given(lines=st.lists(LINE, max_size=9), end=END, cuts=st.lists(st.integers(1, 6), max_size=60))
def test_any_split_of_events_gives_the_same_payloads(lines: list[bytes], end: bytes, cuts: list[int]) -> None:
    whole = b"".join(line + end for line in lines)
    pieces, at = [], 0
    for size in cuts:
        pieces.append(whole[at : at + size])
        at += size
    assert read([*pieces, whole[at:]]) == read([whole])


@given(lines=st.lists(LINE, max_size=9))
def test_any_line_end_gives_the_same(lines: list[bytes]) -> None:
    assert read([b"".join(line + b"\r\n" for line in lines)]) == read([b"".join(line + b"\n" for line in lines)])
    assert read([b"".join(line + b"\r" for line in lines)]) == read([b"".join(line + b"\n" for line in lines)])
