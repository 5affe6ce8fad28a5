"""The receiver over HTTP: who may send, what is refused, that what it acknowledges is written, and the command."""

from __future__ import annotations

import gzip
import json
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest
from tests.conftest import Instrument, Read
from tests.receive.conftest import (
    CALLSPAN,
    GEN_AI,
    JSON,
    ONE,
    WIRING,
    Place,
    Receiver,
    Sender,
    Serve,
    calls,
    every_check,
    logs,
    post,
    receiver,
    recorded,
    span,
    traces,
    unrecorded_of,
)
from tests.support.processes import plain_environment
from tests.support.rig import until

import callspan


def test_acknowledged_is_written(serve: Serve, reading: Read, store: str) -> None:
    server = serve()
    assert post(server, "/v1/traces", ONE) == (200, b"{}")
    assert post(server, "/v1/logs", gzip.compress(json.dumps(logs(recorded("failed")[0])).encode()),
                content_encoding="gzip")[0] == 200  # fmt: skip
    assert post(server, "/v1/metrics", b"", content_type="application/x-protobuf") == (200, b"")
    assert [call.model for call in calls(reading, store)] == ["gpt-5"]


@pytest.mark.parametrize("compression", ["NoCompression", "Gzip"])
def test_exporter_of_opentelemetry(serve: Serve, reading: Read, store: str, compression: str) -> None:
    http = pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    server = serve()
    exporter = OTLPSpanExporter(f"{server.url()}/v1/traces", compression=getattr(http.Compression, compression))
    provider = TracerProvider(resource=Resource({"service.name": "go-agent"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.get_tracer("theirs").start_span("chat", attributes=GEN_AI).end()
    provider.shutdown()
    (call,) = calls(reading, store)
    assert (call.service, call.sdk, call.usage.input_tokens) == ("go-agent", "theirs", 5)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://attacker.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:4318"},
        {"sec_fetch_site": "none"},
        {"host": "attacker.example"},
        {"host": "127.0.0.1"},
    ],
)
def test_no_web_page_may_send(serve: Serve, reading: Read, store: str, headers: dict[str, str]) -> None:
    server = serve()
    assert post(server, "/v1/traces", ONE, **headers)[0] == 403
    assert sum(server.refused.values()) == 1
    assert calls(reading, store) == []


def test_address_that_callspan_set_needs_its_token(serve: Serve, reading: Read, store: str) -> None:
    server = serve(needs_token=True)
    token = server.admit(Sender(place=Place(session_id="ours")))
    for path in ("/v1/logs", "//v1/logs", f"/{token.swapcase()}/v1/logs", f"/{token}/v1/other", f"/{token}/v2/logs"):
        assert post(server, path, b"{}")[0] == 404, path
    assert token not in server.heard
    for events in recorded("tools"):
        assert post(server, f"/{token}/v1/logs", json.dumps(logs(events)).encode())[0] == 200
    assert token in server.heard
    assert {call.place.session_id for call in calls(reading, store)} == {"ours"}


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[]", {}, 400),
        (b"\xff\xfe", {}, 400),
        (b"garbage", {"content_type": "application/x-protobuf"}, 400),
        (ONE, {"content_encoding": "gzip"}, 400),
        (ONE, {"content_encoding": "br"}, 415),
        (gzip.compress(ONE)[:-9], {"content_encoding": "gzip"}, 400),
        (ONE, {"content_type": "text/plain"}, 415),
        (gzip.compress(bytes(65 << 20)), {"content_encoding": "gzip"}, 413),
        (b"[" * 100_000, {}, 400),
    ],
)
def test_garbage_is_refused_and_harms_nothing(
    serve: Serve, reading: Read, store: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    server = serve()
    assert post(server, "/v1/traces", body, **headers)[0] == status
    assert sum(server.refused.values()) == 1
    assert post(server, "/v1/traces", ONE)[0] == 200
    assert len(calls(reading, store)) == 1


def test_what_is_refused_for_good_is_said(serve: Serve, store: str) -> None:
    server = serve()
    post(server, "/v1/traces", ONE, origin="null")
    post(server, "/v1/traces", b"{")
    post(server, "/v1/traces", b"{")
    WIRING.flush(20)
    assert unrecorded_of(store) == {
        "OTLP requests of browsers, and for other hosts": 1,
        "OTLP requests that are no OTLP": 2,
    }
    (check,) = (check for check in every_check(store) if "no OTLP" in check.name)
    assert (check.area, check.state, check.detail[:7]) == ("not recorded", "warning", "2 times")


def test_larger_body_than_allowed_is_not_read(serve: Serve) -> None:
    server = serve()
    with closing(socket.create_connection(("127.0.0.1", server.port))) as sender:
        sender.sendall(
            f"POST /v1/traces HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\ncontent-type: application/json\r\n"
            f"content-length: {1 << 40}\r\n\r\n".encode()
        )
        with pytest.raises((ConnectionError, BrokenPipeError)):
            for _ in range(2000):
                sender.sendall(bytes(1 << 20))
    assert post(server, "/v1/traces", ONE)[0] == 200


def test_a_sender_that_hangs_holds_up_nobody(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callspan.receive.server._MAX_BODY_S", 0.5)
    server = serve()
    hanging = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(10)]
    for sender in hanging:
        sender.sendall(
            f"POST /v1/traces HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\ncontent-type: application/json\r\n"
            "content-length: 100\r\n\r\n{".encode()
        )
    assert post(server, "/v1/traces", ONE)[0] == 200
    until(lambda: server.refused["that take too long"] == 10)
    for sender in hanging:
        assert sender.recv(12) == b"HTTP/1.1 503", "it may be faster another time"
        sender.close()


def test_nothing_is_acknowledged_while_no_disk_takes_it(
    serve: Serve, reading: Read, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    with monkeypatch.context() as patch:
        patch.setattr("callspan.spool.segment.os.writev", _full)
        assert post(server, "/v1/traces", ONE)[0] == 503
        assert post(server, "/v1/traces", json.dumps(traces(span(GEN_AI, 2))).encode())[0] == 503
    assert post(server, "/v1/traces", ONE)[0] == 200
    assert len(calls(reading, store)) == 1


def _full(*_: object) -> int:
    raise OSError(28, "No space left on device")


def test_content_level_and_redactor_hold_before_anything_is_written(
    serve: Serve, instrumented: Instrument, reading: Read, store: str
) -> None:
    server = serve()
    instrumented(content="metadata")
    for events in recorded("tools"):
        post(server, "/v1/logs", json.dumps(logs(events)).encode())
    for call in calls(reading, store):
        assert (call.content_level, bytes(call.request.body), call.text) == ("metadata", b"", None)
    spooled = b"".join(file.read_bytes() for file in Path(f"{store.removeprefix('sqlite:///')}.spool").rglob("*.jsonl"))
    assert b"cat a.txt" not in spooled


def test_received_calls_are_in_the_totals_of_their_open_session(serve: Serve, reading: Read, store: str) -> None:
    """In its record, and in every sum over the store; versions of a call count once."""
    server = serve(needs_token=True)
    with callspan.session("coding") as session, session.timestep() as step:
        place = Place(session_id=session.id, timestep_id=step.id)
        token = server.admit(Sender(place=place))
        for events in recorded("tools"):
            for each in events:
                assert post(server, f"/{token}/v1/logs", json.dumps(logs([each])).encode())[0] == 200
    recorded_calls = calls(reading, store)
    with closing(reading(store)) as reader:
        summary = reader.session(session.id)
        (timestep,) = reader.timesteps(session.id)
    sums = callspan.summary(recorded_calls)
    assert sums.calls == len(recorded_calls) == 5
    for totals in (summary, summary.session.totals, timestep.totals):
        assert (totals.calls, totals.errors) == (5, 0)
        assert (totals.input_tokens, totals.output_tokens) == (sums.input_tokens, sums.output_tokens)
    assert summary.session.totals.tools == timestep.totals.tools == 3
    assert summary.cost_usd == sums.cost_usd is not None
    assert summary.session.outcome == "success"


def test_many_senders_at_once_lose_nothing(serve: Serve, reading: Read, store: str) -> None:
    server = serve()
    bodies = [
        json.dumps(traces(*(span({**GEN_AI, "gen_ai.response.id": f"{number}-{i}"}, 1 + number * 50 + i)
                            for i in range(50)))).encode()
        for number in range(20)
    ]  # fmt: skip
    with ThreadPoolExecutor(4) as senders:
        statuses = list(senders.map(lambda body: post(server, "/v1/traces", body)[0], bodies))
    assert set(statuses) == {200}
    assert len(calls(reading, store)) == 1000


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Receiver]:
    with receiver(tmp_path) as running:
        yield running


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_receives_until_it_is_interrupted(
    command: Receiver, reading: Read, tmp_path: Path, number: int
) -> None:
    connection = HTTPConnection(command.url.removeprefix("http://"))
    connection.request("POST", "/v1/traces", ONE, JSON)
    assert connection.getresponse().status == 200
    connection.close()
    body = [event for event in recorded("failed")[0] if event["event.name"] == "api_request_body"][:1]
    connection.request("POST", "/v1/logs", json.dumps(logs(body)), JSON)
    assert connection.getresponse().status == 200
    connection.close()
    command.process.send_signal(number)
    assert command.process.wait(90) in (130, -signal.SIGTERM, 143)
    with closing(reading(f"sqlite:///{tmp_path}/c.db")) as opened:
        assert sorted(call.outcome for call in opened.calls()) == ["interrupted", "success"]


def test_command_says_that_its_port_is_taken(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    done = subprocess.run(
        [*CALLSPAN, "--store", f"sqlite:///{tmp_path}/c.db", "receive", "--port", str(server.port)],
        capture_output=True, text=True, env=plain_environment(), cwd=tmp_path, check=False,
    )  # fmt: skip
    assert (done.returncode, f"127.0.0.1:{server.port}: Address already in use" in done.stderr) == (1, True)


def test_forked_child_does_not_keep_the_socket(serve: Serve) -> None:
    import multiprocessing

    server = serve()
    context = multiprocessing.get_context("fork")
    stop = context.Event()
    child = context.Process(target=stop.wait, args=(60,))
    child.start()
    server.stop()
    until(lambda: _is_free(server.port))
    stop.set()
    child.join(10)
    assert threading.active_count() >= 1


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
