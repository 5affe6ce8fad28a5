"""Runtime: the interface through which the session API reaches spans and records, and the spans of recent scopes by id.

The wiring sets it. Before `callspan.instrument()` there is none: the session API then works but emits nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

import msgspec

from callspan.background import LRUCache
from callspan.process.callbacks import Point
from callspan.process.processed import Processed
from callspan.process.processors import Processors
from callspan.record.events import Record
from callspan.settings import Content
from callspan.spans.session import SessionSpans, SpanRef

_R = TypeVar("_R", bound=Record)
CALL_SPANS: Final[LRUCache[str, SpanRef]] = LRUCache(4096)
"""The spans of recent calls by id, for feedback and answers that come later."""
_installed: list[Runtime] = []
_decided: list[bool] = []
"""Not empty once `instrument()` or `uninstrument()` has run in this process, whatever it decided."""


def not_measured(processed: Processed[Record], start_ns: int) -> None:
    """Measure nothing."""


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """What `callspan.instrument()` provides to the session API."""

    write: Callable[[Processed[Record]], None]
    """Stores and measures a record; never raises."""
    write_unmeasured: Callable[[Processed[Record]], None] | None = None
    """Stores a record whose times the application gives; None: `write` does."""
    writes_starts: Callable[[], object] = partial(bool, True)
    """Returns something true where the record that announces a tool is wanted."""
    spans: SessionSpans
    processors: Callable[[Content], Processors]
    """Returns what each record goes through once, by the stricter one of the content level that the record belongs to
    and that of the running code."""
    content: Content = "full"
    """The setting."""
    trace_per_timestep: bool = False
    service: str | None = None
    session_ended: Callable[[Processed[Record], int], None] = not_measured
    """Measures a session that has ended, given the start of its span in Unix nanoseconds; never raises."""
    run_again: Callable[[Callable[[], object]], object] = bool
    """Called with an end that was interrupted: runs it soon, on another thread."""

    def process(self, record: _R, level: Content, point: Point | None = None) -> Processed[_R]:
        """Return the record with only what may be exported and stored, see `Processors.process`.

        `level` is that of the scope or call which it belongs to.
        """
        return self.processors(level).process(record, point)

    def without_callbacks(self, record: Record, level: Content) -> Processed[Record]:
        """Return the record processed without callbacks, for records that are exported but not stored."""
        return self.processors(level).without_callbacks(record)


def install(runtime: Runtime) -> None:
    """Make `runtime` the current one; open sessions keep the one they started with."""
    _decided[:] = [True]
    _installed[:] = [runtime]


def remove() -> None:
    """Remove the runtime: sessions that start from now on emit nothing."""
    _decided[:] = [True]
    _installed.clear()


def installed() -> Runtime | None:
    """Return the current runtime, or None if nothing is instrumented."""
    return _installed[0] if _installed else None


def never_instrumented() -> bool:
    """Return True while neither `instrument()` nor `uninstrument()` has run in this process."""
    return not _decided


def forget() -> None:
    """Return to the state of a new process. For tests."""
    _decided.clear()
    _installed.clear()
