"""`callspan export`: recorded calls and sessions as datasets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Final

import click

from callspan.cli.command_context import CommandContext, reading
from callspan.cli.filter_options import OPTIONS, Amount, File, KeyValue, Money, Rows
from callspan.cli.progress import progress
from callspan.cli.screen import styled
from callspan.conversion import converter
from callspan.datasets import FORMATS, Selection, Statistics, export
from callspan.datasets.selection import Options
from callspan.formatting import count, reward
from callspan.output_file import is_stream, written_to
from callspan.record.reward_sums import REWARD
from callspan.safe_urls import error_text, safe_name
from callspan.settings import SettingError

_SHARED: Final = ("since_ns", "until_ns", "user", "name", "group", "experiment", "task")
_FORMATS: Final = "\n".join(f"  {name:15} {made.about}" for name, made in FORMATS.items())
_EPILOG: Final = f"""\b
Formats:
{_FORMATS}

\b
Rows of openai and openai-session say by the weight of each answer, 0 or 1, what
to train on. OpenAI, Together, Fireworks and Mistral read it; TRL does not.

\b
Examples:
  callspan export openai-session -o train.jsonl --min-reward 0.5 --success
  callspan export openai -o calls.jsonl --model gpt-5-mini --since 7d
  callspan export preferences -o pairs.jsonl --margin 0.2 --pair-by seed
  callspan export preferences -o pairs.jsonl --format trl
  callspan export openai -o liked.jsonl --objective feedback --min-score 1
  callspan export atif --dry-run"""


def _shared_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that other commands have, too; `--metadata` has another meaning here."""
    for name in reversed(_SHARED):
        function = OPTIONS[name](function)
    return function


@click.command("export", short_help="Write datasets: fine-tuning rows, pairs, Parquet.", epilog=_EPILOG)
@click.argument("format_name", metavar="FORMAT", type=click.Choice(list(FORMATS)))
@click.option("-o", "--output", type=File(dir_okay=False, allow_dash=True), help="Output file; - for stdout.")
@click.option("--dry-run", is_flag=True, help="Write nothing; show what would be written.")
@click.option("--session", "session_ids", multiple=True, metavar="ID", help="Only this session; may be repeated.")
@click.option("--model", "models", multiple=True, metavar="NAME", help="Only calls of this model; may be repeated.")
@click.option("--provider", "providers", multiple=True, metavar="NAME", help="Only this provider; may be repeated.")
@_shared_options
@click.option(
    "--meta", type=KeyValue(), multiple=True, help="Only with this metadata; may be repeated (all must hold)."
)
@click.option("--text", metavar="PART", help="Only sessions whose messages contain PART (case-insensitive).")
@click.option("--min-reward", type=Amount(), help="Only sessions with at least this reward.")
@click.option("--max-reward", type=Amount(), help="Only sessions with at most this reward.")
@click.option(
    "--objective",
    metavar="NAME",
    default=REWARD,
    show_default=True,
    help="What --min-score is of, and what pairs are ranked by.",
)
@click.option("--min-score", type=Amount(), help="Only sessions, and calls outside of them, with at least this score.")
@click.option("--max-cost", type=Money(), help="Only sessions that cost at most this many dollars.")
@click.option("--max-tokens", type=Rows(0), help="Only sessions with at most N input and output tokens together.")
@click.option("--success/--failure", default=None, help="Only successful / only failed sessions.")
@click.option("--achievement", "achievements", multiple=True, metavar="NAME", help="Only with this achievement.")
@click.option(
    "--without-achievement",
    "without_achievements",
    multiple=True,
    metavar="NAME",
    help="Only without this achievement.",
)
@click.option("--min-achievements", type=Rows(0), help="Only sessions with at least N achievements.")
@click.option("--without-cut-off", is_flag=True, help="Only answers not cut off by the token limit or a lost stream.")
@click.option("--limit", type=Rows(1), help="Write at most N rows.")
@click.option("--reasoning", is_flag=True, help="Keep reasoning as reasoning_content (OpenAI rejects it).")
@click.option("--metadata", is_flag=True, help="Add ids and rewards to rows (OpenAI rejects them).")
@click.option(
    "--pair-by",
    default="task_id",
    show_default=True,
    help="Group sessions by task_id or a metadata name.",
)
@click.option("--margin", type=Amount(), default=0.0, help="Pairs: minimum difference of rewards.")
@click.option(
    "--format",
    "pair_format",
    type=click.Choice(["openai", "trl"]),
    default="openai",
    show_default=True,
    help="Pairs: OpenAI's fields, or prompt, chosen, rejected for TRL.",
)
@click.option("--agent-name", help="Trajectories: the agent's name. Default: the session's name.")
@click.option("--agent-version", default="unknown", help="Trajectories: the agent's version.")
@reading
def export_command(
    context: CommandContext, format_name: str, output: Path | None, dry_run: bool, **given: object
) -> None:
    """Write recorded calls and sessions as a dataset, and report what was left out or cannot be represented."""
    if output is None and not dry_run:
        raise click.UsageError("Give the output file with -o FILE, or use --dry-run.")
    target = None if dry_run else output
    choice = converter(Selection)({name: given[name] for name in Selection.__struct_fields__})
    options = converter(Options)({name: given[name] for name in Options.__struct_fields__})
    with context.reader() as reader, progress("sessions", shown=not context.json) as tell:

        def show(statistics: Statistics) -> None:
            tell(statistics.sessions, statistics.sessions_found, f"{statistics.rows:,} rows of sessions")

        try:
            with nullcontext(None) if target is None else written_to(target, context.files()) as place:
                statistics = export(reader, format_name, place, choice, options, progress=show)
        except SettingError as error:
            raise click.UsageError(error_text(error)) from error
        except BrokenPipeError:
            raise
        except OSError as error:
            context.fail(f"{error.filename or output}: {error.strerror or error}")
    _report(context, statistics, target, choice.objective)


def _report(context: CommandContext, statistics: Statistics, target: Path | None, objective: str) -> None:
    if target is not None and is_stream(target):
        # Messages of the command would be mixed with the rows.
        click.echo(f"{count(statistics.rows)} rows", err=True)
        for line in _left_out(statistics):
            click.echo(styled(*line).plain, err=True)
    elif context.json:
        context.emit({"file": None if target is None else str(target), **statistics.as_json()})
    else:
        _print_statistics(context, statistics, target, objective)
    if not statistics.rows:
        context.no_match(f"Nothing in {safe_name(context.store)} matches.")


def _print_statistics(context: CommandContext, statistics: Statistics, target: Path | None, objective: str) -> None:
    screen, summary = context.screen, statistics.as_json()
    where = "would be written" if target is None else f"written to {target}"
    rows = "1 row" if statistics.rows == 1 else f"{count(statistics.rows)} rows"
    screen.line((f"{rows} {where}" if statistics.rows else "no rows, nothing written", "bold"))
    screen.line(
        f"  {count(statistics.sessions_kept)} of {count(statistics.sessions)} sessions, "
        f"{count(statistics.messages)} messages, {count(statistics.trained)} of them to train on"
    )
    spread = summary["reward"]
    if isinstance(spread, dict):
        screen.line(f"  {objective}  " + ", ".join(f"{word} {reward(value)}" for word, value in spread.items()))
    for line in _left_out(statistics):
        screen.line(*line)


def _left_out(statistics: Statistics) -> Iterator[tuple[tuple[str, str] | str, ...]]:
    """Yield lines: whether answers that were cut off are in, and what is not."""
    number = statistics.cut_off
    if number:
        cut = "1 answer that was" if number == 1 else f"{count(number)} answers that were"
        yield (f"  {cut} cut off {'is' if number == 1 else 'are'} in", "yellow"), " (see --without-cut-off)"
    elif statistics.rows:
        yield ("  no answer that was cut off is in",)
    for title, counts in (("left out", statistics.left_out), ("not in this format", +statistics.dropped)):
        for reason, times in counts.most_common():
            yield (f"  {title}: ", "yellow"), f"{reason} ({count(times)})"
    if statistics.stopped_at_limit:
        yield ("  left out: ", "yellow"), "what follows the limit of rows (not counted)"
