"""Ending: how a call ended, and how far the work that its end makes has got. It survives an interrupt in the middle."""

from __future__ import annotations

from typing import Final

from callspan.background import AtomicFlag
from callspan.record.call import CallRecord, ErrorInfo, Outcome, StreamEnd
from callspan.record.messages import Conversation

_TRIES: Final = 3
"""After so many interrupts a step that is interrupted once more is left out."""


class Ending:
    """The end of one call that counts: what was reported, what has been made of it, and the next step."""

    __slots__ = (
        "_interrupted",
        "_interrupts",
        "body",
        "conversation",
        "duration_ns",
        "error",
        "how",
        "outcome",
        "processed",
        "step",
    )

    def __init__(self, how: StreamEnd | None, outcome: Outcome, error: ErrorInfo | None, duration_ns: int) -> None:
        self.how = how
        self.outcome = outcome
        self.error = error
        self.duration_ns = duration_ns
        self.body: object = None
        """The body of the response as plain JSON; None where nothing has come, or it has been let go of."""
        self.processed: CallRecord | None = None
        self.conversation: Conversation | None = None
        self.step = 0
        """The next step of `LiveCall`; a step that was interrupted is repeated unless it has moved this on itself."""
        self._interrupts = 0
        self._interrupted = AtomicFlag()

    @property
    def interrupted(self) -> bool:
        """Whether the steps that are left have still to be taken."""
        return bool(self._interrupted)

    def interrupt(self) -> None:
        """Leave the remaining steps to the next call of `end`."""
        self._interrupts += 1
        if self._interrupts > _TRIES:
            # A callback of the application may raise `SystemExit` each time.
            self.step += 1
        self._interrupted.set()

    def take_over(self) -> bool:
        """Return True to the one, of several, who takes the remaining steps of an interrupted end."""
        return self._interrupted.test_and_clear()
