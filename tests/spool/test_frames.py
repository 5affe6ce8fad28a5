"""Frames: each one is readable despite any damage around it."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.spool.segment import HEAD_BYTES, MAGIC, MAX_PAYLOAD, Frame, Gap, encode_frame, scan

PAYLOADS = [b"{}", b'{"a":1}' * 9, b"", b"x" * 300]
WHOLE = b"".join(encode_frame(payload) for payload in PAYLOADS)


def payloads(data: bytes, *, final: bool = True) -> list[bytes]:
    return [item.payload for item in scan(data, final=final) if isinstance(item, Frame)]


def assert_covers(data: bytes) -> None:
    """Items of a final scan follow each other from the first byte to the last."""
    at = 0
    for item in scan(data):
        assert item.start == at
        assert item.end > at
        at = item.end
    assert at == len(data)


def test_what_was_encoded_is_read_back() -> None:
    assert payloads(WHOLE) == PAYLOADS
    assert_covers(WHOLE)


def test_offsets_are_those_of_the_segment() -> None:
    first, second, *_ = scan(WHOLE, base=1000)
    assert (first.start, first.end) == (1000, 1000 + HEAD_BYTES + 2)
    assert second.start == first.end


@pytest.mark.parametrize("cut", range(len(WHOLE)))
def test_a_tail_torn_at_any_byte_costs_only_the_torn_frame(cut: int) -> None:
    torn = WHOLE[:cut]
    ends = [item.end for item in scan(WHOLE)]
    whole = sum(end <= cut for end in ends)
    assert payloads(torn) == PAYLOADS[:whole]
    assert_covers(torn)
    last = list(scan(torn))[-1:]
    assert all(isinstance(item, Gap) == (cut not in ends) for item in last)


@pytest.mark.parametrize("cut", range(len(WHOLE)))
def test_a_reader_that_may_read_on_gets_no_gap_for_data_not_written_yet(cut: int) -> None:
    items = list(scan(WHOLE[:cut], final=False))
    assert not any(isinstance(item, Gap) for item in items)
    at = items[-1].end if items else 0
    assert [i.payload for i in items if isinstance(i, Frame)] + payloads(WHOLE[at:]) == PAYLOADS


@pytest.mark.parametrize("hit", range(len(PAYLOADS)))
def test_a_flipped_bit_costs_only_its_frame(hit: int) -> None:
    frame = list(scan(WHOLE))[hit]
    for at in range(frame.start, frame.end):
        for bit in range(8):
            damaged = bytearray(WHOLE)
            damaged[at] ^= 1 << bit
            assert payloads(bytes(damaged)) == PAYLOADS[:hit] + PAYLOADS[hit + 1 :]
            assert_covers(bytes(damaged))


@given(
    st.lists(st.binary(max_size=80), max_size=6), st.binary(max_size=60), st.lists(st.binary(max_size=80), max_size=6)
)
def test_garbage_between_frames_is_one_gap(before: list[bytes], garbage: bytes, after: list[bytes]) -> None:
    garbage = garbage.replace(MAGIC[:1], b"")
    data = b"".join(map(encode_frame, before)) + garbage + b"".join(map(encode_frame, after))
    assert payloads(data) == before + after
    gaps = [item for item in scan(data) if isinstance(item, Gap)]
    assert sum(gap.end - gap.start for gap in gaps) == len(garbage)
    assert len(gaps) == bool(garbage)


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_can_be_scanned(data: bytes, final: bool) -> None:
    items = list(scan(MAGIC + data + MAGIC, final=final))
    assert all(item.end > item.start for item in items)


def test_an_impossible_length_is_damage_and_does_not_block_reading() -> None:
    liar = MAGIC + (MAX_PAYLOAD + 1).to_bytes(4, "little") + b"\0" * 4
    assert payloads(liar + encode_frame(b"good"), final=False) == [b"good"]


def test_a_length_that_reaches_behind_the_end_hides_no_later_frame() -> None:
    liar = MAGIC + (5000).to_bytes(4, "little") + b"\0" * 4
    assert payloads(liar + encode_frame(b"good")) == [b"good"]


@pytest.mark.parametrize("size", [0, 1, 5119, 5120, 5121, 10_240, 10_241, 262_144, 262_145])
def test_the_checksum_is_that_of_length_and_payload_whatever_its_size(size: int) -> None:
    payload = bytes(number * 7 % 251 for number in range(size))
    head = struct.pack("<4sII", MAGIC, size, zlib.crc32(struct.pack("<I", size) + payload))
    assert encode_frame(payload) == head + payload
    (frame,) = scan(head + payload)
    assert isinstance(frame, Frame)
    assert frame.payload == payload
