"""`callspan run APP`: record an application without changing it.

The application runs as it would without us: by its own interpreter, in this very process, with its own arguments
and exit code. What instruments it is a `sitecustomize` on its path, see `autostart/`.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final, NoReturn

import click

from callspan.cli.frame import Frame, framed
from callspan.cli.screen import clean
from callspan.config import SettingError, environment_for_run
from callspan.stores.opening import parse, split_urls

_EPILOG: Final = """\b
Examples:
  callspan run app.py --its-own options
  callspan run -m package.module
  callspan run gunicorn app:application
  callspan --store jsonl:///calls.jsonl run app.py
  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 callspan run app.py

Processes the application starts are recorded, too. Settings are those of the environment (CALLSPAN_...)."""
_AUTOSTART: Final = Path(__file__).with_name("autostart")


@click.command(
    "run",
    short_help="Run an application and record its calls.",
    epilog=_EPILOG,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option("-m", "as_module", is_flag=True, help="APP is a module, as with python -m.")
@click.argument("app")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ARGS]...")
@framed
def command(frame: Frame, app: str, arguments: tuple[str, ...], as_module: bool) -> None:
    """Run a script, a module (-m) or a command with callspan on; its records go to the store.

    Spans are sent where OTEL_EXPORTER_OTLP_ENDPOINT says, if it says so.
    """
    try:
        stores = _absolute(frame.store)
    except SettingError as error:
        raise click.UsageError(clean(str(error))) from error
    _become([*_program(app, as_module=as_module), *arguments], environment_for_run(stores, _AUTOSTART))


def _program(app: str, *, as_module: bool) -> list[str]:
    """Return the command line's beginning. Raises UsageError where APP is nothing that can be run."""
    if as_module:
        return [sys.executable, "-m", app]
    if Path(app).is_file() and not (os.access(app, os.X_OK) and Path(app).suffix != ".py"):
        return [sys.executable, app]
    found = shutil.which(app)
    if found is None and Path(app).is_dir():
        return [sys.executable, app]
    if found is None:
        raise click.UsageError(f"{app}: there is no such file or command. A module is run with: callspan run -m {app}")
    return [found]


def _absolute(urls: str) -> str:
    """The stores, with the paths of files made absolute: the application may change its directory."""
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
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execve(program[0], program, environment)  # noqa: S606 - what the user asked for
    except OSError as error:
        raise click.ClickException(f"{program[0]} cannot be run: {error.strerror}") from error
