"""`callspan send`: sends what was recorded to an OTLP receiver, as traces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from hashlib import sha256
from itertools import chain
from time import sleep
from typing import Final

import click

from callspan.cli.command_context import CommandContext, reading, usage_error
from callspan.cli.filter_options import call_options, resolve_session
from callspan.cli.progress import progress
from callspan.cli.safe_text import clean
from callspan.cli.ship import spool_of
from callspan.formatting import plural
from callspan.otlp.recorded import Group, RecordedSpans
from callspan.otlp.sending import EncodedSpan, SpanSender
from callspan.otlp.transport import UnavailableError, address_of, transport_of
from callspan.safe_urls import safe_name
from callspan.settings import SettingError
from callspan.settings_loader import load
from callspan.stores.base import CallFilter
from callspan.stores.sqlite.sent import SentKeys

_BATCH_BYTES: Final = 1 << 20
_WAITS_S: Final = (1.0, 2.0, 4.0, 8.0)
"""How long is waited before each retry, unless the receiver says it."""
_LONGEST_S: Final = 60.0
_EPILOG: Final = """\b
Examples:
  callspan send --otlp otlp+http://localhost:4318
  callspan send --otlp otlp+grpc://localhost:4317 --since 7d --error
  callspan send --otlp otlp+https://host/otlp/v1/traces --session 019aa0 --again

Headers, certificates, compression and time limit are those of OTEL_EXPORTER_OTLP_*.
What was sent is remembered for each receiver: the next time only what is new is sent.

Exit code 1 if the receiver refused something or could not be reached."""


@click.command("send", short_help="Send recorded sessions and calls as traces by OTLP.", epilog=_EPILOG)
@click.option(
    "--otlp", "url", metavar="URL", required=True, help="Receiver: otlp+http://, otlp+https://, otlp+grpc://."
)
@call_options
@click.option("--again", is_flag=True, help="Also what was sent to this receiver before.")
@reading
def send_command(context: CommandContext, which: CallFilter, url: str, again: bool) -> None:
    """Send recorded sessions and calls to an OTLP receiver, as the traces that their processes had.

    A session that has a call of those selected is sent whole. What has not ended, and what was not sampled, is not
    sent. Span attributes follow the settings (content_on_spans, vocabularies, span_cost, …) of the environment.
    """
    try:
        transport, settings = transport_of(url), load()
        memory = spool_of(context.store) / f"sent-{sha256(address_of(url).encode()).hexdigest()[:16]}.db"
    except SettingError as error:
        raise usage_error(error) from error
    with closing(transport), context.reader() as reader, SentKeys(memory) as before, SentKeys(None) as now:
        is_filtered = which != CallFilter() or context.scoring.chooses
        found = RecordedSpans(reader, settings, resolve_session(context, reader, which), is_filtered=is_filtered)
        run = _Run(SpanSender(transport), now if again else before, [now, before])
        with progress("calls", shown=not context.json) as tell:
            total = None if is_filtered else reader.count_calls()
            try:
                run.send(found, is_filtered=is_filtered, tell=lambda: tell(run.calls, total))
            except UnavailableError as error:
                run.failure = str(error)
    _report(context, run, safe_name(url))


class _Run:
    """Sends spans that were not sent before, many at a time."""

    def __init__(self, sender: SpanSender, known: SentKeys, remember: Sequence[SentKeys]) -> None:
        """`known` has what is not to be sent, `remember` takes what was."""
        self.sender = sender
        self.calls = 0
        """Number of calls that were looked at."""
        self.found = 0
        """Number of sessions and spans that were found, sent before or not."""
        self.refusals = Counter[str]()
        self.failure: str | None = None
        """Why the receiver could not be reached."""
        self._known, self._remember = known, remember
        self._waiting: dict[str, EncodedSpan] = {}
        self._bytes = 0
        self._versions: list[str] = []

    @property
    def has_failed(self) -> bool:
        """Return whether something was not taken."""
        return self.failure is not None or bool(self.sender.refused or self.sender.rejected)

    def send(self, found: RecordedSpans, *, is_filtered: bool, tell: Callable[[], object]) -> None:
        """Send all, and call `tell` after each part. Raises UnavailableError."""
        for group in chain(self._sessions(found), found.outside_sessions()):
            self.calls += group.calls
            self._add(group)
            tell()
        self._flush()
        for group, judged in found.rewards():
            if not is_filtered or (judged is not None and self._known.known([judged])):
                self._add(group)
        self._flush()

    def _sessions(self, found: RecordedSpans) -> Iterator[Group]:
        for summary in found.sessions():
            self.found += 1
            if self._known.known([found.version(summary)]):
                self.calls += summary.calls
            else:
                yield found.of_session(summary)

    def _add(self, group: Group) -> None:
        known = self._known.known(group.keys)
        self.found += len(group.keys)
        for key, span in zip(group.keys, group.spans, strict=True):
            if key not in known and key not in self._waiting:
                self._waiting[key] = span
                self._bytes += len(span.data)
        if group.version is not None:
            self._versions.append(group.version)
        if self._bytes > _BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        refused = self.sender.refused
        self._send_waiting()
        self._bytes = 0
        if self._versions and refused == self.sender.refused:
            self._add_known(self._versions)
        self._versions = []

    def _send_waiting(self) -> None:
        """Send what waits, with some retries where the receiver has responded before. Raises UnavailableError."""
        for wait_s in (*_WAITS_S, None):
            keys = [*self._waiting]
            try:
                self.sender.send([*self._waiting.values()], partial(self._taken, keys), partial(self._refused, keys))
            except UnavailableError as error:
                after_s = error.retry_after_s
                if wait_s is None or (after_s or 0) > _LONGEST_S or (after_s is None and not self.sender.taken):
                    raise
                sleep(wait_s if after_s is None else after_s)
            else:
                return

    def _taken(self, keys: Sequence[str], indices: Sequence[int]) -> None:
        taken = [keys[index] for index in indices]
        self._add_known(taken)
        for key in taken:
            del self._waiting[key]

    def _refused(self, keys: Sequence[str], index: int, reason: str) -> None:
        self.refusals[reason] += 1
        del self._waiting[keys[index]]

    def _add_known(self, keys: Sequence[str]) -> None:
        for sent in self._remember:
            sent.add(keys)


def _report(context: CommandContext, run: _Run, receiver: str) -> None:
    sender = run.sender
    taken = sender.taken - sender.rejected
    if context.json:
        counts = {"sent": taken, "rejected": sender.rejected, "refused": sender.refused, "calls": run.calls}
        why = {"message": sender.message, "reasons": dict(run.refusals), "unavailable": run.failure}
        context.emit({"receiver": receiver, **counts, **why})
    elif not run.found and run.failure is None:
        context.no_match(f"No such sessions or calls in {safe_name(context.store)}.")
    else:
        context.screen.paragraph(" ".join(_lines(run, taken, receiver)))
    if run.has_failed:
        raise click.exceptions.Exit(1)


def _lines(run: _Run, taken: int, receiver: str) -> Iterator[str]:
    sender = run.sender
    if taken or run.has_failed:
        yield f"{plural(taken, 'span')} sent to {receiver}."
    else:
        yield f"Nothing is new: all of it was sent to {receiver} before (--again sends it again)."
    if sender.rejected:
        yield f"{plural(sender.rejected, 'span')} rejected by it: {clean(sender.message or 'it does not say why')}."
    for reason, number in run.refusals.items():
        yield f"{plural(number, 'span')} refused: {reason}."
    if run.failure is not None:
        yield f"It is unavailable ({run.failure}): run the command again to send the rest."
