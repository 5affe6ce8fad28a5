"""Sending: whether a request that raised an exception had been sent, by the exception and by where it was raised.

Most classes say it. A cancellation, an interrupt, a total time-out or a reset does not: its traceback does, because the
HTTP library was either waiting for an answer or still connecting. Nothing of this runs for a request that succeeds.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Final

_UNSENT: Final = frozenset(
    {
        # httpx; what was written in part is no request
        *("ConnectTimeout", "ConnectError", "PoolTimeout", "UnsupportedProtocol", "LocalProtocolError"),
        *("WriteTimeout", "WriteError", "ProxyError"),
        # requests, urllib3
        *("InvalidURL", "MissingSchema", "InvalidSchema", "SSLError", "NewConnectionError", "NameResolutionError"),
        # aiohttp
        *("ConnectionTimeoutError", "ClientConnectorError", "InvalidUrlClientError", "NonHttpUrlClientError"),
        # botocore
        *("EndpointConnectionError", "ConnectTimeoutError", "ProxyConnectionError", "NoCredentialsError"),
        # the system
        *("gaierror", "ConnectionRefusedError"),
    }
)
_SENT: Final = frozenset(
    {
        *("ReadTimeout", "ReadError", "RemoteProtocolError"),
        *("ReadTimeoutError", "RemoteDisconnected", "IncompleteRead"),
        *("SocketTimeoutError", "ServerDisconnectedError", "ClientPayloadError"),
        "ConnectionClosedError",
    }
)
_OF_CORE: Final = frozenset({"_receive_response_headers", "_receive_response", "_receive_response_body"})
_OF_URLLIB: Final = frozenset({"getresponse", "begin", "read", "read_chunked", "stream"})
_RECEIVING: Final = {
    "httpcore": _OF_CORE,
    "httpcore2": _OF_CORE,
    "urllib3": _OF_URLLIB,
    "http": _OF_URLLIB,
    "aiohttp": frozenset({"start", "read"}),
}
"""The functions that wait for an answer, by the package of the HTTP library."""
_CONNECTING: Final = frozenset({"_validate_conn", "_prepare_proxy"})
"""Functions of urllib3 whose time-outs it calls those of a read."""
_MOST: Final = 8
"""Exceptions of a chain that are looked at."""


def was_sent(error: BaseException) -> bool:
    """Return whether the request that raised an exception had been sent; True if nothing tells."""
    links = list(_links(error))
    if any(name in _CONNECTING for _, places in links for _, name in places):
        return False
    for link, places in links:
        names = {base.__name__ for base in type(link).__mro__}
        if not names.isdisjoint(_UNSENT):
            return False
        if not names.isdisjoint(_SENT) or any(name in _RECEIVING[package] for package, name in places):
            return True
    return not any(places for _, places in links)


def _links(error: BaseException) -> Iterator[tuple[BaseException, list[tuple[str, str]]]]:
    """Yield an exception and its causes, each with the functions of HTTP libraries that it has passed."""
    link: BaseException | None = error
    for _ in range(_MOST):
        if link is None:
            return
        places = _places(link)
        yield link, places
        # The context of an exception that an HTTP library raised may be an error that the application is handling.
        link = link.__cause__ or (None if places else link.__context__)


def _places(error: BaseException) -> list[tuple[str, str]]:
    """Return the functions of HTTP libraries that an exception has passed, each after its package."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    functions = ((str(frame.f_globals.get("__name__", "")).partition(".")[0], frame.f_code.co_name) for frame in frames)
    return [(package, name) for package, name in functions if package in _RECEIVING]
