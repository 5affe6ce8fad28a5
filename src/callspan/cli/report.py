"""`callspan report`: one HTML page about what was recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from callspan.cli.command_context import CommandContext, reading
from callspan.cli.filter_options import File, call_options, resolve_session
from callspan.cli.progress import progress
from callspan.formatting import plural
from callspan.output_file import is_stream, written_to
from callspan.reports import write_report
from callspan.safe_urls import safe_name
from callspan.stores.base import CallFilter

_EPILOG: Final = """\b
Examples:
  callspan report
  callspan report -o today.html --since 1d
  callspan report --session 019aa0 -o episode.html

The page is one file without network access. It contains prompts and outputs: share it with the same care as the
store."""


@click.command("report", short_help="Write one HTML page: sessions, rewards, cost, times.", epilog=_EPILOG)
@call_options
@click.option(
    "-o",
    "--output",
    type=File(dir_okay=False, allow_dash=True),
    default=Path("report.html"),
    show_default=True,
    help="Output file; - for stdout.",
)
@reading
def report_command(context: CommandContext, which: CallFilter, output: Path) -> None:
    """Write one self-contained HTML page: timeline of sessions, reward curve, tokens and cost, times, errors."""
    with context.reader() as reader, progress("calls", shown=not context.json) as tell:
        which = resolve_session(context, reader, which)
        try:
            with written_to(output, context.files()) as target:
                found = write_report(reader, target, which, progress=tell)
        except BrokenPipeError:
            raise
        except OSError as error:
            context.fail(f"{output}: {error.strerror or error}")
    if not found.every.calls and not found.sessions:
        context.no_match(f"No such calls in {safe_name(context.store)}; nothing written.")
    if is_stream(output):
        return
    size = output.stat().st_size
    if context.json:
        context.emit({"file": str(output), "bytes": size, "calls": found.every.calls, "sessions": found.session_count})
    else:
        context.screen.line(
            (f"{output}", "bold"),
            f"  {plural(found.every.calls, 'call')}, {plural(found.session_count, 'session')}, {size / 1e6:.2f} MB",
        )
