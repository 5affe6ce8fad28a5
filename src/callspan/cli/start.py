"""Start: what `callspan run` does at the start of a process, before the application's first line."""

from __future__ import annotations

import logging
from typing import Final

from callspan.cli.last_line import print_at_exit
from callspan.config import forgiving, is_run_process
from callspan.fail_open import fail_open
from callspan.otlp_variables import otlp_is_named
from callspan.wiring import instrument

_LOGGER: Final = logging.getLogger("callspan")


def start() -> None:
    """Instrument by the environment's settings; a wrong one costs a warning, never the application's start."""
    with fail_open("start under `callspan run`"):
        settings, trouble = forgiving()
        if trouble is not None:
            _LOGGER.warning("callspan is off, because of %s", trouble)
            return
        if is_run_process():
            # Before anything of ours that runs at exit, so that it comes after all of it.
            print_at_exit(settings)
        instrument(stores=settings.stores, otlp=otlp_is_named())
