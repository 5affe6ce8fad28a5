"""`callspan replay CALL`: the exact recorded request, sent again; both answers, one above the other."""

from __future__ import annotations

from typing import Final

import click
from rich.rule import Rule

from callspan.cli.answer_diff import full_output, kind_of_answer, same_answer
from callspan.cli.frame import Frame, framed
from callspan.cli.parameter_types import HttpUrl, Seconds
from callspan.cli.resending import ResendError, resend
from callspan.cli.rows import call_row
from callspan.cli.safe_text import clean_lines
from callspan.cli.screen import Screen
from callspan.cost import priced
from callspan.formatting import UNKNOWN, duration, money, tokens
from callspan.record.call import CallRecord
from callspan.stores.aggregates import model_of
from callspan.stores.urls import safe_name

_EPILOG: Final = """\b
Examples:
  callspan replay 01a1f810-d13f
  callspan replay 01a1f810-d13f --model gpt-5-mini
  callspan replay 01a1f810-d13f --base-url http://localhost:8000/v1

The key comes from the SDK's own place (OPENAI_API_KEY, ANTHROPIC_API_KEY). The request goes to the host it went to
when it was recorded; any other one must be named with --base-url.

Exit code 0 where the new call succeeds, whatever it says; 1 where it fails or cannot be sent."""


@click.command("replay", short_help="Send a recorded request again; compare both outputs.", epilog=_EPILOG)
@click.argument("ident", metavar="CALL")
@click.option("--model", metavar="NAME", help="Send the request to this model instead.")
@click.option("--base-url", type=HttpUrl(), metavar="URL", help="Send the request to this URL instead.")
@click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(0.1),
    default=120.0,
    show_default=True,
    help="In seconds.",
)
@framed
def command(frame: Frame, ident: str, model: str | None, base_url: str | None, timeout_s: float) -> None:
    """Send a recorded request again, the same JSON, and show both answers. It may cost money.

    CALL is a call's id, the beginning of it, or its span id. Exit code 1 where the new call fails.
    """
    with frame.reader() as reader:
        before = reader.call(ident)
    if before is None:
        frame.nothing(f"No call in {safe_name(frame.store)} has an id that begins with {ident!r}, or several have.")
    try:
        after = priced(resend(before, model=model, base_url=base_url, timeout_s=timeout_s))
    except ResendError as error:
        frame.fail(str(error))
    if frame.json:
        frame.emit({"recorded": _full_row(before), "replayed": _full_row(after), "same": same_answer(before, after)})
    else:
        _show(frame.screen, before, after)
    if after.outcome != "success":
        raise click.exceptions.Exit(1)


def _full_row(call: CallRecord) -> dict[str, object]:
    return {**call_row(call), "output": full_output(call)}


def _show(screen: Screen, before: CallRecord, after: CallRecord) -> None:
    for title, call in (("recorded", before), ("now", after)):
        usage = call.usage
        screen.print(Rule(style="bright_black"))
        screen.line(
            (f"{title:<9} ", "dim"),
            (model_of(call) or UNKNOWN, "bold cyan"),
            f"  {tokens(usage.input_tokens, usage.output_tokens) if usage else UNKNOWN} tokens",
            f"  {money(call.cost.usd if call.cost else None)}  {duration(call.timing.duration_ns)}",
            ("" if call.outcome == "success" else f"  {call.outcome}", "red"),
        )
        screen.print(clean_lines(full_output(call) or (call.error.message if call.error else None) or "no output"))
    screen.print(Rule(style="bright_black"))
    same, what = same_answer(before, after), kind_of_answer(after)
    if same is None:
        screen.line(("the recorded vectors were kept by their length alone: record with media='inline'", "yellow"))
    else:
        screen.line((f"the same {what}" if same else f"other {what}", "green" if same else "yellow"))
