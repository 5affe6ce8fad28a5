"""`callspan export`: recorded calls and sessions as datasets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Final

import click
import msgspec

from callspan.cli.command_context import Command, CommandContext
from callspan.cli.filters import Filter, filters
from callspan.cli.terminal.progress import progress
from callspan.cli.terminal.screen import styled
from callspan.cli.values import FILE_OR_DIRECTORY, NUMBER, POSITIVE
from callspan.datasets import FORMATS, Options, Statistics, export
from callspan.formatting import count, plural
from callspan.runtime.conversion import converter
from callspan.runtime.output_file import is_stdout, written_to
from callspan.stores import CallFilter

_EPILOG: Final = """\
callspan export openai-session -o train.jsonl --min-reward 0.5 --success
callspan export preferences -o pairs.jsonl --margin 0.2 --pair-by seed"""
_OF_SESSIONS: Final = (
    Filter("--success/--failure", "success", default=None),
    Filter("--session-status", "session_outcome", "WORD", listed=""),
)
_WITHOUT_CUT_OFF: Final = Filter("--without-cut-off", "without_cut_off", is_flag=True)
_BY: Final = Filter("--by", "by", "day", type=click.Choice(["day"]))
"""Beside the filters, because it decides which calls `--since` selects."""


@click.command(
    "export",
    cls=Command,
    page="Evaluate and train",
    filters=[*filters(), *_OF_SESSIONS, _WITHOUT_CUT_OFF, _BY],
    help=f"FORMAT: {', '.join(FORMATS)}.",
    short_help="Write datasets: fine-tuning rows, pairs, Parquet.",
    epilog=_EPILOG,
)
@click.argument("format_name", metavar="FORMAT", type=click.Choice(list(FORMATS)))
@click.option(
    "-o", "--output", type=FILE_OR_DIRECTORY, metavar="FILE", help="File; - for stdout. With --by day: directory."
)
@click.option("--dry-run", is_flag=True, help="Write nothing; show what would be written.")
@click.option("--limit", type=POSITIVE, metavar="N", help="Write at most N rows.")
@click.option("--reasoning", is_flag=True, help="Keep reasoning (OpenAI rejects it).")
@click.option("--metadata", "has_metadata", is_flag=True, help="Add ids and rewards (OpenAI rejects them).")
@click.option("--pair-by", metavar="KEY", default="task_id", help="Pair by task_id or this metadata.")
@click.option("--margin", type=NUMBER, metavar="R", default=0.0, help="Pairs: minimum difference of rewards.")
@click.option(
    "--format", "pair_format", type=click.Choice(["openai", "trl"]), default="openai", help="Pairs: field names."
)
def export_command(
    context: CommandContext,
    selection: CallFilter,
    format_name: str,
    output: Path | None,
    *,
    dry_run: bool,
    has_metadata: bool,
    **options: object,
) -> None:
    """Check the options that belong together, and write the dataset."""
    if output is None and not dry_run:
        raise click.UsageError("Give the output file with -o FILE, or use --dry-run.")
    if options["by"] is not None and output is not None and is_stdout(output):
        raise click.UsageError("--by day writes a directory: name it with -o DIR.")
    target = None if dry_run else output
    objective = selection.judged[0]
    export_options = converter(Options)({**options, "metadata": has_metadata, "objective": objective})
    with context.reader() as reader, progress("sessions", visible=not context.json) as update:

        def show(statistics: Statistics) -> None:
            update(statistics.sessions, statistics.sessions_found, f"{statistics.rows:,} rows of sessions")

        selection = context.resolved(reader, selection)
        with nullcontext(None) if target is None else written_to(target, context.files()) as file:
            statistics = export(reader, format_name, file, selection, export_options, progress=show)
    _report(context, statistics, target)


def _report(context: CommandContext, statistics: Statistics, target: Path | None) -> None:
    if target is not None and is_stdout(target):
        # Messages of the command would be mixed with the rows.
        click.echo(plural(statistics.rows, "row"), err=True)
        for line in _omission_lines(statistics):
            click.echo(styled(*line).plain, err=True)
    elif context.json:
        context.emit({"file": None if target is None else str(target), **msgspec.to_builtins(statistics)})
    else:
        _print_statistics(context, statistics, target)
    if not statistics.rows:
        found = "All that matches was left out, for the reasons above" if statistics.left_out else "Nothing matches"
        context.no_match(f"{found}; nothing is written from {context.store_name}.")


def _print_statistics(context: CommandContext, statistics: Statistics, target: Path | None) -> None:
    screen = context.screen
    destination = "would be written" if target is None else f"written to {target}"
    screen.paragraph(
        f"{plural(statistics.rows, 'row')} {destination}" if statistics.rows else "no rows, nothing written", "bold"
    )
    screen.line(
        f"  {count(statistics.sessions_kept)} of {count(statistics.sessions)} sessions, "
        f"{count(statistics.messages)} messages, {count(statistics.trained_messages)} of them to train on"
    )
    for line in _omission_lines(statistics):
        screen.line(*line)


def _omission_lines(statistics: Statistics) -> Iterator[tuple[tuple[str, str] | str, ...]]:
    """Yield lines on cut-off answers and on omitted rows, as arguments of `Screen.line`."""
    number = statistics.cut_off_answers
    if number:
        answers = "1 answer that was" if number == 1 else f"{count(number)} answers that were"
        yield (f"  {answers} cut off {'is' if number == 1 else 'are'} included", "yellow"), " (see --without-cut-off)"
    elif statistics.rows:
        yield ("  no answer that was cut off is included",)
    for title, counts in (("left out", statistics.left_out), ("not in this format", statistics.dropped)):
        for reason, times in counts.most_common():
            yield (f"  {title}: ", "yellow"), f"{reason} ({count(times)})"
    if statistics.stopped_at_limit:
        yield ("  left out: ", "yellow"), "rows after the limit (not counted)"
