"""`callspan view`: a page in the browser, on this machine only."""

from __future__ import annotations

import errno
import re
import tempfile
import webbrowser
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import click

from callspan import open_store
from callspan.cli.backlog import Backlog
from callspan.cli.command_context import Command, CommandContext, store_errors
from callspan.cli.filters import filters, selected
from callspan.cli.prices import pricer_of_now
from callspan.cli.report import save_page
from callspan.cli.terminal.safe_text import clean
from callspan.cli.values import FILE, TRACE_URL
from callspan.records import RewardRecord
from callspan.runtime.safe_urls import error_text
from callspan.stores import CallFilter, StoreError, find_store, first_readable
from callspan.view.source import BadQueryError, StoreAccess

_MISSING_PACKAGE: Final = 'The page needs {name}: pip install "callspan[cli]"'
_LAST_PORT: Final = 65_535
_FILTER_WORDS: Final = re.compile(r'(?:[^\s"]|"(?:[^"\\]|\\.)*"|")+')
"""The words of a filter line. Values with spaces or quotes are in double quotes. `filters.js` has the same rule."""
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ALL_TIMES: Final = "since:all"
"""No condition: the page begins with the last week of a store with very many sessions, unless the line has a time."""
_EPILOG: Final = """\
callspan view --open
callspan view --trace-url 'http://localhost:16686/trace/{trace_id}'"""


@click.command(
    "view", cls=Command, page="The page", short_help="Show sessions and calls in the browser.", epilog=_EPILOG
)
@click.option("--port", type=click.IntRange(0, _LAST_PORT), default=0, help="Port on 127.0.0.1; 0: any that is free.")
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")
@click.option(
    "--save",
    type=FILE,
    metavar="FILE",
    help="Write the page as one file instead, as `callspan report` does.",
)
@click.option("--trace-url", type=TRACE_URL, metavar="URL", help="Link traces to it, with {trace_id} in it.")
def view_command(context: CommandContext, port: int, opens: bool, save: Path | None, trace_url: str | None) -> None:
    """Serve a page that shows the store: sessions with their timelines, conversations, calls, as they are recorded.

    Only this machine can reach it, and only the browser that opened the printed address, which works once. If the
    store has no records yet, the page waits for them. Ctrl-C ends it.
    """
    if save is not None:
        save_page(context, save, CallFilter(), opens=opens)
        return
    context.deliver()
    is_empty = context.why_empty() is not None
    try:
        from callspan.view.server import serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"starlette", "uvicorn"}:
            raise
        context.fail(_MISSING_PACKAGE.format(name=error.name))
    access = StoreAccess(
        open=partial(open_store, context.store),
        parse_filter=parse_filter,
        arguments=arguments,
        error_text=partial(_error_text, context),
        errors=store_errors,
        waiting=partial(_waiting, context),
        write_reward=partial(_write_reward, context),
        name=context.store_name,
        command=context.command,
        trace_url=trace_url,
        price=pricer_of_now().priced,
    )
    with ExitStack() as exits:
        try:
            serve(access, port, partial(_ready, context, exits if opens else None, is_empty=is_empty))
        except OSError as error:
            another = ". Another program may have this port; see --port" if error.errno == errno.EADDRINUSE else ""
            context.fail(f"127.0.0.1:{port}: {error.strerror or error}{another}")


def _ready(context: CommandContext, exits: ExitStack | None, url: str, *, is_empty: bool) -> None:
    """Print the address. With `exits`, also open it in the browser. `is_empty`: the store has no records yet."""
    if context.json:
        context.emit({"url": url, "store": context.store_name})
    else:
        click.echo(f"{context.store_name} is shown at\n  {url}\nCtrl-C ends it.")
    if is_empty:
        hint = context.other_store_hint() or "They are shown as they come."
        click.echo(clean(f"It has no records yet. {hint}"), err=True)
    if exits is not None and not webbrowser.open(exits.enter_context(_file_leading_to(url)).as_uri()):
        click.echo("No browser was found: open the address yourself.", err=True)


@contextmanager
def _file_leading_to(url: str) -> Iterator[Path]:
    """Yield a private file that redirects to `url`, because other users can see the browser's arguments."""
    with tempfile.TemporaryDirectory(prefix="callspan-") as directory:  # of mode 0700
        file = Path(directory) / "callspan.html"
        file.touch(0o600)
        file.write_text(f'<meta http-equiv="refresh" content="0; url={url}">', encoding="utf-8")
        yield file


def _error_text(context: CommandContext, error: Exception) -> str:
    if isinstance(error, StoreError):
        return error_text(error)
    return f"{context.store_name} cannot be read: {error_text(error)}"


def _write_reward(context: CommandContext, rating: RewardRecord) -> None:
    if find_store(first_readable(context.store)).write([rating]):
        raise StoreError("the store refuses the rating")


def _waiting(context: CommandContext) -> list[str]:
    return Backlog(context.store).sentences()


_FILTER_COMMAND: Final = click.Command(
    "filter",
    params=[
        *filters(sort=True),
        click.Option(["--session-status", "session_outcome"]),
        click.Option(["--success/--failure"], default=None),
    ],
)
"""A command that only parses the options of a filter line."""


def parse_filter(line: str) -> CallFilter:
    """Return the selection of a filter line such as `user:mara failed since:7d`: options of `calls` and `sessions`.

    Other words are text to search for. Raises BadQueryError for an invalid value.
    """
    try:
        return selected(_FILTER_COMMAND.make_context("filter", arguments(line)).params)
    except (click.ClickException, ValueError) as error:
        raise BadQueryError(error.format_message() if isinstance(error, click.ClickException) else str(error)) from None


def arguments(line: str) -> list[str]:
    """Return a filter line as command arguments: `user:mara` becomes `--user mara`, `failed` becomes `--failed`.

    `since:all` becomes nothing. Raises ValueError for unclosed quotes.
    """
    options = [param for param in _FILTER_COMMAND.params if isinstance(param, click.Option)]
    flags = {name.removeprefix("--"): opt.is_flag for opt in options for name in (*opt.opts, *opt.secondary_opts)}
    filter_options, words = [], []
    for word in _FILTER_WORDS.findall(line):
        name, colon, value = word.partition(":")
        name = name.replace("_", "-")
        if word == _ALL_TIMES:
            continue
        if flags.get(word):
            filter_options.append(f"--{word}")
        elif name == "text" and colon:
            words.append(_unquoted(value))
        elif colon and flags.get(name) is False:
            filter_options.append(f"--{name}={_unquoted(value)}")
        else:
            words.append(_unquoted(word))
    return [*filter_options, *([f"--text={' '.join(words)}"] if words else [])]


def _unquoted(word: str) -> str:
    if '"' in _QUOTED.sub("", word):
        raise ValueError("a quote is not closed")
    return _QUOTED.sub(lambda match: re.sub(r"\\(.)", r"\1", match[1]), word)
