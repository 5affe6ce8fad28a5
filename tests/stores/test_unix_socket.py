"""The Unix socket store against a real receiver."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from callspan.stores.unix_socket import PROTOCOL_VERSION
from callspan.stores.urls import find_store

from .conftest import Delivery, Records


class Receiver:
    """Listens, keeps the received lines, and answers as configured."""

    def __init__(self, path: Path, answer: Callable[[dict[str, object]], bytes | None] | None = None) -> None:
        self.lines: list[dict[str, object]] = []
        self._answer = answer
        self._arrived = threading.Condition()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def wait_for(self, count: int) -> list[dict[str, object]]:
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.lines) >= count, timeout=10)
            return list(self.lines)

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines:
                while (line := lines.readline()) and self._take(connection, json.loads(line)):
                    pass

    def _take(self, connection: socket.socket, line: dict[str, object]) -> bool:
        """Keep and answer a line; False, without either, where the answer is to hang up."""
        answer = self._answer(line) if self._answer else None
        if answer == b"":
            return False
        with self._arrived:
            self.lines.append(line)
            self._arrived.notify_all()
        if answer is not None:
            connection.sendall(answer)
        return True


@pytest.fixture
def receive(tmp_path: Path) -> Iterator[Callable[..., Receiver]]:
    started: list[Receiver] = []

    def start(answer: Callable[[dict[str, object]], bytes | None] | None = None) -> Receiver:
        (tmp_path / "r.sock").unlink(missing_ok=True)
        started.append(Receiver(tmp_path / "r.sock", answer))
        return started[-1]

    yield start
    for receiver in started:
        receiver.stop()


def test_each_record_is_one_line_with_the_protocol_version(
    tmp_path: Path, deliver: Callable[[str], Delivery], receive: Callable[..., Receiver], records: Records
) -> None:
    receiver = receive()
    store = deliver(f"unix://{tmp_path}/r.sock")
    written = records.every_kind()
    store.write(*written)
    lines = receiver.wait_for(6)
    store.sink.close()
    assert [line["kind"] for line in lines] == ["session", "timestep", "call", "event", "message", "reward"]
    assert {line["protocol_version"] for line in lines} == {PROTOCOL_VERSION}
    call_line = lines[2]
    assert call_line["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert call_line["conversation"]["output"][0]["role"] == "assistant"  # type: ignore[index]
    assert "ack" not in call_line


def test_no_listener_is_an_error_and_a_later_receiver_gets_the_record(
    tmp_path: Path, receive: Callable[..., Receiver], records: Records
) -> None:
    sink = find_store(f"unix://{tmp_path}/r.sock").sink()
    with pytest.raises(FileNotFoundError):
        sink.open()
    receiver = receive()
    sink.open()
    sink.deliver([records.call()])
    assert receiver.wait_for(1)
    sink.close()
