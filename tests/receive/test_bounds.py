"""Bounds of the receiver: what keeps no one else out, costs little, and ends when it is to end.

A connection without a request, a body that trickles, a body of millions of values, a file that is none, and a redactor
that hangs.
"""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Instrument, Read
from tests.receive.conftest import (
    JSON,
    ONE,
    WIRING,
    Kept,
    OtlpServer,
    Sender,
    Serve,
    TooLargeError,
    logs,
    post,
    receiver,
    recorded,
)
from tests.support.rig import until
from tests.support.waiting import HANG_S

HEAD = "POST /v1/traces HTTP/1.1\r\nhost: 127.0.0.1:{}\r\ncontent-type: application/json\r\n"
PROTOBUF = "application/x-protobuf"


@contextmanager
def connected(server: OtlpServer, number: int, first: bytes = b"") -> Iterator[list[socket.socket]]:
    """Connections that have sent their first bytes."""
    senders = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(number)]
    try:
        for sender in senders:
            sender.sendall(first)
        yield senders
    finally:
        for sender in senders:
            sender.close()


def waiting_for(event: threading.Event) -> Callable[[Any], Any]:
    """A redactor that waits."""

    def redact(record: Any) -> Any:
        event.wait(HANG_S)
        return record

    return redact


def ends(sender: socket.socket) -> bytes:
    """What a connection gets until it ends."""
    sender.settimeout(HANG_S)
    got = b""
    try:
        while part := sender.recv(4096):
            got += part
    except ConnectionError:
        pass
    return got


@pytest.mark.parametrize("first", [b"", b"POST /v1/tr", HEAD.encode(), b"\r\n"])
@pytest.mark.parametrize("number", [63, 300])
def test_idle_connections_keep_nobody_out(serve: Serve, number: int, first: bytes) -> None:
    """Nor do those that never send a whole head: of too many the oldest ends."""
    server = serve()
    with connected(server, number, first) as senders:
        assert post(server, "/v1/traces", ONE)[0] == 200
        assert post(server, "/v1/traces", ONE)[0] == 200
        assert number < 256 or ends(senders[0])[:12] in (b"", b"HTTP/1.1 400")


def test_kept_connection_stays_between_requests(serve: Serve) -> None:
    server = serve()
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=HANG_S)) as connection:
        sockets = set()
        for _ in range(3):
            connection.request("POST", "/v1/traces", ONE, JSON)
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (200, b"{}")
            sockets.add(connection.sock)
        assert len(sockets) == 1


def test_kept_connections_keep_nobody_out(serve: Serve) -> None:
    server = serve()
    head = HEAD.format(server.port) + "content-length: 2\r\n\r\n{}"
    with ExitStack() as stack:
        for _ in range(260):
            (sender,) = stack.enter_context(connected(server, 1, head.encode()))
            assert sender.recv(15) == b"HTTP/1.1 200 OK"
        assert post(server, "/v1/traces", ONE)[0] == 200


@pytest.mark.parametrize("length", ["content-length: 1000", "transfer-encoding: chunked"])
def test_slow_bodies_hold_up_nobody(serve: Serve, monkeypatch: pytest.MonkeyPatch, length: str) -> None:
    """They end after the limit, however they trickle, by an answer after which they are sent again."""
    monkeypatch.setattr("callspan.receive.server._MAX_BODY_S", 2)
    server = serve()
    head = f"{HEAD.format(server.port)}{length}\r\n\r\n"
    stop = threading.Event()

    def trickle() -> None:
        while not stop.wait(0.1):
            for sender in senders:
                with suppress(OSError):
                    sender.sendall(b"1\r\n{\r\n" if "chunked" in length else b"{")

    with connected(server, 50, head.encode()) as senders:
        trickling = threading.Thread(target=trickle)
        trickling.start()
        begun_s = time.monotonic()
        assert post(server, "/v1/traces", ONE)[0] == 200
        is_soon = time.monotonic() - begun_s < 2
        until(lambda: server.refused["that take too long"] == 50)
        assert [ends(sender)[:12] for sender in senders] == [b"HTTP/1.1 503"] * 50
        stop.set()
        trickling.join()
    assert is_soon


def test_more_requests_than_are_held_are_to_be_sent_again(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callspan.receive.server._MAX_BODIES_BYTES", 3000)
    server = serve()
    head = f"{HEAD.format(server.port)}content-length: 2000\r\n\r\n".encode()
    with connected(server, 1, head + b" " * 1500), connected(server, 1, head) as (other,):
        until(lambda: server._bytes)
        other.sendall(b" " * 1900)
        answer = ends(other)
        assert (answer[:12], b"retry-after: 1" in answer) == (b"HTTP/1.1 503", True)
        assert post(server, "/v1/traces", ONE)[0] == 200


def test_slow_bodies_give_way_to_others(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are: the oldest is to be sent again. What is being written does not give way."""
    monkeypatch.setattr("callspan.receive.server._MAX_REQUESTS", 2)
    is_over = threading.Event()
    is_over.set()
    server = serve(redact=waiting_for(is_over))
    head = f"{HEAD.format(server.port)}content-length: 2000\r\n\r\n".encode()
    with connected(server, 2, head) as senders:
        until(lambda: server._requests == 2)
        assert post(server, "/v1/traces", ONE)[0] == 200
        assert ends(senders[0])[:12] == b"HTTP/1.1 503"
    until(lambda: server._requests == 0)
    is_over.clear()
    statuses: list[int] = []
    written = [threading.Thread(target=lambda: statuses.append(post(server, "/v1/traces", ONE)[0])) for _ in "ab"]
    for sender in written:
        sender.start()
    until(lambda: server._requests == 2 and not server._bodies)
    assert post(server, "/v1/traces", ONE)[0] == 503
    is_over.set()
    for sender in written:
        sender.join()
    assert statuses == [200, 200]


OBJECTS = b'{"resourceSpans":[' + b"{}," * 2_100_000 + b"{}]}"
BOMBS = {
    "objects": OBJECTS,
    "arrays": b'{"resourceSpans":[' + b"[]," * 2_100_000 + b"{}]}",
    "nested": b'{"resourceSpans":' + b"[" * 4_100_000 + b"]" * 4_100_000 + b"}",
    "numbers": b'{"resourceSpans":[' + b"1," * 4_100_000 + b"1]}",
    "strings": b'{"resourceSpans":[' + b'"\\",",' * 2_100_000 + b"1]}",
    "duplicated keys": b"{" + b'"a":{},' * 1_400_000 + b'"a":1}',
    "quotes": b'"' * 9_000_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_json_of_too_many_values_is_not_decoded(kept: Kept, name: str) -> None:
    _costs_little(kept, gzip.compress(BOMBS[name], 1), is_protobuf=False)


@pytest.mark.parametrize("fields", [b"\x0a\x00", b"\x10\x00", b"\x2a\x00", b"\x0a\x02\x12\x00"])
def test_protobuf_of_too_many_values_is_not_decoded(kept: Kept, fields: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callspan.receive.decoding.MAX_VALUES", 100_000)
    _costs_little(kept, gzip.compress(fields * 100_001, 1), is_protobuf=True)


def _costs_little(kept: Kept, body: bytes, *, is_protobuf: bool) -> None:
    before_s = time.process_time()
    with pytest.raises(TooLargeError):
        kept.inbox.take("traces", body, Sender(), is_protobuf=is_protobuf, encoding="gzip").result(HANG_S)
    assert time.process_time() - before_s < 5


def test_text_of_many_brackets_is_no_bomb(kept: Kept) -> None:
    """The body of a request, which is JSON, in a string: its values are not made."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": '[{,\\"' * 1_000_000}]})
    event = {"event.name": "api_request_body", "time_ns": 10**18, "session.id": "s", "request_body_id": "b",
             "body": body, "body_length": len(body)}  # fmt: skip
    assert kept.take(logs([event]))
    kept.inbox.close()
    assert len(kept.calls) == 1


BODIES = {
    "brackets": b"[" * 5_000_000,
    "brackets, closed": b"[" * 1_900_000 + b"]" * 1_900_000,
    "objects": b'{"a":' * 700_000 + b"1" + b"}" * 700_000,
    "both": b'[{"a":' * 600_000,
    "deep, and many": b'{"x":' + b"[" * 3000 + b"]" * 3000 + b',"y":[' + b"[]," * 1_200_000 + b"[]]}",
    "values": b'{"messages":[' + b"{}," * 2_100_000 + b"{}]}",
    "strings": b'{"messages":[' + b'"\\",' * 2_100_000 + b"1]}",
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("of", ["request", "answer"])
def test_absurd_body_in_a_file_costs_itself(kept: Kept, tmp_path: Path, name: str, of: str) -> None:
    """Little time, and the body alone: the call is recorded."""
    bodies = {"request": json.dumps({"model": "m", "messages": []}).encode(), "answer": ANSWER["body"].encode()}
    for kind, body in (bodies | {of: BODIES[name]}).items():
        (tmp_path / f"x.{kind}.json").write_bytes(body)
    before_s = time.process_time()
    events = [in_file(REQUEST, tmp_path / "x.request.json"), in_file(ANSWER, tmp_path / "x.answer.json"), COUNTERS]
    sender = Sender(bodies=tmp_path)
    assert kept.take(logs(events), sender=sender)
    assert kept.inbox.close(sender)
    assert time.process_time() - before_s < 5
    (call,) = kept.calls.values()
    assert (call.outcome, call.usage and call.usage.output_tokens) == ("success", COUNTERS["output_tokens"])


def test_what_takes_too_long_to_read_is_rejected(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callspan.receive.decoding._MAX_READ_S", -1.0)
    receipt = kept.inbox.take("traces", ONE, Sender(), is_protobuf=False).result(HANG_S)
    assert receipt is not None
    assert (receipt.rejected, kept.calls) == (1, {})
    assert kept.unrecorded == ["spans without ids, or too many, in OTLP requests"]


@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(bytes(65 << 20), 1),
        gzip.compress(bytes(33 << 20), 1) * 2,
        gzip.compress(b"") * 1000,
        zlib.compress(bytes(65 << 20), 1),
    ],
)
def test_unpacked_body_is_bounded(kept: Kept, body: bytes) -> None:
    with pytest.raises(TooLargeError):
        kept.inbox.take("traces", body, Sender(), is_protobuf=False, encoding="gzip").result(HANG_S)


def test_gzip_within_gzip_is_no_request(serve: Serve) -> None:
    server = serve()
    assert post(server, "/v1/traces", gzip.compress(gzip.compress(ONE)), content_encoding="gzip")[0] == 400
    assert post(server, "/v1/traces", gzip.compress(gzip.compress(ONE)), content_encoding="gzip, gzip")[0] == 415


EVENTS = [event for events in recorded("tools") for event in events]
ANSWER = next(event for event in EVENTS if event["event.name"] == "api_response_body")
COUNTERS, REQUEST = (
    next(event for event in EVENTS if event["event.name"] == name and event[key] == ANSWER[key])
    for name, key in (("api_request", "request_id"), ("api_request_body", "request_body_id"))
)


def in_file(event: dict[str, Any], file: Path) -> dict[str, Any]:
    return {**{key: item for key, item in event.items() if key != "body"}, "body_ref": str(file), "body_length": 100}


def made(kind: str, file: Path, outside: Path) -> None:
    match kind:
        case "fifo":
            os.mkfifo(file)
        case "directory":
            file.mkdir()
        case "link out":
            outside.write_bytes(json.dumps({"model": "secret"}).encode())
            file.symlink_to(outside)
        case "link to a device":
            file.symlink_to("/dev/zero")
        case "socket":
            with socket.socket(socket.AF_UNIX) as made_socket:
                made_socket.bind(str(file))
        case "loop":
            file.symlink_to(file)
        case "sparse":
            with file.open("wb") as sparse:
                sparse.truncate(1 << 40)


@pytest.mark.parametrize(
    "kind", ["fifo", "directory", "link out", "link to a device", "socket", "loop", "sparse", "none"]
)
def test_no_other_file_is_opened_as_a_body(kept: Kept, tmp_path: Path, kind: str, monkeypatch: Any) -> None:
    bodies = tmp_path / "b"
    bodies.mkdir()
    monkeypatch.chdir(bodies)  # the name of a socket is short
    file = bodies / "x.request.json"
    made(kind, Path(file.name), tmp_path / "outside.json")
    sender = Sender(bodies=bodies)
    assert kept.take(logs([in_file(REQUEST, file), in_file(ANSWER, file), COUNTERS]), sender=sender)
    assert kept.inbox.close(sender)
    (call,) = kept.calls.values()
    assert (call.outcome, call.usage and call.usage.output_tokens) == ("success", COUNTERS["output_tokens"])
    assert bytes(call.request.body) == b""
    assert b"secret" not in str(kept.versions).encode()


def test_files_of_one_request_are_waited_for_together(kept: Kept, tmp_path: Path) -> None:
    events = [{**in_file(REQUEST, tmp_path / f"{i}.request.json"), "request_body_id": f"b{i}", "agent_id": f"{i}"}
              for i in range(60)]  # fmt: skip
    answers = [{**COUNTERS, "request_id": f"r{i}", "agent_id": f"{i}"} for i in range(60)]
    bodies = [{**in_file(ANSWER, tmp_path / f"{i}.r.json"), "request_body_id": f"b{i}", "request_id": f"r{i}",
               "agent_id": f"{i}"} for i in range(60)]  # fmt: skip
    begun_s = time.monotonic()
    assert kept.take(logs([*events, *answers, *bodies]), sender=Sender(bodies=tmp_path))
    assert time.monotonic() - begun_s < 10, "each alone takes half a second"
    assert len(kept.calls) == 60


def test_file_that_hangs_is_given_up(kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network disk that is gone. While some hang, the next ones are not begun."""
    monkeypatch.setattr("callspan.receive.foreign_files._MAX_S", 0.2)
    is_over, real = threading.Event(), os.open
    hanging: list[object] = []

    def hanging_open(path: Any, *args: Any, **options: Any) -> int:
        if "hangs" in str(path):
            hanging.append(path)
            is_over.wait(HANG_S)
        return real(path, *args, **options)

    monkeypatch.setattr("callspan.receive.foreign_files.os.open", hanging_open)
    for number in range(8):
        (tmp_path / f"hangs{number}").write_bytes(b" " * 100)
    events = [{**in_file(REQUEST, tmp_path / f"hangs{i}"), "request_body_id": f"b{i}", "agent_id": f"{i}"}
              for i in range(8)]  # fmt: skip
    begun_s = time.monotonic()
    assert kept.take(logs(events), sender=Sender(bodies=tmp_path))
    assert kept.inbox.close()
    took_s = time.monotonic() - begun_s
    is_over.set()
    assert len(kept.calls) == 8
    assert len(hanging) == 4
    assert took_s < 10


def test_exit_has_one_bound(instrumented: Instrument, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """However many agents have something to be written, and whatever hangs."""
    monkeypatch.setattr("callspan.receive.agents._EXIT_S", 2.0)
    is_over = threading.Event()
    instrumented(stores=f"sqlite:///{tmp_path}/c.db", sdks=(), receive="files", redact=waiting_for(is_over))
    make_agents = WIRING.hook_context.agents
    assert make_agents is not None
    agents = make_agents()
    for _ in range(5):
        started = agents.start_agent({}, Sender())
        assert started is not None
        assert started.token is not None
    server = agents._server
    assert server is not None
    body = json.dumps(logs([COUNTERS])).encode()
    waiting = threading.Thread(target=post, args=(server, f"/{started.token}/v1/logs", body), daemon=True)
    waiting.start()
    until(lambda: started.token in server.heard)
    begun_s = time.monotonic()
    agents.close()
    took_s = time.monotonic() - begun_s
    is_over.set()
    waiting.join(HANG_S)
    assert took_s < 10


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_ends_at_once_beside_open_requests(tmp_path: Path, reading: Read, number: int) -> None:
    with receiver(tmp_path) as running:
        host, port = running.url.removeprefix("http://").split(":")
        connection = HTTPConnection(host, int(port), timeout=HANG_S)
        connection.request("POST", "/v1/traces", ONE, JSON)
        assert connection.getresponse().status == 200
        open_ones = [socket.create_connection((host, int(port))) for _ in range(3)]
        head = f"{HEAD.format(port)}content-length: 1000\r\n\r\n{{"
        for sender, first in zip(open_ones, ("GARBAGE\r\n\r\n", head[:20], head), strict=True):
            sender.sendall(first.encode())
        time.sleep(0.5)
        running.process.send_signal(number)
        _, errors = running.process.communicate(timeout=HANG_S)
        for sender in (*open_ones, connection):
            sender.close()
    assert errors == ""
    assert len(list(reading(f"sqlite:///{tmp_path}/c.db").calls())) == 1


def test_answer_of_a_request_that_the_end_cuts_off(serve: Serve) -> None:
    """It is not acknowledged, and sent again to the next receiver."""
    is_read, is_over = threading.Event(), threading.Event()
    redact = waiting_for(is_over)
    server = serve(redact=lambda record: (is_read.set(), redact(record))[1])
    statuses: list[int] = []
    sender = threading.Thread(target=lambda: statuses.append(post(server, "/v1/traces", ONE)[0]))
    sender.start()
    assert is_read.wait(HANG_S)
    server.stop()
    sender.join(HANG_S)
    is_over.set()
    assert statuses == [503]
