"""`callspan ship`: delivers records left on disk by ended processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from callspan.cli.command_context import Command, CommandContext
from callspan.cli.terminal.progress import progress
from callspan.formatting import plural
from callspan.runtime.safe_urls import safe_name
from callspan.stores import split_urls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from callspan.delivery.leftovers import Result
    from callspan.spool.findings import Finding

_TIMEOUT_S: Final = 86_400.0
_EPILOG: Final = """\
callspan ship
callspan --store postgresql://me@db/calls ship"""


@click.command(
    "ship",
    cls=Command,
    page="Durability: The spool",
    short_help="Deliver records that wait on disk.",
    epilog=_EPILOG,
)
def ship_command(context: CommandContext) -> None:
    """Deliver waiting records to the stores. Exit code 1 if some still wait or are damaged.

    Records that other stores still need are kept for those.
    """
    from callspan.delivery import leftovers
    from callspan.stores.spools import findings_for

    urls = split_urls(context.store)
    results: dict[str, Result] = {}
    waiting_records: dict[str, int] = {}
    for url in urls:
        name = safe_name(url)
        with progress(f"records to {name}", visible=not context.json) as update:
            results[name] = leftovers.deliver(url, other_urls=urls, timeout_s=_TIMEOUT_S, progress=update)
        if records := sum(segment.records for segment in leftovers.waiting(url, urls)):
            waiting_records[name] = records
    findings = findings_for(urls)
    if context.json:
        context.emit(
            {"stores": results, "waiting": waiting_records, "findings": [finding.as_json() for finding in findings]}
        )
    else:
        context.screen.paragraph(" ".join(_sentences(results, waiting_records, findings)))
    is_left = any(finding.holds_records for finding in findings)
    if waiting_records or is_left or any(result.damaged for result in results.values()):
        raise click.exceptions.Exit(1)


def _sentences(results: dict[str, Result], waiting_records: dict[str, int], findings: Sequence[Finding]) -> list[str]:
    sentences = []
    for name, result in results.items():
        if result.delivered:
            sentences.append(f"{plural(result.delivered, 'record')} delivered to {name}.")
        if result.rejected:
            sentences.append(
                f"{plural(result.rejected, 'record')} rejected by {name}: see rejected.jsonl in the spool."
            )
        if result.damaged:
            sentences.append(f"{plural(result.damaged, 'record')} for {name} damaged, and lost.")
    is_unreadable = any(finding.kind == "unreadable" for finding in findings)
    for name, records in waiting_records.items():
        reason = results[name].error or ("see below" if is_unreadable else "a running process has them")
        sentences.append(f"{plural(records, 'record', 'still wait')} for {name}: {reason}.")
    sentences += [f"{finding}. {finding.remedy}" for finding in findings]
    return (
        sentences
        if waiting_records or any(finding.holds_records for finding in findings)
        else [*sentences, "Nothing waits."]
    )
