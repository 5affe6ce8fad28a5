"""CommandContext: the context of a sub-command: its store, screen, JSON output and error handling."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial, update_wrapper
from pathlib import Path
from typing import Final, NamedTuple, NoReturn, cast

import click

from callspan.cli.backlog import Backlog
from callspan.cli.progress import progress
from callspan.cli.run import stores_of_environment
from callspan.cli.safe_text import ascii_json, clean, is_unicode, whole_characters
from callspan.cli.score_filter import NO_SCORING, ScoredReader, Scoring
from callspan.cli.screen import Screen, json_text
from callspan.record.formats import OtherFormatError
from callspan.safe_urls import error_text, safe_name, whole_words, without_passwords
from callspan.settings import SettingError
from callspan.stores.base import EmptyStoreError, StoreError
from callspan.stores.reader import Reader
from callspan.stores.urls import driver_errors, find_store, first_readable, open_store, split_urls

_MOST: Final = 300
"""Characters of a driver's message that are shown."""
_ADVICE: Final = (
    "Record something first (`callspan run app.py`, or `callspan.instrument(stores=...)` in your code; "
    "`callspan demo` makes an example), or name another store with --store."
)


def store_errors(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """Return the exceptions of an unavailable store: callspan's own, those of the loaded drivers, and `more`."""
    return (*more, StoreError, OSError, *driver_errors())


class Defaults(NamedTuple):
    """Values of the options given before the sub-command."""

    store: str | None = None
    json: bool = False


class CommandContext:
    """The context of one run of a sub-command."""

    def __init__(self, store: str, *, json: bool, scoring: Scoring = NO_SCORING, deliver: bool = False) -> None:
        """`deliver`: deliver the records that ended processes left for the store before reading it."""
        self.store = store
        self._deliver = deliver
        self.scoring = scoring
        self.json = json
        self.screen = Screen()

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """Yield the store opened for reading, after the waiting records have been delivered to it.

        Reports records that still wait. A store that cannot be read ends the command with advice.
        """
        backlog = self._delivered()
        try:
            reader = self._opened(backlog)
        except EmptyStoreError as error:
            if backlog.say():
                self.fail(f"{safe_name(self.store)} has no records yet.")
            self.fail(f"{error_text(error)}\n{self.store_beside() or _ADVICE}")
        try:
            backlog.say()
            yield reader if self.scoring == NO_SCORING else cast("Reader", ScoredReader(reader, self.scoring))
        except BrokenPipeError:
            # The process that reads stdout closed the pipe: not an error of the store.
            raise
        except StoreError as error:
            self.fail(error_text(error))
        except store_errors() as error:
            self.fail(f"{safe_name(self.store)} cannot be read: {_first_line(error)}")
        finally:
            reader.close()

    def _delivered(self) -> Backlog:
        """Deliver what waits for the store, and return what still does."""
        try:
            self._no_directory()
            backlog = Backlog(self.store, partial(progress, shown=not self.json), deliver=self._deliver)
            backlog.deliver()
        except SettingError as error:
            raise usage_error(error) from error
        return backlog

    def _opened(self, backlog: Backlog) -> Reader:
        """Open the store; one that cannot be read ends the command with advice. Raises EmptyStoreError."""
        try:
            return open_store(self.store)
        except SettingError as error:
            raise usage_error(error) from error
        except EmptyStoreError:
            raise
        except OtherFormatError as error:
            backlog.say()
            raise click.UsageError(clean(error_text(error))) from error
        except StoreError as error:
            backlog.say()
            self.fail(error_text(error))
        except store_errors() as error:
            backlog.say()
            self.fail(f"{safe_name(self.store)} cannot be opened: {_first_line(error)}")

    def is_empty(self) -> bool:
        """Return whether the store has no records yet, after the waiting ones have been delivered to it.

        Reports records that still wait. A store that cannot be read ends the command with advice.
        """
        backlog, is_empty = self._delivered(), False
        try:
            self._opened(backlog).close()
        except EmptyStoreError:
            is_empty = True
        backlog.say()
        return is_empty

    def store_beside(self) -> str | None:
        """Return a sentence that names another SQLite store in the directory of a file that is missing."""
        path = find_store(first_readable(self.store)).path
        for other in sorted(path.parent.glob("*.db")) if path is not None and not path.exists() else ():
            url = f"sqlite:///{other}"
            with suppress(*store_errors(SettingError)):
                open_store(url).close()
                return f"There is {other} beside it: name it with --store {safe_name(url)}"
        return None

    def deliver(self, *, to_all: bool = False) -> None:
        """Deliver the records that ended processes left for the store that is read, or for every store named.

        Ignores errors: what uses the store next reports them.
        """
        for store in split_urls(self.store) if to_all else (None,):
            if self._deliver:
                with suppress(*store_errors(SettingError)):
                    Backlog(self.store, partial(progress, shown=not self.json), deliver=True, store=store).deliver()

    def files(self) -> list[Path]:
        """Return the files of the stores that are files."""
        return [path for url in split_urls(self.store) for path in find_store(url).files()]

    def _no_directory(self) -> None:
        for url in split_urls(self.store)[:1]:
            path = find_store(url).path
            if path is not None and path.is_dir():
                self.fail(f"{path} is a directory: name a file in it")

    def emit(self, value: object) -> None:
        """Print one JSON document."""
        click.echo(self.json_of(value))

    def emit_all(self, values: Iterable[object]) -> int:
        """Print values as a JSON array, one element per line, as they arrive; return how many."""
        count = 0
        for count, value in enumerate(values, 1):
            click.echo(("[" if count == 1 else ",\n ") + self.json_of(value), nl=False)
        click.echo("]" if count else "[]")
        return count

    @staticmethod
    def json_of(value: object) -> str:
        """Return JSON, in ASCII if stdout's encoding is not a Unicode one."""
        text = json_text(value)
        return text if is_unicode(sys.stdout.encoding) else ascii_json(text)

    def no_match(self, what: str) -> NoReturn:
        """End the command with exit code 1 because nothing matched; prints `what` unless `--json` is given."""
        if not self.json:
            click.echo(clean(what), err=True)
        raise click.exceptions.Exit(1)

    def fail(self, message: str) -> NoReturn:
        """End the command with exit code 1 and an error message."""
        raise click.ClickException("\n".join(clean(line) for line in message.splitlines()))


def usage_error(error: SettingError) -> click.UsageError:
    """Return a setting's error as a usage error (exit code 2); for stores it also names the option `--store`."""
    return click.UsageError(clean(error_text(error).replace("CALLSPAN_STORES: ", "--store, CALLSPAN_STORES: ", 1)))


def _first_line(error: Exception) -> str:
    """Return the first line of a driver's message; some are a page long."""
    message = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return without_passwords(message if len(message) <= _MOST else whole_words(message, _MOST) + "…")


def with_context(function: Callable[..., None]) -> Callable[..., None]:
    """Add `--store` and `--json` to a sub-command, and pass it a `CommandContext` as its first argument."""

    @click.option("--store", metavar="URL", help="Store. Default: $CALLSPAN_STORES, else sqlite:///callspan.db.")
    @click.option("--json", "as_json", is_flag=True, help="Machine-readable output on stdout.")
    @click.pass_context
    def with_options(
        ctx: click.Context,
        /,
        store: str | None,
        as_json: bool,
        no_ship: bool = True,
        scoring: Scoring = NO_SCORING,
        **options: object,
    ) -> None:
        defaults = ctx.obj if isinstance(ctx.obj, Defaults) else Defaults()
        url = store or defaults.store or _stores_of_environment()
        if not split_urls(url):
            raise click.UsageError(f"--store {url!r} names no store")
        context = CommandContext(url, json=as_json or defaults.json, scoring=scoring, deliver=not no_ship)
        function(context, **{name: whole_characters(value) for name, value in options.items()})

    # click keeps a command's help and its options so far on the function.
    return update_wrapper(with_options, function)


def reading(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of `with_context`, and `--no-ship`, to a sub-command that reads a store."""
    leave = click.option("--no-ship", is_flag=True, help="Do not deliver waiting records of ended processes first.")
    return leave(with_context(function))


def _stores_of_environment() -> str:
    try:
        return stores_of_environment()
    except SettingError as error:
        raise click.UsageError(clean(error_text(error))) from error
