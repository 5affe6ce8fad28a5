"""Unix socket: one JSON line per record to the listening process; write-only.

Every line has `protocol_version`. A record counts as delivered once the socket has accepted it.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, cast
from urllib.parse import SplitResult

from callspan.record.events import Record
from callspan.stores.protocol import PathStore
from callspan.stores.tables.payloads import line_of

PROTOCOL_VERSION: Final = 1
"""Version of the line format. Receivers should reject unknown versions."""

_CONNECT_S, _SEND_S = 5.0, 10.0


class UnixSocket(PathStore):
    """A socket that another process listens on. It may get a record twice, with the same key."""

    example = "unix:///run/receiver.sock"
    _socket: socket.socket | None = None

    def try_out(self) -> str:
        """Connect without sending a record, which could not be recalled. Raises OSError if no process listens."""
        with closing(self.sink()) as sink:
            sink.open()
        return "a process listens; no record was sent, because it could not be recalled"

    def _path_in(self, parts: SplitResult) -> Path:
        # The path of a socket is absolute with any number of slashes.
        path = super()._path_in(parts)
        return path if parts.netloc else Path("/", path)

    def open(self) -> None:
        """Connect. Raises OSError if no process listens."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_CONNECT_S)
        self._socket.connect(str(self.path))
        self._socket.settimeout(_SEND_S)

    def deliver(self, records: Sequence[Record]) -> None:
        """Send all records. Raises OSError, including timeouts and closed connections."""
        cast("socket.socket", self._socket).sendall(b"".join(map(_line, records)))

    def close(self) -> None:
        """Close the connection."""
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()


def _line(record: Record) -> bytes:
    return b'{"protocol_version":%d,' % PROTOCOL_VERSION + line_of(record)[1:] + b"\n"
