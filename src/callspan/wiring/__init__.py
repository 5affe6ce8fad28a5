"""Wiring: the composition root, with `instrument()` and `uninstrument()`."""

from __future__ import annotations

import inspect
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, ParamSpec, TypeVar

from opentelemetry._logs import LoggerProvider
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from callspan.agent import runtime
from callspan.agent.adopted import AGENT_SPANS
from callspan.delivery.recorder import Recorder, check_prices
from callspan.intercept import agent_programs, tracer_providers
from callspan.intercept.hooks import HOOK_CONTEXT
from callspan.intercept.imports import WATCHED_IMPORTS
from callspan.intercept.patching import HookStatus, Patches, sources_of
from callspan.otlp.providers import check_otlp, set_up_global
from callspan.process.redaction import Redactor
from callspan.record.events import Record
from callspan.runtime import process_end
from callspan.runtime.clock import monotonic_s
from callspan.runtime.forks import late_attribute, renew_locks, within_exit_s
from callspan.sdk_profiles import HTTP, PROFILES, SOURCES, Source
from callspan.settings import Content, SettingArguments, Settings
from callspan.settings_loader import Checks, changes, load, names_http, warn_once
from callspan.stores.urls import check_store
from callspan.wiring.pipeline import Pipeline, Providers, changed_providers, given_providers

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from callspan.receive.agents import AgentReceiver

_P = ParamSpec("_P")
_R = TypeVar("_R")
_CLOSE_TIMEOUT_S: Final = 5.0
CHECKS: Final[Checks] = {"stores": check_store, "prices": check_prices}
"""Checks of settings by the code that uses them."""


class Handle:
    """The result of `instrument()`. Thread-safe; still usable after it was replaced or uninstrumented.

    Example:
        >>> handle = callspan.instrument(stores="sqlite:///callspan.db")
        >>> handle.force_flush(timeout_millis=10_000)
        True
        >>> handle.uninstrument()
    """

    def __init__(self, wiring: Wiring, pipeline: Pipeline) -> None:
        self._wiring, self._pipeline = wiring, pipeline

    def __repr__(self) -> str:
        """Return its state and settings."""
        state = "in force" if self._wiring.pipeline is self._pipeline else "replaced"
        return f"<Handle {state} {self.settings!r}>"

    @property
    def settings(self) -> Settings:
        """The settings in force for this handle."""
        return self._pipeline.settings

    def uninstrument(self) -> None:
        """Restore the SDKs and close the stores. No effect if another `instrument()` replaced this one."""
        self._wiring.remove(self._pipeline)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until telemetry is exported and every store has every record; return False if that failed.

        Includes what ended processes with these stores left; a running process delivers its own.
        """
        deadline = monotonic_s() + timeout_millis / 1000
        self._wiring.hook_context.deferred_ends.drain(_remaining_s(deadline))
        delivered = self._pipeline.recorder.flush(_remaining_s(deadline))
        return self._pipeline.providers.flush(_remaining_s(deadline)) and delivered

    def counters(self) -> Mapping[str, int]:
        """Return the numbers of records appended, delivered and dropped."""
        return self._pipeline.recorder.counters()


class Wiring:
    """The state of this process: the hook context, its patches, and the current pipeline."""

    def __init__(self) -> None:
        self.hook_context = HOOK_CONTEXT
        self.patches = Patches()
        self._pipeline: Pipeline | None = None
        self._configured = False
        """Whether code set settings, not only the environment, as under `opentelemetry-instrument`."""
        self._sources: tuple[Source, ...] = ()
        """What to patch while the current pipeline is enabled."""
        self._exporter_stores: tuple[str, ...] = ()
        self._exporter: Pipeline | None = None
        """Stores the records of the exporter while nothing is instrumented."""
        self.agents: AgentReceiver | None = None
        """The receiver for agents, from the start of the first one."""
        self._earlier_calls = 0
        """Number of calls recorded by replaced pipelines."""
        self._lock = threading.RLock()
        renew_locks(self, "_lock")

    @property
    def pipeline(self) -> Pipeline | None:
        """The current pipeline; None if nothing is instrumented."""
        return self._pipeline

    @property
    def recorded_calls(self) -> int:
        """The number of calls that ended and were written since the start of this process."""
        return self._earlier_calls + (0 if self._pipeline is None else self._pipeline.recorder.calls)

    def change(
        self,
        arguments: Mapping[str, object],
        provider_arguments: Mapping[str, object],
        sources: Sequence[Source] | None,
        otlp: str | bool | None = None,
    ) -> Handle:
        """Apply the given settings; others keep the value in force, or take the environment's.

        `sources` are added to the current ones; by default all. `http` given as on names it. `otlp` sets up global
        providers for signals without one. Raises SettingError.
        """
        with self._lock:
            previous = self._pipeline
            settings = load(arguments, base=None if previous is None else previous.settings, checks=CHECKS)
            providers = given_providers(Providers() if previous is None else previous.providers, provider_arguments)
            pipeline = self._pipeline_of(settings, providers)
            if previous is not None:
                differences = changes(previous.settings, settings) + changed_providers(previous.providers, providers)
                if differences and self._configured:
                    warn_once(f"callspan.instrument() was called again and changes settings: {'; '.join(differences)}")
            if otlp and settings.enabled:
                signals = providers.without_provider(log_events=settings.log_events)
                set_up_global(otlp, settings.service, signals=signals)
                self.flush_before_sigterm(settings)
            by_code = bool(arguments) or any(value is not None for value in provider_arguments.values())
            self._configured = by_code or (previous is not None and self._configured)
            active_sources = (SOURCES if previous is None else self._sources) if sources is None else sources
            if names_http(arguments, os.environ):
                active_sources = (*active_sources, HTTP)
            self._install(pipeline, active_sources)
        _retire(previous if pipeline is not previous else None)
        return Handle(self, pipeline)

    @contextmanager
    def replaced(
        self, settings: Settings, providers: Providers, replacing_sources: Sequence[Source] = SOURCES
    ) -> Iterator[None]:
        """Context manager that uses another pipeline and these sources alone, then restores the previous state."""
        with self._lock:
            before, sources = self._pipeline, self._sources
            pipeline = self._pipeline_of(settings, providers)
            self._sources = ()
            for source in set(sources).difference(replacing_sources):
                self.patches.undo(source)
            self._install(pipeline, replacing_sources)
        try:
            _retire(before if pipeline is not before else None)
            yield
        finally:
            self.hook_context.deferred_ends.drain()
            if before is None:
                self.remove(self._pipeline)
            else:
                with self._lock:
                    self._set_pipeline(before)
                    for source in set(self._sources).difference(sources):
                        self.patches.undo(source)
                    if before.settings.enabled:
                        for source in set(sources).difference(self._sources, (HTTP,)):
                            self.patches.apply(source)
                    self._sources = sources
                    self._switch_sources()

    def _pipeline_of(self, settings: Settings, providers: Providers) -> Pipeline:
        """Return the current pipeline if it has these settings, else a new one. Raises SettingError.

        All that may refuse a setting is in here, before any state is changed.
        """
        current = self._pipeline
        if current is not None and current.settings == settings and current.providers == providers:
            return current
        return Pipeline(settings, providers, self.hook_context.deferred_ends)

    def _install(self, pipeline: Pipeline, sources: Sequence[Source]) -> None:
        """Make a pipeline the current one, under the lock. The replaced one is to be retired outside the lock."""
        if pipeline is not self._pipeline:
            self._earlier_calls = self.recorded_calls
            self._set_pipeline(pipeline)
        self._sources = tuple(dict.fromkeys((*self._sources, *sources)))
        if pipeline.settings.enabled:
            for source in self._sources:
                if source != HTTP:
                    self.patches.apply(source)
            agent_programs.apply()
            tracer_providers.apply()
            WATCHED_IMPORTS.start()
        self._switch_sources()

    def _switch_sources(self) -> None:
        """Let websockets, and requests of other code, be calls if the choice of sources and the setting allow it."""
        self.hook_context.sources = frozenset(self._sources)
        pipeline = self._pipeline
        settings = None if pipeline is None else pipeline.settings
        is_on = settings is not None and settings.enabled and settings.http and HTTP in self._sources
        self.hook_context.http_calls = is_on
        self.hook_context.left_out = tuple(sdk for sdk in PROFILES.values() if sdk.name not in self._sources)
        if is_on:
            self.patches.apply(HTTP)
        else:
            self.patches.undo(HTTP)

    def remove(self, pipeline: Pipeline | None) -> None:
        """Retire the pipeline, if it is current, and restore the SDKs."""
        if self.agents is not None and pipeline is self._pipeline:
            self.agents.close()
        self.hook_context.deferred_ends.drain(within_exit_s(_CLOSE_TIMEOUT_S))
        with self._lock:
            if pipeline is None or pipeline is not self._pipeline:
                return
            self._earlier_calls = self.recorded_calls
            self._set_pipeline(None)
            self._sources = ()
            process_end.forget()
            self._switch_sources()
            for source in SOURCES:
                self.patches.undo(source)
            agent_programs.undo()
            tracer_providers.undo()
            WATCHED_IMPORTS.stop()
            AGENT_SPANS.leave()
        _retire(pipeline)

    def remove_source(self, source: Source) -> None:
        """Restore one SDK, or the HTTP libraries; after the last one, retire the pipeline."""
        with self._lock:
            self.patches.undo(source)
            self._sources = tuple(other for other in self._sources if other != source)
            self._switch_sources()
            last = None if self.patches.sdks else self._pipeline
        if last is not None:
            self.remove(last)

    def add_stores(self, urls: str | Path | Sequence[str | Path] | None, default: str) -> tuple[str, ...]:
        """Add an exporter's stores. Without `urls`: the stores named in the environment, else `default`."""
        store_urls = load({"stores": urls}, checks=CHECKS).stores or (default,)
        if sys.platform == "win32":
            return ()
        with self._lock:
            old_spools = [recorder.add_stores(store_urls) for recorder in self._recorders()]
            self._exporter_stores += tuple(url for url in store_urls if url not in self._exporter_stores)
        for spool in old_spools:
            if spool is not None:
                spool.close(within_exit_s(_CLOSE_TIMEOUT_S))
        return store_urls

    def _recorders(self) -> list[Recorder]:
        """Return the recorder of the pipeline, and the exporter's: both if records came before the pipeline."""
        recorders = [] if self._pipeline is None else [self._pipeline.recorder]
        return recorders if self._exporter is None else [*recorders, self._exporter.recorder]

    def flush_before_sigterm(self, settings: Settings) -> None:
        """Send spans before an unhandled SIGTERM ends the process, unless disabled."""
        if settings.enabled and settings.flush_on_sigterm:
            process_end.flush_before(self._flush_providers)

    def _flush_providers(self, timeout_s: float) -> None:
        # Open streams have no span yet, and only a `started` record. The default action does not end process 1, which
        # a container's application often is: its calls go on.
        if os.getpid() != 1:
            self.hook_context.deferred_ends.end_open(timeout_s / 3)
        if self._pipeline is not None:
            self._pipeline.recorder.flush(timeout_s / 3)
        providers = self._pipeline.providers if self._pipeline is not None else Providers()
        providers.flush(timeout_s / 3)

    def write(self, record: Record, level: Content = "full") -> bool:
        """Process and store a record made from telemetry of others, see `Pipeline.write`."""
        return (self._pipeline or self._exporter_pipeline()).write(record, level)

    def note_unrecorded(self, what: str) -> None:
        """Count what telemetry of others says that no record says rightly, see `Recorder.note_unrecorded`."""
        (self._pipeline or self._exporter_pipeline()).recorder.note_unrecorded(what)

    def processed(self, record: Record, level: Content = "full") -> Record:
        """Return such a record as it would be written now."""
        return (self._pipeline or self._exporter_pipeline()).processed(record, level).record

    def flush(self, timeout_s: float) -> bool:
        """Wait until every store has every record so far; return False on timeout."""
        deadline = monotonic_s() + timeout_s
        self.hook_context.deferred_ends.drain(timeout_s)
        flushed = [recorder.flush(_remaining_s(deadline)) for recorder in self._recorders()]
        return all(flushed)

    def _exporter_pipeline(self) -> Pipeline:
        with self._lock:
            if self._exporter is None:
                self._exporter = Pipeline(load(), Providers(), self.hook_context.deferred_ends)
                self._exporter.recorder.add_stores(self._exporter_stores)
            return self._exporter

    def _set_pipeline(self, pipeline: Pipeline | None) -> None:
        self._pipeline = pipeline
        if pipeline is not None:
            pipeline.recorder.in_use = True
            pipeline.recorder.add_stores(self._exporter_stores)
        enabled = pipeline is not None and pipeline.settings.enabled
        hook_context = self.hook_context
        hook_context.factories = pipeline.factories if enabled and pipeline is not None else {}
        hook_context.prepare = pipeline.load if enabled and pipeline is not None else bool
        hook_context.unrecorded = pipeline.recorder.note_unrecorded if enabled and pipeline is not None else bool
        hook_context.agents = None
        if enabled and pipeline is not None and pipeline.settings.receive != "off":
            hook_context.agents = partial(self._agents_for, pipeline)
            if self.agents is not None:
                self._agents_for(pipeline)
        hook_context.warned_about_other_tracers = False
        if pipeline is not None:
            hook_context.content = pipeline.settings.content
            hook_context.propagate = pipeline.settings.propagate
            hook_context.stream_usage = pipeline.settings.stream_usage
            hook_context.hashes_audio = pipeline.settings.media == "inline"
        AGENT_SPANS.is_on = enabled and pipeline is not None and pipeline.settings.runs
        if enabled and pipeline is not None:
            runtime.install(pipeline.runtime)
            if pipeline.settings.runs:
                AGENT_SPANS.watch(pipeline.providers.tracer_provider)
        else:
            runtime.remove()

    def _agents_for(self, pipeline: Pipeline) -> AgentReceiver:
        """Return the receiver for agents. With a redactor no body lies in a file unless asked for."""
        receiver: type[AgentReceiver] = late_attribute("callspan.receive.agents:AgentReceiver")
        with self._lock:
            agents = self.agents = self.agents or receiver(self.write, self.processed)
        spool = pipeline.recorder.spool
        agents.unrecorded = pipeline.recorder.note_unrecorded
        agents.root = None if spool is None else spool.directory.parent
        agents.has_body_files = pipeline.settings.receive == "files" or pipeline.providers.redact is None
        return agents


def _remaining_s(deadline: float) -> float:
    return max(0.0, deadline - monotonic_s())


def _retire(pipeline: Pipeline | None) -> None:
    """Close the stores of a replaced pipeline, which takes seconds: call it without a lock."""
    if pipeline is not None:
        pipeline.recorder.retire(within_exit_s(_CLOSE_TIMEOUT_S))


WIRING: Final = Wiring()


def _with_setting_parameters(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Add every setting to the signature, for `help()` and completion."""
    signature = inspect.signature(function)
    parameters = [
        parameter for parameter in signature.parameters.values() if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(annotation))
        for name, annotation in SettingArguments.__annotations__.items()
    ]
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return function


def _annotation(annotation: object) -> object:
    return getattr(annotation, "__forward_arg__", annotation)


@_with_setting_parameters
def instrument(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
    otlp: str | bool | None = None,
    redact: Redactor | Literal[False] | None = None,
    sdks: Source | Sequence[Source] | None = None,
    **settings: Unpack[SettingArguments],
) -> Handle:
    """Record every call of a model from now on, of any SDK, imported before or after, or those named in `sdks`.

    None means "not given": the value in force is kept, else the environment's is used, else the default. A second call
    without arguments returns the current handle. With arguments it changes these settings, and logs a warning with old
    and new values, unless the current settings came only from the environment. May be called from any thread, before
    or after a fork; starts no thread and opens no file.

    Args:
        tracer_provider: The provider for spans; by default the global one, looked up on first use.
        meter_provider: The provider for metrics; by default the global one, looked up on first use.
        logger_provider: The provider for log events, if enabled; by default the global one, looked up on first use.
        otlp: Base URL of an OTLP/HTTP receiver, or True for `OTEL_EXPORTER_OTLP_*`: sends spans, metrics and, if
            enabled, log events there, through global providers for the signals that have no provider yet.
            `none` in `OTEL_TRACES_EXPORTER`, `OTEL_METRICS_EXPORTER` or `OTEL_LOGS_EXPORTER` disables a signal.
        redact: A function from record to record, applied before a record is exported or stored; False removes it.
        sdks: The SDKs to patch, and `http` for all other code that calls models by an HTTP library; a second call
            adds to them. Default: all.
        settings: Any of `callspan.Settings`, such as `stores`, `content` and `vocabularies`.

    Returns:
        A handle; the current one if nothing changed.

    Raises:
        SettingError: An argument has an invalid value. Nothing was changed.
        TypeError: An argument is unknown.

    Example:
        >>> handle = callspan.instrument(stores="sqlite:///callspan.db", content="metadata")
        >>> handle.force_flush()
        True
    """
    sources = None if sdks is None else sources_of(sdks)
    check_otlp(otlp)
    providers = {
        "tracer_provider": tracer_provider,
        "meter_provider": meter_provider,
        "logger_provider": logger_provider,
        "redact": redact,
    }
    return WIRING.change(settings, providers, sources, otlp=otlp)


def uninstrument() -> None:
    """Restore the SDKs and close the stores. Calls in progress are still recorded.

    Example:
        >>> handle = callspan.instrument()
        >>> callspan.uninstrument()
    """
    WIRING.remove(WIRING.pipeline)


def patch_status() -> list[HookStatus]:
    """Return the status of every hook of every patched SDK, and the loss if a name is missing.

    Example:
        >>> handle = callspan.instrument(sdks="openai")
        >>> {hook.state for hook in callspan.patch_status() if hook.sdk == "openai"}
        {'on'}
    """
    return WIRING.patches.status()
