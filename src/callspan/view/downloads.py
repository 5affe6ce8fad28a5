"""Downloads: what a filter line selects as files: the report, and conversations as JSON Lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from callspan.datasets import export
from callspan.formatting import counted
from callspan.view.report import write_report
from callspan.view.source import PageRequest


class Download(NamedTuple):
    """A kind of file."""

    write: Callable[[PageRequest, Path], None]
    """Writes the file of a request. Raises LookupError if nothing can be written, BadQueryError, OSError."""
    media_type: str
    file_name: str


def _write_report(request: PageRequest, target: Path) -> None:
    reader, selection = request.filtered()
    report = write_report(reader, target, selection, progress=lambda *_: None)
    if not report.calls and not report.sessions:
        raise LookupError("No such calls.")


def _write_lines(request: PageRequest, target: Path) -> None:
    reader, selection = request.filtered()
    statistics = export(reader, "openai-session", target, selection)
    if not statistics.rows:
        raise LookupError(f"Nothing is left to export: {counted(statistics.left_out) or 'no such calls'}.")


DOWNLOADS: Final = {
    "report": Download(_write_report, "text/html", "callspan.html"),
    "lines": Download(_write_lines, "application/jsonl", "callspan.jsonl"),
}
"""The files behind `/api/save/NAME?q=`."""
