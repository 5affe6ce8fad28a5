"""Parts: what `instrument()` is given besides settings, and the OpenTelemetry providers in use."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec
from opentelemetry import _logs, metrics, trace
from opentelemetry._logs import LoggerProvider
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from callspan.fail_open import value_of
from callspan.policy.redaction import Redactor
from callspan.wiring.recorder import Listener

_GLOBAL: Final[tuple[tuple[str, Callable[[], object]], ...]] = (
    ("tracer_provider", trace.get_tracer_provider),
    ("meter_provider", metrics.get_meter_provider),
    ("logger_provider", _logs.get_logger_provider),
)


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What `instrument()` is given besides settings. A provider of None is the global one, looked up late."""

    tracer_provider: TracerProvider | None = None
    meter_provider: MeterProvider | None = None
    logger_provider: LoggerProvider | None = None
    redact: Redactor | None = None
    listeners: tuple[Listener, ...] = ()

    def flush(self, timeout_s: float) -> bool:
        """Have the providers in use send what they hold; False if one of them could not in its time."""
        flushed = True
        for name, global_one in _GLOBAL:
            flush = getattr(getattr(self, name) or global_one(), "force_flush", None)
            if flush is not None:
                flushed = bool(value_of(partial(flush, int(timeout_s * 1000)))) and flushed
        return flushed
