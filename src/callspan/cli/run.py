"""`callspan run APP`: record an application without changing it. Needs nothing beyond the base installation.

The application runs as it would without callspan: with its own interpreter, in this same process (`exec`), with its
own arguments and exit code. A `sitecustomize` on its `PYTHONPATH` (see `autostart/`) calls `start` in each process.
Only for a program of `PROGRAMS`, which reports its calls by OTLP, this process stays as the parent (`run_agent`).
"""

from __future__ import annotations

import argparse
import atexit
import os
import secrets
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from callspan import SettingError
from callspan.cli import unseen
from callspan.cli.terminal.safe_text import clean, clean_lines
from callspan.formatting import plural
from callspan.intercept.programs import PROGRAMS, AgentProgram
from callspan.otlp.providers import otlp_is_named
from callspan.runtime.fail_open import fail_open
from callspan.runtime.safe_urls import error_text, safe_name
from callspan.service import SERVICE_FOR_RUN, service_of_command
from callspan.settings_loader import RUN_PROCESS, RUN_TALLY, enabled_sources, environment_for_run, load
from callspan.stores import find_store, split_urls

if TYPE_CHECKING:
    from callspan.cli.run_tally import Noted, RunTally
    from callspan.receive.agents import AgentReceiver

SHORT_HELP: Final = "Run an application and record its calls."
_USAGE: Final = "callspan run [OPTIONS] APP [ARGS]..."
_ABOUT: Final = """\
  callspan run app.py --its-own options
  callspan run -m package.module
  callspan run claude -p "What is in a.txt?"

Run a script, a module or a command with callspan on; its records go to the
store. Processes the application starts are recorded, too. Settings are those of
the environment (CALLSPAN_...).

Spans, metrics and, with CALLSPAN_LOG_EVENTS=on, log events are sent to
OTEL_EXPORTER_OTLP_ENDPOINT, if set. OTEL_METRICS_EXPORTER=none disables metrics.

More: 'Processes and servers' in the documentation, 'Coding agents' for agents."""
_AUTOSTART: Final = Path(__file__).with_name("autostart")

DEFAULT_STORE: Final = "sqlite:///callspan.db"
"""The default store: `run` and `demo` write to it, the other sub-commands read it."""


def main(arguments: Sequence[str], *, store: str | None = None) -> NoReturn:
    """Replace this process by the application in `arguments`; `store` is the store given before the sub-command.

    Exits 0 after help, 1 if the program cannot be started, 2 on wrong usage; else with the application's own code.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.app[:1] == ["--"]:
        del options.app[0]
    if not options.app:
        parser.error("Missing argument 'APP'.")
    app, *app_arguments = options.app
    try:
        option = store if options.store is None else options.store
        urls = stores_named(option)
        stores = _with_absolute_paths(urls)
        program = [*_command_line(app, as_module=options.m), *app_arguments]
    except (SettingError, OSError) as error:
        text = error_text(error).replace("CALLSPAN_STORES: ", "--store, CALLSPAN_STORES: ", 1)
        parser.error(clean_lines(text))
    environment = environment_for_run(stores, _AUTOSTART)
    service = app if options.m else service_of_command((app, *app_arguments))
    if service is not None:
        environment[SERVICE_FOR_RUN] = service
    is_on = _announce(urls, is_option=option is not None)
    agent = PROGRAMS.get(Path(program[0]).name)
    if agent is not None and is_on:
        for line in _in_repository(stores):
            _say(line)
        _run_agent(program, environment, agent, stores)
    tally = Path(tempfile.gettempdir(), f"callspan-run-{os.getpid()}-{secrets.token_hex(4)}")
    _replace_process(program, environment | {RUN_PROCESS: str(os.getpid()), RUN_TALLY: str(tally)})


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


def _command_line(app: str, *, as_module: bool) -> list[str]:
    """Return the start of the command line: the interpreter, if needed, and `app`. Raises FileNotFoundError."""
    if as_module:
        return [sys.executable, "-m", app]
    if Path(app).is_file() and not (os.access(app, os.X_OK) and Path(app).suffix != ".py"):
        return [sys.executable, app]
    path = shutil.which(app) or shutil.which(app, path=os.curdir)
    if path is None and app and Path(app).is_dir():
        return [sys.executable, app]
    if path is None and Path(app).suffix == ".py":
        raise FileNotFoundError(f"{app}: there is no such file.")
    if path is None:
        raise FileNotFoundError(
            f"{app or repr(app)}: there is no such file or command. A module is run with: callspan run -m {app}"
        )
    return [path]


def _with_absolute_paths(urls: str) -> str:
    """Return the stores with absolute file paths, because the application may change its directory."""
    return ",".join(find_store(url).absolute_url for url in split_urls(urls))


def _announce(urls: str, *, is_option: bool) -> bool:
    """Print where records are stored and how to show them; return False if nothing will be recorded.

    The commands repeat `--store` if it was given.
    """
    names = ",".join(map(safe_name, split_urls(urls)))
    command = command_on(urls, is_option=is_option)
    is_on = load(warn=False).enabled and bool(enabled_sources())
    if is_on:
        line = f"recording to {names}; to see it: {command} calls; if nothing is there: {command} doctor"
        unseen_line = unseen.line()
    else:
        line, unseen_line = "switched off by the environment, nothing is recorded", None
    for text in filter(None, (line, unseen_line)):
        _say(text)
    return is_on


def _say(line: str) -> None:
    with suppress(OSError):
        print(f"callspan: {clean(line)}", file=sys.stderr)


def _in_repository(stores: str) -> Iterator[str]:
    """Yield a line for each store that is a file in the repository where an agent works, which may commit it."""
    here = Path.cwd()
    root = next((place for place in (here, *here.parents) if (place / ".git").exists()), None)
    for path in (find_store(url).path for url in split_urls(stores)):
        if root is not None and path is not None and path.is_relative_to(root):
            yield f"the store is {path}, in this repository; a line for .gitignore: /{path.relative_to(root)}*"


def command_on(stores: str, *, is_option: bool) -> str:
    """Return the beginning of commands on stores, without passwords; `is_option`: they were given by `--store`."""
    names = ",".join(map(safe_name, split_urls(stores)))
    return shlex.join(["callspan", "--store", names] if is_option else ["callspan"])


def _run_agent(program: list[str], environment: dict[str, str], agent: AgentProgram, stores: str) -> None:
    """Run an agent program and exit as it does; return if its calls cannot be received."""
    from callspan.cli.run_agent import run_agent

    try:
        run_agent(program, environment, agent, stores)
    except (OSError, ValueError) as error:
        _exit_unrun(program[0], error)


def _replace_process(program: list[str], environment: dict[str, str]) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    # Python ignores these two, and a program keeps ignoring what its predecessor did.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execve(program[0], program, environment)  # noqa: S606 - the command the user gave
    except (OSError, ValueError) as error:
        _exit_unrun(program[0], error)


def _exit_unrun(command: str, error: OSError | ValueError) -> NoReturn:
    reason = (error.strerror if isinstance(error, OSError) else None) or error
    print(f"Error: {clean(f'{command} cannot be run: {reason}')}", file=sys.stderr)
    sys.exit(1)


def start() -> None:
    """Instrument with the environment's settings; an invalid one causes a warning and never stops the application."""
    # Not needed by the command itself, and slow to import.
    from callspan.cli.run_tally import start_tally
    from callspan.wiring import WIRING, instrument

    with fail_open("start under `callspan run`"):
        handle = instrument(otlp=otlp_is_named(), sdks=enabled_sources())
        # Needed even if no spans are sent, to end the records of unfinished streams.
        WIRING.flush_before_sigterm(handle.settings)
        is_first = os.environ.get(RUN_PROCESS) == str(os.getpid())
        tally = start_tally(is_first=is_first)
        if is_first:
            # Registered before all others, so it runs after them, when the last records are delivered.
            atexit.register(_conclude, os.getpid(), handle.settings.stores, tally)


def _conclude(process: int, stores: Sequence[str], tally: RunTally | None) -> None:
    """Print how many calls were recorded, and where if that is not in these stores; nothing in a forked child."""
    from callspan.wiring import WIRING

    with fail_open("say how many calls were recorded"):
        if os.getpid() == process:
            others = [] if tally is None else [*tally.of_others()]
            said = "; ".join(
                (
                    _recorded(WIRING.recorded_calls, others),
                    *_silences(WIRING.agents, is_on=WIRING.hook_context.agents is not None),
                )
            )
            used = dict.fromkeys((_stores_in_use(), *(other.stores for other in others)))
            named = _identities(stores)
            elsewhere = [own for own in used if own and _identities(own) != named]
            for line in filter(None, (said, *map(_elsewhere, elsewhere), unseen.line_of_process())):
                print(f"callspan: {line}", file=sys.stderr, flush=True)
            if tally is not None:
                tally.remove()


def _recorded(calls: int, others: Sequence[Noted]) -> str:
    own = f"{plural(calls, 'call')} recorded" if calls else "no call recorded by this process"
    if not others:
        return own
    processes = "child processes" if len(others) > 1 else "child process"
    of_others = f"{sum(other.calls for other in others):,} by {len(others):,} {processes}"
    return f"{own}{' by this process' if calls else ''}, {of_others}"


def _stores_in_use() -> tuple[str, ...]:
    """Return the stores of this process; none if nothing is instrumented."""
    from callspan.wiring import WIRING

    return () if WIRING.pipeline is None else WIRING.pipeline.recorder.stores


def _identities(urls: Sequence[str]) -> set[str]:
    """Return what is the same however a store is named: the absolute path of a file, else its server and database."""
    stores = map(find_store, urls)
    return {store.identity if store.path is None else str(store.path.resolve()) for store in stores}


def _elsewhere(stores: Sequence[str]) -> str:
    """Say that the application chose these stores."""
    urls = ",".join(stores)
    names = ",".join(map(safe_name, stores))
    return clean(f"the application chose another store, {names}; to see it: {command_on(urls, is_option=True)} calls")


def _silences(agents: AgentReceiver | None, *, is_on: bool) -> Sequence[str]:
    """Return why calls of agents that this process may have started are not recorded."""
    if is_on:
        return () if agents is None else agents.silences
    imported = [program.sdk_package for program in PROGRAMS.values() if program.sdk_package in sys.modules]
    return [f"calls of agents by {', '.join(imported)} are not received: see CALLSPAN_RECEIVE"] if imported else []


def stores_named(option: str | None) -> str:
    """Return the stores from `--store`, else from the environment. Raises SettingError for an option without any."""
    if option is None:
        return _stores_of_environment()
    if not split_urls(option):
        raise SettingError(f"--store {option!r} names no store")
    return option


def _stores_of_environment() -> str:
    """Return the stores of `CALLSPAN_STORES` as a comma list, else the default store.

    Prints a line on stderr for each invalid store. Raises SettingError if none is valid.
    """
    # Other invalid variables are reported by the process that records.
    urls = load(warn=False).stores
    errors = {url: error for url in urls if (error := _url_error(url)) is not None}
    valid = [url for url in urls if url not in errors]
    if errors and not valid:
        raise next(iter(errors.values()))
    for error in errors.values():
        print(clean(f"Warning: {error}. This store is left out."), file=sys.stderr)
    return ",".join(valid) or DEFAULT_STORE


def _url_error(url: str) -> SettingError | None:
    try:
        find_store(url)
    except SettingError as error:
        return error
    return None
