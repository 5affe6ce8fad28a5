"""Telemetry providers: the OpenTelemetry providers and other objects passed to `instrument()`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import msgspec
from opentelemetry import _logs, metrics, trace
from opentelemetry._logs import LoggerProvider
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from callspan.fail_open import value_of
from callspan.otlp_variables import SIGNALS, Signal
from callspan.process.redaction import Redactor
from callspan.settings import SettingError, shown
from callspan.spans.borrowed import BORROWED
from callspan.wiring.otlp import delivers, last_exports, limited_retries
from callspan.wiring.recorder import Listener

_METHODS: Final = {"tracer_provider": "get_tracer", "meter_provider": "get_meter", "logger_provider": "get_logger"}
_GLOBAL: Final[tuple[tuple[str, Callable[[], object]], ...]] = (
    ("tracer_provider", trace.get_tracer_provider),
    ("meter_provider", metrics.get_meter_provider),
    ("logger_provider", _logs.get_logger_provider),
)


class Providers(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of `instrument()` other than settings. A provider of None is the global one, looked up on use."""

    tracer_provider: TracerProvider | None = None
    meter_provider: MeterProvider | None = None
    logger_provider: LoggerProvider | None = None
    redact: Redactor | None = None
    listeners: tuple[Listener, ...] = ()

    def without_provider(self, *, log_events: bool) -> list[Signal]:
        """Return the signals that use a global provider, log events only if enabled."""
        given = {"traces": self.tracer_provider, "metrics": self.meter_provider, "logs": self.logger_provider}
        return [signal for signal in SIGNALS if given[signal] is None and (signal != "logs" or log_events)]

    def flush(self, timeout_s: float) -> bool:
        """Flush the providers; False if one timed out or its receiver did not accept everything."""
        flushed = True
        with limited_retries(timeout_s):
            for name, global_one in _GLOBAL:
                provider = getattr(self, name) or global_one()
                flush = getattr(provider, "force_flush", None)
                if flush is not None:
                    flushed = bool(value_of(partial(flush, int(timeout_s * 1000)))) and delivers(provider) and flushed
        return flushed

    def last_flush(self, timeout_s: float) -> bool:
        """Flush in a process that is about to end: exports that would exceed the time are not retried."""
        last_exports()
        BORROWED.export_all(timeout_s)
        return self.flush(timeout_s)


def given_providers(base: Providers, arguments: Mapping[str, object]) -> Providers:
    """Return the current providers updated by the given ones; None means not given, `redact=False` removes it.

    Raises SettingError for a redactor that is not callable and for an invalid provider.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    redact = given.get("redact")
    if redact is False:
        given["redact"] = None
    elif redact is not None and not callable(redact):
        raise SettingError(f"redact={shown(redact)}: use a function from record to record, or False for none")
    for name, method in _METHODS.items():
        if name in given and not callable(getattr(given[name], method, None)):
            raise SettingError(f"{name}={shown(given[name])}: use a provider of OpenTelemetry, which has {method}()")
    return msgspec.structs.replace(base, **given)


def changed_providers(old: Providers, new: Providers) -> list[str]:
    """Return the differences, each with the names of the old and the new object."""
    names = [name for name in (*_METHODS, "redact") if getattr(old, name) is not getattr(new, name)]
    return [f"{name} {_name(getattr(old, name))} -> {_name(getattr(new, name))}" for name in names]


def _name(given: object) -> str:
    if given is None:
        return "none"
    name = getattr(given, "__qualname__", None)
    return f"{name if isinstance(name, str) else type(given).__name__} at {id(given):#x}"
