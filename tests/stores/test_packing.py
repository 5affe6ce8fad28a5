"""Packed columns of SQLite: SQL and readers see the original JSON."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
from tests.points import points

from callspan.record.call import Attempt, CallRecord, RateLimit, RateLimits, Timing
from callspan.record.usage import Usage
from callspan.stores.packing import _CODES, PACKED, Packer, unpack

from .conftest import Delivery, Records

JSON = {
    "usage_raw": [
        '{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":0}}',
        '{"prompt_tokens":7,"completion_tokens":99,"total_tokens":106,"prompt_tokens_details":{"cached_tokens":5}}',
        '{"input_tokens":10,"cache_creation_input_tokens":0,"cache_read_input_tokens":4,"output_tokens":5}',
        '{"100%":"%s","input_tokens":1,"texts":["\\u0001 é","x,y"]}',
        "{}",
    ],
    "attempts": [
        '[{"number":1,"start_ns":5,"headers_ns":9,"status":200,"request_id":"req_1","end_ns":11}]',
        '[{"number":1,"start_ns":5,"status":429,"error_kind":"rate_limit"},{"number":2,"start_ns":7,"status":200}]',
        "[]",
    ],
    "extra": [
        '{"request":{"body_bytes":5},"response":{"created":17,"finish_reasons":["stop"]}}',
        '{"later":[1,2.5,null]}',
    ],
}


@points("name", PACKED)
def test_packed_json_is_shorter_and_unpacks_to_the_same(name: str) -> None:
    """Twice each: a shape that was seen before goes another way."""
    packer = Packer(name)
    for json in JSON[name] * 2:
        packed = packer.pack(json)
        assert unpack(name, packed) == json
        assert len(packed) <= len(json)
    assert packer.pack(JSON[name][0]) == Packer(name).pack(JSON[name][0])


def test_json_whose_shape_always_changes_is_packed_too() -> None:
    packer = Packer("usage_raw")
    for number in range(200):
        json = f'{{"prompt_tokens":{number},"key{"x" * number}":[{"1," * number}2]}}'
        assert unpack("usage_raw", packer.pack(json)) == json


def test_every_packed_piece_has_a_code_and_the_expression_fits_sqlites_parser() -> None:
    for name, groups in PACKED.items():
        pieces = [piece for group in groups.values() for piece in group]
        assert len(set(pieces)) == len(pieces) <= len(_CODES) == 24, name
        assert not any(set(piece) & set(_CODES) for piece in pieces)


def test_plain_sql_reads_the_json_of_calls(tmp_path: Path, records: Records) -> None:
    limits = RateLimits(requests=RateLimit(limit=100, remaining=99, reset_s=0.5))
    made = records.call(
        usage=Usage(input_tokens=9, raw={"prompt_tokens": 9, "total_tokens": 12}),
        attempts=[Attempt(number=1, start_ns=1, headers_ns=2, status=200, request_id="req_7", rate_limits=limits)],
        rate_limits=limits,
        timing=Timing(start_ns=1_760_000_000_000_000_000, answer_ns=1, headers_ns=2),
    )
    delivery = Delivery(f"sqlite:///{tmp_path}/calls.db")
    delivery.write(made)
    assert _lookup(tmp_path / "calls.db") == (9, "req_7", 99)
    assert [msgspec.structs.replace(one, conversation=None) for one in delivery.read().calls()] == [made]
    delivery.close()


def _lookup(path: Path) -> tuple[object, ...]:
    connection = sqlite3.connect(path)
    found: tuple[object, ...] = connection.execute(
        "SELECT json_extract(usage_raw, '$.prompt_tokens'), json_extract(attempts, '$[0].request_id'),"
        " json_extract(extra, '$.rate_limits.requests.remaining') FROM calls"
    ).fetchone()
    connection.close()
    return found


def test_a_small_call_takes_less_than_two_kilobytes(tmp_path: Path, records: Records) -> None:
    """Of which 0.55 KB is text that no other call has; at a million calls `bench/large_store.py` says the same."""
    words = [f"{number:x}" * 2 for number in range(4096, 8192)]
    delivery = Delivery(f"sqlite:///{tmp_path}/calls.db")
    for start in range(0, 400, 100):
        delivery.write(*(_small(records, number, words) for number in range(start, start + 100)))
    delivery.close()
    connection = sqlite3.connect(tmp_path / "calls.db")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    size = (tmp_path / "calls.db").stat().st_size / 400
    assert size < 2_000


def _small(records: Records, number: int, words: list[str]) -> CallRecord:
    text = " ".join(words[(number * 61 + step * 7) % len(words)] for step in range(50))[:500]
    body = {"model": "gpt-5", "messages": [{"role": "user", "content": text[:50]}]}
    raw = {"prompt_tokens": number, "completion_tokens": 70, "total_tokens": number + 70}
    answer = {"id": f"r-{number}", "choices": [{"message": {"role": "assistant", "content": text}}], "usage": raw}
    made = records.call(
        usage=Usage(input_tokens=number, output_tokens=70, total_tokens=number + 70, raw=raw),
        attempts=[Attempt(number=1, start_ns=10**6, headers_ns=10**7, status=200, request_id=f"req_{number:024x}")],
    )
    if made.response is None:
        raise ValueError("the call has no answer")
    return msgspec.structs.replace(
        made,
        request=msgspec.structs.replace(made.request, body=msgspec.Raw(msgspec.json.encode(body))),
        response=msgspec.structs.replace(made.response, body=msgspec.Raw(msgspec.json.encode(answer))),
        conversation=None,
    )
