"""The published schema: written records follow it, and invalid ones are refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from callspan.records import Attempt, CallRecord, Request, RewardRecord, SessionRecord, encode

from .conftest import Records

ROOT = Path(__file__).parents[2]


def published() -> dict[str, Any]:
    schema: dict[str, Any] = msgspec.json.decode((ROOT / "docs" / "call_record.schema.json").read_bytes())
    return schema


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = published()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_the_published_file_is_what_the_types_say() -> None:
    subprocess.run([sys.executable, str(ROOT / "tools" / "schema.py"), "--check"], check=True)


def test_records_of_every_kind_follow_it(validator: Draft202012Validator, records: Records) -> None:
    for record in [*records.every_kind(), records.call(part="started", outcome="started", response=None)]:
        validator.validate(msgspec.json.decode(encode(record)))


def test_the_records_of_the_demo_follow_it(validator: Draft202012Validator, tmp_path: Path) -> None:
    """Made by the real SDKs: tools, streams, a retry, an error, a cancelled stream, rewards."""
    store = f"sqlite:///{tmp_path}/calls.db,jsonl:///{tmp_path}/calls.jsonl"
    command = [sys.executable, "-m", "callspan.cli", "demo", "--store", store]
    subprocess.run(command, check=True, cwd=tmp_path, stdout=subprocess.DEVNULL, timeout=100)
    lines = [msgspec.json.decode(line) for line in (tmp_path / "calls.jsonl").read_bytes().splitlines()]
    assert {line["kind"] for line in lines} == {"call", "session", "timestep", "event", "message", "reward"}
    for line in lines:
        validator.validate(line)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "nonsense"},
        {"schema_version": 99},
        {"call_id": None},
        {"outcome": "ok"},
        {"retries": "1"},
        {"timing": {}},
        {"cost": {"usd": 0.1, "source": "x"}},
    ],
)
def test_what_breaks_the_schema_is_refused(
    validator: Draft202012Validator, records: Records, change: dict[str, object]
) -> None:
    line = msgspec.json.decode(encode(records.call()))
    assert validator.is_valid(line)
    assert validator.is_valid(line | {"brand_new": 1})
    assert not validator.is_valid(line | change)


def test_every_field_of_every_record_is_in_it_and_most_say_what_they_mean() -> None:
    definitions = published()["$defs"]
    for kind in (CallRecord, Request, Attempt, SessionRecord, RewardRecord):
        properties = definitions[kind.__name__]["properties"]
        assert set(kind.__struct_encode_fields__) <= set(properties)
        assert definitions[kind.__name__]["description"]
    assert definitions["Request"]["properties"]["body_bytes"] == {
        "description": "Size of the body as sent.",
        "anyOf": [{"type": "integer"}, {"type": "null"}],
    }
