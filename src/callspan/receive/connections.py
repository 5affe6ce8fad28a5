"""Connections: closes the oldest of too many, so that connections which send nothing keep no other sender out.

Below that bound a connection may stay as long as it likes between two requests, or before the whole head of its first:
exporters send every few seconds, or every minute, and may lose data if their connection has been closed.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

_MAX_CONNECTIONS: Final = 256
_GRACE_S: Final = 0.6
"""Time for requests that are being written when the server stops; uvicorn's own limit, which it reports, is longer."""
_SILENT: Final = logging.Logger("callspan.receive", logging.CRITICAL + 1)
"""Writes nothing: foreign bytes sent to the port must not appear in an agent's terminal."""


class Connections:
    """The connections of one server, by the address of their client. On the loop of the server only."""

    def __init__(self) -> None:
        self._idle: dict[object, _Connection] = {}
        """Connections outside of requests, those first that have been so for longest."""
        self._in_request: dict[object, _Connection] = {}

    def make(self, **options: Any) -> asyncio.Protocol:
        """Return the protocol of a new connection, as uvicorn makes it."""
        return _Connection(self, **options)

    def add(self, connection: _Connection) -> None:
        """Add a new connection; close the oldest of too many that is in no request, else the new one."""
        self._idle[connection.address] = connection
        if len(self._idle) + len(self._in_request) > _MAX_CONNECTIONS:
            next(iter(self._idle.values())).transport.close()

    def remove(self, connection: _Connection) -> None:
        """Forget a connection that has ended."""
        self._idle.pop(connection.address, None)
        self._in_request.pop(connection.address, None)

    def begin_request(self, address: object) -> None:
        """Note that the whole head of a request has come."""
        if (connection := self._idle.pop(address, None)) is not None:
            self._in_request[address] = connection

    def end_request(self, address: object) -> None:
        """Note that a request is answered."""
        if (connection := self._in_request.pop(address, None)) is not None:
            self._idle[address] = connection


class _Connection(H11Protocol):
    def __init__(self, connections: Connections, **options: Any) -> None:
        super().__init__(**options)
        self.logger = _SILENT
        self._all = connections
        self.address: object = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn
        super().connection_made(transport)
        self.address = transport.get_extra_info("peername")
        self._all.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.remove(self)
        super().connection_lost(exc)


class UvicornServer(uvicorn.Server):
    """uvicorn's server, which ends what takes too long before uvicorn itself reports that."""

    async def shutdown(self, sockets: Any = None) -> None:
        """Stop. Requests that are not written soon are cancelled."""
        limit = asyncio.get_running_loop().call_later(_GRACE_S, self._cancel_requests)
        try:
            await super().shutdown(sockets)
        finally:
            limit.cancel()

    def _cancel_requests(self) -> None:
        for task in self.server_state.tasks:
            task.cancel()
