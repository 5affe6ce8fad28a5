"""Commands: the table of sub-commands; each is imported on first use."""

from __future__ import annotations

import difflib
import io
import logging
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any, Final, cast

import click

from callspan.cli import INTERRUPTED, run

_COMMANDS: Final = (
    *("demo", "run", "sessions", "calls", "show", "stats", "cache", "compare", "view", "report", "export", "import"),
    *("send", "receive", "replay", "doctor", "delete", "ship", "reprice", "reconcile"),
)
"""The sub-commands in the order of the help text, each in a module of its name, except for Python's keywords."""
_RENAMED_MODULES: Final = {"import": "import_records"}
_EPILOG: Final = """\b
Examples:
  callspan run app.py                  record the calls of an application
  callspan calls --failed --since 2h   its recent failures

Exit codes: 0 success, 1 nothing found or a check failed, 2 wrong usage,
130 interrupted, 141 the reader of the output closed the pipe.

More: 'The command' in the documentation, or 'Troubleshooting'."""
_PIPE_BROKEN: Final = 141
"""128 + SIGPIPE, which not every platform has."""


class _Run(click.Command):
    """The `run` sub-command. It parses its own arguments, because it also works without click."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse nothing: keep every argument for `callspan run`."""
        ctx.args = args
        return args

    def invoke(self, ctx: click.Context) -> Any:
        """Replace this process by the application."""
        run.main(ctx.args, store=ctx.find_root().params.get("store"))


class _Commands(click.Group):
    """The sub-commands in the order of the help text, imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the sub-command with that name, or None."""
        if cmd_name not in _COMMANDS:
            for name in difflib.get_close_matches(cmd_name, _COMMANDS, n=1):
                ctx.fail(f"No such command {cmd_name!r}. Did you mean: callspan {name}?")
            return None
        if cmd_name == "run":
            return _Run("run", short_help=run.SHORT_HELP, add_help_option=False)
        module = import_module(f"callspan.cli.{_RENAMED_MODULES.get(cmd_name, cmd_name)}")
        return cast("click.Command", getattr(module, f"{cmd_name}_command"))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a sub-command. Ctrl-C and a closed output pipe end it without a message."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            _forget_output()
            raise click.exceptions.Exit(_PIPE_BROKEN) from None
        return result


def _forget_output() -> None:
    """Redirect stdout to the null device, because flushing the rest of the buffer at exit would fail again."""
    with suppress(io.UnsupportedOperation):  # a stream without a file descriptor
        stdout = sys.stdout.fileno()
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout)


@click.group(cls=_Commands, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--store", metavar="URL", help="Store to read. Default: $CALLSPAN_STORES, else sqlite:///callspan.db.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output on stdout.")
@click.version_option(package_name="callspan", message="callspan %(version)s")
def callspan(store: str | None, as_json: bool) -> None:
    """Show, sum and export recorded calls of models."""
    del store, as_json  # read by the sub-commands
    # The driver raises each error that it logs, and the command reports it.
    logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)
