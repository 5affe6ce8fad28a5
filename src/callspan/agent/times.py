"""Times: when something happened, as the application says or by the clock."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import Final, TypeAlias

from callspan.agent.api_misuse import flagged
from callspan.agent.runtime import Runtime

Time: TypeAlias = int | float | datetime
"""A moment: Unix nanoseconds as an int, Unix seconds as a float, or an aware datetime."""

_NS_PER_S: Final = 1_000_000_000
_EARLIEST: Final = 10**17
"""In 1973: a smaller number of nanoseconds is one of seconds, or of something else."""
_LATEST: Final = 2**63
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_ADVICE: Final = "a time is Unix nanoseconds (int), Unix seconds (float), or a datetime with its zone"


def moment(at: Time | None, flags: list[str], runtime: Runtime | None) -> int:
    """Return `at` as Unix nanoseconds, the present for None.

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
