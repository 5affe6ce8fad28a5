"""`callspan report`: the records as one HTML page."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Final

import click

from callspan.cli.command_context import Command, CommandContext
from callspan.cli.filters import filters
from callspan.cli.terminal.progress import progress
from callspan.cli.values import FILE
from callspan.formatting import plural
from callspan.runtime.output_file import is_stdout, written_to
from callspan.stores import CallFilter
from callspan.view.report import write_report

_EPILOG: Final = """\
callspan report -o today.html --since 1d
callspan report --session 019aa0 -o episode.html"""
_COUNTS: Final = ("calls", "sessions", "missing_sessions", "missing_outside")


@click.command(
    "report",
    cls=Command,
    page="The page",
    filters=filters(),
    short_help="Write the page of sessions and calls as one file.",
    epilog=_EPILOG,
)
@click.option(
    "-o",
    "--output",
    type=FILE,
    default=Path("report.html"),
    show_default=True,
    help="Output file; - for stdout.",
)
@click.option("--open", "opens", is_flag=True, help="Open the file in the browser.")
def report_command(context: CommandContext, selection: CallFilter, output: Path, *, opens: bool) -> None:
    """Write the page of `callspan view` as one self-contained file: sessions with their timelines, calls, charts.

    A session with a selected call is included whole. Beyond 20 MB of data, the oldest sessions are left out.
    """
    save_page(context, output, selection, opens=opens)


def save_page(context: CommandContext, output: Path, selection: CallFilter, *, opens: bool) -> None:
    """Write the page of the selected calls to a file; print its size and the numbers of calls and sessions in it."""
    with context.reader() as reader, progress("MB", visible=not context.json) as update:
        selection = context.resolved(reader, selection)
        with written_to(output, context.files()) as target:
            report = write_report(reader, target, selection, progress=update)
    if not report.calls and not report.sessions:
        context.no_match(f"No such calls in {context.store_name}; nothing written.")
    if is_stdout(output):
        return
    size = output.stat().st_size
    if context.json:
        counts = {name: getattr(report, name) for name in _COUNTS}
        context.emit({"file": str(output), "bytes": size, **counts})
    else:
        context.screen.paragraph(
            f"{output}: {plural(report.calls, 'call')}, {plural(report.sessions, 'session')}, "
            f"{size / 1e6:.2f} MB{report.missing and f'; {report.missing}'}"
        )
    if opens and not webbrowser.open(output.resolve().as_uri()):
        click.echo("No browser was found: open the file yourself.", err=True)
