"""Earlier answers: recognises an answer from a silent cache, because it equals an earlier one of this process.

A cache below the client need not say that it served an answer, and some gateways do not. An equal body to the same
request then proves it, if no second purchase can have that body: Ollama draws ids from 999 numbers, other servers
repeat an id or send none, and a model repeats its text. So an equal answer came from a cache only if its id is random,
and it either states the earlier answer's time or, for Messages, which state no time, had no connection.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Final
from zlib import crc32

from callspan.record.call import Request, Response
from callspan.record.ids import response_call_id
from callspan.runtime.lock_free import LRUCache

MAX_ANSWERS: Final = 4096
"""Number of answers that are remembered; each takes some 300 bytes."""
_NS_PER_S: Final = 1_000_000_000
_TIMELESS: Final = "messages"
"""The API that never states a time in its answers."""
_RUNS: Final = re.compile("[0-9]+|[a-z]+|[A-Z]+")
_MIN_RUNS: Final = 7
"""Numbers, names and words have fewer runs of digits or letters; random ids of real providers about fifteen."""
_MIN_ID: Final = 20
_CLOCK_ERROR_S: Final = 86_400
"""Clocks differ, and an answer takes its time; a server without a clock sends a constant from some other year."""


class EarlierAnswers:
    """The newest answers: their hashes and ids. Lock-free; safe from any thread."""

    __slots__ = ("_created", "_first_ns", "_seen_ns")

    def __init__(self) -> None:
        self._first_ns: OrderedDict[tuple[int, int], int] = OrderedDict()
        """The start of the call that first had an answer, by the hashes of answer and request."""
        self._created: LRUCache[str, int] = LRUCache(MAX_ANSWERS)
        """When the first background response with an id was created, by the id of its call."""
        self._seen_ns: LRUCache[str, int] = LRUCache(MAX_ANSWERS)

    def seen_ns(self, call_id: str, now_ns: int) -> int:
        """Return the Unix time of an answer of a call, later than of each one before, whatever the clock says.

        Stores order the versions of a call by it.
        """
        seen_ns = max(now_ns, (self._seen_ns.get(call_id) or 0) + 1)
        self._seen_ns.put(call_id, seen_ns)
        return seen_ns

    def call_id(self, provider: str, response_id: str, created: int | None) -> str:
        """Return the id of the call of a background response.

        It is derived from the response id, which is all that a webhook states. If this process knows a response with
        the same id but another time, they are two responses: the new call's id is derived from its time, too.
        """
        call_id = response_call_id(provider, response_id)
        if created is None or self._created.setdefault(call_id, created) == created:
            return call_id
        return response_call_id(provider, f"{response_id}\n{created}")

    def repeats(
        self, api: str, request: Request, response: Response, body: bytes, *, start_ns: int, has_connection: bool | None
    ) -> bool:
        """Remember an answer; return whether it repeats an earlier one, so that nobody bought it.

        `has_connection` None: the transport is unknown; returns False.
        """
        # A request without a body asks for an object that another request has bought.
        if response.id is None or has_connection is None or not request.body_bytes:
            return False
        # `hash` is seeded, has 64 bits and costs a hundredth of a cryptographic one.
        first_ns_by_key, key = self._first_ns, (hash(body), crc32(request.body))
        first_ns = first_ns_by_key.setdefault(key, start_ns)
        if len(first_ns_by_key) > MAX_ANSWERS:
            first_ns_by_key.popitem(last=False)
        if first_ns == start_ns or not _is_random(response.id):
            return False
        return not has_connection if api == _TIMELESS else _states_time(response, first_ns)


def _is_random(answer_id: str) -> bool:
    return len(answer_id) >= _MIN_ID and len(_RUNS.findall(answer_id)) >= _MIN_RUNS


def _states_time(response: Response, first_ns: int) -> bool:
    return response.created is not None and abs(response.created - first_ns // _NS_PER_S) < _CLOCK_ERROR_S
