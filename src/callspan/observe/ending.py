"""Ending: the accepted end of a call, whose steps run once each, also if an interrupt arrives in between."""

from __future__ import annotations

from typing import Final

import msgspec

from callspan.background import AtomicFlag
from callspan.process.processed import Processed
from callspan.record.call import CallRecord, ErrorInfo, Outcome, StreamEnd
from callspan.record.messages import Conversation

_TRIES: Final = 3
"""Number of interrupts after which an interrupted step is skipped."""


class Ending(msgspec.Struct, eq=False):
    """The accepted end of one call: what was reported, the results so far, and the next step."""

    how: StreamEnd | None
    outcome: Outcome
    error: ErrorInfo | None
    duration_ns: int
    body: object = None
    """The body of the response as plain JSON; None if nothing was received, or after it was released."""
    processed: Processed[CallRecord] | None = None
    conversation: Conversation | None = None
    step: int = 0
    """The next step of `LiveCall`; an interrupted step is repeated unless it has advanced this itself."""
    interrupted: AtomicFlag = msgspec.field(default_factory=AtomicFlag)
    """True while the remaining steps still have to be run."""
    _interrupts: int = 0

    def interrupt(self) -> None:
        """Leave the remaining steps to the next call of `end`."""
        self._interrupts += 1
        if self._interrupts > _TRIES:
            # A callback of the application may raise `SystemExit` each time.
            self.step += 1
        self.interrupted.set()

    def take_over(self) -> bool:
        """Return True to one caller of several, which then runs the remaining steps of an interrupted end."""
        return self.interrupted.test_and_clear()


def bodies(record: CallRecord) -> tuple[int, int]:
    """Return the identities of a record's bodies, to detect that a processor has changed them."""
    return id(record.request.body), id(record.response.body if record.response is not None else None)
