"""Start: what `callspan run` does at the start of a process, before the application's first line."""

from __future__ import annotations

import logging
from typing import Final

from callspan.config import forgiving, otlp_in_environment
from callspan.fail_open import fail_open
from callspan.wiring import instrument

_LOGGER: Final = logging.getLogger("callspan")


def start() -> None:
    """Instrument by the environment's settings; a wrong one costs a warning, never the application's start."""
    with fail_open("start under `callspan run`"):
        settings, trouble = forgiving()
        if trouble is not None:
            _LOGGER.warning("callspan is off, because of %s", trouble)
            return
        instrument(stores=settings.stores, otlp=otlp_in_environment() is not None)
