"""`callspan send`: the traces of a store's records equal those exported by the process; each is sent once."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, closing
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import openai
import pytest
from msgspec.structs import replace
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SentSpan
from tests.support.commands import Answer, ask, interrupted
from tests.support.identities import ELSEWHERE, UNKNOWN_AFTER_S
from tests.support.processes import plain_environment
from tests.support.programs import everything, loose, support_desk
from tests.support.receiver import OtlpReceiver
from tests.support.spans_of_records import sent
from tests.support.waiting import HANG_S

from callspan.records import Place, Record, Response, Timing
from callspan.stores import StoreError, find_store
from callspan.testing import Capture, ScriptedProvider, capture

from .conftest import Deliver, Records, clickhouse, reward


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    """A SQLite file, or a store of the kind named by the test."""
    return str(request.getfixturevalue(f"{getattr(request, 'param', 'sqlite')}_url"))


_POSTGRES: Final = pytest.param("postgres", marks=pytest.mark.postgres)
_CLICKHOUSE: Final = pytest.param("clickhouse", marks=pytest.mark.clickhouse)
on_every_store = pytest.mark.parametrize("url", ["sqlite", _POSTGRES, _CLICKHOUSE], indirect=True)
on_stores_of_processes = pytest.mark.parametrize("url", ["sqlite", _POSTGRES], indirect=True)
"""Those that several processes have open: a directory of ClickHouse's engine is one process's."""
on_stores_with_clocks = pytest.mark.parametrize("url", ["sqlite", _CLICKHOUSE], indirect=True)
on_clickhouse = pytest.mark.parametrize("url", [_CLICKHOUSE], indirect=True)


Play = Callable[..., Capture]


@pytest.fixture
def record(url: str, tmp_path: Path, provider: ScriptedProvider) -> Play:
    """Runs programs that record in the store."""

    def play(*programs: Callable[[ScriptedProvider], object], **settings: Any) -> Capture:
        with capture(stores=url, spool_dir=tmp_path / "spool", **settings) as seen:
            for program in programs:
                program(provider)
        return seen

    return play


def send(url: str, receiver: OtlpReceiver, *options: str) -> Answer:
    return ask("--store", url, "send", "--otlp", receiver.url, *options)


def said(done: Answer) -> str:
    """Return the output of a command as one line."""
    return " ".join(done.out.split())


def received(receiver: OtlpReceiver) -> list[SentSpan]:
    scopes = (scope for request in receiver.requests for one in request.resource_spans for scope in one.scope_spans)
    return [span for scope in scopes for span in scope.spans]


def compared(spans: Iterable[SentSpan]) -> list[SentSpan]:
    """Without data that only the store can have: costs computed at delivery, and rewards after a session's end."""
    found = sorted(spans, key=attrgetter("span_id"))
    for span in found:
        later = "callspan.reward" if span.name.startswith("invoke_workflow") else "callspan.cost."
        kept = [one for one in span.attributes if not one.key.startswith(later)]
        del span.attributes[:]
        span.attributes.extend(kept)
    return found


@on_every_store
def test_sent_spans_equal_exported_spans(url: str, record: Play, receiver: OtlpReceiver) -> None:
    seen = record(support_desk, everything, loose)
    done = send(url, receiver)
    assert done.code == 0, done.out + done.err
    assert compared(received(receiver)) == compared(map(sent, seen.spans))
    before = {span.span_id for span in receiver.spans}
    known = send(url, receiver)
    assert known.code == 0
    # Older rows are not read again, so that no number of previously sent ones would be correct.
    assert said(known).startswith("Nothing is new in ")
    assert said(known).endswith(". --again sends what was sent before.")
    assert len(receiver.spans) == len(before)
    assert send(url, receiver, "--again").code == 0
    assert len(receiver.spans) == 2 * len(before)
    assert {span.span_id for span in receiver.spans} == before


@pytest.mark.parametrize(
    ("settings", "environment"),
    [
        ({"content": "metadata"}, {"CALLSPAN_CONTENT": "metadata"}),
        ({"content": "off"}, {"CALLSPAN_CONTENT": "off"}),
        ({"content_on_spans": False}, {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "event_only"}),
        ({"vocabularies": "gen_ai"}, {"CALLSPAN_VOCABULARIES": "gen_ai"}),
        ({"trace_per": "timestep"}, {}),
    ],
    ids=str,
)
def test_environment_settings_control_span_content(
    settings: dict[str, Any], environment: dict[str, str], url: str, record: Play, receiver: OtlpReceiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    seen = record(support_desk, loose, **settings)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert send(url, receiver).code == 0
    assert compared(received(receiver)) == compared(map(sent, seen.spans))


def test_background_calls_are_sent_with_answers(
    url: str, record: Play, receiver: OtlpReceiver, client: openai.OpenAI
) -> None:
    def background(_: ScriptedProvider) -> None:
        waits = client.responses.create(model="m", input="Hi", background=True)
        assert client.responses.create(model="m", input="Hi", background=True).status != "completed"
        while client.responses.retrieve(waits.id).status != "completed":
            pass

    seen = record(background)
    assert [span.name for span in seen.spans] == ["chat m", "chat m", "fetch_response"]
    assert send(url, receiver).code == 0
    (span,) = receiver.spans
    assert (span.span_id, span.attributes["callspan.outcome"]) == (f"{seen.spans[0].context.span_id:016x}", "success")


def test_unsampled_and_open_records_are_counted(
    url: str, deliver: Deliver, records: Records, receiver: OtlpReceiver
) -> None:
    ids = {"trace_id": "a" * 32, "parent_span_id": None}
    deliver(url).write(
        records.session("s1", start_ns=time.time_ns(), **ids, span_id="1" * 16, sampled=True, process=ELSEWHERE),
        records.call(session_id="s1", **ids, span_id="2" * 16, sampled=True, service="shop", host="h", pid=7),
        records.call(session_id="s1", **ids, span_id="3" * 16, sampled=False),
        records.call(session_id="s1", **ids, span_id="4" * 16, sampled=True, outcome="in_progress"),
        records.call(session_id="s1", **ids, span_id="5" * 16, sampled=True, batch_id="batch_1"),
    )
    done = send(url, receiver, "--json")
    assert json.loads(done.out) == {
        "receiver": f"{receiver.url}/v1/traces", "sent": 1, "refused": 0, "rejected": 0, "late": 0,
        "unsampled": 1, "unended": 2, "reasons": {}, "unavailable": None,
    }  # fmt: skip
    (span,) = receiver.spans
    assert span.span_id == "2" * 16
    assert span.scope == "callspan"
    assert span.resource.pop("service.instance.id")
    assert span.resource == {
        "telemetry.sdk.language": "python", "telemetry.sdk.name": "opentelemetry", "service.name": "shop",
        "host.name": "h", "process.pid": 7,
    }  # fmt: skip
    assert "--again sends what was sent before. 1 not sampled. 2 not ended." in said(send(url, receiver))


def test_unavailable_receiver(url: str, record: Play, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = record(loose)
    with socket.socket() as closed, monkeypatch.context() as patch:
        closed.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}"
        patch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3")
        done = ask("--store", url, "send", "--otlp", nowhere)
    assert done.code == 1
    assert f"0 spans sent to {nowhere}/v1/traces. It is unavailable (Connection refused)" in said(done)
    assert send(url, receiver).code == 0
    assert len(receiver.spans) == len(seen.spans)


def test_oversized_spans_are_isolated(url: str, record: Play, receiver: OtlpReceiver) -> None:
    seen = record(support_desk, loose)
    receiver.max_bytes = max(sent(span).ByteSize() for span in seen.spans)
    done = send(url, receiver)
    assert done.code == 1
    assert "code: 413, reason: Request Entity Too Large. --again retries these records." in said(done)
    assert 0 < len(seen.spans) - len(receiver.spans) < 4
    receiver.max_bytes = None
    assert send(url, receiver).code == 0
    assert len(receiver.spans) == len(seen.spans)


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_partial_rejection_is_reported(
    protocol: str, url: str, record: Play, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request is accepted, and which span was not is unknown: none is remembered as sent."""
    seen = len(record(loose).spans)
    if protocol == "grpc":
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{receiver.serve_grpc()}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    at = () if protocol == "grpc" else ("--otlp", receiver.url)
    receiver.rejects = (1, "one\nis too large")
    for _ in range(2):
        done = ask("--store", url, "send", *at)
        assert done.code == 1
        assert f"{seen - 1} spans sent to" in said(done)
        assert "1 rejected: one is too large. --again retries these records." in said(done)
    found = json.loads(ask("--store", url, "send", *at, "--json").out)
    assert (found["sent"], found["rejected"], found["reasons"]) == (seen - 1, 1, {"one is too large": 1})
    receiver.rejects = (0, "a warning")
    done = ask("--store", url, "send", *at)
    assert (done.code, f"{seen} spans sent to" in said(done)) == (0, True)
    assert "Nothing is new" in said(ask("--store", url, "send", *at))


def test_receiver_errors_hide_secrets(
    url: str, record: Play, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line without control characters, without our headers."""
    record(loose)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{receiver.serve_grpc()}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20sesame-123")
    receiver.status, receiver.refusal = 500, ("PERMISSION_DENIED", "no\r\n\x1b[31m way for sesame-123")
    done = ask("--store", url, "send")
    assert done.code == 1
    assert "PERMISSION_DENIED" in said(done)
    assert "way for ***" in said(done)
    assert "\x1b" not in done.out + done.err
    assert "sesame" not in done.out + done.err
    receiver.status = 200
    assert ask("--store", url, "send").code == 0
    assert receiver.headers[-1]["authorization"] == "Bearer sesame-123"


KEYS: Final = {
    "header": "sesame-123", "known format": "sk-ant-abcdefgh12345678", "name": "api_key=a1b2c3d4e5",
    "hexadecimal": b"sesame-123".hex(), "URL": "https://u:pw12345@host/x",
}  # fmt: skip


@pytest.mark.parametrize("form", KEYS)
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_reason_of_a_partial_rejection_has_no_secret(
    protocol: str, form: str, url: str, record: Play, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(loose)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=Bearer%20sesame-123")
    address = f"http://{receiver.serve_grpc()}" if protocol == "grpc" else receiver.url
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    receiver.rejects = (1, f"no room for {KEYS[form]} today")
    for answer in (ask("--store", url, "send"), ask("--store", url, "send", "--json")):
        assert answer.code == 1
        assert "no room for" in answer.out + answer.err
        assert "today" in answer.out + answer.err
        secret = KEYS[form].rpartition("=")[2].removeprefix("https://").partition("@")[0]
        assert secret not in answer.out + answer.err


def following(url: str, receiver: OtlpReceiver) -> AbstractContextManager[subprocess.Popen[str]]:
    return interrupted("--store", url, "send", "--follow", "--otlp", receiver.url)


@on_stores_of_processes
def test_following_continues_after_an_outage(url: str, record: Play, receiver: OtlpReceiver) -> None:
    seen = [*record(support_desk).spans]
    with following(url, receiver) as process:
        assert len(receiver.wait_for(len(seen))) == len(seen)
        receiver.status = 503
        seen += record(loose).spans
        told = process.stderr.readline()
        assert "Service Unavailable" in told
        assert "it is tried again" in told
        seen += record(everything).spans
        receiver.status = 200
        assert len(receiver.wait_for(len(seen))) == len(seen)
        assert "Spans are sent to" in process.stderr.readline()
        time.sleep(2.5)
    assert process.returncode == 0
    assert sorted(span.span_id for span in receiver.spans) == sorted(f"{span.context.span_id:016x}" for span in seen)


KINDS: Final = ("call", "session", "timestep", "event", "reward")


def shift(url: str, seconds: int, where: str = "1 = 1") -> None:
    """Shift the times at which the store wrote its rows."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database, database:
            for kind in KINDS:
                database.execute(f"UPDATE {kind}s SET stored_ns = stored_ns + {seconds * 10**9} WHERE {where}")
    else:
        changed(
            url, *(f"{kind}_versions UPDATE stored_ns = stored_ns + {seconds * 10**9} WHERE {where}" for kind in KINDS)
        )


def changed(url: str, *changes: str) -> None:
    """Change rows of ClickHouse."""
    with clickhouse(url) as client:
        for change in changes:
            client.command(f"ALTER TABLE {change} SETTINGS mutations_sync = 2")


@on_stores_with_clocks
def test_rows_of_a_long_transaction_are_sent(url: str, record: Play, receiver: OtlpReceiver) -> None:
    """Its rows have earlier times than rows that were already sent."""
    first = record(loose)
    shift(url, -3600)
    assert send(url, receiver).code == 0
    second = record(loose)
    shift(url, -3600 - 50, f"stored_ns > {time.time_ns() - 600 * 10**9}")
    assert json.loads(send(url, receiver, "--json").out)["sent"] == len(second.spans)
    assert len(receiver.spans) == len(first.spans) + len(second.spans)


def turn_clock(url: str, seconds: int) -> None:
    """Have the clock show so many seconds less than when the rows were written and sent."""
    shift(url, seconds)
    # The mark, a time, is the smallest version: those of spans are twice their end.
    if not url.startswith("sqlite"):
        mark = "version = (SELECT min(version) FROM sent)"
        changed(url, f"sent_spans UPDATE version = version + {seconds * 10**9} WHERE {mark}")
        return
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database, database:
        mark = "version = (SELECT min(version) FROM sent)"
        assert database.execute(f"UPDATE sent SET version = version + ? WHERE {mark}", (seconds * 10**9,)).rowcount == 1


@on_stores_with_clocks
def test_rows_are_sent_after_the_clock_was_set_back(url: str, record: Play, receiver: OtlpReceiver) -> None:
    """Also those that are sent only when it has passed the earlier time again."""
    first = record(loose)
    assert send(url, receiver).code == 0
    turn_clock(url, 3600)
    second = record(loose)
    assert json.loads(send(url, receiver, "--json").out)["sent"] == len(second.spans)
    third = record(loose)
    turn_clock(url, -7200)
    assert json.loads(send(url, receiver, "--json").out)["sent"] == len(third.spans)
    assert len(receiver.spans) == len(first.spans) + len(second.spans) + len(third.spans)


LEFT: Final = """
import sys
import openai
import callspan

provider, store, spool = sys.argv[1:]
handle = callspan.instrument(stores=store, spool_dir=spool)
client = openai.OpenAI(api_key="k", base_url=provider)
asked = {"messages": [{"role": "user", "content": "Hi"}]}
with callspan.session("s", session_id="own") as session, session.timestep(), callspan.invoke_agent("a"):
    client.chat.completions.create(model="m", **asked)
    stream = client.chat.completions.create(model="open", **asked, stream=True)
    next(iter(stream))
    handle.force_flush(300_000)
    print("waits", flush=True)
    sys.stdin.read()
"""


def test_unended_records_are_sent(url: str, provider: ScriptedProvider, receiver: OtlpReceiver, tmp_path: Path) -> None:
    """Its end writes nothing to the store. Without a tracer provider its spans are nested by derived ids."""
    command = [sys.executable, "-c", LEFT, provider.openai_url, url, str(tmp_path / "spool")]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=plain_environment(), **pipes) as process:
        assert process.stdout.readline() == "waits\n"
        assert send(url, receiver).code == 0
        assert [span.name for span in receiver.spans] == ["chat m"]
        process.kill()
    shift(url, -120)
    assert send(url, receiver).code == 0
    assert send(url, receiver).code == 0
    spans = {span.name: span for span in receiver.spans}
    chain = [spans[name] for name in ("invoke_workflow s", "timestep", "invoke_agent a", "chat open")]
    assert [span.parent_id for span in chain] == [None, *(span.span_id for span in chain[:-1])]
    assert spans["chat m"].parent_id == spans["chat open"].parent_id
    assert len({span.trace_id for span in spans.values()}) == 1
    assert {span.name for span in receiver.spans if span.status == "ERROR"} == {span.name for span in chain}
    assert {span.attributes["error.type"] for span in chain} == {"interrupted"}
    assert len({span.end_ns for span in chain[:3]}) == 1
    assert len(receiver.spans) == 5
    assert chain[0].attributes["callspan.totals.calls"] == 2
    assert chain[0].attributes["callspan.totals.input_tokens"] > 0
    assert chain[0].attributes["callspan.outcome"] == chain[3].attributes["callspan.outcome"] == "interrupted"
    assert not {"llm.total_latency", "callspan.error.retryable"} & {*chain[3].attributes}


@on_every_store
def test_records_of_a_silent_process_are_sent_once_as_unknown(
    url: str, deliver: Deliver, records: Records, receiver: OtlpReceiver
) -> None:
    """A container on another host may have been killed or still run: only after an hour without a sign, no error."""
    now_ns = time.time_ns()
    old_ns = now_ns - 2 * UNKNOWN_AFTER_S * 10**9
    begun: dict[str, Any] = {"part": "started", "outcome": "in_progress", "response": None, "usage": None}
    call = records.call(session_id="s1", process=ELSEWHERE, sampled=True, **begun)
    session = records.session("s1", start_ns=old_ns, process=ELSEWHERE, version=now_ns)
    deliver(url).write(session, replace(call, timing=Timing(start_ns=old_ns)))
    assert json.loads(send(url, receiver, "--json").out)["sent"] == 0
    deliver(url).write(replace(session, session_id="s2", seen_ns=old_ns))
    deliver(url).write(replace(call, call_id="c2", place=Place(session_id="s2"), timing=Timing(start_ns=old_ns)))
    assert json.loads(send(url, receiver, "--json").out)["sent"] == 2
    assert {span.status for span in receiver.spans} == {"UNSET"}
    assert {span.attributes["callspan.outcome"] for span in receiver.spans} == {"unknown"}
    ended = replace(session, session_id="s2", seen_ns=now_ns, end_ns=now_ns, outcome="success")
    deliver(url).write(
        ended,
        replace(
            records.call(call_id="c2", session_id="s2", sampled=True, span_id=call.span_id),
            timing=Timing(start_ns=old_ns),
        ),
    )
    found = json.loads(send(url, receiver, "--json").out)
    assert (found["sent"], found["late"]) == (0, 2)
    assert "2 spans ended after being sent as unknown: not sent again." in said(send(url, receiver))
    assert len(receiver.spans) == 2
    assert json.loads(send(url, receiver, "--again", "--json").out)["sent"] == 2


@on_stores_of_processes
def test_only_one_process_sends_to_a_receiver(url: str, record: Play, receiver: OtlpReceiver) -> None:
    seen = record(loose)
    with following(url, receiver):
        assert len(receiver.wait_for(len(seen.spans))) == len(seen.spans)
        done = send(url, receiver)
        assert done.code == 1
        assert "Another process sends" in done.err
        with OtlpReceiver() as other:
            assert send(url, other).code == 0
            assert len(other.spans) == len(seen.spans), "each receiver gets them"
    assert send(url, receiver).code == 0


@on_clickhouse
def test_one_sender_has_the_lease_of_a_receiver(url: str, record: Play, receiver: OtlpReceiver) -> None:
    """It is given back at the end. One that was not renewed for a minute has expired."""
    seen = record(loose)
    name = f"{receiver.url}/v1/traces"
    store: Any = find_store(url)
    with closing(store.sent(name)) as versions:
        done = send(url, receiver)
        assert (done.code, "Another process sends" in done.err) == (1, True)
        with OtlpReceiver() as other:
            assert send(url, other).code == 0
            assert len(other.spans) == len(seen.spans)
        changed(url, "sender_leases UPDATE renewed_ns = renewed_ns - 20000000000 WHERE 1 = 1")
        assert "Another process sends" in send(url, receiver).err
        changed(url, "sender_leases UPDATE renewed_ns = renewed_ns - 41000000000 WHERE 1 = 1")
        with closing(store.sent(name)) as second:
            time.sleep(10.5)
            versions.add({"a": 1})  # it hung, and has the earlier lease
            with pytest.raises(StoreError, match="Another process sends"):
                second.add({"b": 2})
        assert versions.versions(["a", "b"]) == {"a": 1, "b": 2}, "what was sent is remembered"
    assert send(url, receiver).code == 0
    assert len(receiver.spans) == len(seen.spans)


FOLLOWED: Final = """
import runpy
import sys
import threading
import openai
import callspan

provider, store, spool, receiver = sys.argv[1:]
handle = callspan.instrument(stores=store, spool_dir=spool)
client = openai.OpenAI(api_key="k", base_url=provider)

def call():
    for line in sys.stdin:
        client.chat.completions.create(model=line.strip(), messages=[{"role": "user", "content": "Hi"}])
        handle.force_flush(300_000)

client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
handle.force_flush(300_000)
threading.Thread(target=call, daemon=True).start()
sys.argv = ["callspan", "--store", store, "send", "--follow", "--otlp", receiver]
runpy.run_module("callspan.cli", run_name="__main__")
"""


@on_clickhouse
def test_following_the_store_of_the_own_process(
    url: str, provider: ScriptedProvider, receiver: OtlpReceiver, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", FOLLOWED, provider.openai_url, url, str(tmp_path / "spool"), receiver.url]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, env=plain_environment(), text=True, **pipes) as process:
        assert [span.name for span in receiver.wait_for(1)] == ["chat m"]
        receiver.status = 503
        print("n", file=process.stdin, flush=True)
        assert "Service Unavailable" in process.stderr.readline()
        receiver.status = 200
        print("o", file=process.stdin, flush=True)
        assert sorted(span.name for span in receiver.wait_for(3)) == ["chat m", "chat n", "chat o"]
        assert "Spans are sent to" in process.stderr.readline()
        time.sleep(2.5)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=HANG_S)
    assert process.returncode == 0
    assert len(receiver.spans) == 3


@on_stores_with_clocks
def test_rewards_join_the_session_of_their_target(
    url: str, deliver: Deliver, records: Records, receiver: OtlpReceiver
) -> None:
    """A reward that names its call by an id of the provider comes after the call was sent, or before the call."""
    now_ns = time.time_ns()

    def ended(number: int) -> list[Record]:
        session_id, response = f"s{number}", Response(id=f"chatcmpl-{number}", model="m", finish_reasons=["stop"])
        call = records.call(session_id=session_id, sampled=True, response=response)
        times: dict[str, Any] = {"start_ns": now_ns, "end_ns": now_ns + 10**9}
        own = records.session(session_id, now_ns + 10**9, **times, outcome="success", sampled=True)
        return [own, replace(call, timing=Timing(start_ns=now_ns, duration_ns=10**8))]

    def given(number: int) -> Record:
        span: dict[str, Any] = {"trace_id": "a" * 32, "span_id": f"{number:016x}", "sampled": True}
        return reward(f"r{number}", call_id=f"chatcmpl-{number}", scope="call", time_ns=now_ns + 2 * 10**9, **span)

    store, sent_numbers = deliver(url), []
    for written in (ended(1), [given(1)], [given(2)], ended(2)):
        store.write(*written)
        sent_numbers.append(json.loads(send(url, receiver, "--json").out)["sent"])
        shift(url, -120)  # only new rows are read again
    assert sent_numbers == [2, 1, 1, 2]
    assert [span.name for span in receiver.spans].count("evaluation reward") == 2


def test_invalid_use_is_an_error(url: str, receiver: OtlpReceiver, tmp_path: Path) -> None:
    for options in (["--otlp", "host:4318"], ["--otlp", "u:sesame@host"], []):
        done = ask("--store", url, "send", *options)
        assert done.code == 2
        assert "sesame" not in done.out + done.err
    assert "there is no such file" in send(url, receiver).err
    assert not [*tmp_path.iterdir()]
