"""Response state: the table that decides how and when a response, plain or streamed, ends its call.

Each response of a call is in one of four states. Drivers (`http_hooks`, `stream_readers`) report events through
`response_observer`; the table maps state and event to the next state and one action. No other code decides whether and
when a response ends its call, and this module depends on no SDK, HTTP library or call.

States, left to right:

    AWAITED ------- handed over -------> HELD --- any end ---> ENDED
       |                                                         ^
       `-- any end --> ENDED_EARLY ---- handed over -------------'

Rules:

1. The first end wins. Later events change nothing, in every state.
2. A response belongs to the caller once `request` has returned it. An end before that (a middleware drops or reads
   the response) is stored, and ends the call when the response is handed over.
3. A response that a middleware has replaced does not end a call, and data read from it belongs to no call.
4. `break` is not an event: the caller may continue to read. Ends are the end of the reader, an error that leaves it, a
   close, and the loss of the reader or the response.
5. READER_GONE and RESPONSE_GONE may be reported by a finalizer, on any thread and under any lock. They are queued,
   never executed immediately.
6. A stream that has signalled its end (`[DONE]`, `message_stop`) is complete, even if it is then closed or dropped; one
   that ends normally without that signal is `cut_off`. The call's accumulator knows the signal and records this.

The table takes no lock, because a finalizer may run between any two steps of its own thread. The driver sets the next
state only if the state has not changed since the lookup; otherwise it looks up the event again. If two threads report
ends at once, both may get the action END; `Exchange.end` accepts the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from callspan.record.call import StreamEnd


class State(IntEnum):
    """Where a response is between its headers and the end of its call."""

    AWAITED = 1
    """It has arrived; `request` has not returned it yet."""
    ENDED_EARLY = 2
    """It has ended before it was handed over; how it ended is stored."""
    HELD = 3
    """The caller has it, read or not."""
    ENDED = 4
    """Its end was reported to the call, or another response has replaced it."""


class Event(IntEnum):
    """What may happen to a response."""

    HANDED_OVER = 1
    """`request` returned it, or a stream or object that reads it."""
    COMPLETED = 2
    """Its reader reached the normal end; a body was read completely."""
    FAILED = 3
    """An exception left its reader, cancellation included."""
    CLOSED = 4
    """It was closed, but not by its reader."""
    READER_GONE = 5
    """Its reader was closed or collected; the two cannot be distinguished. May be reported by a finalizer."""
    RESPONSE_GONE = 6
    """It was collected. Reported by a finalizer."""


class Action(IntEnum):
    """What the driver does about an event."""

    NOTHING = 0
    REMEMBER = 1
    """Keep the event with its error."""
    END_REMEMBERED = 2
    """Do what HELD does about the event that was kept."""
    END = 3
    """End the call now, as the event says."""
    DEFER = 4
    """Put the end on the queue of `DeferredEnds`; safe in a finalizer."""


STREAM_ENDS: Final[Mapping[Event, StreamEnd]] = MappingProxyType(
    {
        Event.COMPLETED: "complete",
        Event.FAILED: "error",
        Event.CLOSED: "closed",
        Event.READER_GONE: "closed",
        Event.RESPONSE_GONE: "closed",
    }
)
"""The events that are ends, and who ended the stream then. FAILED by a cancellation is "cancelled"; of a stream that
has signalled its end the last three are "complete"."""

TABLE: Final[Mapping[tuple[State, Event], tuple[State, Action]]] = MappingProxyType(
    {
        (State.AWAITED, Event.HANDED_OVER): (State.HELD, Action.NOTHING),
        (State.AWAITED, Event.COMPLETED): (State.ENDED_EARLY, Action.REMEMBER),
        (State.AWAITED, Event.FAILED): (State.ENDED_EARLY, Action.REMEMBER),
        (State.AWAITED, Event.CLOSED): (State.ENDED_EARLY, Action.REMEMBER),
        (State.AWAITED, Event.READER_GONE): (State.ENDED_EARLY, Action.REMEMBER),
        (State.AWAITED, Event.RESPONSE_GONE): (State.ENDED_EARLY, Action.REMEMBER),
        (State.ENDED_EARLY, Event.HANDED_OVER): (State.ENDED, Action.END_REMEMBERED),
        (State.HELD, Event.COMPLETED): (State.ENDED, Action.END),
        (State.HELD, Event.FAILED): (State.ENDED, Action.END),
        (State.HELD, Event.CLOSED): (State.ENDED, Action.END),
        (State.HELD, Event.READER_GONE): (State.ENDED, Action.DEFER),
        (State.HELD, Event.RESPONSE_GONE): (State.ENDED, Action.DEFER),
    }
)
"""For each state and event that changes something: the next state, and what to do. Any other pair changes nothing."""
