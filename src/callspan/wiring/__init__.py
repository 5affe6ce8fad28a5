"""Wiring: the composition root; `instrument()` and `uninstrument()`."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Final

from opentelemetry._logs import LoggerProvider
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from callspan.agent import runtime
from callspan.config import Content, Settings, Vocabulary, forgiving, load
from callspan.forks import renew_locks
from callspan.intercept.engine import Engine
from callspan.intercept.patching import SDKS, HookStatus, Patches, Sdk
from callspan.policy.redaction import Redactor
from callspan.record.events import Record
from callspan.stores.opening import parse
from callspan.wiring import last_signal
from callspan.wiring.byte_bounds import unbound_exporters
from callspan.wiring.otlp import check_otlp, set_up_global
from callspan.wiring.parts import Parts
from callspan.wiring.pipeline import Pipeline
from callspan.wiring.priced_stores import check_prices
from callspan.wiring.recorder import Recorder

_CLOSE_TIMEOUT_S: Final = 5.0


class Handle:
    """What `instrument()` returns. Safe from any thread; still usable after it was replaced or undone."""

    def __init__(self, wiring: Wiring, pipeline: Pipeline) -> None:
        self._wiring = wiring
        self._pipeline = pipeline

    @property
    def settings(self) -> Settings:
        """The settings in force for this handle."""
        return self._pipeline.settings

    def uninstrument(self) -> None:
        """Restore the SDKs and close the stores. Does nothing if another `instrument()` has taken over."""
        self._wiring.remove(self._pipeline)

    def force_flush(self, timeout_s: float = 30.0) -> bool:
        """Wait until telemetry is exported and every store has every record; False: too slow, or nobody took it."""
        self._wiring.engine.late_ends.drain(timeout_s)
        delivered = self._pipeline.recorder.flush(timeout_s)
        return self._pipeline.parts.flush(timeout_s) and delivered

    def counters(self) -> Mapping[str, int]:
        """Return how many records were appended, delivered and dropped."""
        return self._pipeline.recorder.counters()


class Wiring:
    """The state of this process: one engine, its patches, and the pipeline in use."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.patches = Patches(self.engine)
        self._pipeline: Pipeline | None = None
        self._exporter_stores: tuple[str, ...] = ()
        self._lone_recorder: Recorder | None = None
        self._lock = threading.RLock()
        renew_locks(self, "_lock")

    @property
    def pipeline(self) -> Pipeline | None:
        """The pipeline in use, None where nothing is instrumented."""
        return self._pipeline

    def install(self, settings: Settings, parts: Parts, sdks: Sequence[Sdk]) -> Handle:
        """Put a pipeline in use, replacing another one, and patch the SDKs."""
        for url in settings.stores:
            parse(url)
        with self._lock:
            old = self._pipeline
            if old is None or old.settings != settings or old.parts != parts:
                self._put(Pipeline(settings, parts))
                if old is not None:
                    old.recorder.close(_CLOSE_TIMEOUT_S)
            if settings.enabled:
                for sdk in sdks:
                    self.patches.apply(sdk)
            pipeline = self._pipeline
            if pipeline is None:
                raise RuntimeError("another thread has undone callspan.instrument()")
            return Handle(self, pipeline)

    def remove(self, pipeline: Pipeline | None) -> None:
        """Take the pipeline out of use, if it still is the one, and restore the SDKs."""
        with self._lock:
            if pipeline is None or pipeline is not self._pipeline:
                return
            self.engine.late_ends.drain()
            self._put(None)
            last_signal.forget()
            unbound_exporters()
            for sdk in SDKS:
                self.patches.undo(sdk)
        pipeline.recorder.close(_CLOSE_TIMEOUT_S)

    def restore(self, pipeline: Pipeline | None) -> None:
        """Put a pipeline back that was in use before, as `testing.capture()` does; None: leave nothing in use."""
        with self._lock:
            current = self._pipeline
            if pipeline is None:
                self.remove(current)
            elif current is not pipeline:
                self._put(pipeline)

    def install_sdk(self, settings: Settings, parts: Parts, sdk: Sdk) -> Handle:
        """Patch one SDK more under the pipeline in use, or under a new one."""
        with self._lock:
            current = self._pipeline
            if current is not None and parts in (Parts(), current.parts):
                settings, parts = current.settings, current.parts
            return self.install(settings, parts, (sdk,))

    def remove_sdk(self, sdk: Sdk) -> None:
        """Restore one SDK; with the last one the pipeline goes out of use."""
        with self._lock:
            self.patches.undo(sdk)
            if not self.patches.wanted:
                self.remove(self._pipeline)

    def add_stores(self, urls: str | Sequence[str] | None, default: str) -> tuple[str, ...]:
        """Add the stores of an exporter; none named: the environment's, and where there are none `default`."""
        given = {} if urls is None else {"stores": urls}
        named = (load(given) if given else forgiving()[0]).stores or (default,)
        with self._lock:
            self._exporter_stores += tuple(url for url in named if url not in self._exporter_stores)
            if self._pipeline is not None:
                self._pipeline.recorder.add_stores(named)
        return named

    def flush_before_sigterm(self, settings: Settings) -> None:
        """See to it that spans survive a SIGTERM nobody handles, unless the settings are against it."""
        if settings.enabled and settings.flush_on_sigterm:
            last_signal.flush_before(self._flush_providers)

    def _flush_providers(self, timeout_s: float) -> None:
        parts = self._pipeline.parts if self._pipeline is not None else Parts()
        parts.last_flush(timeout_s)

    def write(self, record: Record) -> None:
        """Keep a record of another instrumentation's span, treated like our own."""
        pipeline = self._pipeline
        if pipeline is not None:
            pipeline.write(record)
        else:
            self._recorder_alone().write(record)

    def flush(self, timeout_s: float) -> bool:
        """Wait until every store has every record so far; False if that took too long."""
        self.engine.late_ends.drain(timeout_s)
        recorder = self._pipeline.recorder if self._pipeline is not None else self._lone_recorder
        return recorder is None or recorder.flush(timeout_s)

    def _recorder_alone(self) -> Recorder:
        """The recorder of an exporter in a process where nothing is instrumented."""
        with self._lock:
            if self._lone_recorder is None:
                self._lone_recorder = Recorder(forgiving()[0])
                self._lone_recorder.add_stores(self._exporter_stores)
            return self._lone_recorder

    def _put(self, pipeline: Pipeline | None) -> None:
        self._pipeline = pipeline
        if pipeline is not None:
            pipeline.recorder.add_stores(self._exporter_stores)
        enabled = pipeline is not None and pipeline.settings.enabled
        engine = self.engine
        engine.lines = pipeline.lines if enabled and pipeline is not None else {}
        engine.prepare = pipeline.load if enabled and pipeline is not None else _nothing_to_load
        engine.looked_around = False
        if pipeline is not None:
            engine.content = pipeline.settings.content
            engine.propagate, engine.native = pipeline.settings.propagate, pipeline.settings.native
            engine.stream_usage = pipeline.settings.stream_usage
        if enabled and pipeline is not None:
            runtime.install(pipeline.runtime)
        else:
            runtime.remove()


def _nothing_to_load() -> None:
    """Stand in where nothing is instrumented."""


WIRING: Final = Wiring()


def instrument(  # noqa: PLR0913 - keywords only
    *,
    stores: str | Sequence[str] | None = None,
    content: Content | None = None,
    vocabularies: Sequence[Vocabulary] | None = None,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
    otlp: str | bool | None = None,
    redact: Redactor | None = None,
    sdks: Sequence[Sdk] = SDKS,
    **settings: object,
) -> Handle:
    """Record every call of the openai and anthropic SDKs from now on, whenever they are imported.

    Args:
        stores: URLs of stores for records, one or several; default `$CALLSPAN_STORES`, else none.
        content: `full`, `metadata` or `off`: what of prompts and completions is shown and kept.
        vocabularies: attribute sets on spans; default `("llm", "gen_ai")`.
        tracer_provider: where spans go; None: the global provider, looked up late.
        meter_provider: where metrics go; None: the global provider, looked up late.
        logger_provider: where log events go, if they are on; None: the global provider, looked up late.
        otlp: base URL of an OTLP/HTTP receiver, or True for `OTEL_EXPORTER_OTLP_*`: sends spans, metrics and,
            if they are on, log events there, by global providers set up where the application has none.
            `OTEL_TRACES_EXPORTER`, `OTEL_METRICS_EXPORTER` or `OTEL_LOGS_EXPORTER` of `none` leaves one out.
        redact: record -> record, applied to every record before anything is shown or kept.
        sdks: which SDKs to patch.
        settings: any other setting of `callspan.config.Settings`.

    Returns:
        A handle; a second call with the same settings returns an equal one, other settings replace.

    Raises:
        SettingError: A setting has a value that means nothing.
    """
    loaded = load({"stores": stores, "content": content, "vocabularies": vocabularies, **settings})
    check_prices(loaded.prices)
    check_otlp(otlp)
    parts = Parts(
        tracer_provider=tracer_provider, meter_provider=meter_provider, logger_provider=logger_provider, redact=redact
    )
    if otlp and loaded.enabled:
        set_up_global(otlp, wanted=parts.without_provider(log_events=loaded.log_events))
        WIRING.flush_before_sigterm(loaded)
    return WIRING.install(loaded, parts, sdks)


def uninstrument() -> None:
    """Restore the SDKs to what they were and close the stores. Calls that still run end as if observed."""
    WIRING.remove(WIRING.pipeline)


def hooks_status() -> list[HookStatus]:
    """Return every hook of every patched SDK, with what is lost where a name is missing."""
    return WIRING.patches.status()
