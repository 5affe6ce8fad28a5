"""Start: what `callspan run` does at the start of a process, before the application's first line."""

from __future__ import annotations

from callspan.cli.last_line import print_at_exit
from callspan.fail_open import fail_open
from callspan.otlp_variables import otlp_is_named
from callspan.settings_loader import is_run_process, load
from callspan.wiring import WIRING, instrument


def start() -> None:
    """Instrument by the environment's settings; an invalid one costs a warning, never the application's start."""
    with fail_open("start under `callspan run`"):
        if is_run_process():
            # Before anything of ours that runs at exit, so that it comes after all of it.
            print_at_exit(load(warn=False))
        handle = instrument(otlp=otlp_is_named())
        # Also where no spans are sent: the records of unfinished streams must contain how they ended.
        WIRING.flush_before_sigterm(handle.settings)
