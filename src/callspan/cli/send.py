"""`callspan send`: sends recorded sessions and calls to an OTLP receiver, as the traces of their processes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from itertools import count
from typing import Final, cast

import click

from callspan import Settings
from callspan.cli.command_context import Command, CommandContext, store_errors
from callspan.cli.terminal.progress import progress
from callspan.cli.terminal.safe_text import clean
from callspan.cli.values import HTTP_URL
from callspan.formatting import plural
from callspan.otlp.providers import endpoint_at, endpoint_of
from callspan.otlp.receiver import Receiver, UnavailableError
from callspan.otlp.recorded import RecordedSpans
from callspan.otlp.sender import SpanSender
from callspan.runtime.clock import monotonic_s
from callspan.runtime.safe_urls import error_text
from callspan.settings_loader import load
from callspan.stores import ReadableStore, SentVersions, find_store, first_readable

_POLL_S: Final = 1.0
_RETRY_S: Final = 5.0
_NUMBERS: Final = re.compile(r"\d+")
_DELIVER_EVERY: Final = 5
"""Polls between deliveries of records left by ended processes."""
_EPILOG: Final = """\
callspan send --otlp http://localhost:4318
callspan send --follow                          to OTEL_EXPORTER_OTLP_ENDPOINT"""


@click.command(
    "send",
    cls=Command,
    page="OTLP backends: Traces of recorded calls",
    short_help="Send recorded sessions and calls as traces by OTLP.",
    epilog=_EPILOG,
)
@click.option("--otlp", "url", type=HTTP_URL, metavar="URL", help="Receiver. Default: $OTEL_EXPORTER_OTLP_ENDPOINT.")
@click.option("-f", "--follow", is_flag=True, help="Continue with new records, each second, until Ctrl-C.")
@click.option("--again", is_flag=True, help="Also records that were sent to this receiver before.")
def send_command(context: CommandContext, url: str | None, follow: bool, again: bool) -> None:
    """Send recorded sessions and calls to an OTLP receiver, as the traces that their processes had.

    Unfinished and unsampled sessions and calls are not sent. If their process has ended, unfinished ones are sent as
    interrupted; if it runs elsewhere and gave no sign of life for an hour, as unknown, once.
    Records of a process without a tracer provider get ids derived from their own. Span attributes follow
    the settings (content_on_spans, vocabularies, …) of the environment.
    """
    address = endpoint_of("traces") if url is None else endpoint_at(url, "traces")
    if address is None:
        raise click.UsageError("give --otlp URL, or set OTEL_EXPORTER_OTLP_ENDPOINT")
    receiver, settings = Receiver(address), load()
    with closing(receiver):
        if follow:
            with suppress(KeyboardInterrupt):
                _follow(context, receiver, settings, again=again)
        else:
            _send(context, receiver, settings, again=again)


def _send(context: CommandContext, receiver: Receiver, settings: Settings, *, again: bool) -> None:
    failure: str | None = None
    with (
        context.reader() as reader,
        closing(_sent_versions(context, receiver)) as versions,
        progress("spans", visible=not context.json) as update,
    ):
        sender, spans = SpanSender(receiver, versions, again=again, on_progress=update), RecordedSpans(reader, settings)
        try:
            sender.send_new(spans)
        except UnavailableError as error:
            failure = str(error)
    _report(context, sender, spans, failure)


def _follow(context: CommandContext, receiver: Receiver, settings: Settings, *, again: bool) -> None:
    """Send new records until Ctrl-C, through outages of the receiver and the store; each is reported once."""
    reported: str | None = None
    while True:
        try:
            for sender in _polls(context, receiver, settings, again=again):
                again = False
                if reported is not None:
                    click.echo(f"Spans are sent to {receiver.name} again.", err=True)
                reported = None
                for line in _refusals(sender):
                    click.echo(clean(line), err=True)
                sender.refusals.clear()
                sender.rejections.clear()
        except click.UsageError:
            raise
        except store_errors(click.ClickException, UnavailableError) as error:
            is_away = isinstance(error, UnavailableError)
            problem = f"{receiver.name} is unavailable ({error})" if is_away else error_text(error)
            # Times and ports in the message do not make it a new failure.
            kind = _NUMBERS.sub("", problem)
            if kind != reported:
                click.echo(clean(f"{problem}; it is tried again"), err=True)
            reported = kind
        time.sleep(_RETRY_S)


def _polls(context: CommandContext, receiver: Receiver, settings: Settings, *, again: bool) -> Iterator[SpanSender]:
    """Send new records and yield, repeatedly, with pauses of a second or as long as the poll took."""
    with closing(_sent_versions(context, receiver)) as versions:
        sender = SpanSender(receiver, versions, again=again)
        for number in count():
            began_s = monotonic_s()
            if number % _DELIVER_EVERY == 0:
                context.deliver()
            with context.reader() as reader:
                sender.send_new(RecordedSpans(reader, settings))
            yield sender
            time.sleep(max(_POLL_S, monotonic_s() - began_s))


def _sent_versions(context: CommandContext, receiver: Receiver) -> SentVersions:
    """Open the list of records that the receiver has. Raises StoreError if another process sends to it."""
    store = cast("ReadableStore", find_store(first_readable(context.store)))
    return store.sent(receiver.name)


def _report(context: CommandContext, sender: SpanSender, spans: RecordedSpans, failure: str | None) -> None:
    unsent = {"unsampled": len(spans.unsampled), "unended": len(spans.unended)}
    refused, rejected = sender.refusals.total(), sender.rejections.total()
    if context.json:
        counts = {"sent": sender.sent, "refused": refused, "rejected": rejected, "late": sender.late}
        reasons = {"reasons": dict(sender.refusals + sender.rejections), "unavailable": failure}
        context.emit({"receiver": sender.receiver.name, **counts, **unsent, **reasons})
    else:
        context.screen.paragraph(" ".join(_lines(context, sender, unsent, failure)))
    if refused or rejected or failure is not None:
        raise click.exceptions.Exit(1)


def _lines(
    context: CommandContext, sender: SpanSender, unsent: Mapping[str, int], failure: str | None
) -> Iterator[str]:
    if sender.sent or sender.refusals or sender.rejections or failure is not None:
        yield f"{plural(sender.sent, 'span')} sent to {sender.receiver.name}."
    else:
        yield f"Nothing is new in {context.store_name}."
    # The number of unsent records is unknown, because only the newest of the sent records are read again.
    if sender.before:
        yield "--again sends what was sent before."
    if sender.late:
        yield f"{plural(sender.late, 'span')} ended after being sent as unknown: not sent again."
    if unsent["unsampled"]:
        yield f"{unsent['unsampled']} not sampled."
    if unsent["unended"]:
        yield f"{unsent['unended']} not ended."
    yield from _refusals(sender)
    if sender.refusals or sender.rejections:
        yield "--again retries these records."
    if failure is not None:
        yield f"It is unavailable ({failure}): run the command again to send the rest."


def _refusals(sender: SpanSender) -> Iterator[str]:
    for reason, number in sender.refusals.items():
        yield f"{plural(number, 'span')} refused: {reason}."
    for reason, number in sender.rejections.items():
        yield f"{number} rejected: {reason}."
