"""The store `otlp+http://…?records`: each record as an OTLP log record, and `import` of what a Collector wrote."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.launching import free_port
from tests.support.left_behind import losses_of
from tests.support.processes import ROOT
from tests.support.receiver import OtlpReceiver, plain
from tests.support.records import START_NS, made, raw, session
from tests.support.scale import scaled
from tests.support.through_otlp import arrived, listening, sent_by

from callspan import SettingError, Settings, import_records, open_store
from callspan.records import CallRecord, Record, Request, Response, decode
from callspan.stores import Rejected, StoreError, find_store


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


def url_of(receiver: OtlpReceiver) -> str:
    return f"otlp+{receiver.url}?records"


def records_at(receiver: OtlpReceiver) -> list[Record]:
    return [decode(log.body.string_value.encode()) for _, _, log in receiver.logs]


def test_record_is_a_log_record(receiver: OtlpReceiver) -> None:
    call = made("c1", trace_id="ab" * 16, span_id="cd" * 8, service="shop", host="h1")
    scope = session("s1", start_ns=START_NS)
    assert find_store(url_of(receiver)).write([call, scope]) == []
    assert records_at(receiver) == [call, scope]
    (_, attributes, log), (_, _, other) = receiver.logs
    assert attributes == {"callspan.kind": "call", "callspan.id": "c1"}
    resource, _ = receiver.requests[0].resource_logs
    assert plain(resource.resource.attributes) == {"service.name": "shop", "host.name": "h1"}
    assert (log.trace_id.hex(), log.span_id.hex(), log.time_unix_nano) == ("ab" * 16, "cd" * 8, START_NS)
    assert (log.event_name, other.event_name, other.trace_id) == ("callspan.call", "callspan.session", b"")


def test_large_record_is_slimmed_and_says_so(receiver: OtlpReceiver) -> None:
    body = {"messages": [{"role": "user", "content": "long " * 400_000}]}
    answer = raw({"output": "y" * 1000})
    large = made("c1", request=Request(body=raw(body)), response=Response(body=answer))
    small = [made(f"c{number}", request=Request(body=raw({"input": "x" * 100_000}))) for number in range(2, 20)]
    assert find_store(url_of(receiver)).write([large, *small]) == []
    first, *others = records_at(receiver)
    assert isinstance(first, CallRecord)
    assert [(note.what, note.why) for note in first.redactions] == [("request.body", "size")]
    assert first.response is not None
    assert bytes(first.response.body) == bytes(answer), "what fits stays"
    assert others == small
    assert all(request.ByteSize() < 1 << 20 for request in receiver.requests), "what Kafka takes as a message"


@pytest.mark.parametrize("status", [400, 413])
def test_refused_records_are_rejected(receiver: OtlpReceiver, status: int) -> None:
    receiver.status = status
    calls = [made("c1"), made("c2")]
    assert find_store(url_of(receiver)).write(calls) == calls


def test_partial_success_is_read(receiver: OtlpReceiver) -> None:
    receiver.rejects = (1, "no room")
    call = made("c1")
    with pytest.raises(Rejected, match="no room") as refused:
        sink = find_store(url_of(receiver)).sink()
        sink.open()
        sink.deliver([call])
    assert refused.value.record is call
    sink.close()


@pytest.mark.parametrize("status", [401, 404])
def test_receiver_that_may_take_them_later_rejects_none(receiver: OtlpReceiver, status: int) -> None:
    receiver.status = status
    with pytest.raises(StoreError):
        find_store(url_of(receiver)).write([made("c1")])


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("otlp+http://localhost:4318", "does not say \\?records"),
        ("otlp+http://localhost:4318?records&x=hunter2", "unknown option"),
        ("otlp://localhost:4318?records", "is no OTLP receiver"),
        ("otlp+grpc://localhost:4317?records", "is no OTLP receiver"),
        ("otlp+http://?records", "is no OTLP receiver"),
    ],
)
def test_invalid_url_is_refused(url: str, why: str) -> None:
    with pytest.raises(SettingError, match=why) as refused:
        find_store(url)
    assert "hunter2" not in str(refused.value)


def test_records_of_a_collector_are_imported(tmp_path: Path, receiver: OtlpReceiver) -> None:
    """Beside log records of others, and of a line that was cut off."""
    question = {"role": "user", "content": "Hi \U0001f600"}
    call = made("c1", request=Request(body=raw({"model": "m", "messages": [question]})))
    find_store(url_of(receiver)).write([call])
    body = receiver.logs[0][2].body.string_value

    def line(scope: str, *bodies: object) -> str:
        records = [{"timeUnixNano": "1", "body": body, "traceId": ""} for body in bodies]
        scopes = [{"scope": {"name": scope}, "logRecords": records}]
        return json.dumps({"resourceLogs": [{"resource": {}, "scopeLogs": scopes}]})

    ours = "callspan.records"
    written = tmp_path / "collected.jsonl"
    lines = [
        line(ours, {"stringValue": body}), line("nginx", {"stringValue": "GET /"}), '{"resourceLogs":[{"res',
        line(ours, {"stringValue": "no record"}, {"intValue": "1"}), body,
    ]  # fmt: skip
    written.write_text("\n".join(lines))
    counts = import_records(written, tmp_path / "calls.db")
    assert (counts.records["calls"], counts.unreadable) == (2, 3)
    with open_store(f"sqlite:///{tmp_path}/calls.db") as reader:
        (stored,) = reader.calls()
        assert bytes(stored.request.body) == bytes(call.request.body)


def test_no_record_is_lost_while_the_receiver_dies(tmp_path: Path) -> None:
    port, file = free_port(), tmp_path / "collected.jsonl"
    url, log = f"otlp+http://127.0.0.1:{port}?records", tmp_path / "log"
    command = [sys.executable, str(ROOT / "tests/support/file_receiver.py"), str(port), str(file)]
    running = [listening(command, port, log)]

    def kill() -> None:
        running[-1].kill()
        running[-1].wait()
        running.append(listening(command, port, log))

    try:
        returned = sent_by(2, scaled(60, 2000), url, tmp_path / "workers", kills=2, kill=kill)
    finally:
        running[-1].kill()
        running[-1].wait()
    versions = arrived(file)
    assert returned <= versions.keys()
    assert {len(of_call) for of_call in versions.values()} == {1}, "what arrived twice is equal"
    losses = losses_of(url, Settings(spool_dir=tmp_path / "workers" / "spool"))
    assert (losses.dropped, losses.given_up, losses.rejected, losses.damaged) == ({}, {}, {}, {})
