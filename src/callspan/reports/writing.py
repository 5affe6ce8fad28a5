"""Writing: a store's report to a file, whole or not at all."""

from __future__ import annotations

from pathlib import Path

from callspan.reports.gathering import Gathered, Progress, gather
from callspan.reports.page import page
from callspan.stores.base import CallFilter, Reader
from callspan.stores.replacing import check_replaceable, create_private


def write_report(
    reader: Reader,
    target: Path,
    which: CallFilter = CallFilter(),  # noqa: B008 - immutable
    *,
    progress: Progress = lambda _read, _of, _what: None,
) -> Gathered:
    """Write one HTML page about the chosen calls and their sessions; return what it shows.

    The page loads nothing, sends nothing, and runs no script but its own. Nothing is written where no call is chosen.
    Raises OSError for a target that cannot be written.
    """
    check_replaceable(target)
    found = gather(reader, which, progress)
    if found.every.calls or found.sessions:
        partial = target.with_name(target.name + ".part")
        try:
            create_private(partial)
            partial.write_text(page(found), encoding="utf-8")
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    return found
