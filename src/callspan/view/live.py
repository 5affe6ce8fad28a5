"""Live: what changes on a page, as server-sent events. A row is sent again only where it differs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from hashlib import blake2b
from typing import Final, TypeAlias

import msgspec

from callspan.view.source import BadQueryError, Query, StoreSource, View

_POLL_S: Final = 0.4
_SHARE: Final = 4
"""Reading a page again takes at most one part in so many of the time."""
_QUIET_S: Final = 15.0
"""After this time without news the browser learns that the server is there."""
_Rows: TypeAlias = dict[str, bytes]


async def events(
    source: StoreSource, page: Callable[[View], object], query: Query, ended: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """Yield the changes of a page: first `ready` with all rows, then `rows` with those that differ.

    `failed` has an error. It ends with the server.
    """
    version, known = None, dict[str, bytes]()
    failed, first, quiet = "", True, 0.0
    while not ended():
        began = time.monotonic()
        try:
            now = await source.version()
            if first and now is None:
                yield _event("still", {})
                return
            if first or failed or now != version:
                version = now
                head, rows, order = _parts(await source.ask(page, query))
                changed = [row for key, row in rows.items() if _hash(row) != known.get(key)]
                body = b'{"head":%s,"rows":[%s],"order":%s}' % (head, b",".join(changed), order)
                yield b"event: %s\ndata: %s\n\n" % (b"ready" if first else b"rows", body)
                known = {key: _hash(row) for key, row in rows.items()}
                failed, first, quiet = "", False, 0.0
        except (BadQueryError, LookupError) as error:
            yield _event("failed", {"error": str(error.args[0]), "final": True})
            return
        except source.access.errors() as error:
            message = source.access.error_text(error)
            if message != failed:
                yield _event("failed", {"error": message})
            failed = message
        spent = time.monotonic() - began
        quiet += max(_POLL_S, spent * _SHARE)
        if quiet > _QUIET_S:
            quiet = 0.0
            yield b": here\n\n"
        await asyncio.sleep(max(_POLL_S, spent * _SHARE))


def _parts(body: bytes) -> tuple[bytes, _Rows, bytes]:
    """Return the head of a page, its rows by their ids, and the ids in order."""
    whole = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    rows = msgspec.json.decode(whole.pop("rows", b"[]"), type=list[msgspec.Raw])
    found = {msgspec.json.decode(row, type=_Row).id: bytes(row) for row in rows}
    return msgspec.json.encode(whole), found, msgspec.json.encode([*found])


class _Row(msgspec.Struct):
    id: str


def _hash(row: bytes) -> bytes:
    return blake2b(row, digest_size=16).digest()


def _event(name: str, value: object) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(value))
