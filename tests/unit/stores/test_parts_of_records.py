"""Lines, unpacked records, derived columns and message texts: the small readers of every store."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.records import Attempt, CallRecord, ErrorInfo, EventRecord, Request, Response, decode
from callspan.spool.sink import decode_payload
from callspan.stores import PoisonError, bodies, payloads
from callspan.stores.columns import CALLS
from callspan.stores.payloads import line_of

from .conftest import MIDNIGHT_NS, chat, made, raw


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n\n"])
def test_a_pretty_printed_body_is_one_line_and_means_the_same(end: str) -> None:
    pretty = json.dumps({"model": "m", "messages": [{"role": "user", "content": "a\nb\r"}]}, indent=2).replace(
        "\n", end
    )
    line = line_of(made("c", api="chat_completions", body=msgspec.Raw(pretty.encode())))
    assert not {b"\n"[0], b"\r"[0]} & set(line)
    read = decode(line)
    assert isinstance(read, CallRecord)
    assert json.loads(bytes(read.request.body)) == json.loads(pretty)
    assert len(bytes(read.request.body)) == len(pretty)


def test_a_line_holds_the_conversation_of_a_call() -> None:
    line = json.loads(line_of(chat("c", [{"role": "user", "content": "hi"}], "there")))
    assert line["conversation"]["input"] == [{"role": "user", "parts": [{"type": "text", "text": "hi"}]}]
    assert line["conversation"]["output"][0]["parts"] == [{"type": "text", "text": "there"}]


@given(st.text())
def test_no_text_breaks_a_line(text: str) -> None:
    line = line_of(EventRecord(event_id="e", event_type="x", time_ns=1, data=text))
    assert b"\n" not in line
    assert b"\r" not in line
    read = decode(line)
    assert isinstance(read, EventRecord)
    assert (
        read.data == "".join("\ufffd" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)
        or read.data == text
    )


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (made("c"), (None, None, None, None)),
        (made("c", duration_ns=0), (None, None, MIDNIGHT_NS, None)),
        (made("c", duration_ns=7), (None, None, MIDNIGHT_NS + 7, None)),
        (made("c", response=Response(finish_reasons=[None, "length", "stop"])), ("length", None, None, None)),
        (made("c", response=Response(finish_reasons=[None])), (None, None, None, None)),
        (made("c", attempts=[Attempt(number=1, start_ns=0, status=429), Attempt(number=2, start_ns=1, status=200)]),
         (None, 200, None, None)),
        (made("c", attempts=[Attempt(number=1, start_ns=0, status=429), Attempt(number=2, start_ns=1)]),
         (None, None, None, None)),
        (made("c", error=ErrorInfo(kind="k", type="t", status=503), attempts=[Attempt(number=1, start_ns=0)]),
         (None, 503, None, None)),
        (made("c", error=ErrorInfo(kind="k", type="t"), attempts=[Attempt(number=1, start_ns=0, status=500)]),
         (None, 500, None, None)),
        (made("c", usd="0.5"), (None, None, None, 500_000_000_000)),
        (made("c", usd="0"), (None, None, None, 0)),
        (made("c", usd="0.0000000000001"), (None, None, None, None)),
        (made("c", usd="9999.999999999999"), (None, None, None, 10**16 - 1)),
        (made("c", usd="10000"), (None, None, None, None)),
    ],
)  # fmt: skip
def test_derived_columns(record: CallRecord, expected: tuple[object, ...]) -> None:
    row = dict(zip(CALLS.names, payloads.cells_of(record), strict=True))
    assert (row["finish_reason"], row["http_status"], row["end_ns"], row["cost_picousd"]) == expected


@given(st.decimals(-(10**9), 10**9, allow_nan=False, places=15))
def test_picodollars_are_the_same_money_or_none(usd: Decimal) -> None:
    pico = payloads.picodollars(usd)
    scaled = int(usd.scaleb(15))
    fits = scaled % 1000 == 0 and abs(scaled // 1000) < 10**16
    assert pico == (scaled // 1000 if fits else None)


@pytest.mark.parametrize("usd", ["NaN", "Infinity", "-Infinity", "sNaN"])
def test_money_that_is_not_an_amount_has_no_picodollars(usd: str) -> None:
    assert payloads.picodollars(Decimal(usd)) is None


def test_the_bodies_of_a_call_are_as_sent() -> None:
    sent = b'{ "model" : "m", "b": 1.0 }'
    record = msgspec.structs.replace(
        chat("c", [], "x"), request=Request(model="m", body=msgspec.Raw(sent)), response=Response(id="r", body=raw([1]))
    )
    assert payloads.bodies_of(record) == (sent, b"[1]")
    assert payloads.bodies_of(made("c")) == (b"", b"")


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"{", b"null", b"[]", b"{}", b'"text"', b"\xff", b'{"kind":"call"}', b'{"kind":"unheard","call_id":"c"}',
        b'{"kind":"call","call_id":1,"timing":{"start_ns":1}}',
        b'{"kind":"call","call_id":"c","timing":{"start_ns":"x"}}',
        b'{"kind":"call","schema_version":99,"call_id":"c","timing":{"start_ns":1}}',
        b'{"kind":"event","event_id":"e","time_ns":1}', b"[" * 100_000,
        b'{"kind":"reward","reward_id":"r","time_ns":1,"scope":"planet"}',
    ],
)  # fmt: skip
def test_an_invalid_record_is_refused(payload: bytes) -> None:
    with pytest.raises(PoisonError):
        decode_payload(payload)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", None),
        (7, None),
        (True, None),
        ("text", "text"),
        (["a", "", "b"], "a\n\nb"),
        ({"role": "user", "content": "hi"}, "hi"),
        ({"role": "user", "name": "ann", "content": ""}, None),
        ({"content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "u"}}]}, "a"),
        ({"content": None, "refusal": "no"}, "no"),
        ({"name": "f", "arguments": "{}"}, "f({})"),
        ({"name": "f", "arguments": ""}, "f()"),
        ({"name": "f", "arguments": {"a": [1, "x"]}}, 'f({"a":[1,"x"]})'),
        ({"type": "tool_use", "name": "f", "input": {"a": 1}}, 'f({"a":1})'),
        ({"name": 3, "input": "x"}, None),
        ({"name": "f"}, None),
        (
            {"tool_calls": [{"function": {"name": "f", "arguments": "1"}}, {"custom": {"name": "g", "input": "2"}}]},
            "f(1)\ng(2)",
        ),
        ({"type": "function_call_output", "call_id": "c", "output": "done"}, "done"),
        (
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "why"}], "encrypted_content": "zzz"},
            "why",
        ),
        ({"type": "thinking", "thinking": "hm", "signature": "s"}, "hm"),
        ({"model": "m", "user": "u", "metadata": {"k": "v"}}, None),
    ],
)
def test_the_text_of_a_value(value: object, expected: str | None) -> None:
    assert ("".join(fragment.text for fragment in bodies.fragments(value)) or None) == expected


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["content", "text", "name", "arguments", "input", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(NESTED)
def test_verbatim_fragments_occur_in_the_json(value: Any) -> None:
    json_text = msgspec.json.encode(value).decode()
    for fragment in bodies.fragments(value):
        assert not fragment.verbatim or msgspec.json.encode(fragment.text).decode() in json_text


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (made("c"), ""),
        (chat("c", [{"role": "user", "content": "q"}], "a"), "q\na"),
        (chat("c", [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}], ""), "s\nq"),
        (
            made("c", api="messages", body=raw({"system": "be", "messages": [{"role": "user", "content": "q"}]})),
            "be\nq",
        ),
        (made("c", api="responses", body=raw({"input": "q", "instructions": "be"})), "be\nq"),
        (made("c", api="unknown", body=raw("only text")), ""),
    ],
)
def test_the_text_of_a_call(record: CallRecord, text: str) -> None:
    answer = b"" if record.response is None else bytes(record.response.body)
    assert payloads.text_of(record.api, bytes(record.request.body), answer) == text


@pytest.mark.parametrize(
    ("api", "key"),
    [("chat_completions", "messages"), ("messages", "messages"), ("responses", "input"), ("unknown", None), ("", None)],
)
def test_the_history_of_an_endpoint_has_a_key(api: str, key: str | None) -> None:
    assert payloads.message_key(api) == key
