"""Sink for a Unix socket: one JSON line per record to the process that listens; it cannot be read.

Every line has `protocol_version`. A record is delivered once the socket has taken it.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import SplitResult

import msgspec

from callspan.record.events import Record
from callspan.stores.base import on_error
from callspan.stores.payloads import line_of
from callspan.stores.protocol import Options, PathStore, Sink

PROTOCOL_VERSION: Final = 1
"""Version of the line format; receivers reject an unknown one."""

_CONNECT_S: Final = 5.0


class UnixSocketOptions(Options, frozen=True, kw_only=True):
    """The options of a Unix socket."""

    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 10.0
    """Maximum time of each send, in seconds."""


class UnixSocket(PathStore):
    """A socket that another process listens on; it cannot be read."""

    example = "unix:///run/receiver.sock"
    options_type = UnixSocketOptions
    options: UnixSocketOptions

    def sink(self) -> Sink:
        """Return the sink, not connected."""
        return UnixSocketStore(self.path, self.options)

    def try_out(self, record: Record) -> str:
        """Connect, and send nothing, because a sent record cannot be recalled. Raises OSError if no process listens."""
        del record
        sink = UnixSocketStore(self.path, self.options)
        sink.open()
        sink.close()
        return "a process listens; no record was sent, because it could not be recalled"

    def _path_in(self, split: SplitResult) -> Path:
        # The path of a socket is absolute with any number of slashes.
        path = super()._path_in(split)
        return path if split.netloc else Path("/", path)


_DEFAULTS: Final = UnixSocketOptions()


class UnixSocketStore:
    """A sink without its own cursors: delivery is at least once, and receivers deduplicate by the record's key."""

    batch_records = 100

    def __init__(self, path: str | Path, options: UnixSocketOptions = _DEFAULTS) -> None:
        """Connect to nothing yet."""
        self.path = Path(path)
        self.name = f"unix://{path}"
        self._timeout_s = options.timeout_s
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Connect. Raises OSError where no process listens."""
        self.close()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with on_error(connection.close):
            connection.settimeout(min(_CONNECT_S, self._timeout_s))
            connection.connect(str(self.path))
            connection.settimeout(self._timeout_s)
        self._socket = connection

    def deliver(self, records: Sequence[Record]) -> None:
        """Send all records.

        Raises OSError (also for a timeout or a closed connection); afterwards
        the connection is closed and `open` makes a new one.
        """
        self._send(b"".join(map(_line, records)))

    def close(self) -> None:
        """Close the connection."""
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()

    def _send(self, lines: bytes) -> None:
        if self._socket is None:
            self.open()
        if self._socket is None:
            raise ConnectionError(f"{self.name}: not connected")
        try:
            self._socket.sendall(lines)
        except BaseException:
            self.close()
            raise


def _line(record: Record) -> bytes:
    return b'{"protocol_version":%d,' % PROTOCOL_VERSION + line_of(record)[1:] + b"\n"
