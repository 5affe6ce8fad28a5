"""SDK import: hides a malformed environment variable with which OpenTelemetry's SDK cannot be imported."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Final

_VARIABLE: Final = "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"
_SDK: Final = "opentelemetry.sdk.trace"


def import_sdk() -> None:
    """Import the SDK if it would raise ValueError otherwise; else do nothing, because the import is slow."""
    text = os.environ.get(_VARIABLE, "").strip()
    if not text or text.isdecimal() or _SDK in sys.modules:
        return
    hidden = os.environ.pop(_VARIABLE)
    try:
        import_module(_SDK)
    finally:
        os.environ[_VARIABLE] = hidden
