"""Earlier answers: tells an answer that a silent cache served, because it equals an earlier one of this process.

A cache below the client need not say that it served an answer, and some gateways do not. The proof is the whole body,
with its id, to the same request: Ollama draws ids from 999 numbers, other servers repeat one or send none, so an id
alone says nothing. Even an equal body may be bought again, if its server repeats the id and the model the text. So a
second fact is needed: there was no connection, or the body states the time of the earlier answer.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final
from zlib import crc32

from callspan.background import LRUCache
from callspan.record.call import Request, Response
from callspan.record.ids import response_call_id

MAX_ANSWERS: Final = 4096
"""Number of answers that are remembered; each takes some 300 bytes."""
_NS_PER_S: Final = 1_000_000_000
_CLOCK_ERROR_S: Final = 86_400
"""Clocks differ, and an answer takes its time; a server that states no time sends a constant of another year."""


class EarlierAnswers:
    """The newest answers: their hashes and ids. Lock-free; safe from any thread."""

    __slots__ = ("_created", "_first_ns")

    def __init__(self) -> None:
        self._first_ns: OrderedDict[tuple[int, int], int] = OrderedDict()
        """The start of the call that first had an answer, by the hashes of answer and request."""
        self._created: LRUCache[str, int] = LRUCache(MAX_ANSWERS)
        """When the first background response with an id was created, by the id of its call."""

    def call_id(self, provider: str, response_id: str, created: int | None) -> str:
        """Return the id of the call of a background response.

        It is made of the response id, the only fact that a webhook states. A response of another time with an id that
        this process knows is another one: the id of its call is also made of its time.
        """
        call_id = response_call_id(provider, response_id)
        if created is None or self._created.setdefault(call_id, created) == created:
            return call_id
        return response_call_id(provider, f"{response_id}\n{created}")

    def repeats(
        self, request: Request, response: Response, body: bytes, *, start_ns: int, has_connection: bool | None
    ) -> bool:
        """Remember an answer; return whether it is an earlier one again, so that nobody bought it.

        `has_connection` None: nothing is known of the transport, so nothing can be told.
        """
        # A request without a body asks for an object that another request has bought.
        if response.id is None or has_connection is None or not request.body_bytes:
            return False
        # `hash` is seeded, has 64 bits and costs a hundredth of a cryptographic one.
        known, key = self._first_ns, (hash(body), crc32(request.body))
        first_ns = known.setdefault(key, start_ns)
        if len(known) > MAX_ANSWERS:
            known.popitem(last=False)
        return first_ns != start_ns and (not has_connection or _states_time(response, first_ns))


def _states_time(response: Response, first_ns: int) -> bool:
    return response.created is not None and abs(response.created - first_ns // _NS_PER_S) < _CLOCK_ERROR_S
