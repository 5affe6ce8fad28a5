"""Records as JSON and as rows: explicit fields, their schema, and no loss."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import callspan
from callspan.record import call
from callspan.record.events import record_key
from callspan.records import (
    FORMAT,
    Attempt,
    CallRecord,
    Cost,
    EventRecord,
    Place,
    Record,
    Request,
    Response,
    RewardRecord,
    SessionRecord,
    Stream,
    TimestepRecord,
    Timing,
    Usage,
    decode,
    encode,
)
from callspan.semconv.records_from_spans import call_of
from callspan.stores.columns import TABLES
from callspan.stores.payloads import row_of as present
from callspan.stores.rows import Row, to_tree
from callspan.stores.schema import main
from callspan.stores.sqlite import file as sqlite_file
from callspan.testing import ScriptedProvider

from .conftest import START_NS, Records

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


def test_every_field_of_every_record_is_in_it() -> None:
    definitions = published()["$defs"]
    for kind in (CallRecord, Request, Attempt, SessionRecord, RewardRecord):
        properties = definitions[kind.__name__]["properties"]
        assert set(kind.__struct_encode_fields__) <= set(properties)
        assert definitions[kind.__name__]["description"]
    assert definitions["Request"]["properties"]["stream"] == {
        "description": "Whether a stream was requested.",
        "anyOf": [{"type": "boolean"}, {"type": "null"}],
    }


HI: Any = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def written(provider: ScriptedProvider, tmp_path: Path) -> Path:
    """A file with an answer, a stream, a call that was limited first, one that failed, one by hand, and a reward."""
    path = tmp_path / "calls.jsonl"
    handle = callspan.instrument(stores=f"jsonl:///{path}")
    with openai.OpenAI(api_key="sk-test", base_url=provider.openai_url, max_retries=1) as client:
        client.chat.completions.create(model="plain", messages=HI)
        list(client.chat.completions.create(model="stream", messages=HI, stream=True))
        provider.reply(status=429, retry_after_s=0.001)
        client.chat.completions.create(model="limited", messages=HI)
        provider.reply(status=400)
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="failed", messages=HI)
    with callspan.record_call(provider="vllm", model="by hand"):
        pass
    with callspan.session() as session:
        session.reward(1.0)
    assert handle.force_flush()
    handle.uninstrument()
    return path


@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
def test_jq_selects_by_outcome(written: Path) -> None:
    query = 'select(.kind == "call" and .outcome == "success" and .rate_limited == false) | .request.model'
    found = subprocess.run(["jq", "-r", query, str(written)], capture_output=True, text=True, check=True).stdout
    assert sorted(found.split()) == ["plain", "stream"]


@pytest.mark.parametrize(
    ("fields", "stream"),
    [({}, None), ({"gen_ai.request.stream": False}, False), ({"llm.is_streaming": True}, True),
     ({"gen_ai.request.stream": "yes"}, None)],
)  # fmt: skip
def test_a_record_of_another_librarys_span_has_only_what_the_span_has(
    fields: dict[str, object], stream: bool | None
) -> None:
    call = call_of(
        {"gen_ai.operation.name": "chat", **fields}, trace_id="1", span_id="2", parent_span_id=None, start_ns=1,
        end_ns=2, failed=False, scope=None,
    )  # fmt: skip
    assert call is not None
    line = json.loads(encode(call))
    assert line.get("request", {}).get("stream") is stream
    assert line.keys().isdisjoint({"rate_limited", "retries"})
    assert (line["outcome"], line["operation"]) == ("success", "chat")


def test_records_of_earlier_versions_can_still_be_read() -> None:
    """They left out what had its default."""
    old = b'{"kind":"call","call_id":"old","schema_version":%d,"api":"responses","timing":{"start_ns":1}}' % FORMAT
    call = decode(old)
    assert isinstance(call, CallRecord)
    assert (call.outcome, call.operation, call.part) == ("success", "chat", "ended")
    assert (call.request.stream, call.rate_limited) == (None, None)
    assert decode(encode(call)) == call
    reward = decode(b'{"kind":"reward","reward_id":"r","schema_version":%d,"value":1.0,"time_ns":5}' % FORMAT)
    assert isinstance(reward, RewardRecord)
    assert (reward.objective, reward.scope) == ("reward", "event")


def test_the_printed_script_creates_the_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sqlite"]) == 0
    path = tmp_path / "calls.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(capsys.readouterr().out)
        made = connection.execute("SELECT name, sql FROM sqlite_master ORDER BY 1").fetchall()
    ours = tmp_path / "ours.db"
    sqlite_file.open_for_writing(ours).close()
    with contextlib.closing(sqlite3.connect(ours)) as connection:
        assert made == connection.execute("SELECT name, sql FROM sqlite_master ORDER BY 1").fetchall()
    # The file is complete for a writer that opens it next.
    sqlite_file.open_for_writing(path).close()


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["sqlite", "postgres"]])
def test_the_script_of_no_known_dialect_is_wrong_usage(arguments: list[str]) -> None:
    assert main(arguments) == 2


def through(record: Record) -> Record:
    """The record after it was a row."""
    row = row_of(decode(encode(record)))
    assert all(cell is None or isinstance(cell, str | int | float) for cell in row.values())
    return msgspec.convert(to_tree(TABLES[record_key(record)[0]], row), type(record), strict=False)


def row_of(record: Record) -> Row:
    return dict.fromkeys(TABLES[record_key(record)[0]].names) | present(record)


def without_bodies(record: Record) -> Record:
    if not isinstance(record, CallRecord):
        return record
    request = msgspec.structs.replace(record.request, body=call.NO_BODY)
    response = None if record.response is None else msgspec.structs.replace(record.response, body=call.NO_BODY)
    return msgspec.structs.replace(record, request=request, response=response)


@pytest.mark.parametrize(
    "record",
    [
        *map(without_bodies, Records().every_kind()),
        SessionRecord(session_id="s", seen_ns=1),
        SessionRecord(session_id="s", seen_ns=1, success=False, metadata={"a": {"b": None}}, end_ns=0),
        TimestepRecord(timestep_id="t", session_id="s", seen_ns=2, index=0, truncated=False),
        EventRecord(event_id="e", event_type="x", time_ns=0, data=0, reward=-0.0),
        EventRecord(event_id="e", event_type="x", time_ns=0, data="", reward=1e300),
        EventRecord(event_id="e", event_type="x", time_ns=2**70, data=[None]),
        RewardRecord(reward_id="r", time_ns=1, value=0.1, scope="call", label=""),
    ],
)
def test_a_record_of_any_kind_survives_being_a_row(record: Record) -> None:
    assert through(record) == record


COUNTS = st.none() | st.integers(0, 2**70)
WORD = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
"""Without NUL, for which U+FFFD is decoded."""
TEXT = st.none() | WORD
JSON = st.none() | st.dictionaries(st.text(max_size=3), st.none() | st.integers(-5, 5), max_size=2)


@given(
    usage=st.none()
    | st.builds(Usage, input_tokens=COUNTS, output_tokens=COUNTS, cache_write_5m_tokens=COUNTS, raw=JSON),
    place=st.builds(Place, session_id=TEXT, timestep=st.none() | st.integers(-(2**64), 2**64)),
    metadata=st.dictionaries(WORD, st.integers(0, 9), max_size=2),
    response=st.none() | st.builds(Response, id=TEXT, model=TEXT, finish_reasons=st.lists(TEXT, max_size=3)),
    stream=st.none() | st.builds(Stream, end=st.sampled_from(["complete", "closed"]), chunks=st.integers(0, 9)),
    cost=st.none() | st.builds(Cost, usd=st.decimals(0, 10**12, allow_nan=False), source=st.text(max_size=4)),
    sampled=st.none() | st.booleans(),
    retries=st.none() | st.integers(0, 5),
)
def test_any_call_survives_being_a_row(**fields: object) -> None:
    record = CallRecord(call_id="c", timing=Timing(start_ns=START_NS), **fields)  # type: ignore[arg-type]
    assert through(record) == record
