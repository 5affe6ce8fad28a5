"""Strategies: the cases hypothesis generates, from the well-formed responses of `bodies` that are then damaged."""

from __future__ import annotations

import base64
import copy
import gzip
import json
import zlib
from typing import Any

import brotli
from hypothesis import strategies as st
from tests.fuzz.bodies import FLAVOURS, Events, events_of, failed_event, failure, is_binary, whole_of
from tests.fuzz.case import Act, Answer, Case, Chunk
from tests.fuzz.frames import message
from tests.fuzz.sdks import SDKS
from tests.fuzz.ways import is_streamed

ODD: list[Any] = [
    None, True, -1, 0, 1.5, 10**30, float("nan"), "", "x", "\ud800", [], {}, [None], {"a": {"b": []}}, [[]], "9" * 400,
]  # fmt: skip
REQUESTS = ("plain",) * 10 + ("extra", "tools", "turns", "generator", "unsendable", "surrogate", "no model")
REQUESTS += ("timeout", "usage", "wrong argument", "big")
HTTP_ERRORS = ("ReadError", "ReadTimeout", "RemoteProtocolError", "OSError", "RuntimeError", "DecodingError")
SEND_ERRORS = ("ConnectError", "ConnectTimeout", "PoolTimeout", "WriteError", "OSError", "ValueError")
STATUSES = (100, 103, 200, 201, 202, 204, 301, 304, 307, 400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 503, 529)
ENCODINGS = ("", "", "", "", "", "", "", "gzip", "deflate", "br", "wrong")
CONTENT_TYPES = (
    "text/plain",
    "application/json; charset=latin-1",
    "text/event-stream",
    "application/json",
    "",
    "\xff/;",
)
RETRY_HEADERS = [
    ("retry-after", "0.01"), ("retry-after", "1"), ("retry-after", "x"), ("retry-after", "-1"),
    ("retry-after", "100000"),
    ("retry-after-ms", "5"), ("x-should-retry", "true"), ("x-should-retry", "false"),
    ("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT"),
]  # fmt: skip
OTHER_HEADERS = [
    ("x-request-id", "req_1"), ("request-id", "req_2"), ("x-ratelimit-remaining-requests", "none"),
    ("anthropic-ratelimit-tokens-limit", "9" * 40), ("set-cookie", "a=b"), ("openai-processing-ms", "-"),
    ("content-length", "3"), ("transfer-encoding", "chunked"), ("x-request-id", "\xe9\xff"),
]  # fmt: skip
ON_STREAMS = ("all", "all", "all", "take", "take", "next", "raise", "close", "drop", "final", "text stream", "lines")
ON_STREAMS += ("parse", "attributes", "bytes")
ON_RESPONSES = ("parse", "parse", "text", "json", "read", "bytes", "lines", "texts", "raw bytes", "all", "take", "next")
ON_RESPONSES += ("close", "attributes", "drop", "content")
ON_ITEMS = ("all", "all", "all", "take", "take", "next", "next", "raise", "close", "drop")
ON_BODIES = ("read", "read", "pieces", "pieces", "into", "lines", "readlines", "all", "take", "next", "close", "drop")
ACTS = {"stream": ON_STREAMS, "items": ON_ITEMS, "response": ON_RESPONSES, "body": ON_BODIES}
LOOPS = ("runner", "iterator", "thread", "loop")
"""Ways that call the model again with what the tools returned, or may."""
NAMES = (None, "error", "ping", "completion", "x", "message_start", "metadata", "validationException")
CHANGES = ("drop", "double", "swap", "damage", "damage", "name")
ODD_BODIES = (b"", b"null", b"[]", b"<html>", b"\xff\xfe", b'{"a"', b"data: {}\n\n", b"\n" * 9, b'"\\ud800"')
ODD_PAYLOADS = ('{"a":', "", " ", "null", "[]", "1", "nonsense", "[DONE] ")
FRAMINGS = ("",) * 6 + ("comment", "retry", "id", "many lines", "no space", "bom", "no end", "blank")
PROFILES = ("default", "default", "default", "everything", "metadata", "off", "kept", "stored", "stored")


@st.composite
def cases(draw: Any, ways: dict[str, list[str]]) -> Case:
    """A case of any SDK; `ways` are those the installed versions have."""
    sdk = draw(st.sampled_from(sorted(ways)))
    way = draw(st.sampled_from([one for one in ways[sdk] if is_streamed(one)] if draw(st.booleans()) else ways[sdk]))
    wrap = draw(st.sampled_from(SDKS[sdk].wraps))
    if way.partition(".")[0] == "post" or any(word in way for word in ("helper", *LOOPS)):
        wrap = "none"
    case = Case(sdk, way, wrap, draw(st.sampled_from(SDKS[sdk].colours)), draw(st.sampled_from(REQUESTS)))
    case.profile = draw(st.sampled_from(PROFILES))
    case.retries = draw(st.sampled_from((0, 0, 1, 2)))
    failed = st.integers(0, case.retries)
    case.answers = [draw(refusals(sdk)) for _ in range(draw(failed))] + [draw(answers(case))]
    if draw(st.integers(0, 5)) == 0 or any(word in way for word in LOOPS):
        case.answers += [draw(answers(case)) for _ in range(draw(st.integers(1, 2)))]
    pool = ACTS[SDKS[sdk].returns(case)]
    case.acts = [
        Act(draw(st.sampled_from(pool)), draw(st.integers(0, 4)))
        for _ in range(draw(st.sampled_from((0, 1, 1, 1, 2, 2, 3))))
    ]
    case.leave = draw(st.sampled_from(("exit", "exit", "raise")))
    case.where = draw(st.sampled_from(("here", "here", "here", "here", "elsewhere")))
    if case.colour == "async" and draw(st.integers(0, 3)) == 0:
        case.cancel = True
        stalled = [chunk for answer in case.answers for chunk in answer.chunks] or [Chunk()]
        draw(st.sampled_from(stalled)).stall = True
    elif draw(st.integers(0, 4)) == 0 or SDKS[sdk].wires == ("socket",):
        case.wire = "socket"
    return case


@st.composite
def refusals(draw: Any, sdk: str) -> Answer:
    """An answer that the SDK may try again after."""
    if draw(st.integers(0, 3)) == 0:
        return Answer(error=draw(st.sampled_from(SEND_ERRORS)))
    body = draw(damaged(failure(sdk))) if draw(st.booleans()) else failure(sdk)
    status = draw(st.sampled_from((408, 409, 429, 500, 502, 503, 529)))
    headers = [("content-type", "application/json"), *draw(st.lists(st.sampled_from(RETRY_HEADERS), max_size=2))]
    return Answer(status, headers, [Chunk(_json(body).decode("latin-1"))])


@st.composite
def answers(draw: Any, case: Case) -> Answer:
    """An answer to this way of calling, or to another, or to none."""
    kind = draw(st.sampled_from(("right",) * 7 + ("status", "whole for stream", "failure", "text", "error")))
    if kind == "error":
        return Answer(error=draw(st.sampled_from(SEND_ERRORS)))
    flavour = draw(st.sampled_from(FLAVOURS))
    streamed = is_streamed(case.way)
    status = draw(st.sampled_from(STATUSES)) if kind == "status" else 400 if kind == "failure" else 200
    if kind == "failure":
        body, streamed = _json(draw(damaged(failure(case.sdk)))), False
    elif kind == "text":
        body = draw(st.sampled_from(ODD_BODIES))
    elif streamed and kind != "whole for stream":
        body = _sent(draw, case, draw(damaged_events(events_of(case.way, flavour), case.sdk)))
    else:
        tree = whole_of(case.way, flavour)
        body = _json(draw(damaged(tree)) if draw(st.booleans()) else tree)
    headers = draw(header_lists(case.way, streamed=streamed))
    return Answer(status, headers, draw(pieces(_encoded(draw, body, headers))))


@st.composite
def header_lists(draw: Any, way: str, *, streamed: bool) -> list[tuple[str, str]]:
    """Headers of an answer, mostly the right ones."""
    right = "text/event-stream; charset=utf-8" if streamed else "application/json"
    right = "application/vnd.amazon.eventstream" if streamed and is_binary(way) else right
    kind = draw(st.sampled_from(CONTENT_TYPES)) if draw(st.integers(0, 7)) == 0 else right
    chosen: list[tuple[str, str]] = draw(st.lists(st.sampled_from(OTHER_HEADERS), max_size=2))
    return [("content-type", kind), *chosen] if kind else chosen


@st.composite
def damaged(draw: Any, tree: Any) -> Any:
    """The same JSON with up to three places deleted, replaced or doubled."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.sampled_from((0, 1, 1, 2, 3)))):
        places = _places(tree)
        if not places:
            return copy.deepcopy(draw(st.sampled_from(ODD)))
        holder, key = draw(st.sampled_from(range(len(places))).map(places.__getitem__))
        act = draw(st.sampled_from(("delete", "replace", "replace", "wrap", "double")))
        if act == "delete":
            del holder[key]
        elif act == "replace":
            # A copy: what comes next may change it.
            holder[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
        elif act == "wrap":
            holder[key] = [holder[key]]
        elif isinstance(holder, list):
            holder.insert(key, holder[key])
        else:
            holder[f"{key}_"] = holder[key]
    return tree


def _places(tree: Any) -> list[tuple[Any, Any]]:
    keys: Any = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    return [(tree, key) for key in keys] + [place for key in keys for place in _places(tree[key])]


@st.composite
def damaged_events(draw: Any, events: Events, sdk: str) -> Events:
    """The same events with some lost, doubled, out of order or damaged, or an error among them."""
    events = list(events)
    for _ in range(draw(st.sampled_from((0, 0, 1, 1, 2, 3)))):
        at = draw(st.integers(0, max(0, len(events) - 1)))
        act = draw(st.sampled_from(("cut", "error", "done", "text", *CHANGES)))
        if act == "cut":
            events = events[:at]
        elif act == "error":
            events.insert(at, failed_event(sdk))
        elif act == "done":
            events.insert(at, (None, "[DONE]"))
        elif act == "text":
            events.insert(at, (None, draw(st.sampled_from(ODD_PAYLOADS))))
        elif events:
            _change_event(draw, events, at, act)
    return events


def _change_event(draw: Any, events: Events, at: int, act: str) -> None:
    name, payload = events[at]
    if act == "drop":
        del events[at]
    elif act == "double":
        events.insert(at, events[at])
    elif act == "swap":
        events[at], events[0] = events[0], events[at]
    elif act == "name":
        events[at] = (draw(st.sampled_from(NAMES)), payload)
    else:
        events[at] = (name, draw(damaged(payload)))


def _sent(draw: Any, case: Case, events: Events) -> bytes:
    """The events as the provider sends them: binary, as a list of Gemini's chunks, or as server-sent events."""
    if is_binary(case.way):
        return _packed(draw, events, chunks=not case.way.startswith("converse"))
    if case.way.startswith("contents") and draw(st.integers(0, 5)) == 0:
        return _json([payload for _, payload in events])
    return _framed(draw, events)


def _packed(draw: Any, events: Events, *, chunks: bool) -> bytes:
    """Binary messages, one of which may be damaged; `chunks`: whether events of another API are in them."""
    sent = []
    for name, payload in events:
        content = payload.encode("utf-8", "surrogatepass") if isinstance(payload, str) else _json(payload)
        if chunks and name == "chunk":
            content = _json({"bytes": base64.b64encode(content).decode()})
        sent.append(message(name, content))
    odd = draw(st.sampled_from(("",) * 6 + ("checksum", "length", "half", "empty")))
    if odd and sent:
        at = draw(st.integers(0, len(sent) - 1))
        whole = sent[at]
        sent[at] = {
            "checksum": whole[:-1] + bytes([whole[-1] ^ 1]), "length": b"\xff\xff" + whole[2:],
            "half": whole[: len(whole) // 2], "empty": b"",
        }[odd]  # fmt: skip
    return b"".join(sent)


def _framed(draw: Any, events: Events) -> bytes:
    end = draw(st.sampled_from(("\n", "\n", "\n", "\r\n", "\r")))
    odd = draw(st.sampled_from(FRAMINGS))
    extra = {"comment": ": ping", "retry": "retry: 10", "id": "id: 1", "blank": ""}.get(odd)
    lines: list[str] = ["\ufeff"] if odd == "bom" else []
    for name, payload in events:
        content = payload if isinstance(payload, str) else _json(payload).decode("utf-8", "surrogatepass")
        lines += [] if extra is None else [extra]
        lines += [] if name is None else [f"event: {name}"]
        parts = content.split(", ", 1) if odd == "many lines" else [content]
        lines += [f"data:{'' if odd == 'no space' else ' '}{part}" for part in parts]
        lines.append("")
    text = end.join(lines) + ("" if odd == "no end" else end)
    return text.encode("utf-8", "surrogatepass")


def _json(tree: Any) -> bytes:
    # Half of the alphabet is written as itself, so that cuts fall into the middle of characters.
    try:
        return json.dumps(tree, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(tree).encode()


def _encoded(draw: Any, body: bytes, headers: list[tuple[str, str]]) -> bytes:
    encoding = draw(st.sampled_from(ENCODINGS))
    if encoding:
        headers.append(("content-encoding", "gzip" if encoding == "wrong" else encoding))
    if encoding == "gzip":
        return gzip.compress(body, mtime=0)
    if encoding == "br":
        return brotli.compress(body)
    return zlib.compress(body) if encoding == "deflate" else body


@st.composite
def pieces(draw: Any, body: bytes) -> list[Chunk]:
    """The body in one piece or many, with waits, and with an error or an end before its time."""
    how = draw(st.sampled_from(("one", "lines", "lines", "cuts", "cuts", "single bytes")))
    if how == "one" or not body:
        chunks = [body] if body else []
    elif how == "single bytes" and len(body) < 1000:
        chunks = [body[i : i + 1] for i in range(len(body))]
    elif how == "cuts":
        cuts = sorted(draw(st.lists(st.integers(0, len(body)), min_size=1, max_size=6)))
        chunks = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    else:
        chunks = body.splitlines(keepends=True)
    made = [Chunk(chunk.decode("latin-1")) for chunk in chunks]
    end = draw(st.sampled_from(("",) * 7 + ("cut", "error", "wait")))
    at = draw(st.integers(0, len(made))) if end else 0
    if end == "cut":
        made = made[:at]
    elif end == "error":
        made.insert(at, Chunk(error=draw(st.sampled_from(HTTP_ERRORS))))
    elif end == "wait":
        for chunk in made[at:]:
            chunk.wait = 2
    return made
