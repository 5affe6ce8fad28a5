"""Connections: ends connections that send no request, so that they do not block other senders.

A connection waits for the head of a request, is in a request, or is between two. It may wait for a few seconds, from
its start or from the first byte after a request, however slowly the bytes come. Between two requests it stays:
exporters send every few seconds, or every minute, and may lose data if their connection has been closed. Only if there
are too many connections, the oldest is closed.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

_MAX_HEAD_S: Final = 5.0
_MAX_CONNECTIONS: Final = 256
_GRACE_S: Final = 0.6
"""Time for requests that are being written when the server stops; uvicorn's own limit, which it reports, is longer."""


_SILENT: Final = logging.Logger("callspan.receive", logging.CRITICAL + 1)
"""Writes nothing: foreign bytes sent to the port must not appear in an agent's terminal."""


class Connections:
    """The connections of one server, by the address of their client. On the loop of the server only."""

    def __init__(self) -> None:
        self._waiting: dict[object, _Connection] = {}
        """Connections that wait for the head of a request, oldest first."""
        self._in_request: dict[object, _Connection] = {}
        self._between: dict[object, _Connection] = {}
        """Connections between two requests, oldest first."""

    def make(self, **options: Any) -> asyncio.Protocol:
        """Return the protocol of a new connection, as uvicorn makes it."""
        return _Connection(self, **options)

    def add(self, connection: _Connection) -> None:
        """Add a new connection; close another one if there are too many."""
        others = [*self._waiting.values(), *self._between.values()]
        if len(others) + len(self._in_request) >= _MAX_CONNECTIONS:
            (others or [connection])[0].transport.close()
        self.await_head(connection)

    def await_head(self, connection: _Connection) -> None:
        """Give a connection time for the head of a request, unless it has that already."""
        address = connection.address
        if address in self._waiting or address in self._in_request:
            return
        self._between.pop(address, None)
        self._waiting[address] = connection
        connection.limit_head(_MAX_HEAD_S)

    def remove(self, connection: _Connection) -> None:
        """Forget a connection that has ended."""
        for group in (self._waiting, self._in_request, self._between):
            group.pop(connection.address, None)
        connection.unlimit_head()

    def begin_request(self, address: object) -> None:
        """Note that the whole head of a request has come."""
        connection = self._waiting.pop(address, None) or self._between.pop(address, None)
        if connection is not None:
            connection.unlimit_head()
            self._in_request[address] = connection

    def end_request(self, address: object) -> None:
        """Note that a request is answered."""
        connection = self._in_request.pop(address, None)
        if connection is not None:
            self._between[address] = connection


class _Connection(H11Protocol):
    def __init__(self, connections: Connections, **options: Any) -> None:
        super().__init__(**options)
        self.logger = _SILENT
        self._all = connections
        self._limit: asyncio.TimerHandle | None = None
        self.address: object = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn
        super().connection_made(transport)
        self.address = transport.get_extra_info("peername")
        self._all.add(self)

    def data_received(self, data: bytes) -> None:
        self._all.await_head(self)
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.remove(self)
        super().connection_lost(exc)

    def limit_head(self, limit_s: float) -> None:
        self._limit = asyncio.get_running_loop().call_later(limit_s, self.transport.close)

    def unlimit_head(self) -> None:
        if self._limit is not None:
            self._limit.cancel()


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
