"""SDK import: hides invalid environment variables that break the import of OpenTelemetry's modules."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Final

_OWN_PROPAGATORS: Final = {"tracecontext", "baggage", "none"}


def _are_own(names: str) -> bool:
    return {name.strip().lower() for name in names.split(",")} <= _OWN_PROPAGATORS


_READ_AT_IMPORT: Final[tuple[tuple[str, str, Callable[[str], bool]], ...]] = (
    ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "opentelemetry.sdk.trace", str.isdecimal),
    ("OTEL_PROPAGATORS", "opentelemetry.propagate", _are_own),
)
"""Variables, each with the module that reads it and a function that is true for values that are surely valid."""


def import_sdk() -> None:
    """Import the modules that may raise because of a variable; the others later, because the imports are slow."""
    for variable, module, is_valid in _READ_AT_IMPORT:
        text = os.environ.get(variable, "").strip()
        if text and not is_valid(text) and module not in sys.modules:
            _import(module, variable)


def _import(module: str, variable: str) -> None:
    try:
        import_module(module)
    except Exception as error:  # a propagator's package may raise anything
        # Here, because they take as long to import as the rest of callspan.
        import logging

        from callspan.runtime.fail_open import log
        from callspan.runtime.safe_urls import error_text

        log(logging.WARNING, "%s is ignored: %s", variable, error_text(error))
        _import_without(variable, module)


def _import_without(variable: str, module: str) -> None:
    hidden = os.environ.pop(variable)
    try:
        import_module(module)
    finally:
        os.environ[variable] = hidden
