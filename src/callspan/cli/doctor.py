"""`callspan doctor`: checks the hooks, other instrumentations, the stores, and the delivery of spans and records."""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import shutil
import stat
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from importlib import metadata
from itertools import chain, groupby
from operator import attrgetter
from pathlib import Path
from shlex import quote
from tempfile import TemporaryFile
from typing import Final, Literal, NamedTuple, TypeAlias

import click
from packaging.requirements import Requirement
from rich.table import Table
from rich.text import Text

from callspan import SettingError, Settings, open_store, private_names
from callspan.cli import unseen
from callspan.cli.command_context import Command, CommandContext, store_errors
from callspan.cli.fleet import print_fleet
from callspan.cli.terminal.safe_text import clean
from callspan.cli.values import MOMENT
from callspan.formatting import iso, plural
from callspan.intercept import other_instrumentations
from callspan.intercept.http_libraries.table import LIBRARIES
from callspan.intercept.patching import HookStatus
from callspan.intercept.programs import PROGRAMS
from callspan.otlp.providers import (
    SIGNALS,
    address_of,
    otlp_is_named,
    protocol_of,
    wanted_signals,
)
from callspan.private_names import MODULES, READ
from callspan.runtime.file_lock import is_on_network
from callspan.runtime.safe_urls import error_text, safe_name
from callspan.sdk_profiles import HTTP, PROFILES, SDKS, Source
from callspan.settings_loader import environment_problems, load, variable_of
from callspan.spool.directory import fallback_roots, segments_in, size_of, stores_of
from callspan.spool.losses import LOSSES_FILE, read_losses
from callspan.spool.segment import created_ns
from callspan.stores import CallFilter, EmptyStoreError, find_store, split_urls

_MARKS: Final = {"ok": ("✓", "green"), "note": ("·", "dim"), "warning": ("!", "yellow"), "failed": ("✗", "bold red")}
_LOSS_KINDS: Final = ("dropped", "given_up", "rejected", "damaged")
_NAME_WIDTH: Final = 38
_EPILOG: Final = """\
callspan doctor
callspan doctor --fleet --since 2h
CALLSPAN_STORES=postgresql://me@db/calls callspan doctor --json"""
_REMEDIES: Final = "what to do: 'What doctor says' in the documentation"
State: TypeAlias = Literal["ok", "note", "warning", "failed"]
_OF_OTHERS: Final = stat.S_IRGRP | stat.S_IROTH
_OWN_PACKAGE: Final = "callspan"
_RECEIVE: Final = "Set CALLSPAN_RECEIVE=on, or instrument(receive=True); `callspan run` receives by itself."
_UNANSWERED: Final = "Raise the client's timeout, or stream: see 'Requests without an answer' in the documentation."
_DAY_NS: Final = 24 * 3600 * 10**9
_LEFT_BODIES: Final = "The next process that starts an agent records and deletes them. To delete them now"


@click.command(
    "doctor",
    cls=Command,
    page="Troubleshooting: What doctor says",
    short_help="Check hooks, stores, OTLP and settings.",
    epilog=_EPILOG,
)
@click.option("--fleet", is_flag=True, help="List the processes that write to the store, and their newest records.")
@click.option("--since", "since_ns", type=MOMENT, metavar="TIME", help="Processes since this time; default: 1d.")
def doctor_command(context: CommandContext, since_ns: int | None, *, fleet: bool) -> None:
    """Check SDKs, hooks, other instrumentations, stores, OTLP and settings.

    Exit code 1 if a check failed. Passwords are not shown.
    """
    if fleet:
        print_fleet(context, since_ns)
        return
    if since_ns is not None:
        raise click.UsageError("--since belongs to --fleet.")
    checks = list(every_check(context.store))
    failed = sum(check.state == "failed" for check in checks)
    if context.json:
        context.emit({"failed": failed, "checks": [check._asdict() for check in checks]})
    else:
        _print(context, checks)
    if failed:
        raise click.exceptions.Exit(1)


def _print(context: CommandContext, checks: list[Check]) -> None:
    width = min(_NAME_WIDTH, max(len(check.name) for check in checks))
    for area, group in groupby(checks, key=attrgetter("area")):
        context.screen.line((area, "bold"))
        table = Table.grid(padding=(0, 1))
        table.add_column(min_width=3, justify="right")
        table.add_column(width=width, overflow="fold")
        table.add_column()
        for check in group:
            detail = Text(clean(check.detail))
            if check.advice:
                detail.append(f"\n{clean(check.advice)}", style="yellow")
            table.add_row(Text(*_MARKS[check.state]), clean(check.name), detail)
        context.screen.print(table)
    context.screen.print()
    context.screen.line(_conclusion(Counter(check.state for check in checks)))


def _conclusion(states: Counter[State]) -> tuple[str, str]:
    """Return the last line and its style."""
    if states["failed"]:
        return f"{states['failed']} failed; {_REMEDIES}", "bold red"
    if states["warning"]:
        return f"None failed; {plural(states['warning'], 'warning')}; {_REMEDIES}", "yellow"
    return "All checks passed.", "bold green"


class Check(NamedTuple):
    """The result of one check."""

    area: str
    name: str
    state: State
    detail: str
    advice: str | None = None
    """The remedy."""


def every_check(stores: str) -> Iterator[Check]:
    """Yield the results of all checks; `stores` is a comma list of URLs.

    Tests whether each existing store can be written, but writes no record and creates no store.
    """
    yield from _hooks()
    yield from _private_names()
    yield from _other_instrumentations()
    settings = load({"stores": tuple(split_urls(stores))})
    yield from _agents(settings)
    for url in settings.stores:
        yield store_state(url, settings)
        yield from _open_files(url)
        yield from _unanswered(url)
    yield from _foreign_backlogs(settings)
    directory = _spool_directory(settings)
    if directory is not None:
        yield from _spool_state(directory)
        yield from _left_bodies(directory.parent)
        yield from _losses(settings)
    yield from _otlp()
    yield from _settings(settings)
    yield _versions()


def _versions() -> Check:
    names = ("opentelemetry-sdk", "opentelemetry-instrumentation", "opentelemetry-exporter-otlp")
    packages = ", ".join(f"{name} {_version(name) or 'not installed'}" for name in names)
    python = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check("versions", "callspan", "note", f"{_version('callspan') or 'version unknown'}, {python}, {packages}")


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _hooks() -> Iterator[Check]:
    """Patch the SDKs in this process, report the status of each patch, and restore what was there before."""
    import callspan
    from callspan.intercept.patching import late_modules
    from callspan.wiring import WIRING
    from callspan.wiring.pipeline import Providers

    with WIRING.replaced(Settings(), Providers()):
        for sdk in SDKS:
            profile = PROFILES[sdk]
            version = _version(profile.distribution)
            if version is None:
                yield Check("SDKs", sdk, "note", "not installed", f'pip install "callspan[{sdk}]"')
                continue
            importlib.import_module(profile.anchor)
            for module in late_modules(sdk):
                with contextlib.suppress(ImportError):  # a different version, or a missing extra
                    importlib.import_module(module)
            yield from _hooks_of(sdk, version, callspan.patch_status())
            if not Requirement(profile.requirement).specifier.contains(version, prereleases=True):
                detail = f"{version} is not supported: calls may be unrecorded or incomplete"
                yield Check("SDKs", sdk, "warning", detail, f'pip install "{profile.requirement.replace(" ", "")}"')
        libraries = {name: version for name in LIBRARIES if (version := _version(name)) is not None}
        if libraries:
            for name in libraries:
                importlib.import_module(name)
            versions = ", ".join(f"{name} {version}" for name, version in libraries.items())
            yield from _hooks_of(HTTP, versions, callspan.patch_status())
    for package in unseen.installed():
        yield Check("not seen", package.distribution, "note", package.what, unseen.WAY_OUT)


def _hooks_of(source: Source, version: str, every_status: list[HookStatus]) -> Iterator[Check]:
    statuses = [status for status in every_status if status.sdk == source]
    drifted = [status for status in statuses if status.state != "on"]
    present = sum(status.state != "missing" for status in statuses)
    detail = f"{version}, {present} of {len(statuses)} hooks can be set"
    yield Check("SDKs", source, "ok" if statuses and not drifted else "warning", detail)
    for status in drifted:
        effect = "not recorded are" if status.state == "missing" else "hooked; may be lost:"
        yield Check("SDKs", status.name, "warning", f"{status.state}: {effect} {status.without}")


def _private_names() -> Iterator[Check]:
    """Report private names of the SDKs and OpenTelemetry that callspan uses but the installed versions lack."""
    for module in (*MODULES, "opentelemetry.sdk.trace"):
        with contextlib.suppress(ImportError):  # not installed, or a different version
            importlib.import_module(module)
    missing_rows = private_names.missing()
    detail = f"{len(READ) - len({row for _, row in missing_rows})} of {len(READ)} are there"
    yield Check("private names", "read besides hooks", "warning" if missing_rows else "ok", detail)
    for module, row in missing_rows:
        detail = f"missing: {row.fallback}; lost: {row.lost or 'nothing'}"
        yield Check("private names", f"{module.replace(':', '.')}.{row.name}", "warning", detail)


def _other_instrumentations() -> Iterator[Check]:
    """Report other instrumentations that are imported here or that `opentelemetry-instrument` enables."""
    area = "other instrumentations"
    active = other_instrumentations.active()
    for name in active:
        yield Check(area, name, "warning", other_instrumentations.MEANS, f"{other_instrumentations.REMEDY}.")
    names_by_package: dict[str, list[str]] = {}
    for point in metadata.entry_points(group="opentelemetry_instrumentor"):
        owner = point.dist.name if point.dist is not None else point.value.partition(".")[0]
        if point.name.partition("-")[0] in SDKS and owner not in (_OWN_PACKAGE, *active):
            names_by_package.setdefault(owner, []).append(point.name)
    for name, points in names_by_package.items():
        advice = f"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS={','.join(points)}"
        yield Check(
            area, name, "warning", f"opentelemetry-instrument turns it on: it {other_instrumentations.MEANS}", advice
        )


def _agents(settings: Settings) -> Iterator[Check]:
    """Report agents, which make their calls in programs of their own, and the SDKs that start these."""
    for name in (program.sdk for program in PROGRAMS.values()):
        version = _version(name)
        if version is not None and settings.receive != "off":
            yield Check("agents", name, "ok", f"{version}, what its program reports is received")
        elif version is not None:
            detail = f"{version}, the calls of its program are not recorded unless its telemetry is received"
            yield Check("agents", name, "warning", detail, _RECEIVE)
    for name in PROGRAMS:
        if (path := shutil.which(name)) is not None:
            yield Check("agents", name, "note", f"{path}, recorded under `callspan run {name}`")


def _left_bodies(root: Path) -> Iterator[Check]:
    """Report what agents of ended processes left below the root of a spool."""
    from callspan.receive.body_files import abandoned, is_continued, left_files

    for directory in abandoned(root):
        if is_continued(directory):
            continue
        count = sum(1 for _ in left_files(directory))
        detail = f"{plural(count, 'file')} of agents of an ended process in {directory}"
        yield Check("agents", "bodies", "warning", detail, f"{_LEFT_BODIES}: rm -r {quote(str(directory))}")


def store_state(url: str, settings: Settings) -> Check:
    """Return whether a store accepts records and how many wait for it."""
    from callspan.delivery.leftovers import waiting

    state, detail = _try_store(url)
    try:
        waits = waiting(url, settings=settings)
    except SettingError:
        waits = []
    records = sum(segment.records for segment in waits)
    directories = ", ".join(dict.fromkeys(str(segment.path.parent) for segment in waits))
    backlog = f"; {plural(records, 'record', 'wait')} for it in {directories}" if records else ""
    running = any(segment.is_held for segment in waits)
    advice = None if not records else "A running process delivers them." if running else "Deliver them: callspan ship"
    if state == "failed":
        advice = "Records wait on disk until it works."
    return Check("stores", safe_name(url), state, f"{detail}{backlog}", advice)


def _unanswered(url: str) -> Iterator[Check]:
    """Report the requests of the last day that may have been billed without an answer."""
    try:
        with closing(open_store(url)) as reader:
            sums = list(reader.summary((), CallFilter(since_ns=time.time_ns() - _DAY_NS)))
    except store_errors(SettingError):
        return  # reported as a failing store, or without a reader
    requests = sum(summary.may_be_billed for summary in sums)
    if requests:
        detail = f"{plural(requests, 'request')} of the last day without an answer, which the provider may have billed"
        yield Check("cost", safe_name(url), "warning", detail, _UNANSWERED)


def _open_files(url: str) -> Iterator[Check]:
    """Report the files of a store that others may read. A file keeps the mode that its owner gave it."""
    try:
        files = find_store(url).files()
    except store_errors(SettingError):
        return  # reported as a failing store
    for file in files:
        if (mode := _mode_of(file)) & _OF_OTHERS:
            detail = f"other users can read {file} (mode {mode & 0o777:03o})"
            yield Check(
                "stores", safe_name(url), "warning", detail, f"Unless you want that: chmod 600 {quote(str(file))}"
            )


def _mode_of(path: Path) -> int:
    """Return the permissions of a file; 0 if it is missing or not a regular file."""
    with contextlib.suppress(OSError):
        status = path.stat()
        return stat.S_IMODE(status.st_mode) if stat.S_ISREG(status.st_mode) else 0
    return 0


def _foreign_backlogs(settings: Settings) -> Iterator[Check]:
    """Report waiting records of other sets of stores, which processes with these settings do not deliver."""
    from callspan.delivery.leftovers import other_directories
    from callspan.stores.spools import findings_for

    try:
        findings = findings_for(settings.stores, settings)
        directories = list(other_directories(settings.stores))
    except SettingError:
        return  # reported as a failing store
    for directory in directories:
        since = iso(min(map(created_ns, segments_in(directory)), default=0))
        detail = f"{size_of(directory):,} bytes since {since} in {directory} are for {', '.join(stores_of(directory))}"
        advice = "Deliver them to these stores: callspan --store <these stores> ship"
        yield Check("stores", "other stores", "warning", detail, advice)
    for finding in findings:
        yield Check(
            "stores", finding.kind, "warning" if finding.holds_records else "note", str(finding), finding.remedy
        )


def _spool_directory(settings: Settings) -> Path | None:
    """Return the spool directory of the stores; None if a URL is invalid, which its own check reports."""
    from callspan.stores.spools import spool_directory

    try:
        return spool_directory(settings, settings.stores) if settings.stores else None
    except SettingError:
        return None


def _spool_state(directory: Path) -> Iterator[Check]:
    """Report a spool directory that is on a network file system or not writable."""
    if is_on_network(directory):
        advice = "Set CALLSPAN_SPOOL_DIR to a directory on a local disk."
        yield Check("stores", "spool", "failed", f"{directory} is on a network file system", advice)
    elif (refusal := refusal_of(directory)) is not None:
        advice = "Set CALLSPAN_SPOOL_DIR to a directory that can be written."
        fallbacks = " or ".join(map(str, fallback_roots()))
        detail = f"{directory} cannot be written: {refusal}; records wait in {fallbacks}"
        yield Check("stores", "spool", "failed", detail, advice)


def _losses(settings: Settings) -> Iterator[Check]:
    """Report lost records and unrecorded requests."""
    from callspan.stores.spools import directories_for

    directory_lists = (directories_for(url, (), settings) for url in settings.stores)
    directories = dict.fromkeys(chain.from_iterable(directory_lists))
    for directory in directories:
        yield from _losses_in(directory)


def _losses_in(directory: Path) -> Iterator[Check]:
    losses = read_losses(directory)
    path = directory / LOSSES_FILE
    advice = f"Delete {path} once you know; CALLSPAN_SPOOL_MAX_BYTES is the cap."
    for kind in _LOSS_KINDS:
        for name, loss in getattr(losses, kind).items():
            yield Check("stores", f"{kind.replace('_', ' ')}: {name}", "warning", str(loss), advice)
    for name, count in losses.unrecorded.items():
        detail = f"{plural(count.count, 'time')}, from {iso(count.first_ns)} to {iso(count.last_ns)}"
        advice = f"See 'What is not recorded' in the documentation. Delete {path} once you know."
        yield Check("not recorded", name, "warning", detail, advice)


def _otlp() -> Iterator[Check]:
    """Report the endpoint of each signal, and for traces whether it accepts a request."""
    if not otlp_is_named():
        detail = "OTEL_EXPORTER_OTLP_ENDPOINT is not set: spans go where the application sends them"
        yield Check("spans", "OTLP", "note", detail)
        return
    enabled = wanted_signals(otlp=True)
    for signal in SIGNALS:
        name, receiver = f"OTLP {signal}", f"{safe_name(address_of(signal))} ({protocol_of(signal)})"
        if signal not in enabled:
            yield Check("spans", name, "note", "the OTEL_* variables do not send it by OTLP")
        elif signal != "traces":
            yield Check("spans", name, "note", receiver)
        elif (refusal := _refusal()) is not None:
            yield Check("spans", name, "failed", f"{receiver}: {refusal}")
        else:
            yield Check("spans", name, "ok", f"{receiver} accepted an empty request")


def _refusal() -> str | None:
    """Return the reason why the receiver rejects a request without spans; None if it accepts it."""
    from callspan.otlp.receiver import Receiver, RefusedError, UnavailableError

    try:
        with contextlib.closing(Receiver(address_of("traces"))) as receiver:
            receiver.send([])
    except (SettingError, RefusedError, UnavailableError) as error:
        return str(error)
    return None


def _settings(settings: Settings) -> Iterator[Check]:
    """Report invalid variables and settings that differ from the defaults."""
    from callspan.wiring import CHECKS

    for problem in environment_problems(checks=CHECKS):
        yield Check("settings", "environment", "failed", problem, "Correct the variable, or unset it.")
    defaults = Settings()
    for name in Settings.__struct_fields__:
        value = getattr(settings, name)
        if value != getattr(defaults, name):
            text = ", ".join(safe_name(str(item)) for item in value) if isinstance(value, tuple) else str(value)
            origin = f"{variable_of(name)} or --store" if name == "stores" else variable_of(name)
            yield Check("settings", name, "note", f"{text}  ({origin})")
    yield Check("settings", "others", "note", "defaults; arguments of instrument() in an application are not seen here")


def _try_store(url: str) -> tuple[State, str]:
    """Return the state of a store and a text that explains it. A missing store is not created."""
    try:
        store = find_store(url)
        store.sink()
        return "ok", store.try_out() or "not tried out: its store has no trial"
    except EmptyStoreError:
        if store.path is not None and (refusal := refusal_of(store.path.absolute().parent)) is not None:
            return "failed", f"it does not exist, and cannot be made: {refusal}"
        return "note", "does not exist yet: it is made with the first record"
    except store_errors(SettingError) as error:
        return "failed", error_text(error)


def refusal_of(directory: Path) -> str | None:
    """Return the reason why no file can be created in a directory or its nearest existing parent; None if one can.

    Tries it with a temporary file: for root, permissions look sufficient even in `/proc` and on read-only mounts.
    """
    # Unlike `exists`, it does not raise below another user's directory.
    nearest_parent = next(parent for parent in (directory, *directory.parents) if os.access(parent, os.F_OK))
    try:
        with TemporaryFile(dir=nearest_parent):
            return None
    except OSError as error:
        return f"no file can be made in {nearest_parent} ({error.strerror})"
