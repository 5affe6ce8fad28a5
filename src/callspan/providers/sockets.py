"""Sockets: the base of state machines that derive calls from the frames of a websocket.

A machine is pure: it takes frames and returns steps of calls. It uses no sockets, threads or clocks, keeps no frames,
and accepts any JSON object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from callspan.providers.wire_json import Json
from callspan.record.call import Outcome

Action: TypeAlias = Literal["begin", "name", "chunk", "end", "fail", "usage"]
"""`begin`: the provider has started a call. `name`: it has named one that a create requested. `chunk`: an event of the
answer. `end`: the call has ended. `fail`: it has ended with this error. `usage`: a body with the counters of the call
that ended last, which had none.
"""


REPEATED: Final[Json] = {}
"""Result of `counted` for a message that `repeated` will report."""
MESSAGES: Final = "messages"
"""Key of the number of messages that an event represents, if more than one."""
LONG: Final = 1000
"""Minimum length of audio messages."""


@dataclass(eq=False)
class Turn:
    """One call of a connection."""

    api: str
    """The API with the adapter that reads its bodies."""
    body: Json
    """The request body so far."""
    identity: str | None = None
    """The provider's id, if other connections and processes may see the call; else None, and until it is known."""
    awaits_name: bool = False
    """Whether a step will name it."""
    begun_ns: int | None = None
    """Monotonic time of its start, if earlier than its first step."""
    is_withdrawn: bool = False
    """Whether sending its create failed."""


class Step(NamedTuple):
    """One step of a call."""

    action: Action
    turn: Turn
    event: Json = {}  # noqa: RUF012 - never changed
    outcome: Outcome = "success"
    """Outcome of an `end`."""


class SocketKind:
    """The calls of one connection. One thread at a time calls `sent` and `received`, any thread `create`.

    All fields of events may be any JSON, but for those that `accepts` checks.
    """

    mark: str
    """Substring of all sent frames that must be parsed."""

    def is_marked(self, message: Any) -> bool:
        """Return whether a sent frame, which is text or bytes, must be parsed."""
        return self.mark in message if isinstance(message, str) else self.mark.encode() in message

    def accepts(self, event: Json) -> bool:
        """Return whether a received object is an event of this wire: by default one with a type."""
        return type(event.get("type")) is str

    def create(self, frame: Json) -> Turn | None:
        """Return the call that a frame about to be sent will begin, or None. Called once for each frame."""
        del frame
        return None

    def sent(self, frame: Json, turn: Turn | None) -> None:
        """Note a sent frame, with the result of `create` for it."""

    def short_event(self, message: str | bytes) -> Json | None:
        """Return a short event in place of a long audio message, which is not parsed; None for any other message.

        `REPEATED` for a message like an earlier one, which `repeated` reports.
        """
        del message
        return None

    def repeated(self) -> Json | None:
        """Return one event for messages that were only counted since the last call; None if there are no more."""
        return None

    def received(self, event: Json, at_ns: int) -> list[Step]:
        """Return the steps for a received event."""
        raise NotImplementedError
