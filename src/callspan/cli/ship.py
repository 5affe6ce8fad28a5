"""`callspan ship`: delivers records left on disk by ended processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from callspan.cli.command_context import Command, CommandContext
from callspan.cli.progress import progress
from callspan.formatting import plural
from callspan.safe_urls import safe_name
from callspan.stores import split_urls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from callspan.delivery.leftovers import Result
    from callspan.spool.findings import Finding

_TIMEOUT_S: Final = 86_400.0
_EPILOG: Final = """\
callspan ship
callspan --store postgresql://me@db/calls ship"""


@click.command("ship", cls=Command, short_help="Deliver records that wait on disk.", epilog=_EPILOG)
def ship_command(context: CommandContext) -> None:
    """Deliver waiting records to the stores. Exit code 1 if some still wait or are damaged.

    Records that other stores still need are kept for those.
    """
    from callspan.delivery import leftovers
    from callspan.stores.spools import findings_for

    urls = split_urls(context.store)
    done: dict[str, Result] = {}
    left: dict[str, int] = {}
    for url in urls:
        name = safe_name(url)
        with progress(f"records to {name}", shown=not context.json) as tell:
            done[name] = leftovers.deliver(url, beside=urls, timeout_s=_TIMEOUT_S, progress=tell)
        if records := sum(one.records for one in leftovers.waiting(url, urls)):
            left[name] = records
    findings = findings_for(urls)
    if context.json:
        context.emit({"stores": done, "waiting": left, "findings": [one.as_json() for one in findings]})
    else:
        context.screen.paragraph(" ".join(_sentences(done, left, findings)))
    is_left = any(one.holds_records for one in findings)
    if left or is_left or any(result.damaged for result in done.values()):
        raise click.exceptions.Exit(1)


def _sentences(done: dict[str, Result], left: dict[str, int], findings: Sequence[Finding]) -> list[str]:
    found = []
    for name, result in done.items():
        if result.delivered:
            found.append(f"{plural(result.delivered, 'record')} delivered to {name}.")
        if result.rejected:
            found.append(f"{plural(result.rejected, 'record')} rejected by {name}: see rejected.jsonl in the spool.")
        if result.damaged:
            found.append(f"{plural(result.damaged, 'record')} for {name} damaged, and lost.")
    is_unreadable = any(one.kind == "unreadable" for one in findings)
    for name, records in left.items():
        why = done[name].error or ("see below" if is_unreadable else "a running process has them")
        found.append(f"{plural(records, 'record', 'still wait')} for {name}: {why}.")
    found += [f"{one}. {one.remedy}" for one in findings]
    return found if left or any(one.holds_records for one in findings) else [*found, "Nothing waits."]
