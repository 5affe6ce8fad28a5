"""Arguments of the session API as text, numbers, flags and times; incorrect use is flagged and logged, or raises."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Final, Protocol, TypeAlias

from callspan.agent.runtime import Runtime, installed, never_instrumented
from callspan.fail_open import Once, log, value_of
from callspan.record.codec import encodable
from callspan.record.plain_json import plain
from callspan.settings_loader import load

_NOT_INSTRUMENTED: Final = "not_instrumented"
_warned: Final = Once()
Time: TypeAlias = int | float | datetime
"""A moment: Unix nanoseconds as an int, Unix seconds as a float, or an aware datetime."""

_NS_PER_S: Final = 1_000_000_000
_EARLIEST: Final = 10**17
"""In 1973: a smaller number of nanoseconds is one of seconds, or of something else."""
_LATEST: Final = 2**63
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_ADVICE: Final = "a time is Unix nanoseconds (int), Unix seconds (float), or a datetime with its zone"


class UsageError(RuntimeError):
    """The session API was used wrongly, and the setting `strict` is on. The message says what to do instead.

    Example:
        >>> with callspan.testing.capture():  # where strict is on
        ...     with callspan.timestep():
        ...         pass
        Traceback (most recent call last):
        callspan.agent.arguments.UsageError: a timestep belongs into `with callspan.session(...)`
    """


def flagged(flag: str, advice: str, runtime: Runtime | None) -> str:
    """Log a warning about incorrect use and return `flag` for the record.

    Warns once per flag and process. Raises UsageError if the runtime is strict; does nothing without a runtime.
    """
    # Without a runtime there is no record to flag.
    if runtime is None:
        return flag
    if runtime.strict:
        raise UsageError(advice)
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


class SupportsBool(Protocol):
    """A bool, Python's or NumPy's; not text, which is true unless empty."""

    def __bool__(self) -> bool:
        """Return whether it is true."""


def as_float(value: object) -> float | None:
    """Return a reward as a float, also from NumPy and one-element tensors; None if it is not a finite number."""
    if isinstance(value, str):
        return None
    read = value_of(partial(float, value))  # type: ignore[arg-type]
    return read if read is not None and math.isfinite(read) else None


def as_int(value: object) -> int | None:
    """Return a turn number as an int; None if it is not one, or beyond the 64 bits of a store's integers."""
    read = value_of(partial(int, value)) if value is not None else None
    return read if read is not None and -_LATEST <= read < _LATEST else None


def as_text(value: object) -> str | None:
    """Return a name or an id as text that UTF-8 can hold; None for None, and for what no text can be made of."""
    if value is None:
        return None
    found = str.__str__(value) if isinstance(value, str) else value_of(partial(_text, value))
    return None if found is None else encodable(found)


def _text(value: object) -> str:
    return str(plain(value) if isinstance(value, int) else value)


def as_bool(value: object) -> bool | None:
    """Return a flag as a bool, also from NumPy; None for None."""
    return value if value is None or isinstance(value, bool) else value_of(partial(bool, value))


def as_dict(metadata: object) -> dict[str, object]:
    """Return metadata as a new dict without None values; a value that is no mapping is stored under `metadata`."""
    if metadata is None or (type(metadata) is dict and not metadata):
        return {}
    if not isinstance(metadata, Mapping):
        return {"metadata": metadata}
    items = plain(metadata)
    return {key: value for key, value in items.items() if value is not None} if isinstance(items, dict) else {}


def as_texts(values: Iterable[str] | str) -> list[str]:
    """Return ids as a list; a single id may be given as text."""
    listed = [values] if isinstance(values, str) else value_of(partial(list[str], values)) or []
    return [as_text(value) or "" for value in listed]


def reward_value(value: object, flags: list[str], runtime: Runtime | None) -> float | None:
    """Return a reward as a number, None for None; anything but a finite number is flagged."""
    amount = None if value is None else as_float(value)
    if amount is None and value is not None:
        flags.append(flagged("reward_without_number", "a reward is a number", runtime))
    return amount


def moment(at: Time | None, flags: list[str], runtime: Runtime | None) -> int:
    """Return `at` as Unix nanoseconds, the current time for None.

    Anything else is flagged: a datetime without a zone counts as UTC, a number that
    stores can hold stays as it is, anything else is the present.
    """
    if at is None:
        return time.time_ns()
    read = _nanoseconds(at)
    sound = read is not None and read >= _EARLIEST and not (isinstance(at, datetime) and at.tzinfo is None)
    if not sound:
        flags.append(flagged("odd_time", _ADVICE, runtime))
    return time.time_ns() if read is None else read


def offset(at: Time, start_ns: int, flags: list[str], runtime: Runtime | None) -> int | None:
    """Return how many nanoseconds after `start_ns` the moment `at` is; None and flagged if it is before."""
    offset_ns = moment(at, flags, runtime) - start_ns
    if offset_ns >= 0:
        return offset_ns
    flags.append(flagged("time_before_start", "an end or first token is not before the start (`at`)", runtime))
    return None


def _nanoseconds(at: object) -> int | None:
    if isinstance(at, datetime):
        since = (at if at.tzinfo is not None else at.replace(tzinfo=timezone.utc)) - _EPOCH
        read = since // timedelta(microseconds=1) * 1000
    elif isinstance(at, float):
        # NaN and infinities compare false.
        read = round(at * _NS_PER_S) if 0 <= at < _LATEST / _NS_PER_S else -1
    elif isinstance(at, int):
        read = int(at)
    else:
        return None
    return read if 0 <= read < _LATEST else None
