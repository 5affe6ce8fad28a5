"""`callspan run APP`: record an application without changing it. Needs nothing beyond the base installation.

The application runs as it would without callspan: with its own interpreter, in this same process (`exec`), with its
own arguments and exit code. A `sitecustomize` on its `PYTHONPATH` instruments it, see `autostart/`.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from callspan.cli.options import WrongUsageError, leading_options, stores_of_environment
from callspan.cli.safe_text import clean, clean_lines
from callspan.otlp_variables import SERVICE_FOR_RUN, service_of_command
from callspan.settings import SettingError
from callspan.settings_loader import environment_for_run
from callspan.stores.urls import parse, split_urls

SHORT_HELP: Final = "Run an application and record its calls."
_USAGE: Final = "Usage: callspan run [OPTIONS] APP [ARGS]..."
_HELP: Final = f"""{_USAGE}

  Run a script, a module (-m) or a command with callspan on; its records go to
  the store.

  Spans, metrics and, with CALLSPAN_LOG_EVENTS=on, log events are sent to
  OTEL_EXPORTER_OTLP_ENDPOINT, if set. OTEL_METRICS_EXPORTER=none disables
  metrics.

Options:
  -m           APP is a module, as with python -m.
  --store URL  Store. Default: $CALLSPAN_STORES, else sqlite:///callspan.db.
  --json       Machine-readable output on stdout.
  -h, --help   Show this message and exit.

  Examples:
    callspan run app.py --its-own options
    callspan run -m package.module
    callspan run gunicorn app:application
    callspan --store jsonl:///calls.jsonl run app.py
    OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 callspan run app.py

  Processes the application starts are recorded, too. Settings are those of
  the environment (CALLSPAN_...).
"""
_AUTOSTART: Final = Path(__file__).with_name("autostart")
_FLAGS: Final = ("-m", "--json", "-h", "--help")


def main(arguments: Sequence[str], *, store: str | None = None) -> NoReturn:
    """Replace this process by the application in `arguments`; `store` is the store given before the sub-command.

    Exits 0 after help, 1 if the program cannot be started, 2 on wrong usage; else with the application's own code.
    """
    try:
        program, stores, service = _parse_arguments(arguments, store)
    except (WrongUsageError, SettingError) as error:
        named = str(error).replace("CALLSPAN_STORES: ", "--store, CALLSPAN_STORES: ", 1)
        print(f"{_USAGE}\nTry 'callspan run --help' for help.\n\nError: {clean_lines(named)}", file=sys.stderr)
        sys.exit(2)
    environment = environment_for_run(stores, _AUTOSTART)
    if service is not None:
        environment[SERVICE_FOR_RUN] = service
    _become(program, environment)


def _parse_arguments(arguments: Sequence[str], store: str | None) -> tuple[list[str], str, str | None]:
    """Return the application's command line, the stores and the service name; prints help and exits if requested."""
    given = leading_options(arguments, _FLAGS, ("--store",))
    if given.flags & {"-h", "--help"}:
        print(_HELP, end="")
        sys.exit(0)
    if not given.rest:
        raise WrongUsageError("Missing argument 'APP'.")
    app, *its_own = given.rest
    stores = _absolute(given.values.get("--store") or store or stores_of_environment())
    as_module = "-m" in given.flags
    service = app if as_module else service_of_command((app, *its_own))
    return [*_program(app, as_module=as_module), *its_own], stores, service


def _program(app: str, *, as_module: bool) -> list[str]:
    """Return the interpreter and program to run. Raises WrongUsageError if APP cannot be run."""
    if as_module:
        return [sys.executable, "-m", app]
    if Path(app).is_file() and not (os.access(app, os.X_OK) and Path(app).suffix != ".py"):
        return [sys.executable, app]
    found = shutil.which(app)
    if found is None and app and Path(app).is_dir():
        return [sys.executable, app]
    if found is None:
        raise WrongUsageError(
            f"{app or repr(app)}: there is no such file or command. A module is run with: callspan run -m {app}"
        )
    return [found]


def _absolute(urls: str) -> str:
    """Return the stores with absolute file paths, because the application may change its directory."""
    found: list[str] = []
    for url in split_urls(urls):
        store = parse(url)
        if store.path is None or store.kind == "unix":
            found.append(url)
        else:
            query = url.partition("?")[2]
            found.append(f"{store.kind}:///{store.path.absolute()}" + (f"?{query}" if query else ""))
    return ",".join(found)


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
