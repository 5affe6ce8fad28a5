"""`callspan reconcile`: what providers billed beside what was recorded, and why the two differ."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from itertools import chain
from pathlib import Path
from typing import Final

import click

from callspan import open_store
from callspan.cli.command_context import Command, CommandContext
from callspan.cli.terminal.safe_text import clean
from callspan.cli.values import AnyType
from callspan.comparison.bill import Line, Note, by_day, compare, step_of, unexplained
from callspan.comparison.bill_reports import Billed, Measure, ReportError, read_report
from callspan.formatting import exact, iso, money, plural

_EPILOG: Final = """\
callspan reconcile usage.json costs.json
callspan reconcile activity.csv --by day --tolerance 1%"""
_CAUSES: Final[Mapping[str, str]] = {
    "retried": "no answer came before a retry",
    "timed_out": "timed out",
    "unanswered": "sent, and no answer came",
    "cut_off": "a stream that was left or cut before its usage",
    "partial_usage": "a stream that was left or cut, with a part of its usage",
    "interrupted": "the process ended before the answer",
    "running": "the call has not ended",
    "unfetched": "a background answer that nobody fetched",
    "stream_without_usage": "a stream that was not asked for its usage (stream_usage)",
    "without_usage": "an answer that states no usage",
    "unread_batch": "a result of a batch that nobody read",
    "across_border": "across the border of the bucket",
    "unpriced": "no known price",
}
_NOTES: Final[Mapping[Note, str]] = {
    "not_reported": "no report has this model in this bucket",
    "more_recorded": "more recorded than billed",
    "not_final": "more recorded than billed: the report is of the last day, and may not be final",
    "other_prices": "the same tokens at other prices",
    "unread_batch": "tokens of batches, and no result of a batch was read",
}
_WORDS: Final[Mapping[Measure, str]] = {
    "requests": "requests",
    "input_tokens": "input",
    "cached_tokens": "cached",
    "written_tokens": "written",
    "output_tokens": "output",
    "cost_usd": "cost",
}


class _Share(AnyType):
    """A share such as `0.5%` or `0.005`."""

    name = "share"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """Return the share, from 0 to 1."""
        text = str(value)
        try:
            share = Decimal(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except InvalidOperation:
            share = Decimal(-1)
        if not 0 <= share <= 1:
            self.fail(f"{text!r} is no share, such as 0.5%", param, ctx)
        return share


@click.command(
    "reconcile",
    cls=Command,
    page="The bill",
    short_help="Compare the records with what providers billed.",
    epilog=_EPILOG,
)
@click.argument("reports", metavar="REPORT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--also", "others", metavar="URL", multiple=True, help="Another store of the same bill.")
@click.option("--by", type=click.Choice(["hour", "day"]), default="hour", help="The report's buckets, or UTC days.")
@click.option(
    "--tolerance",
    type=_Share(),
    default="0.5%",
    metavar="SHARE",
    help="How much may be left without a record.",
)
def reconcile_command(
    context: CommandContext, reports: tuple[Path, ...], others: tuple[str, ...], by: str, tolerance: Decimal
) -> None:
    """Compare what providers billed, as their reports say, with the records, and name the causes of what differs.

    A report is a file that a provider's page, API or SDK saves. The exit code is 1 if more than the tolerance is left
    that no record has and no cause explains.
    """
    rows, notes = _read(reports)
    rows = by_day(rows) if by == "day" else rows
    first, last, step = step_of(rows)
    with context.reader() as reader, ExitStack() as opened:
        readers = [reader, *(opened.enter_context(open_store(url, deliver=True)) for url in others)]
        sums_of_calls = chain.from_iterable(reader.bill_sums(first, last, step) for reader in readers)
        lines = compare(rows, sums_of_calls, time.time_ns())
    sums = unexplained(lines)
    if context.json:
        context.emit({
            "lines": [_row(line) for line in lines],
            "left": {name: exact(left) for name, (left, _) in sums.items()},
            "billed": {name: exact(billed) for name, (_, billed) in sums.items()},
            "notes": notes,
        })  # fmt: skip
    else:
        for line in lines:
            _print(context, line)
        _print_sums(context, sums, notes)
    if any(left > tolerance * abs(billed) for left, billed in sums.values()):
        raise click.exceptions.Exit(1)


def _read(paths: Iterable[Path]) -> tuple[list[Billed], list[str]]:
    """Return what the files state, of the same row in several the last, with what they lack. Raises UsageError."""
    rows: dict[tuple[object, ...], Billed] = {}
    notes: list[str] = []
    for path in paths:
        try:
            report = read_report(path.name, path.read_bytes())
        except ReportError as error:
            raise click.UsageError(clean(str(error))) from error
        rows |= report.rows
        notes += report.notes
    return list(rows.values()), notes


def _row(line: Line) -> dict[str, object]:
    amounts: dict[str, object] = {
        name: {measure: exact(amount) for measure, amount in part.items()}
        for name, part in (("billed", line.billed), ("recorded", line.recorded), ("left", line.left))
    }
    times: dict[str, object] = {"start": iso(line.start_ns), "end": iso(line.end_ns)}
    names = {"provider": line.provider, "model": line.model}
    reasons = {"causes": line.causes, "notes": line.notes, "served_by_caches": line.served_by_caches}
    return times | names | amounts | reasons


def _print(context: CommandContext, line: Line) -> None:
    """Print a bucket: amounts as recorded of billed, then a line for each cause and note."""
    start = datetime.fromtimestamp(line.start_ns / 10**9, timezone.utc).strftime("%m-%d %H:%M")
    cells = [
        f"{_WORDS[measure]} {_amount(measure, amount)}"
        + (f" of {_amount(measure, line.billed[measure])}" if line.billed.get(measure, amount) != amount else "")
        for measure, amount in line.recorded.items()
    ]
    screen = context.screen
    screen.line(
        (f"{start}  ", "bold"),
        f"{line.provider}  ",
        (clean(line.model or "all models"), "cyan"),
        "   ",
        "   ".join(cells),
    )
    for cause, number in line.causes.items():
        screen.line((f"{number:>19,} \N{MULTIPLICATION SIGN} {_CAUSES[cause]}", "dim"))
    if line.served_by_caches:
        screen.line((f"{line.served_by_caches:>19,} \N{MULTIPLICATION SIGN} an answer of a cache, not billed", "dim"))
    for note in line.notes:
        screen.line((f"{'':21} {_NOTES[note]}", "dim"))
    if line.left:
        screen.line((f"{'':21} {_left(line.left)}", "yellow"))


def _print_sums(context: CommandContext, sums: Mapping[Measure, tuple[Decimal, Decimal]], notes: Iterable[str]) -> None:
    left = {measure: amount for measure, (amount, _) in sums.items() if amount}
    context.screen.paragraph(_left(left) if left else "Everything that was billed is recorded or has a cause.", "bold")
    for note in notes:
        context.screen.paragraph(clean(note), "yellow")


def _left(left: Mapping[Measure, Decimal]) -> str:
    amounts = [
        plural(int(amount), "request") if measure == "requests" else f"{_WORDS[measure]} {_amount(measure, amount)}"
        for measure, amount in left.items()
    ]
    return f"{', '.join(amounts)} that no record has: another process or program with this key"


def _amount(measure: Measure, amount: Decimal) -> str:
    return money(amount) if measure == "cost_usd" else f"{int(amount):,}"
