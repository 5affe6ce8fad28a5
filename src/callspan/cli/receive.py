"""`callspan receive`: receives telemetry of agents and other programs by OTLP, and records their calls."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Final

import click

import callspan
from callspan.cli.command_context import Command, CommandContext
from callspan.formatting import counted, plural
from callspan.runtime.forks import exit_left_s
from callspan.stores import split_urls

if TYPE_CHECKING:
    from callspan.receive.inbox import Inbox
    from callspan.receive.server import OtlpServer

_MISSING_PACKAGE: Final = 'To receive, callspan needs {name}: pip install "callspan[cli]"'
_LAST_PORT: Final = 65_535
_EXIT_S: Final = 8.0
"""Time for all that is done at the end. What is not written by then lies on disk."""
_EPILOG: Final = """\
callspan receive
callspan --store postgresql://me@db/calls receive --port 14318"""


@click.command(
    "receive",
    cls=Command,
    page="Coding agents, other languages: Other programs and languages",
    short_help="Record calls that other programs report by OTLP.",
    epilog=_EPILOG,
)
@click.option("--port", type=click.IntRange(0, _LAST_PORT), default=4318, help="Port on 127.0.0.1; 0: any. [4318]")
def receive_command(context: CommandContext, port: int) -> None:
    """Receive OTLP/HTTP: log events of Claude Code and Codex, and spans of other instrumentations and languages.

    Only programs on this machine can send, and no web page. Ctrl-C ends it.
    """
    from callspan.stores.spools import spool_directory
    from callspan.wiring import WIRING

    try:
        from callspan.receive.agents import receiver_directory
        from callspan.receive.inbox import Inbox
        from callspan.receive.senders import Sender
        from callspan.receive.server import OtlpServer
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"starlette", "uvicorn"}:
            raise
        context.fail(_MISSING_PACKAGE.format(name=error.name))
    handle = callspan.instrument(stores=tuple(split_urls(context.store)), sdks=())
    unrecorded = WIRING.hook_context.unrecorded
    inbox = Inbox(WIRING.write, unrecorded)
    root = spool_directory(handle.settings, handle.settings.stores).parent
    try:
        files = receiver_directory(root, port, WIRING.write)
    except OSError as error:
        context.fail(f"{root}: {error.strerror or error}. Set CALLSPAN_SPOOL_DIR to a directory that can be written")
    anybody = Sender(level=handle.settings.content)
    try:
        server = OtlpServer(inbox, port, anybody=anybody, unrecorded=unrecorded)
    except OSError as error:
        context.fail(f"127.0.0.1:{port}: {error.strerror or error}. Another receiver may have this port; see --port")
    try:
        inbox.resume(files.waiting(WIRING.processed), files.history(), anybody)
    except OSError as error:
        context.fail(f"{root}: {error.strerror or error}")
    # The default action of a signal, which uvicorn raises again at its end, would leave what waits unwritten.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        if context.json:
            context.emit({"url": server.url(), "store": context.store_name})
        else:
            click.echo(f"Calls reported to\n  {server.url()}\nare recorded to {context.store_name}. Ctrl-C ends it.")
        server.serve()
    finally:
        limit_s = exit_left_s(_EXIT_S)
        inbox.close(limit_s=limit_s)
        files.close()
        handle.force_flush(int(exit_left_s(limit_s) * 1000))
        if not context.json:
            click.echo(_summary(inbox, server), err=True)


def _summary(inbox: Inbox, server: OtlpServer) -> str:
    """Return what was recorded, what is no part of a call, and what was not."""
    unused = ", ".join(f"{count:,} {kind}" for kind, count in inbox.unused.items())
    refused = ", ".join(f"{count:,} {reason}" for reason, count in server.refused.items())
    return " ".join(
        [
            f"{plural(inbox.calls, 'call')} recorded.",
            *([f"No part of a call: {unused}."] if unused else []),
            *([f"Refused requests: {refused}."] if refused else []),
            *([f"Could not be read: {counted(inbox.unread)}."] if inbox.unread else []),
        ]
    )
