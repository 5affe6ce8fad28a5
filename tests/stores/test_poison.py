"""Any record is either stored or rejected at once, and the store keeps working."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Final, get_args

import msgspec

from callspan.record.codec import NO_RECORD
from callspan.records import Cost, Request, Response, Timing, Usage, encode
from callspan.stores import CallFilter, Grouping, Rejected

from .conftest import Delivery, Records

_DEEP: Final = b"[" * 5_000 + b"]" * 5_000
_BODIES: Final = {
    "too deep": b'{"messages":' + _DEEP + b"}",
    "too deep in a message": b'{"messages":[{"role":"user","content":' + _DEEP + b"}]}",
    "half a surrogate pair": rb'{"messages":[{"role":"user","content":"\ud800"}]}',
    "a NUL": rb'{"messages":[{"role":"user","content":"a\u0000b"}]}',
    "a number of 400 digits": b'{"messages":[{"role":"user","content":' + b"9" * 400 + b"}]}",
    "NaN": b'{"messages":[{"role":"user","content":NaN}]}',
    "no JSON": b"hello",
    "no UTF-8": b'{"messages":[{"role":"user","content":"\xff\xfe"}]}',
    "a key twice": b'{"messages":[],"messages":[{"role":"user"}]}',
    "a list": b"[1,2]",
    "a text": b'"x"',
    "null": b"null",
    "messages that are none": b'{"messages":[1,null,"x",[2],{"role":{"a":1},"content":[{"type":5,"text":{"x":1}}]}]}',
    "an object of messages": b'{"messages":{"a":1}}',
}
_FIELDS: Final[dict[str, dict[str, object]]] = {
    "more tokens than 63 bits": {"usage": Usage(input_tokens=2**70, output_tokens=-5)},
    **{
        f"a cost of {usd}": {"cost": Cost(usd=Decimal(usd), source="mine")}
        for usd in ("Infinity", "NaN", "sNaN", "1E+400", "1E-400", "1E+999999", "1E-999999", "1E+9999999999", "-1")
    },
    "a time before 1970": {"timing": Timing(start_ns=-5)},
    "a time behind 2262": {"timing": Timing(start_ns=2**63 + 5)},
    "an id of nothing": {"call_id": ""},
    "an id with a NUL": {"call_id": "a\0b"},
}
_CALL: Final = b'{"kind":"call","schema_version":12,"call_id":"x","timing":{"start_ns":1},'
_PAYLOADS: Final = {
    "metadata too deep": _CALL + b'"metadata":{"a":' + _DEEP + b"}}",
    "an unknown field too deep": _CALL + b'"new_field":' + _DEEP + b"}",
    "no request": _CALL + b'"request":null}',
    "no response": _CALL + b'"response":null}',
    "an unknown number of 300 digits": _CALL + b'"new_field":' + b"9" * 300 + b"}",
    "an unknown half of a pair": _CALL + rb'"new_field":"\ud800"}',
    "half a pair as id": rb'{"kind":"call","schema_version":12,"call_id":"\ud800","timing":{"start_ns":1}}',
    "a version beyond 63 bits": b'{"kind":"session","session_id":"s","schema_version":12,"seen_ns":' + b"9" * 20 + b"}",
    "nothing": b"",
    "no object": b"[]",
    "bytes": bytes(range(256)),
}


def payloads(records: Records) -> dict[str, bytes]:
    made = dict(_PAYLOADS)
    for name, body in _BODIES.items():
        made[f"asked: {name}"] = encode(records.call(request=Request(model="m", body=msgspec.Raw(body))))
        made[f"answered: {name}"] = encode(records.call(response=Response(model="m", body=msgspec.Raw(body))))
    return made | {name: encode(records.call(**fields)) for name, fields in _FIELDS.items()}  # type: ignore[arg-type]


def test_nothing_in_a_record_stops_a_store(url: str, deliver: Callable[[str], Delivery], records: Records) -> None:
    store = deliver(url)
    reader = None
    taken = []
    for name, payload in payloads(records).items():
        try:
            store.write(payload)
            taken.append(name)
        except (Rejected, *NO_RECORD):
            pass
        reader = reader or store.read()
        found = list(reader.calls())
        assert len(found) == reader.count_calls(), name
        for by in get_args(Grouping):
            kept = list(reader.summary(by))
            assert sum(one.calls for one in kept) == len(found), name
        assert list(reader.calls(CallFilter(text="b"))) is not None
        list(reader.sessions())
    assert {"answered: a list", "asked: a number of 400 digits", "a cost of 1E-400"} <= {*taken}
    last = records.call(session_id="after it all")
    store.write(last)
    assert reader is not None
    assert [one.call_id for one in reader.calls(CallFilter(session_id="after it all"))] == [last.call_id]
