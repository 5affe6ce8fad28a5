"""Sums: what the SQLite file keeps added up beside its calls, so that a million of them are summed in a moment.

The file's own triggers note which hours of which sessions are out of date, whoever writes, and its view `call_sums`
adds those up when asked; writers do it once and for all now and then.
"""

from __future__ import annotations

import re
import sqlite3
import time
from typing import Final

from callspan.stores.base import Grouping

_SUM_UP: Final = ("INSERT INTO summed SELECT * FROM fresh_sums", "DELETE FROM summed WHERE calls IS NULL")
_EVERY_S: Final = 5.0
_REST: Final = 50
"""For how many times as long as it took the next sum is put off."""

_COLUMN: Final = re.compile(r"\bc\.(\w+)")
_CONDITIONS: Final = frozenset({"session_id", "provider"})
_GROUPS: Final[dict[Grouping, str]] = {
    "model": "c.model",
    "provider": "c.provider",
    "session": "c.session_id",
    "day": "date(c.hour * 3600, 'unixepoch')",
}
_SUMS: Final = """
SELECT {key} AS key, sum(c.calls) AS calls, sum(c.errors) AS errors, sum(c.cancelled) AS cancelled,
  sum(c.in_tok) AS input_tokens, sum(c.out_tok) AS output_tokens, sum(c.cache_read_tok) AS cache_read_tokens,
  sum(c.reasoning_tok) AS reasoning_tokens, sum(c.cost_picousd) AS pico, sum(c.costs) AS priced,
  sum(c.exact_costs) AS exact, sum(c.retries) AS retries, min(c.first_ns) AS first_ns, max(c.last_ns) AS last_ns
FROM call_sums c WHERE {where} GROUP BY 1 ORDER BY 2 DESC, coalesce({key}, '')
"""


def question(by: Grouping, where: str) -> str | None:
    """Return the query for sums over the calls `c` where this holds; None where kept sums cannot tell them apart."""
    if set(_COLUMN.findall(where)) <= _CONDITIONS:
        return _SUMS.format(key=_GROUPS[by], where=where)
    return None


def sum_up(connection: sqlite3.Connection) -> None:
    """Add up all that is out of date, within the transaction that is open."""
    for statement in _SUM_UP:
        connection.execute(statement)


class Upkeep:
    """Sums up every few seconds, and for a fiftieth of the time at most: an hour of many calls takes a while."""

    def __init__(self) -> None:
        self._next = 0.0

    def look(self, connection: sqlite3.Connection) -> None:
        """Sum up if it is time, within the transaction that is open."""
        begun = time.monotonic()
        if begun >= self._next:
            sum_up(connection)
            ended = time.monotonic()
            self._next = ended + max(_EVERY_S, _REST * (ended - begun))
