"""Ending: the accepted end of an exchange, which runs once more where an interrupt has cut it off."""

from __future__ import annotations

import msgspec

from callspan.process.processed import Processed
from callspan.record.call import CallRecord, ErrorInfo, Outcome, StreamEnd
from callspan.record.messages import Conversation


class Ending(msgspec.Struct, eq=False):
    """The accepted end of one exchange: what was reported, and what it still may do."""

    how: StreamEnd | None
    outcome: Outcome
    error: ErrorInfo | None
    duration_ns: int
    body: object = None
    """The body of the response as plain JSON; None if nothing was received, or there is the record."""
    processed: Processed[CallRecord] | None = None
    """The record; None before it is built, and after the end."""
    conversation: Conversation | None = None
    wire: Conversation | None = None
    """The messages as they were sent and received, for a tool loop, and where tools of the provider have run."""
    has_runs: bool = False
    """Whether tools of the provider may have run."""
    is_told: bool = False
    """Whether its session and timestep know of it: their totals count it once."""


def bodies(record: CallRecord) -> tuple[int, int]:
    """Return the identities of a record's bodies, to detect that a processor has changed them."""
    return id(record.request.body), id(record.response.body if record.response is not None else None)
