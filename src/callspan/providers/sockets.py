"""Sockets: what the frames of a websocket tell of calls.

A kind of connection is a pure machine: frames go in, steps of calls come out. It knows neither sockets, threads nor
clocks, keeps no frame, and any JSON object gives a result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from callspan.record.call import Outcome

Json: TypeAlias = dict[str, Any]
Action: TypeAlias = Literal["begin", "chunk", "end", "fail"]
"""`begin`: the provider begins a call by itself. `chunk`: an event of its answer. `end`: it has ended. `fail`: it has
ended by this error.
"""


REPEATED: Final[Json] = {}
"""Stands for a message that was only counted."""
MESSAGES: Final = "messages"
"""For how many messages an event stands, if for more than one."""
LONG: Final = 1000
"""Messages of audio are longer."""


@dataclass(eq=False)
class Turn:
    """One call of a connection, as far as its kind knows it."""

    api: str
    """The API whose adapter reads its bodies."""
    body: Json
    """The body of its request, as far as it is known. What came in meanwhile is in it."""
    identity: str | None = None
    """The provider's id of a call that other connections and processes may see too; None: it is of this one alone."""
    begun_ns: int | None = None
    """The monotonic time of its start, if that is before its first step."""
    is_withdrawn: bool = False
    """Whether its create could not be sent."""


class Step(NamedTuple):
    """What is to be done with a call."""

    action: Action
    turn: Turn
    event: Json = {}  # noqa: RUF012 - never changed
    outcome: Outcome = "success"
    """Of an end."""


class SocketKind:
    """The calls of one connection. One thread at a time calls `sent` and `received`, any thread `create`.

    Events have a type; all else in them may be any JSON.
    """

    mark: str
    """What is in the text of each sent frame that is to be read."""

    def create(self, frame: Json) -> Turn | None:
        """Return the call that a frame begins which is about to be sent; None: none. Changes nothing."""
        del frame
        return None

    def sent(self, frame: Json, turn: Turn | None) -> None:
        """Take a frame that was sent, with what `create` has returned for it."""

    def counted(self, message: str | bytes) -> Json | None:
        """Return a short event that stands for a long message of audio, which is not parsed; None for any other.

        `REPEATED` for one that is like an earlier one: `repeated` tells of it.
        """
        del message
        return None

    def repeated(self) -> Json | None:
        """Return one event for messages that were only counted since it was asked last; None: there are no more."""
        return None

    def received(self, event: Json, at_ns: int) -> list[Step]:
        """Return what is to be done with a received event."""
        raise NotImplementedError
