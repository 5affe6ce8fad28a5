"""Wiring: the composition root; `instrument()` and `uninstrument()`."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, ParamSpec, TypeVar

from opentelemetry._logs import LoggerProvider
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from callspan import process_end
from callspan.agent import runtime
from callspan.delivery.recorder import Recorder, check_prices
from callspan.forks import renew_locks
from callspan.intercept.hooks import HookContext
from callspan.intercept.patching import HookStatus, Patches, sdks_of
from callspan.otlp.providers import check_otlp, set_up_global
from callspan.process import processors
from callspan.process.processors import Processors, caller_processors
from callspan.process.redaction import Redactor
from callspan.record.events import Record
from callspan.sdk_profiles import SDKS, Sdk
from callspan.settings import SettingArguments, Settings
from callspan.settings_loader import Checks, changes, load, warn_once
from callspan.stores.urls import check_store
from callspan.wiring.pipeline import Pipeline, Providers, changed_providers, given_providers

if TYPE_CHECKING:
    from typing_extensions import Unpack

_P = ParamSpec("_P")
_R = TypeVar("_R")
_CLOSE_TIMEOUT_S: Final = 5.0
CHECKS: Final[Checks] = {"stores": check_store, "prices": check_prices}
"""Checks of settings that need the code that uses them."""


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
        """Show whether it is in force, and its settings."""
        state = "in force" if self._wiring.pipeline is self._pipeline else "replaced"
        return f"<Handle {state} {self.settings!r}>"

    @property
    def settings(self) -> Settings:
        """The settings in force for this handle."""
        return self._pipeline.settings

    def uninstrument(self) -> None:
        """Restore the SDKs and close the stores. Does nothing if another `instrument()` has taken over."""
        self._wiring.remove(self._pipeline)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until telemetry is exported and every store has every record; False: timed out or not accepted."""
        deadline = time.monotonic() + timeout_millis / 1000
        self._wiring.hook_context.deferred_ends.drain(_left(deadline))
        delivered = self._pipeline.recorder.flush(_left(deadline))
        return self._pipeline.providers.flush(_left(deadline)) and delivered

    def counters(self) -> Mapping[str, int]:
        """Return how many records were appended, delivered and dropped."""
        return self._pipeline.recorder.counters()


class Wiring:
    """The state of this process: one hook context, its patches, and the pipeline in use."""

    def __init__(self) -> None:
        self.hook_context = HookContext()
        self.patches = Patches(self.hook_context)
        self._pipeline: Pipeline | None = None
        self._configured = False
        """Whether code has given settings, not the environment alone, as under `opentelemetry-instrument`."""
        self._sdks: tuple[Sdk, ...] = ()
        """The SDKs that the pipeline in use patches, also while it is disabled."""
        self._exporter_stores: tuple[str, ...] = ()
        self._of_exporter: tuple[Recorder, Processors] | None = None
        """Stores the records of an exporter while nothing is instrumented."""
        self._lock = threading.RLock()
        renew_locks(self, "_lock")

    @property
    def pipeline(self) -> Pipeline | None:
        """The pipeline in use; None if nothing is instrumented."""
        return self._pipeline

    def change(
        self,
        arguments: Mapping[str, object],
        given: Mapping[str, object],
        sdks: Sequence[Sdk] | None,
        otlp: str | bool | None = None,
    ) -> Handle:
        """Apply the given settings; others keep their value in force, else that of the environment.

        `sdks` None: those in use, else all; given ones are added. `otlp` sets up global providers if no others are
        given. Raises SettingError.
        """
        with self._lock:
            old = self._pipeline
            settings = load(arguments, base=None if old is None else old.settings, checks=CHECKS)
            providers = given_providers(Providers() if old is None else old.providers, given)
            if old is not None:
                changed = changes(old.settings, settings) + changed_providers(old.providers, providers)
                if changed and self._configured:
                    warn_once(
                        f"callspan.instrument() was called again and changes what is in force: {'; '.join(changed)}"
                    )
            if otlp and settings.enabled:
                wanted = providers.without_provider(log_events=settings.log_events)
                set_up_global(otlp, settings.service, wanted=wanted)
                self.flush_before_sigterm(settings)
            by_code = bool(arguments) or any(value is not None for value in given.values())
            self._configured = by_code or (old is not None and self._configured)
            used = (SDKS if old is None else self._sdks) if sdks is None else sdks
            handle, replaced = self._exchange(settings, providers, used)
        _retire(replaced)
        return handle

    def install(self, settings: Settings, providers: Providers, sdks: Sequence[Sdk]) -> Handle:
        """Make a pipeline the current one, replacing the previous, and patch the SDKs."""
        with self._lock:
            handle, replaced = self._exchange(settings, providers, sdks)
        _retire(replaced)
        return handle

    def _exchange(
        self, settings: Settings, providers: Providers, sdks: Sequence[Sdk]
    ) -> tuple[Handle, Pipeline | None]:
        """Do the work of `install` under the lock; return the replaced pipeline, to be retired outside the lock."""
        old = self._pipeline
        replaced = None
        if old is None or old.settings != settings or old.providers != providers:
            self._put(Pipeline(settings, providers, self.hook_context.deferred_ends))
            replaced = old
        self._sdks = tuple(dict.fromkeys((*self._sdks, *sdks)))
        if settings.enabled:
            for sdk in self._sdks:
                self.patches.apply(sdk)
        pipeline = self._pipeline
        if pipeline is None:
            raise RuntimeError("another thread has undone callspan.instrument()")
        return Handle(self, pipeline), replaced

    def remove(self, pipeline: Pipeline | None) -> None:
        """Stop using the pipeline, if it is current, and restore the SDKs."""
        self.hook_context.deferred_ends.drain(_CLOSE_TIMEOUT_S)
        with self._lock:
            if pipeline is None or pipeline is not self._pipeline:
                return
            self._put(None)
            self._sdks = ()
            process_end.forget()
            for sdk in SDKS:
                self.patches.undo(sdk)
        _retire(pipeline)

    def restore(self, pipeline: Pipeline | None) -> None:
        """Use a previous pipeline again, as `testing.capture()` does; None: use none."""
        if pipeline is None:
            self.remove(self._pipeline)
            return
        with self._lock:
            if self._pipeline is not pipeline:
                self._put(pipeline)

    def remove_sdk(self, sdk: Sdk) -> None:
        """Restore one SDK; after the last one there is no current pipeline."""
        with self._lock:
            self.patches.undo(sdk)
            self._sdks = tuple(other for other in self._sdks if other != sdk)
            last = None if self.patches.wanted else self._pipeline
        if last is not None:
            self.remove(last)

    def add_stores(self, urls: str | Path | Sequence[str | Path] | None, default: str) -> tuple[str, ...]:
        """Add the stores of an exporter; default: those of the environment, else `default`."""
        named = load({"stores": urls}, checks=CHECKS).stores or (default,)
        with self._lock:
            self._exporter_stores += tuple(url for url in named if url not in self._exporter_stores)
            recorders = [] if self._pipeline is None else [self._pipeline.recorder]
            recorders += [] if self._of_exporter is None else [self._of_exporter[0]]
            replaced = [recorder.add_stores(named) for recorder in recorders]
        for spool in replaced:
            if spool is not None:
                spool.close(_CLOSE_TIMEOUT_S)
        return named

    def flush_before_sigterm(self, settings: Settings) -> None:
        """Send spans at a SIGTERM without a handler, unless the settings disable it."""
        if settings.enabled and settings.flush_on_sigterm:
            process_end.flush_before(self._flush_providers)

    def _flush_providers(self, timeout_s: float) -> None:
        # Unfinished streams have no span yet, and only a `started` record.
        self.hook_context.deferred_ends.end_open(timeout_s / 3)
        if self._pipeline is not None:
            self._pipeline.recorder.flush(timeout_s / 3)
        providers = self._pipeline.providers if self._pipeline is not None else Providers()
        providers.flush(timeout_s / 3)

    def write(self, record: Record) -> None:
        """Process and store a record made from another instrumentation's span."""
        pipeline = self._pipeline
        if pipeline is not None:
            pipeline.write(record)
        else:
            recorder, own = self._exporters_own()
            processors.write(own.process(record), recorder.write)

    def flush(self, timeout_s: float) -> bool:
        """Wait until every store has every record so far; False if that took too long."""
        self.hook_context.deferred_ends.drain(timeout_s)
        if self._pipeline is not None:
            return self._pipeline.recorder.flush(timeout_s)
        return self._of_exporter is None or self._of_exporter[0].flush(timeout_s)

    def _exporters_own(self) -> tuple[Recorder, Processors]:
        with self._lock:
            if self._of_exporter is None:
                settings = load()
                recorder = Recorder(settings)
                recorder.add_stores(self._exporter_stores)
                self._of_exporter = recorder, caller_processors(settings)
            return self._of_exporter

    def _put(self, pipeline: Pipeline | None) -> None:
        self._pipeline = pipeline
        if pipeline is not None:
            pipeline.recorder.in_use = True
            pipeline.recorder.add_stores(self._exporter_stores)
        enabled = pipeline is not None and pipeline.settings.enabled
        hook_context = self.hook_context
        hook_context.factories = pipeline.factories if enabled and pipeline is not None else {}
        hook_context.prepare = pipeline.load if enabled and pipeline is not None else bool
        hook_context.unrecorded = pipeline.recorder.note_unrecorded if enabled and pipeline is not None else bool
        hook_context.warned_about_other_tracers = False
        if pipeline is not None:
            hook_context.content = pipeline.settings.content
            hook_context.propagate = pipeline.settings.propagate
            hook_context.stream_usage = pipeline.settings.stream_usage
        if enabled and pipeline is not None:
            runtime.install(pipeline.runtime)
        else:
            runtime.remove()


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _retire(pipeline: Pipeline | None) -> None:
    """Close the stores of a pipeline that is no longer in use. Takes seconds: call it without a lock."""
    if pipeline is not None:
        pipeline.recorder.retire(_CLOSE_TIMEOUT_S)


WIRING: Final = Wiring()


def _showing_settings(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Add every setting to the signature that `help()` and completion show."""
    signature = inspect.signature(function)
    named = [one for one in signature.parameters.values() if one.kind is inspect.Parameter.KEYWORD_ONLY]
    named += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(annotation))
        for name, annotation in SettingArguments.__annotations__.items()
    ]
    function.__signature__ = signature.replace(parameters=named)  # type: ignore[attr-defined]
    return function


def _annotation(annotation: object) -> object:
    return getattr(annotation, "__forward_arg__", annotation)


@_showing_settings
def instrument(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
    otlp: str | bool | None = None,
    redact: Redactor | Literal[False] | None = None,
    sdks: Sdk | Sequence[Sdk] | None = None,
    **settings: Unpack[SettingArguments],
) -> Handle:
    """Record every call of the openai, anthropic and groq SDKs from now on; they may be imported before or after.

    None means "not given": the value in force is kept; if there is none, the environment or the default applies.
    A second call without arguments returns the handle in force. With arguments, it changes the given settings, and one
    warning names old and new values, unless only the environment had given those in force. May be called from any
    thread, before or after a fork; starts no thread and opens no file.

    Args:
        tracer_provider: The provider for spans; None: the global one, looked up when first used.
        meter_provider: The provider for metrics; None: the global one, looked up when first used.
        logger_provider: The provider for log events, if they are on; None: the global one, looked up when first used.
        otlp: Base URL of an OTLP/HTTP receiver, or True for `OTEL_EXPORTER_OTLP_*`: sends spans, metrics and,
            if they are on, log events there, by global providers for signals for which the application has none.
            `none` in `OTEL_TRACES_EXPORTER`, `OTEL_METRICS_EXPORTER` or `OTEL_LOGS_EXPORTER` disables a signal.
        redact: A function from record to record, applied before a record is exported or stored; False: remove it.
        sdks: The SDKs to patch; a second call adds to them. Default: all.
        settings: Any of `callspan.Settings`, such as `stores`, `content` and `vocabularies`.

    Returns:
        A handle; the one in force if nothing is changed.

    Raises:
        SettingError: An argument has an invalid value. Nothing was changed.
        TypeError: An argument is unknown.

    Example:
        >>> handle = callspan.instrument(stores="sqlite:///callspan.db", content="metadata")
        >>> handle.force_flush()
        True
    """
    chosen = None if sdks is None else sdks_of(sdks)
    check_otlp(otlp)
    given = {
        "tracer_provider": tracer_provider,
        "meter_provider": meter_provider,
        "logger_provider": logger_provider,
        "redact": redact,
    }
    return WIRING.change(settings, given, chosen, otlp=otlp)


def uninstrument() -> None:
    """Restore the SDKs and close the stores. Calls in progress are still recorded at their end.

    Example:
        >>> handle = callspan.instrument()
        >>> callspan.uninstrument()
    """
    WIRING.remove(WIRING.pipeline)


def patch_status() -> list[HookStatus]:
    """Return the status of every hook of every patched SDK, and what is lost if a name is missing.

    Example:
        >>> handle = callspan.instrument(sdks="openai")
        >>> {hook.state for hook in callspan.patch_status() if hook.sdk == "openai"}
        {'on'}
    """
    return WIRING.patches.status()
