"""Billing: which requests a provider may have billed though it has stated no usage, by how they ended.

A provider bills what its model has read and written, also if nobody received it. Costs, sums and the reasons of unknown
costs ask this table, by the field `may_be_billed` of an attempt.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from callspan.record.apis import APIS
from callspan.record.call import Request

AttemptEnd: TypeAlias = Literal["unsent", "unanswered", "refused", "given up", "unfinished", "discarded", "finished"]
"""How an attempt ended: `unsent` (no connection, or refused by a client), `unanswered` (sent, and no response came: a
read time-out, a reset, a cancellation), `refused` (an error status), `given up` (the status of a gateway that did not
wait for the model), `unfinished` (its body ended before the usage that was to come), `discarded` (another request
was sent in the place of its answer, whose usage nobody has read), `finished`."""
_MAY_BE_BILLED: Final[dict[AttemptEnd, bool]] = {
    "unsent": False,
    "unanswered": True,
    "refused": False,
    "given up": True,
    "unfinished": True,
    "discarded": True,
    "finished": False,
}
_GIVEN_UP: Final = frozenset({408, 504, 524})
_FIRST_REDIRECT: Final = 300
_FIRST_ERROR: Final = 400
_WITHOUT: Final = frozenset({"chat_completions", "completions"})
"""APIs whose streams state no usage that the request has not asked for."""


def may_be_billed(
    status: int | None, *, is_sent: bool = True, is_finished: bool = True, is_discarded: bool = False
) -> bool:
    """Return whether a provider may have billed an attempt that states no usage.

    Args:
        status: The HTTP status of its response; None without one.
        is_sent: Whether the request had been sent when it failed.
        is_finished: Whether its body was received whole, or lacks no usage.
        is_discarded: Whether another request was sent in the place of its answer.
    """
    end = _end_of(status, is_sent=is_sent, is_finished=is_finished)
    if end == "finished" and is_discarded and status is not None and status < _FIRST_REDIRECT:
        end = "discarded"
    return _MAY_BE_BILLED[end]


def states_usage(api: str, request: Request) -> bool:
    """Return whether an answer states its usage at its end; APIs of media and some streams that ask for none do not."""
    row, options = APIS.get(api), request.params.get("stream_options")
    if row is not None and row.is_media:
        return False
    asks = isinstance(options, dict) and bool(options.get("include_usage"))
    return asks or not (request.stream and api in _WITHOUT)


def _end_of(status: int | None, *, is_sent: bool, is_finished: bool) -> AttemptEnd:
    if status is None:
        return "unanswered" if is_sent else "unsent"
    if status >= _FIRST_ERROR:
        return "given up" if status in _GIVEN_UP else "refused"
    return "finished" if is_finished else "unfinished"
