"""Runtime: the session API's interface to spans and records.

`callspan.instrument()` installs it. Without one the session API works, but records nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from callspan.process.callbacks import Point
from callspan.process.processed import ProcessedRecord
from callspan.process.processors import Processors
from callspan.record.events import Record
from callspan.settings import Content
from callspan.spans.session import SessionSpans

_R = TypeVar("_R", bound=Record)
_installed: list[Runtime | None] = []
"""The current runtime; None after `uninstrument()`, empty before the first `instrument()` of this process."""


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """The functions and settings that `callspan.instrument()` provides to the session API."""

    write: Callable[[ProcessedRecord[Record]], None]
    """Stores and measures a record; never raises."""
    write_unmeasured: Callable[[ProcessedRecord[Record]], None]
    """Stores a record with times that the application stated."""
    writes_starts: Callable[[], object]
    """Returns a true value if tools write a record at their start."""
    spans: SessionSpans
    processors: Callable[[Content], Processors]
    """Returns the processors for a record: the stricter of its own and the current content level."""
    content: Content
    """The setting `content`."""
    trace_per_timestep: bool
    service: str | None
    session_ended: Callable[[ProcessedRecord[Record], int], None]
    """Measures an ended session, given the start of its span in Unix nanoseconds; never raises."""
    run_again: Callable[[Callable[[], object]], object]
    """Runs an interrupted end again, on another thread."""

    def process(self, record: _R, level: Content, point: Point | None = None) -> ProcessedRecord[_R]:
        """Process a record, see `Processors.process`; `level` is the content level of its scope or call."""
        return self._in_force(level).process(record, point)

    def without_callbacks(self, record: _R, level: Content) -> ProcessedRecord[_R]:
        """Process a record without callbacks, if it is exported but not stored."""
        return self._in_force(level).without_callbacks(record)

    def _in_force(self, level: Content) -> Processors:
        """Return the processors of the current settings, which may have changed since the start of an open session."""
        return (current_runtime() or self).processors(level)


def install(runtime: Runtime) -> None:
    """Make `runtime` the current one; open sessions write where they started, what the new one's processors return."""
    _installed[:] = [runtime]


def remove() -> None:
    """Remove the runtime: sessions that start from now on record nothing."""
    _installed[:] = [None]


def current_runtime() -> Runtime | None:
    """Return the current runtime, or None if nothing is instrumented."""
    return _installed[0] if _installed else None


def never_instrumented() -> bool:
    """Return True while neither `instrument()` nor `uninstrument()` has run in this process."""
    return not _installed


def forget() -> None:
    """Return to the state of a new process. For tests."""
    _installed.clear()
