"""Invalid data on the wire: the caller gets the same as without callspan, and the record has it.

Every answer is read twice, without callspan and with it; the two must be the same to the letter.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.calls import transports
from tests.support.calls import Wire, text_of, the_call
from tests.support.mode import Mode
from tests.support.scale import scaled

from callspan.records import CallRecord
from callspan.testing import Capture, capture

TEXT = "Grüße: I am 😀 well, thank you."


@cache
def whole(sdk: str) -> bytes:
    return transports.wire_of(sdk, TEXT)


WIRES: dict[str, Callable[[bytes], bytes]] = {
    "as sent": bytes,
    "crlf": lambda wire: wire.replace(b"\n", b"\r\n"),
    "cr": lambda wire: wire.replace(b"\n", b"\r"),
    "no space after the colon": lambda wire: wire.replace(b"data: ", b"data:"),
    "comments and other fields": lambda wire: wire.replace(
        b"data: ", b": a comment\nid: 7\nretry: 3000\nunknown: x\ndata: "
    ),
    # Broken where JSON may have white space.
    "several data lines": lambda wire: wire.replace(b'","', b'",\ndata: "'),
    "comments before and after": lambda wire: b": hi\n\n: hi\n\n" + wire + b": bye\n\n",
    "no last line end": lambda wire: wire.rstrip(b"\n"),
    "blank lines": lambda wire: wire.replace(b"\n\n", b"\n\n\n\n\n"),
    "a byte order mark": lambda wire: b"\xef\xbb\xbf" + wire,
    "nothing at all": lambda wire: b"",
    "only blank lines": lambda wire: b"\n\n\n",
    "only a comment": lambda wire: b": ping\n\n",
    "cut within an event": lambda wire: wire[: wire.index(b"well")],
    "broken json": lambda wire: wire.replace(b'"index"', b'"index', 3),
    "no json": lambda wire: b"data: <html>\n\n",
    "nothing but null": lambda wire: b"data: null\n\n" + wire,
    "a number": lambda wire: b"data: 7\n\n" + wire,
    "a list": lambda wire: b"data: []\n\n" + wire,
    "no number": lambda wire: wire.replace(b'"created":1', b'"odd":NaN,"created":1', 1),
    "a lone surrogate": lambda wire: wire.replace(b"thank", b"\\ud83d thank"),
    "a null character": lambda wire: wire.replace(b"thank", b"\\u0000 thank"),
    "a huge number": lambda wire: wire.replace(b'"index":0', b'"odd":' + b"9" * 400 + b',"index":0'),
    "very deep": lambda wire: wire.replace(b'"index":0', b'"odd":' + b"[" * 300 + b"]" * 300 + b',"index":0', 1),
}
SIZES = scaled((7,), (1, 7, 100_000))
WELL_FORMED = (
    "as sent", "crlf", "cr", "no space after the colon", "comments and other fields", "several data lines",
    "comments before and after", "no last line end", "blank lines", "a byte order mark", "nothing but null", "a number",
    "a list", "no number", "a huge number", "very deep",
)  # fmt: skip
"""What a reader of server-sent events makes the same answer of."""


def cut(wire: bytes, size: int) -> Iterator[bytes]:
    return (wire[at : at + size] for at in range(0, len(wire), size))


async def items_of(wire: Wire, how: str) -> AsyncIterator[Any]:
    """What the caller gets: a body; items or the text of a stream; lines of a raw one, or of a stream's response."""
    if how == "lines":
        async with wire.mode.entered(wire.create(response="streaming", stream=True)) as response:
            async for line in wire.mode.items(response.iter_lines()):
                yield line
    elif how in ("stream", "response"):
        stream = await wire.stream()
        if how == "response":
            stream = stream.response.aiter_lines() if wire.mode.is_async else stream.response.iter_lines()
        async for item in wire.mode.items(stream):
            yield item
    elif how in ("body text", "stream text"):
        yield await wire.streaming("text", stream=how == "stream text")
    else:
        wire.shape = how
        yield await wire.call()


async def got(wire: Wire, how: str) -> list[str]:
    """What the caller gets of an answer; an exception is the last of it."""
    wire.received = []
    try:
        async for item in items_of(wire, how):
            wire.received.append(item)
    except Exception as error:  # noqa: BLE001 - whatever it is, it must be the same
        wire.received.append(f"{type(error).__name__}: {error}")
    return [repr(item) for item in wire.received]


async def compared(wire: Wire, how: str) -> tuple[list[str], CallRecord]:
    """What the caller gets with callspan as without, and the record of the call."""
    bare = await got(wire, how)
    with capture() as seen:
        assert await got(wire, how) == bare
        return bare, the_call(seen)


READINGS = [("stream", wire) for wire in WIRES] + [
    (how, wire) for how in scaled(["lines"], ["lines", "response"]) for wire in scaled([*WIRES][::3], [*WIRES])
]


@pytest.mark.parametrize(("how", "wire"), READINGS)
async def test_invalid_stream_is_recorded_as_received(sdk: str, wire: str, how: str, mode: Mode) -> None:
    sent = WIRES[wire](whole(sdk))
    for size in SIZES:
        answer = transports.wire(mode, sdk, transports.answer(sdk, *cut(sent, size)))
        _, record = await compared(answer, how)
        if how == "stream":
            assert text_of(record) == answer.received_text().replace("\ud83d", "\ufffd")
        elif wire in WELL_FORMED:
            assert text_of(record) == TEXT
            assert (record.stream.end, record.stream.complete) == ("complete", True)


@pytest.mark.parametrize("how", ["stream", "lines", "response"])
@pytest.mark.parametrize("damage", ["no such encoding", "cut short"])
async def test_damaged_encoding_is_recorded_as_received(sdk: str, damage: str, how: str, mode: Mode) -> None:
    sent = whole(sdk) if damage == "no such encoding" else gzip.compress(whole(sdk))[:-40]
    headers = {**transports.EVENT_STREAM, "content-encoding": "gzip"}
    answer = transports.answer(sdk, *cut(sent, 7), headers=headers)
    bare, record = await compared(transports.wire(mode, sdk, answer), how)
    assert record.outcome == ("error" if bare and "Error" in bare[-1] else "success")


NO_EVENTS: dict[str, Callable[[str], bytes]] = {
    "an error": lambda sdk: b'{"error": {"message": "slow down", "type": "rate_limit_error"}}',
    "an answer": lambda sdk: transports.wire_of(sdk, TEXT, stream=False),
    "events": whole,
    "no json": lambda sdk: b'{"choices": [',
}


@pytest.mark.parametrize("how", ["stream", "stream text"])
@pytest.mark.parametrize("sent", NO_EVENTS)
async def test_json_instead_of_a_stream_is_recorded_as_received(sdk: str, sent: str, how: str, mode: Mode) -> None:
    """Some gateways answer so, others only state the type; the SDKs' streams then have no item, and no exception."""
    handler = transports.answer(sdk, *cut(NO_EVENTS[sent](sdk), 50), headers={"content-type": "application/json"})
    bare, record = await compared(transports.wire(mode, sdk, handler), how)
    assert record.stream is not None
    assert how == "stream text" or record.stream.chunks == len(bare)
    if sent == "an error":
        assert (record.outcome, record.error.kind, record.error.message) == ("error", "rate_limit", "slow down")
    else:
        is_whole = sent != "no json"
        assert (record.outcome, text_of(record)) == ("success", TEXT if is_whole else "")
        assert record.stream.end == ("complete" if is_whole else "cut_off")
        assert sent != "an answer" or (record.usage is not None and not record.stream.complete)


BODIES: dict[str, bytes] = {
    "nothing": b"",
    "white space": b" \n ",
    "null": b"null",
    "a number": b"7",
    "a list": b"[]",
    "a text": b'"hello"',
    "an empty object": b"{}",
    "html": b"<html>busy</html>",
    "cut": b'{"id": "x", "choices": [',
    "a byte order mark": b'\xef\xbb\xbf{"id": "x"}',
    "no utf-8": b'{"id": "\xff"}',
    "no number": b'{"id": "x", "created": NaN}',
    "a lone surrogate": b'{"id": "\\ud83d", "model": "m"}',
    "a huge number": b'{"id": "x", "created": ' + b"9" * 400 + b"}",
    "very deep": b'{"id": "x", "odd": ' + b"[" * 300 + b"]" * 300 + b"}",
    "one key twice": b'{"id": "x", "id": "y"}',
    "an error with status 200": b'{"error": {"message": "no", "type": "server_error"}}',
}


FLAWED = ("html", "cut", "no utf-8", "an error with status 200")
"""Bodies that end the call with an error, however they are read."""


WAYS = [(how, kind) for how in ("plain", "raw", "body text") for kind in ("application/json", "text/plain")]


@pytest.mark.parametrize(("how", "content_type"), scaled([WAYS[0], WAYS[3]], WAYS))
@pytest.mark.parametrize("body", BODIES)
async def test_invalid_body_records_one_call(sdk: str, body: str, how: str, content_type: str, mode: Mode) -> None:
    handler = transports.answer(sdk, BODIES[body], headers={"content-type": content_type})
    _, record = await compared(transports.wire(mode, sdk, handler), how)
    if body == "no utf-8" and content_type == "text/plain" and how == "plain":
        return  # handed on as a text with replacement characters, which is JSON
    # No body is no broken JSON, nor is white space: only the SDK's own parsing, which the caller sees fail, makes an
    # error of it.
    is_null = body == "null" and how == "plain"  # a raw body is the caller's affair
    is_empty = not BODIES[body].strip() and how == "plain" and content_type == "application/json"
    flawed = is_null or is_empty or body in FLAWED
    assert record.outcome == ("error" if flawed else "success")
    if is_null:
        assert record.error.type == "null"
    elif flawed and body != "an error with status 200":
        assert record.error.kind == "parsing"
        assert record.error.type == ("UnicodeDecodeError" if body == "no utf-8" else "JSONDecodeError")
    if body == "a lone surrogate":
        assert record.response.model == "m"


@pytest.mark.parametrize(
    ("body", "stream"),
    [(b'data: {"a":\n\ndata: nonsense\n\n', True), (b"<html>", False), (b"[" * 100_000, False)],
    ids=["events", "html", "too deep"],
)
async def test_invalid_json_is_not_a_callspan_error(
    body: bytes, stream: bool, sdk: str, mode: Mode, seen: Capture, unwarned: None, nothing_warned: None
) -> None:
    """A caller of a raw response may read anything; only errors of callspan are logged."""
    headers = transports.EVENT_STREAM if stream else {"content-type": "application/json"}
    wire = transports.wire(mode, sdk, transports.answer(sdk, body, headers=headers))
    assert await wire.streaming("iter_bytes", stream=stream) == [body]
    assert len(seen.records) == 1


END = st.sampled_from([b"\n", b"\r\n", b"\r"])
LINE = st.sampled_from(
    [b"data: {}", b"data:x", b"data:  y", b"data", b"event: e", b": c", b"", b"id: 1", b"data: \xc3\xa4"]
)


@given(lines=st.lists(LINE, max_size=9), end=END, cuts=st.lists(st.integers(1, 6), max_size=60))
def test_record_is_independent_of_event_boundaries(lines: list[bytes], end: bytes, cuts: list[int]) -> None:
    """The application reads the bytes, and parses none of them."""
    sent = b"".join(line + end for line in lines)
    at = [0, *accumulate(cuts), len(sent)]
    pieces = [sent[start:stop] for start, stop in pairwise(at)]

    def read(*parts: bytes) -> tuple[object, ...]:
        with capture() as seen, Mode("sync", transports.NOWHERE) as mode:
            wire = transports.wire(mode, "openai", transports.answer("openai", *parts))
            assert b"".join(asyncio.run(wire.streaming("iter_bytes", stream=True))) == sent
            record = the_call(seen)
        return record.stream.chunks, record.stream.end, record.response and bytes(record.response.body)

    assert read(*pieces) == read(sent)
