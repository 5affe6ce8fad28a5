"""Delivery to a store: in batches, in time, and without the records that it can never take."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Final, get_args

import msgspec
import pytest

from callspan import open_store
from callspan.record.codec import NO_RECORD
from callspan.records import FORMAT, Cost, Request, Response, Timing, Usage, encode
from callspan.spool.losses import read_losses
from callspan.stores import CallFilter, Grouping, Rejected

from .conftest import Delivery, Records, spool_of

ODD = (b'{"kind":"call"}', b"no JSON", b"[]", b"null", b'{"kind":"call","schema_version":99}')
LATER = '{"kind": "call", "schema_version": 99}'


def test_several_stores_get_the_same_records_from_one_spool_and_what_is_none_is_kept_with_the_reason(
    tmp_path: Path, records: Records
) -> None:
    first, second = f"sqlite:///{tmp_path}/a.db", f"jsonl:///{tmp_path}/b.jsonl"
    spool = spool_of(tmp_path / "spool", first, second)
    made = records.every_kind()
    for record in [*made, *made]:
        spool.append(encode(record))
    for odd in ODD:
        spool.append(odd)
    last = records.call()
    spool.append(encode(last))
    assert spool.close(20)
    rejected = [json.loads(line) for line in (spool.directory / "rejected.jsonl").read_text().splitlines()]
    refused = ['{"kind": "call"}', '"no JSON"', "[]", "null", LATER]
    assert Counter((one["store"], json.dumps(one["record"])) for one in rejected) == Counter(
        (url, record) for url in (first, second) for record in refused
    )
    assert all("not a record: " in one["reason"] for one in rejected)
    counted = {name: loss.count for name, loss in read_losses(spool.directory).rejected.items()}
    assert counted == {first: len(ODD), second: len(ODD)}
    lines = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    with contextlib.closing(open_store(first)) as reader:
        calls, events = list(reader.calls()), list(reader.events("s1"))
    assert {one.call_id for one in calls} == {line["call_id"] for line in lines if line["kind"] == "call"}
    assert last.call_id in {one.call_id for one in calls}
    assert len(events) == 3


def test_a_store_url_with_a_password_shows_it_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("psycopg")
    spool = spool_of(tmp_path / "spool", "postgresql://ann:hunter2@127.0.0.1:1/db")
    spool.append(b'{"kind":"call"}')
    assert not spool.flush(0.7)
    (state,) = spool.states()
    assert state.error is not None
    shown = f"{state} {dict(spool.counters())} {caplog.text}"
    spool.close(0.2)
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert "hunter2" not in shown
    assert not any(b"hunter2" in data or b"ann" in data for data in files)


_DEEP: Final = b"[" * 5_000 + b"]" * 5_000
_BODIES: Final = {
    "too deep": b'{"messages":' + _DEEP + b"}",
    "half a surrogate pair": rb'{"messages":[{"role":"user","content":"\ud800"}]}',
    "a NUL": rb'{"messages":[{"role":"user","content":"a\u0000b"}]}',
    "a number of 400 digits": b'{"messages":[{"role":"user","content":' + b"9" * 400 + b"}]}",
    "no JSON": b"hello",
    "no UTF-8": b'{"messages":[{"role":"user","content":"\xff\xfe"}]}',
    "a key twice": b'{"messages":[],"messages":[{"role":"user"}]}',
    "a list": b"[1,2]",
    "messages that are none": b'{"messages":[1,null,"x",[2],{"role":{"a":1},"content":[{"type":5,"text":{"x":1}}]}]}',
}
_FIELDS: Final[dict[str, dict[str, object]]] = {
    "more tokens than 63 bits": {"usage": Usage(input_tokens=2**70, output_tokens=-5)},
    **{
        f"a cost of {usd}": {"cost": Cost(usd=Decimal(usd), source="mine")}
        for usd in ("Infinity", "NaN", "sNaN", "1E+400", "1E-400", "1E+999999", "1E-999999", "1E+9999999999", "-1")
    },
    "a time behind 2262": {"timing": Timing(start_ns=2**63 + 5)},
    "an id of nothing": {"call_id": ""},
    "an id with a NUL": {"call_id": "a\0b"},
}
_CALL: Final = b'{"kind":"call","schema_version":%d,"call_id":"x","timing":{"start_ns":1},' % FORMAT
_PAYLOADS: Final = {
    "metadata too deep": _CALL + b'"metadata":{"a":' + _DEEP + b"}}",
    "an unknown field too deep": _CALL + b'"new_field":' + _DEEP + b"}",
    "no request": _CALL + b'"request":null}',
    "an unknown half of a pair": _CALL + rb'"new_field":"\ud800"}',
    "half a pair as id": rb'{"kind":"call","schema_version":%d,"call_id":"\ud800","timing":{"start_ns":1}}' % FORMAT,
    "a version beyond 63 bits": b'{"kind":"session","session_id":"s","schema_version":%d,"seen_ns":%s}'
    % (FORMAT, b"9" * 20),
    "nothing": b"",
    "bytes": bytes(range(256)),
}


def payloads(records: Records) -> dict[str, bytes]:
    made = dict(_PAYLOADS)
    for name, body in _BODIES.items():
        made[f"asked: {name}"] = encode(records.call(request=Request(model="m", body=msgspec.Raw(body))))
        made[f"answered: {name}"] = encode(records.call(response=Response(model="m", body=msgspec.Raw(body))))
    return made | {name: encode(records.call(**fields)) for name, fields in _FIELDS.items()}  # type: ignore[arg-type]


def test_nothing_in_a_record_stops_a_store(store: Delivery, records: Records) -> None:
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
    assert [one.call_id for one in reader.calls(CallFilter(session_id="after it all"))] == [last.call_id]
