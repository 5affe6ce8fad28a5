"""API misuse: incorrect use of the session API flags the record and logs a warning; with `strict` it raises."""

from __future__ import annotations

import logging
from typing import Final

from callspan.agent.runtime import Runtime, installed, never_instrumented
from callspan.fail_open import Once, log
from callspan.settings_loader import load

_NOT_INSTRUMENTED: Final = "not_instrumented"
_warned: Final = Once()


class MisuseError(RuntimeError):
    """The session API was used wrongly, and the setting `strict` is on. The message says what to do instead.

    Example:
        >>> with callspan.testing.capture():  # where strict is on
        ...     with callspan.timestep():
        ...         pass
        Traceback (most recent call last):
        callspan.agent.api_misuse.MisuseError: a timestep belongs into `with callspan.session(...)`
    """


def flagged(flag: str, advice: str, runtime: Runtime | None) -> str:
    """Log a warning about incorrect use and return `flag` for the record.

    Warns once per flag and process. Raises MisuseError if the runtime is strict; does nothing without a runtime.
    """
    # Without a runtime there is no record to flag.
    if runtime is None:
        return flag
    if runtime.strict:
        raise MisuseError(advice)
    if _warned.first(flag):
        log(logging.WARNING, "%s (recorded as %r; logged once)", advice, flag)
    return flag


def installed_or_warn() -> Runtime | None:
    """Return the runtime in use; None if nothing is instrumented.

    Warns once per process if `instrument()` was never called: the session API then records nothing. No warning if
    callspan was switched off, by `instrument(enabled=False)`, `uninstrument()` or the environment.
    """
    runtime = installed()
    if runtime is None and never_instrumented() and _warned.first(_NOT_INSTRUMENTED) and load(warn=False).enabled:
        log(
            logging.WARNING,
            "callspan sessions are used, but callspan.instrument() has not been called: nothing is recorded",
        )
    return runtime


def mark(metadata: dict[str, object], flag: str) -> None:
    """Add a flag to the metadata of a record that has no flags."""
    marks = metadata.get("callspan.flags")
    metadata["callspan.flags"] = [*marks, flag] if isinstance(marks, list) else [flag]


def forget_warnings() -> None:
    """Forget which warnings were logged. For tests."""
    _warned.forget()
