"""CommandContext: the store, screen, JSON output and error handling of a sub-command."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NoReturn

import click
import msgspec

from callspan import SettingError, open_store
from callspan.cli.backlog import Backlog
from callspan.cli.filters import Filter, selected
from callspan.cli.run import command_on, stores_named
from callspan.cli.terminal.safe_text import clean, whole_characters
from callspan.cli.terminal.screen import Screen
from callspan.formatting import json_line
from callspan.records import CallRecord
from callspan.runtime.safe_urls import error_text, first_line, safe_name
from callspan.settings_loader import load
from callspan.stores import (
    CallFilter,
    EmptyStoreError,
    Reader,
    SessionSummary,
    StoreError,
    driver_errors,
    find_store,
    first_readable,
    id_of,
    look_up,
    split_urls,
)

_MAX_MESSAGE: Final = 300
"""Maximum number of characters shown of a driver's message."""
_COMMON: Final = ("store", "as_json")
"""The names of the options that every sub-command has."""
_LAST: Final = "last"


def store_errors(*extra_errors: type[Exception]) -> tuple[type[Exception], ...]:
    """Return the exceptions of an unavailable store: from callspan, from the loaded drivers, and `extra_errors`."""
    return (*extra_errors, StoreError, OSError, *driver_errors())


class Command(click.Command):
    """A sub-command, called with the `context` of its run and, if it has filters, with their `selection`.

    Its help starts with examples. Errors of stores and settings end it with a message.
    """

    def __init__(
        self,
        *,
        params: list[click.Parameter],
        page: str,
        filters: Sequence[click.Option] = (),
        default_store: str | None = None,
        **attrs: Any,
    ) -> None:
        """`page`: the titles of the page and section that explain it.

        `default_store`: its own, if no option or variable names one.
        """
        common = [click.Option(["--store"], metavar="URL"), click.Option(["--json", "as_json"], is_flag=True)]
        super().__init__(params=[*params, *filters, *common], **attrs)
        self._page = page
        self._has_filters = bool(filters)
        self._default_store = default_store

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, then the description."""
        with formatter.indentation():
            formatter.write_paragraph()
            for example in (self.epilog or "").splitlines():
                formatter.write(f"{'':{formatter.current_indent}}{example}\n")
        super().format_help_text(ctx, formatter)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write its own options, a line for the common options, the names of the filters, and its page."""
        options = [param for param in self.params if isinstance(param, click.Option) and param.name not in _COMMON]
        filters = [option for option in options if isinstance(option, Filter)]
        with formatter.section("Options"):
            records = [
                record for option in options if option not in filters and (record := option.get_help_record(ctx))
            ]
            if records:
                formatter.write_dl(records)
            common = f"  --store URL, --json, -h: `callspan --help`. Docs: '{self._page}'"
            formatter.write(
                textwrap.fill(common, formatter.width, subsequent_indent="  ", break_on_hyphens=False) + "\n"
            )
        # An option and its value stay on one line.
        listed_filters = [option for option in filters if option.listed]
        names = [f"{option.listed}\0{option.metavar}" if option.metavar else option.listed for option in listed_filters]
        if names:
            wrap = textwrap.TextWrapper(formatter.width, subsequent_indent="  ", break_on_hyphens=False)
            formatter.write(f"\n{wrap.fill('  '.join(['Filters:', *names]))}\n".replace("\0", " "))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write nothing: the examples come first."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse arguments, without undecodable bytes."""
        return super().parse_args(ctx, list(map(whole_characters, args)))

    def invoke(self, ctx: click.Context) -> object:
        """Run the command. An error in a setting is wrong usage, an error in a store a failure."""
        try:
            ctx.params = self._arguments(ctx)
            return super().invoke(ctx)
        except (click.ClickException, BrokenPipeError):
            raise
        except SettingError as error:
            # The message names the variable, but --store may have set the value.
            text = error_text(error).replace("CALLSPAN_STORES: ", "--store, CALLSPAN_STORES: ", 1)
            raise click.UsageError(clean(text), ctx) from error
        except StoreError as error:
            raise _failure(error_text(error)) from error
        except OSError as error:
            file = f"{error.filename}: " if error.filename else ""
            raise _failure(f"{file}{error.strerror or error_text(error)}"[:_MAX_MESSAGE]) from error
        except driver_errors() as error:
            raise _failure(_first_line(error)) from error

    def _arguments(self, ctx: click.Context) -> dict[str, Any]:
        """Return the arguments of the callback. Raises UsageError, SettingError."""
        options = dict(ctx.params)
        group_options = ctx.find_root().params
        option = options.pop("store")
        stores = group_options.get("store") if option is None else option
        if stores is None and self._default_store is not None and not load(warn=False).stores:
            stores = self._default_store
        json = options.pop("as_json") or group_options.get("as_json", False)
        context = CommandContext(stores_named(stores), json=json, is_named=stores is not None)
        if not self._has_filters:
            return {"context": context, **options}
        return {"context": context, "selection": selected(options), **options}


class CommandContext:
    """The context of one run of a sub-command."""

    def __init__(self, store: str, *, json: bool, is_named: bool = True) -> None:
        """`is_named`: `--store` named the store."""
        self.store = store
        self.json = json
        self.screen = Screen()
        self._is_named = is_named

    @property
    def store_name(self) -> str:
        """The stores, without passwords."""
        return ", ".join(map(safe_name, split_urls(self.store)))

    @property
    def command(self) -> str:
        """The beginning of other commands on the same stores, without passwords."""
        return command_on(self.store, is_option=self._is_named)

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """Yield the store opened for reading, after the waiting records have been delivered to it.

        Reports records that still wait. If the store has no records, ends the command with advice.
        """
        has_backlog = self._delivered()
        try:
            reader = open_store(self.store)
        except EmptyStoreError as error:
            advice = self.other_store_hint() or (
                f"If an application has run, `{self.command} doctor` says why; `callspan demo` makes an example; "
                "--store names another store. See 'Nothing is there' in the documentation."
            )
            self.fail(f"{self.store_name} has no records yet." if has_backlog else f"{error_text(error)}\n{advice}")
        try:
            yield reader
        except driver_errors() as error:
            self.fail(f"{self.store_name} cannot be read: {_first_line(error)}")
        finally:
            reader.close()

    def resolved(self, reader: Reader, selection: CallFilter) -> CallFilter:
        """Return the filter with full ids instead of prefixes. Ends the command if one matches nothing."""
        full_ids = tuple(id_of(self.named(reader, ident)) for ident in selection.ids)
        selection = msgspec.structs.replace(selection, ids=full_ids)
        if selection.session_id is None:
            return selection
        summary = self.named(reader, selection.session_id)
        if not isinstance(summary, SessionSummary):
            self.no_match(f"{selection.session_id} is no session.")
        return msgspec.structs.replace(selection, session_id=summary.session.session_id)

    def named(self, reader: Reader, ident: str) -> SessionSummary | CallRecord:
        """Return the session or call with this id, a unique prefix of it, or `last`. Ends the command without one."""
        try:
            return self._last(reader) if ident == _LAST else look_up(reader, ident)
        except LookupError as error:
            self.no_match(str(error.args[0]))

    def _last(self, reader: Reader) -> SessionSummary | CallRecord:
        """Return the newest session, or the newest call if it is outside of sessions and started later."""
        summary = next(reader.sessions(CallFilter(limit=1)), None)
        call = next(reader.calls(CallFilter(limit=1)), None)
        if summary is None:
            return call or self.no_match(f"There is nothing in {self.store_name} yet.")
        began = summary.session.start_ns
        if call is None or call.place.session_id is not None or began is None or call.timing.start_ns <= began:
            return summary
        return call

    def why_empty(self) -> str | None:
        """Return the reason why the store has no records yet; None if it has some."""
        try:
            open_store(self.store).close()
        except EmptyStoreError as error:
            return error_text(error)
        return None

    def _delivered(self) -> bool:
        """Deliver waiting records to the store; report those that still wait and return whether there are any."""
        backlog = Backlog(self.store)
        backlog.deliver(visible=not self.json)
        return backlog.say()

    def other_store_hint(self) -> str | None:
        """Return a sentence that names another SQLite store beside a missing file; None if there is no such store."""
        path = find_store(first_readable(self.store)).path
        for file in sorted(path.parent.glob("*.db")) if path is not None and not path.exists() else ():
            url = f"sqlite:///{file}"
            with suppress(*store_errors(SettingError)):
                open_store(url).close()
                return f"There is {file} beside it: name it with --store {safe_name(url)}"
        return None

    def deliver(self) -> None:
        """Deliver the records left by ended processes to the store that is read.

        Ignores errors, which the next use of the store reports.
        """
        with suppress(*store_errors(SettingError)):
            Backlog(self.store).deliver(visible=not self.json)

    def files(self) -> list[Path]:
        """Return the files of the stores."""
        return [path for url in split_urls(self.store) for path in find_store(url).files()]

    def emit(self, value: object) -> None:
        """Print one JSON document, in UTF-8, regardless of the encoding of stdout."""
        click.echo(json_line(value))

    def emit_all(self, values: Iterable[object]) -> int:
        """Print values as a JSON array, one element per line, as they arrive; return their number."""
        count = 0
        for count, value in enumerate(values, 1):
            click.echo((b"[" if count == 1 else b",\n ") + json_line(value), nl=False)
        click.echo("]" if count else "[]")
        return count

    @staticmethod
    def no_match(message: str) -> NoReturn:
        """End the command with exit code 1 because nothing matched, as `message` says."""
        click.echo(clean(message), err=True)
        raise click.exceptions.Exit(1)

    @staticmethod
    def fail(message: str) -> NoReturn:
        """End the command with exit code 1 and an error message."""
        raise _failure(message)


def _failure(message: str) -> click.ClickException:
    return click.ClickException("\n".join(clean(line) for line in message.splitlines()))


def _first_line(error: Exception) -> str:
    """Return the first line of a driver's message, which may be a page long."""
    return first_line(error_text(error), _MAX_MESSAGE) or type(error).__name__
