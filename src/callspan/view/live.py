"""Live: that something was written, as server-sent events, and of a page only what differs from what was sent of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

from callspan.view.source import StoreSource

_POLL_S: Final = 0.4
_QUIET_POLLS: Final = 38
"""After so many polls without news the browser learns that the server is there."""
_MOST_SENT: Final = 64
"""Of so many pages it is known what was sent."""


async def events(source: StoreSource, ended: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Yield `wrote` at first and after each write, `failed` with an error, and `still` where the store cannot tell.

    It ends with the server, and after `still`.
    """
    seen, failed, quiet = "", "", 0
    while not ended():
        try:
            version = await source.version()
            if version is None:
                yield _event("still")
                return
            if failed or version != seen:
                yield _event("wrote")
                seen, failed, quiet = version, "", 0
        except source.access.errors() as error:
            message = source.access.error_text(error)
            if message != failed:
                yield _event("failed", error=message)
            failed = message
        quiet += 1
        if quiet > _QUIET_POLLS:
            quiet = 0
            yield b": here\n\n"
        await asyncio.sleep(_POLL_S)


def _event(name: str, **values: str) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(values))


class _Parts(NamedTuple):
    """The JSON of a page: the values of its head by their names, and its rows by their ids."""

    head: Mapping[str, bytes]
    rows: Mapping[str, bytes]

    @classmethod
    def of(cls, body: bytes) -> _Parts:
        """Return the parts of a page."""
        whole = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        rows = msgspec.json.decode(whole.pop("rows", b"[]"), type=list[msgspec.Raw])
        named = {_row(row).id: bytes(row) for row in rows}
        return cls({name: bytes(value) for name, value in whole.items()}, named)

    def hashes(self) -> _Parts:
        """Return the hash of each part instead of it."""
        return _Parts(*({name: _hash(value) for name, value in each.items()} for each in self))

    def since(self, before: _Parts) -> bytes:
        """Return the JSON of the parts whose hashes were others before; `order` has the ids of all rows."""
        head, rows = (
            {name: msgspec.Raw(value) for name, value in each.items() if _hash(value) != known.get(name)}
            for each, known in zip(self, before, strict=True)
        )
        return msgspec.json.encode({"head": head, "rows": [*rows.values()], "order": [*self.rows]})


class _Row(msgspec.Struct):
    id: str


_row: Final = msgspec.json.Decoder(_Row).decode


class SentPages:
    """What was sent of pages, by a tag for each."""

    def __init__(self) -> None:
        self._known: dict[str, _Parts] = {}

    def remember(self, body: bytes) -> str:
        """Return the tag of a page that is sent."""
        tag = _hash(body).hex()
        self._keep(tag, self._known.get(tag) or _Parts.of(body).hashes())
        return tag

    def since(self, tag: str, body: bytes) -> bytes | None:
        """Return what of a page differs from that of a tag, of one that is not known any more all; None: nothing."""
        if tag == _hash(body).hex():
            return None
        return _Parts.of(body).since(self._known.get(tag, _Parts({}, {})))

    def _keep(self, tag: str, parts: _Parts) -> None:
        self._known.pop(tag, None)
        self._known[tag] = parts
        while len(self._known) > _MOST_SENT:
            del self._known[next(iter(self._known))]


def _hash(value: bytes) -> bytes:
    return blake2b(value, digest_size=16).digest()
