"""Run process: what `callspan run` adds to each process of the application: instrumentation and a summary at exit."""

from __future__ import annotations

import atexit
import os
import select
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from callspan.cli.options import DEFAULT_STORE
from callspan.cli.safe_text import clean
from callspan.fail_open import fail_open
from callspan.otlp_variables import otlp_is_named
from callspan.settings import Settings
from callspan.settings_loader import is_run_process, load
from callspan.stores.urls import parse, safe_name
from callspan.wiring import WIRING, instrument
from callspan.wiring.recorder import Destination, last_destination


def start() -> None:
    """Instrument with the environment's settings; an invalid one causes a warning and never stops the application."""
    with fail_open("start under `callspan run`"):
        if is_run_process():
            # Registered before all other exit functions of callspan, so that it runs after them.
            print_at_exit(load(warn=False))
        handle = instrument(otlp=otlp_is_named())
        # Needed even if no spans are sent: it ends the records of unfinished streams.
        WIRING.flush_before_sigterm(handle.settings)


_READABLE: Final = ("sqlite", "jsonl", "postgresql", "clickhouse")
_SDKS: Final = ("openai", "anthropic")
_TELL: Final = fail_open("print where the records are")


def print_at_exit(settings: Settings) -> None:
    """Print the summary line when this process exits; forked children print none."""
    try:
        directory = Path.cwd()
    except OSError:  # the directory was deleted
        directory = Path(os.sep)
    atexit.register(_print, settings, directory)


def _print(settings: Settings, directory: Path) -> None:
    if is_run_process():
        with _TELL:
            _write(f"callspan: {clean(_line(settings, last_destination(), directory))}\n")


def _line(settings: Settings, destination: Destination | None, directory: Path) -> str:
    """Return the summary line; paths in it are relative to `directory`, where the application was started."""
    if not settings.enabled:
        return "switched off by the environment, nothing was recorded"
    if destination is None:
        return _nothing(", ".join(_short(url, directory) for url in settings.stores))
    places = ", ".join(_short(url, directory) for url in destination.stores)
    spool = destination.spool
    option = _option(destination.stores, directory)
    states = spool.states()
    if not states or any(state.lag_bytes or state.error for state in states):
        left = _relative(spool.directory, directory)
        return f"recorded to {places}; some records still wait in {left}: callspan{option} ship"
    readable = any(parse(url).kind in _READABLE for url in destination.stores)
    return f"recorded to {places}" + (f"; to see it: callspan{option} calls" if readable else "")


def _option(stores: tuple[str, ...], directory: Path) -> str:
    """Return the options with which other commands find the same stores."""
    if len(stores) == 1 and parse(stores[0]).path == directory / str(parse(DEFAULT_STORE).path):
        return ""
    return " --store " + shlex.quote(",".join(_url(url, directory) for url in stores))


def _url(url: str, directory: Path) -> str:
    store = parse(url)
    if store.path is None or store.kind == "unix":
        return safe_name(url)
    return f"{store.kind}:///{_relative(store.path, directory)}"


def _nothing(places: str) -> str:
    if _had_children():
        return f"this process recorded nothing; processes it started record to {places}"
    if not any(sdk in sys.modules for sdk in _SDKS):
        return "nothing was recorded: the application imported neither openai nor anthropic"
    return "nothing was recorded: the application made no call with openai or anthropic"


def _had_children() -> bool:
    try:
        import resource
    except ImportError:
        return False
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss > 0


def _short(url: str, directory: Path) -> str:
    path = parse(url).path
    return safe_name(url) if path is None else _relative(path, directory)


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
