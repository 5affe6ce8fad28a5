"""The receiver under load: what it acknowledges is stored once, beside garbage, senders that hang and a full disk.

Four senders state 20,000 spans and events a minute; what is acknowledged is counted and found in the store. At full
scale for two minutes.
"""

from __future__ import annotations

import gzip
import json
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from statistics import median
from typing import Any

import openai
import pytest
from tests.conftest import Instrument, Read
from tests.receive.conftest import GEN_AI, JSON, Receiver, Serve, logs, receiver, recorded, span, traces
from tests.support.rig import until
from tests.support.scale import scaled

from callspan.testing import ScriptedProvider

SENDERS = 4
PER_MINUTE = 20_000
BATCH = 50
SECONDS = scaled(4, 120)
MAX_RSS_BYTES = 400 << 20
PROTOBUF = {"content-type": "application/x-protobuf"}
GZIP = {**JSON, "content-encoding": "gzip"}
COUNTERS = next(event for events in recorded("tools") for event in events if event["event.name"] == "api_request")
NOTHING = b'{"resourceSpans": {"a": [1, null, "x"]}}'
"""A request without spans, which is acknowledged."""


def garbage() -> list[tuple[str, bytes, dict[str, str]]]:
    """Return path, body and headers of requests that must cost nothing else."""
    return [
        ("/v1/traces", b"\x0a\xff\xff\x03truncated", PROTOBUF),
        ("/v1/logs", bytes(range(256)) * 40, PROTOBUF),
        ("/v1/traces", b"no gzip", GZIP),
        ("/v1/logs", gzip.compress(b'{"resourceLogs": []}')[:-4], GZIP),
        ("/v1/traces", gzip.compress(bytes(65 << 20), 1), GZIP),
        ("/v1/traces", b'{"resourceSpans": [' + b"[" * 60_000, JSON),
        ("/v1/traces", NOTHING, JSON),
        ("/v1/traces", b" " * (33 << 20), JSON),
        ("/v1/traces", b"{}", {"content-type": "text/plain"}),
        ("/v1/traces", b"{}", {**JSON, "host": "attacker.example"}),
        ("/v1/traces", b"{}", {**JSON, "origin": "https://attacker.example"}),
        ("/forged-token-forged-token/v1/logs", b"{}", JSON),
        ("/v1/profiles", b"{}", JSON),
        ("/" + "x" * 60_000, b"", JSON),
    ]


class Load:
    """Sends to a receiver, and counts what it acknowledges."""

    def __init__(self, netloc: str) -> None:
        self.netloc = netloc
        self.acknowledged = 0
        self.refused = 0
        self.acknowledged_garbage: set[bytes] = set()
        self.latencies_s: list[float] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, *work: Callable[[threading.Event], None]) -> None:
        self._threads += [threading.Thread(target=each, args=(self._stop,), daemon=True) for each in work]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def sender(self, number: int) -> Callable[[threading.Event], None]:
        """Return a sender of batches, each sent until it is acknowledged, as an exporter does."""

        def send(stop: threading.Event) -> None:
            due_s, batch = time.monotonic(), 0
            with closing(HTTPConnection(self.netloc, timeout=60)) as connection:
                while not stop.is_set():
                    path, request = calls_of(number, batch)
                    while not self._post(connection, path, request):
                        time.sleep(0.1)
                    batch += 1
                    due_s += SENDERS * BATCH * 60 / PER_MINUTE
                    time.sleep(max(0.0, due_s - time.monotonic()))

        return send

    def _post(self, connection: HTTPConnection, path: str, request: Any) -> bool:
        begun_s = time.monotonic()
        try:
            connection.request("POST", path, json.dumps(request), JSON)
            answer = connection.getresponse()
            answer.read()
        except (OSError, HTTPException):
            connection.close()
            return False
        with self._lock:
            self.latencies_s.append(time.monotonic() - begun_s)
            self.acknowledged += BATCH * (answer.status == 200)
            self.refused += answer.status != 200
        return answer.status == 200

    def send_each(self, requests: list[tuple[str, bytes, dict[str, str]]]) -> Callable[[threading.Event], None]:
        """Return a sender of garbage, which notes what is acknowledged of it."""

        def send(stop: threading.Event) -> None:
            while not stop.is_set():
                for path, body, headers in requests:
                    self.send_once(path, body, headers)
                    stop.wait(0.05)

        return send

    def send_once(self, path: str, body: bytes, headers: dict[str, str]) -> None:
        with suppress(OSError, HTTPException), closing(HTTPConnection(self.netloc, timeout=60)) as connection:
            connection.request("POST", path, body, headers)
            if connection.getresponse().status < 400:
                self.acknowledged_garbage.add(body)

    def hang(self, stop: threading.Event) -> None:
        """Send headers, or a body, that never end."""
        host, _, port = self.netloc.partition(":")
        head = f"POST /v1/traces HTTP/1.1\r\nhost: {self.netloc}\r\ncontent-type: application/json\r\n"
        heads = (head[:30].encode(), f"{head}content-length: 99\r\n\r\n{{".encode())
        hanging = [socket.create_connection((host, int(port))) for _ in range(6)]
        for number, sender in enumerate(hanging):
            sender.sendall(heads[number % 2])
        stop.wait()
        for sender in hanging:
            sender.close()


def calls_of(sender: int, batch: int) -> tuple[str, Any]:
    """A batch of calls: spans, or the counters of Claude Code's calls."""
    idents = [f"{sender}-{batch}-{number}" for number in range(BATCH)]
    if batch % 2:
        return "/v1/logs", logs({**COUNTERS, "request_id": f"req_{ident}"} for ident in idents)
    start = (sender << 40) + batch * BATCH + 1
    spans = (span({**GEN_AI, "gen_ai.response.id": ident}, start + i) for i, ident in enumerate(idents))
    return "/v1/traces", traces(*spans)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Receiver]:
    with receiver(tmp_path) as started:
        yield started


def stored(running: Receiver, reading: Read, directory: Path) -> int:
    """End the receiver; return the number of calls in the store."""
    running.process.terminate()
    running.process.wait(300)
    with closing(reading(f"sqlite:///{directory}/c.db")) as reader:
        return int(reader.count_calls())


def memory_of(pid: int) -> int:
    """Return the most memory that a process has had, in bytes."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


def test_load_beside_garbage_loses_nothing(running: Receiver, reading: Read, tmp_path: Path) -> None:
    load = Load(running.url.removeprefix("http://"))
    load.start(*(load.sender(number) for number in range(SENDERS)), load.send_each(garbage()), load.hang)
    time.sleep(SECONDS)
    load.end()
    memory = memory_of(running.process.pid)
    print(
        f"acknowledged {load.acknowledged}, refused {load.refused}, median {median(load.latencies_s) * 1000:.1f} ms, "
        f"longest {max(load.latencies_s) * 1000:.0f} ms, memory {memory >> 20} MiB"
    )
    assert load.acknowledged >= SECONDS * PER_MINUTE / 60 / 10, "any machine makes a tenth"
    assert load.acknowledged_garbage <= {NOTHING}
    assert memory < MAX_RSS_BYTES
    assert stored(running, reading, tmp_path) == load.acknowledged


def test_refused_requests_leave_their_memory_at_once(running: Receiver) -> None:
    """Not when the garbage collector comes, for which so few objects give no occasion."""
    load = Load(running.url.removeprefix("http://"))
    bomb = gzip.compress(bytes(65 << 20), 1)
    for _ in range(12):
        load.send_once("/v1/traces", bomb, GZIP)
    assert memory_of(running.process.pid) < 300 << 20


def test_full_disk_loses_nothing_that_was_acknowledged(running: Receiver, reading: Read, tmp_path: Path) -> None:
    """No file may grow for a while: neither the spool's, in any place, nor the store's."""
    load = Load(running.url.removeprefix("http://"))
    load.start(*(load.sender(number) for number in range(SENDERS)))
    until(lambda: load.acknowledged > 4 * BATCH)
    _, most = resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (1, most))
    until(lambda: load.refused > 4)
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (most, most))
    before = load.acknowledged
    until(lambda: load.acknowledged > before + 4 * BATCH)
    load.end()
    assert stored(running, reading, tmp_path) == load.acknowledged


def test_load_does_not_slow_the_calls_of_its_process(
    serve: Serve, provider: ScriptedProvider, instrumented: Instrument, store: str
) -> None:
    """They share one interpreter, so a call may wait for its turn, but for no request and no disk."""
    server = serve()
    instrumented(stores=store, sdks="openai")

    def typical_s(calls: int) -> float:
        times_s = []
        for _ in range(calls):
            begun_s = time.monotonic()
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
            times_s.append(time.monotonic() - begun_s)
        return median(times_s)

    with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        alone_s = typical_s(scaled(20, 200))
        load = Load(f"127.0.0.1:{server.port}")
        load.start(*(load.sender(number) for number in range(SENDERS)), load.hang)
        until(lambda: load.acknowledged > 2 * BATCH)
        beside_s = typical_s(scaled(20, 200))
        load.end()
    print(f"median of a call: alone {alone_s * 1000:.1f} ms, beside {beside_s * 1000:.1f} ms")
    assert beside_s < 10 * alone_s
