"""`callspan run APP`: record an application without changing it. Needs nothing beyond the base installation.

The application runs as it would without callspan: with its own interpreter, in this same process (`exec`), with its
own arguments and exit code. A `sitecustomize` on its `PYTHONPATH` (see `autostart/`) calls `start` in each process.
"""

from __future__ import annotations

import argparse
import atexit
import os
import select
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from callspan import SettingError, Settings, open_store
from callspan.cli.safe_text import clean, clean_lines
from callspan.fail_open import fail_open
from callspan.formatting import plural
from callspan.otlp.variables import otlp_is_named
from callspan.safe_urls import error_text, safe_name
from callspan.sdk_profiles import SDKS
from callspan.service import SERVICE_FOR_RUN, service_of_command
from callspan.settings_loader import environment_for_run, is_run_process, load
from callspan.stores import CallFilter, SqlStore, find_store, split_urls

if TYPE_CHECKING:
    from callspan.spool.directory import WaitingSegment

SHORT_HELP: Final = "Run an application and record its calls."
_USAGE: Final = "callspan run [OPTIONS] APP [ARGS]..."
_ABOUT: Final = """\
  callspan run app.py --its-own options
  callspan run -m package.module

Run a script, a module or a command with callspan on; its records go to the
store. Processes the application starts are recorded, too. Settings are those of
the environment (CALLSPAN_...).

Spans, metrics and, with CALLSPAN_LOG_EVENTS=on, log events are sent to
OTEL_EXPORTER_OTLP_ENDPOINT, if set. OTEL_METRICS_EXPORTER=none disables metrics."""
_AUTOSTART: Final = Path(__file__).with_name("autostart")
_TELL: Final = fail_open("print where the records are")
_COUNT: Final = fail_open("count the calls that other processes recorded")

DEFAULT_STORE: Final = "sqlite:///callspan.db"
"""Where `run` and `demo` write and everything else reads by default."""


def main(arguments: Sequence[str], *, store: str | None = None) -> NoReturn:
    """Replace this process by the application in `arguments`; `store` is the store given before the sub-command.

    Exits 0 after help, 1 if the program cannot be started, 2 on wrong usage; else with the application's own code.
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.app[:1] == ["--"]:
        del given.app[0]
    if not given.app:
        parser.error("Missing argument 'APP'.")
    app, *its_own = given.app
    try:
        stores = _absolute(given.store or store or stores_of_environment())
        program = [*_program(app, as_module=given.m), *its_own]
    except (SettingError, OSError) as error:
        text = error_text(error).replace("CALLSPAN_STORES: ", "--store, CALLSPAN_STORES: ", 1)
        parser.error(clean_lines(text))
    environment = environment_for_run(stores, _AUTOSTART)
    service = app if given.m else service_of_command((app, *its_own))
    if service is not None:
        environment[SERVICE_FOR_RUN] = service
    _become(program, environment)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "callspan run",
        usage=_USAGE,
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("-m", action="store_true", help="APP is a module, as with python -m")
    parser.add_argument("--store", metavar="URL", help="default: $CALLSPAN_STORES, else sqlite:///callspan.db")
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("app", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _program(app: str, *, as_module: bool) -> list[str]:
    """Return the interpreter and program to run. Raises FileNotFoundError if there is none."""
    if as_module:
        return [sys.executable, "-m", app]
    if Path(app).is_file() and not (os.access(app, os.X_OK) and Path(app).suffix != ".py"):
        return [sys.executable, app]
    found = shutil.which(app)
    if found is None and app and Path(app).is_dir():
        return [sys.executable, app]
    if found is None:
        raise FileNotFoundError(
            f"{app or repr(app)}: there is no such file or command. A module is run with: callspan run -m {app}"
        )
    return [found]


def _absolute(urls: str) -> str:
    """Return the stores with absolute file paths, because the application may change its directory."""
    return ",".join(find_store(url).absolute_url for url in split_urls(urls))


def _become(program: list[str], environment: dict[str, str]) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # closed by the parent process
            stream.flush()
    try:
        os.execve(program[0], program, environment)  # noqa: S606 - the command the user gave
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or error
        print(f"Error: {clean(f'{program[0]} cannot be run: {why}')}", file=sys.stderr)
        sys.exit(1)


def start() -> None:
    """Instrument with the environment's settings; an invalid one causes a warning and never stops the application."""
    # The command itself does not need it, and it takes long to import.
    from callspan.wiring import WIRING, instrument

    with fail_open("start under `callspan run`"):
        if is_run_process():
            # Registered before all other exit functions of callspan, so that it runs after them.
            print_at_exit(load(warn=False))
        handle = instrument(otlp=otlp_is_named())
        # Needed even if no spans are sent: it ends the records of unfinished streams.
        WIRING.flush_before_sigterm(handle.settings)


def print_at_exit(settings: Settings) -> None:
    """Print the summary line when this process exits; forked children print none."""
    try:
        directory = Path.cwd()
    except OSError:  # the directory was deleted
        directory = Path(os.sep)
    atexit.register(_print, settings, directory, time.time_ns())


def _print(settings: Settings, directory: Path, start_ns: int) -> None:
    if is_run_process():
        with _TELL:
            from callspan.delivery.leftovers import waiting
            from callspan.delivery.recorder import last_stores

            _write(f"callspan: {clean(_line(settings, last_stores(), directory, start_ns, waiting))}\n")


def _line(
    settings: Settings,
    stores: tuple[str, ...] | None,
    directory: Path,
    start_ns: int,
    waiting: Callable[[str], Sequence[WaitingSegment]],
) -> str:
    """Return the summary line; paths in it are relative to `directory`, where the application was started.

    `waiting` returns the records that wait for a store.
    """
    if not settings.enabled:
        return "switched off by the environment, nothing was recorded"
    if stores is None:
        return _by_children(settings.stores, directory, start_ns) if _had_children() else _nothing()
    places = _places(stores, directory)
    option = _option(stores, directory)
    if waits := [one for url in stores for one in waiting(url)]:
        left = _relative(waits[0].path.parent, directory)
        return f"recorded to {places}; some records still wait in {left}: callspan{option} ship"
    readable = any(isinstance(find_store(url), SqlStore) for url in stores)
    return f"recorded to {places}" + (f"; to see it: callspan{option} calls" if readable else "")


def _option(stores: tuple[str, ...], directory: Path) -> str:
    """Return the options with which other commands find the same stores."""
    if len(stores) == 1 and find_store(stores[0]).path == directory / str(find_store(DEFAULT_STORE).path):
        return ""
    return " --store " + shlex.quote(",".join(_url(url, directory) for url in stores))


def _url(url: str, directory: Path) -> str:
    store = find_store(url)
    if store.path is None or not store.is_file:
        return safe_name(url)
    return f"{store.url.partition(':')[0]}:///{_relative(store.path, directory)}"


def _nothing() -> str:
    if not any(sdk in sys.modules for sdk in SDKS):
        return f"nothing was recorded: the application imported none of {', '.join(SDKS)}"
    return f"nothing was recorded: the application made no call with {', '.join(SDKS)}"


def _by_children(stores: tuple[str, ...], directory: Path, start_ns: int) -> str:
    """Return the summary line of a process that recorded nothing itself, with the calls of those that it started."""
    places, calls = _places(stores, directory), _calls_since(stores, start_ns)
    if not calls:
        return f"processes that this one started record to {places}"
    option = _option(stores, directory)
    return f"processes that this one started recorded {calls} to {places}; to see them: callspan{option} calls"


def _calls_since(stores: tuple[str, ...], start_ns: int) -> str | None:
    """Return how many calls the first store that is a file has since a Unix time; None for none, or without one."""
    number = 0
    for path in [store.path for store in map(find_store, stores) if isinstance(store, SqlStore) and store.is_file][:1]:
        if path is not None and path.exists():
            with _COUNT, closing(open_store(path)) as reader:
                number = reader.count_calls(CallFilter(since_ns=start_ns))
    return plural(number, "call") if number else None


def _had_children() -> bool:
    import resource

    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss > 0


def _places(stores: Iterable[str], directory: Path) -> str:
    """Return the stores without passwords, files by their paths."""
    paths = ((url, find_store(url).path) for url in stores)
    return ", ".join(safe_name(url) if path is None else _relative(path, directory) for url, path in paths)


def _relative(path: Path, directory: Path) -> str:
    return str(path.relative_to(directory) if path.is_relative_to(directory) else path)


def _write(line: str) -> None:
    """Write to file descriptor 2 directly: a failing buffered write would change the exit code."""
    stderr = sys.__stderr__
    if stderr is None or stderr.closed:
        return
    with suppress(OSError, ValueError):
        stderr.flush()
        number = stderr.fileno()
        if _takes_more(number):
            os.write(number, line.encode(stderr.encoding, "backslashreplace"))


def _takes_more(number: int) -> bool:
    """Return whether writing to stderr neither blocks nor raises SIGPIPE."""
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    return poll.poll(0) == [(number, select.POLLOUT)]


def stores_of_environment() -> str:
    """Return the stores of `CALLSPAN_STORES` as a comma list, else the default store.

    Prints a line on stderr for each invalid store. Raises SettingError if none is valid.
    """
    # Other invalid variables are reported by the process that records.
    named = load(warn=False).stores
    wrong = {url: error for url in named if (error := _trouble(url)) is not None}
    good = [url for url in named if url not in wrong]
    if wrong and not good:
        raise next(iter(wrong.values()))
    for error in wrong.values():
        print(clean(f"Warning: {error}. This store is left out."), file=sys.stderr)
    return ",".join(good) or DEFAULT_STORE


def _trouble(url: str) -> SettingError | None:
    try:
        find_store(url)
    except SettingError as error:
        return error
    return None
