"""`callspan view`: a page in the browser, on this machine only."""

from __future__ import annotations

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
from callspan.cli.report import save_page
from callspan.cli.safe_text import clean
from callspan.cli.values import FILE, TRACE_URL
from callspan.records import RewardRecord
from callspan.safe_urls import error_text
from callspan.stores import CallFilter, Scoring, StoreError, find_store, first_readable
from callspan.view.source import Access, BadQueryError

_NEEDED: Final = 'The page needs {name}: pip install "callspan[cli]"'
_LAST_PORT: Final = 65_535
_WORDS: Final = re.compile(r'(?:[^\s"]|"(?:[^"\\]|\\.)*"|")+')
"""The words of a filter line. Values with spaces or quotes are in double quotes. `filters.js` has the same rule."""
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')
_EPILOG: Final = """\
callspan view --open
callspan view --trace-url 'http://localhost:16686/trace/{trace_id}'"""


@click.command("view", cls=Command, short_help="Show sessions and calls in the browser.", epilog=_EPILOG)
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
    """Serve a page that shows the store: sessions with their course, conversations, calls, as they are recorded.

    Only this machine can reach it, and only the browser that opened the printed address, which works once. A store
    without records is waited for. Ctrl-C ends it.
    """
    if save is not None:
        save_page(context, save, CallFilter(), opens=opens)
        return
    context.deliver()
    waits = context.why_empty() is not None
    try:
        from callspan.view.server import ServerOptions, serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"starlette", "uvicorn"}:
            raise
        context.fail(_NEEDED.format(name=error.name))
    access = Access(
        open=partial(open_store, context.store),
        chosen=chosen,
        arguments=arguments,
        error_text=partial(_error_text, context),
        errors=store_errors,
        waiting=partial(_waiting, context),
        keep=partial(_keep, context),
        name=context.store_name,
        trace_url=trace_url,
    )
    with ExitStack() as at_end:
        try:
            serve(access, ServerOptions(port, partial(_ready, context, at_end if opens else None, waits=waits)))
        except OSError as error:
            context.fail(f"127.0.0.1:{port}: {error.strerror or error}")


def _ready(context: CommandContext, opened: ExitStack | None, url: str, *, waits: bool) -> None:
    """Print the address and open it; `waits`: the store has no records yet, and the page will show the first ones."""
    if context.json:
        context.emit({"url": url, "store": context.store_name})
    else:
        click.echo(f"{context.store_name} is shown at\n  {url}\nCtrl-C ends it.")
    if waits:
        hint = context.store_beside() or "They are shown as they come."
        click.echo(clean(f"It has no records yet. {hint}"), err=True)
    if opened is not None and not webbrowser.open(opened.enter_context(_file_leading_to(url)).as_uri()):
        click.echo("No browser was found: open the address yourself.", err=True)


@contextmanager
def _file_leading_to(url: str) -> Iterator[Path]:
    """Yield a private file that redirects the browser to the address: arguments are visible to all local users."""
    with tempfile.TemporaryDirectory(prefix="callspan-") as directory:  # of mode 0700
        file = Path(directory) / "callspan.html"
        file.touch(0o600)
        file.write_text(f'<meta http-equiv="refresh" content="0; url={url}">', encoding="utf-8")
        yield file


def _error_text(context: CommandContext, error: Exception) -> str:
    if isinstance(error, StoreError):
        return error_text(error)
    return f"{context.store_name} cannot be read: {error_text(error)}"


def _keep(context: CommandContext, rating: RewardRecord) -> None:
    if find_store(first_readable(context.store)).write([rating]):
        raise StoreError("the store refuses the rating")


def _waiting(context: CommandContext) -> list[str]:
    return Backlog(first_readable(context.store)).sentences()


_LINE: Final = click.Command(
    "filter",
    params=[
        *filters(sort=True),
        click.Option(["--session-status", "session_outcome"]),
        click.Option(["--success/--failure"], default=None),
    ],
)
"""The command whose options a filter line uses."""


def chosen(line: str) -> tuple[CallFilter, Scoring]:
    """Return the selection of a filter line such as `user:mara failed since:7d`: options of `calls` and `sessions`.

    Other words are text to search for. Raises BadQueryError for an invalid value.
    """
    try:
        return selected(_LINE.make_context("filter", arguments(line)).params)
    except (click.ClickException, ValueError) as error:
        raise BadQueryError(error.format_message() if isinstance(error, click.ClickException) else str(error)) from None


def arguments(line: str) -> list[str]:
    """Return a filter line as command arguments: `user:mara` becomes `--user mara`, `failed` becomes `--failed`.

    Raises ValueError for unclosed quotes.
    """
    options = [one for one in _LINE.params if isinstance(one, click.Option)]
    flags = {name.removeprefix("--"): one.is_flag for one in options for name in (*one.opts, *one.secondary_opts)}
    found, words = [], []
    for word in _WORDS.findall(line):
        name, colon, value = word.partition(":")
        if flags.get(word):
            found.append(f"--{word}")
        elif colon and flags.get(name) is False:
            found.append(f"--{name}={_unquoted(value)}")
        else:
            words.append(_unquoted(word))
    return [*found, *([f"--text={' '.join(words)}"] if words else [])]


def _unquoted(word: str) -> str:
    if '"' in _QUOTED.sub("", word):
        raise ValueError("a quote is not closed")
    return _QUOTED.sub(lambda found: re.sub(r"\\(.)", r"\1", found[1]), word)
