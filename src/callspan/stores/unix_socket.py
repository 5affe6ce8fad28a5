"""Sink for a Unix socket: one JSON line per record to the process that listens; it cannot be read.

Every line has `protocol_version`. With `acks=on` each line also has `ack`, and the cursor moves only once
the receiver has sent `{"ack": "<segment>:<offset>"}`; without, a record is delivered once the socket has taken it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import SplitResult

import msgspec

from callspan.record.codec import encode_json
from callspan.safe_urls import error_text
from callspan.spool.sink import BaseSink, Entry, Sink
from callspan.stores.payloads import line_of
from callspan.stores.protocol import Options, PathStore

PROTOCOL_VERSION: Final = 1
"""Version of the line format; receivers reject an unknown one."""

_CONNECT_S: Final = 5.0
_RECEIVE_BYTES: Final = 65_536
_LONGEST_ANSWER: Final = 1_048_576


class _Ack(msgspec.Struct):
    ack: str


_acks = msgspec.json.Decoder(_Ack)


class UnixSocketOptions(Options, frozen=True, kw_only=True):
    """The options of a Unix socket."""

    acks: Literal["on", "off"] = "off"
    """Whether a record counts as delivered only once the receiver has acknowledged it."""
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 10.0
    """Maximum time of each send and each wait for acknowledgements, in seconds."""


class UnixSocket(PathStore):
    """A socket that another process listens on; it cannot be read."""

    example = "unix:///run/receiver.sock"
    options_type = UnixSocketOptions
    options: UnixSocketOptions

    def sink(self) -> Sink:
        """Return the sink, not connected."""
        return UnixSocketStore(self.path, self.options)

    def _path_in(self, split: SplitResult) -> Path:
        # The path of a socket is absolute with any number of slashes.
        path = super()._path_in(split)
        return path if split.netloc else Path("/", path)


_DEFAULTS: Final = UnixSocketOptions()


class UnixSocketStore(BaseSink):
    """A sink without its own cursors: delivery is at least once, and receivers deduplicate by the record's key."""

    def __init__(self, path: str | Path, options: UnixSocketOptions = _DEFAULTS) -> None:
        """Connect to nothing yet."""
        self.path = Path(path)
        self.name = f"unix://{path}"
        self._acks = options.acks == "on"
        self._timeout_s = options.timeout_s
        self._socket: socket.socket | None = None
        self._received = b""

    def open(self) -> None:
        """Connect. Raises OSError where no process listens."""
        self.close()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(min(_CONNECT_S, self._timeout_s))
            connection.connect(str(self.path))
            connection.settimeout(self._timeout_s)
        except BaseException:
            connection.close()
            raise
        self._socket = connection

    def deliver(self, entries: Sequence[Entry]) -> None:
        """Send all entries, and with `acks=on` wait until each is acknowledged.

        Raises PoisonError for an invalid record, else OSError (also for a timeout or a closed connection); afterwards
        the connection is closed and `open` makes a new one.
        """
        lines = b"".join(self._line(entry) for entry in entries)
        if self._socket is None:
            self.open()
        try:
            self._send(lines, {_place(entry) for entry in entries} if self._acks else set())
        except BaseException:
            self.close()
            raise

    def set_aside(self, entry: Entry, reason: str) -> None:
        """Send a line of kind `rejected` with the reason, so that the receiver knows of the loss."""
        frame = entry.payload.decode("utf-8", "replace")
        rejected = {"protocol_version": PROTOCOL_VERSION, "kind": "rejected", "reason": reason, "frame": frame}
        if self._socket is None:
            self.open()
        try:
            self._send(encode_json(rejected) + b"\n", set())
        except BaseException:
            self.close()
            raise

    def try_out(self, entry: Entry) -> str:  # noqa: ARG002 - the protocol's name
        """Connect, and send nothing: it could not be taken back. Raises OSError where no process listens."""
        self.open()
        self.close()
        return "a process listens; nothing was sent, because it could not be taken back"

    def close(self) -> None:
        """Close the connection."""
        connection, self._socket = self._socket, None
        self._received = b""
        if connection is not None:
            connection.close()

    def _line(self, entry: Entry) -> bytes:
        body = line_of(entry.decode(entry))
        head: dict[str, object] = {"protocol_version": PROTOCOL_VERSION}
        if self._acks:
            head["ack"] = _place(entry)
        return msgspec.json.encode(head)[:-1] + b"," + body[1:] + b"\n"

    def _send(self, lines: bytes, expected: set[str]) -> None:
        connection = self._socket
        if connection is None:
            raise ConnectionError(f"{self.name}: not connected")
        connection.sendall(lines)
        while expected:
            for place in self._answers(connection):
                expected.discard(place)

    def _answers(self, connection: socket.socket) -> Iterator[str]:
        data = connection.recv(_RECEIVE_BYTES)
        if not data:
            raise ConnectionResetError(f"{self.name}: closed by the receiver before everything was acknowledged")
        *whole, self._received = (self._received + data).split(b"\n")
        if len(self._received) > _LONGEST_ANSWER:
            raise ConnectionError(f"{self.name}: the receiver sends no line ends")
        try:
            yield from [_acks.decode(line).ack for line in whole]
        except msgspec.DecodeError as error:
            raise ConnectionError(f"{self.name}: the receiver sent no acknowledgement: {error_text(error)}") from error


def _place(entry: Entry) -> str:
    return f"{entry.segment}:{entry.end}"
