"""Report: the page as one file, with the server's answers about the selected calls and sessions."""

from __future__ import annotations

import shlex
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from callspan.formatting import exact
from callspan.output_file import replacement
from callspan.stores import CallFilter, ConversationReader, Reader, Scoring, SessionSummary, exact_sum, known_sum
from callspan.view import charts, session
from callspan.view.report_file import html
from callspan.view.sessions import session_rows
from callspan.view.source import Access, Row, View, encoder

Progress: TypeAlias = Callable[[int, int, str], None]
"""Called with the number read, the total, and the unit: `sessions`."""
_MAX_BYTES: Final = 20_000_000
_LIST: Final = 0.4
"""The list of sessions takes at most this share of the bytes, calls outside of sessions this share of the rest."""
_AT_ONCE: Final = 100


class Contents(msgspec.Struct):
    """The subject of the file and its numbers; None is unknown."""

    store: str
    command: str
    """The command with its store."""
    at_ms: float
    max_bytes: int
    """Limit of the data; sessions and calls beyond it are left out, the oldest first."""
    calls: int = 0
    errors: int = 0
    retries: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: str | None = None
    calls_without_cost: int = 0
    sessions: int = 0
    listed: int = 0
    """Sessions in the list, the newest ones."""
    whole: int = 0
    """Sessions of which all entries are in the file."""
    outside: int = 0
    """Calls outside of sessions."""
    outside_listed: int = 0


def write_report(
    reader: Reader,
    target: Path,
    which: CallFilter = CallFilter(),  # noqa: B008 - immutable
    *,
    progress: Progress = lambda _read, _of, _what: None,
) -> Contents:
    """Write the page about the selected calls and their sessions to one file, and return how much of them it has.

    The file makes no requests and runs only its own script. Nothing is written if no call matches. Raises OSError if
    the file cannot be written.
    """
    which = msgspec.structs.replace(which, sort="start", newest_first=True, limit=None, offset=0)
    with replacement(target) as fresh:
        made = _Report(reader, which, progress)
        data = made.data()
        if made.contents.calls or made.contents.sessions:
            with fresh.path.open("wb") as file:
                file.writelines(html([data]))
            fresh.commit()
    return made.contents


class _Report:
    """The data of one file."""

    def __init__(self, reader: Reader, which: CallFilter, progress: Progress) -> None:
        sums = list(reader.summary("model", which, latencies=False))
        self.contents = Contents(
            store=reader.name,
            command=shlex.join(["callspan", "--store", reader.name]),
            at_ms=time.time_ns() / 1e6,
            max_bytes=_MAX_BYTES,
            calls=sum(one.calls for one in sums),
            errors=sum(one.errors for one in sums),
            retries=known_sum(one.retries for one in sums),
            input_tokens=known_sum(one.input_tokens for one in sums),
            output_tokens=known_sum(one.output_tokens for one in sums),
            cost_usd=exact(exact_sum(one.cost_usd for one in sums)),
            calls_without_cost=sum(one.calls_without_cost for one in sums),
        )
        self._reader, self._which, self._progress = reader, which, progress
        self._left = self.contents.max_bytes
        self._rows: dict[str, Row] = {}
        self._pages: dict[str, list[msgspec.Raw]] = {}

    def data(self) -> bytes:
        """Return the JSON that `report.js` reads."""
        parts: dict[str, object] = {
            "charts": charts.page(self._view()),
            "tables": {by: charts.table(self._view(by=by)) for by in ("user", "model")},
            "scores": self._scores(),
        }
        self._left -= len(encoder.encode(parts))
        self._list()
        parts["outside"] = self._outside()
        self._read_pages()
        return encoder.encode(
            {**parts, "rows": [*self._rows.values()], "contents": self.contents, "pages": [*self._pages.items()]}
        )

    def _view(self, **query: str) -> View:
        access = Access(
            open=lambda: self._reader,
            chosen=lambda _: (self._which, Scoring()),
            arguments=lambda _: [],
            error_text=str,
            errors=tuple,
            waiting=list,
            keep=lambda _: None,
            name=self._reader.name,
        )
        return View(self._reader, access, query)

    def _scores(self) -> charts.Scores:
        """Return the scores that the page shows first; others are not in the file."""
        found = charts.scores(self._view())
        found.objectives = found.objectives[:1]
        return found

    def _list(self) -> None:
        """Read the rows of the newest sessions."""
        room, summaries = int(self._left * _LIST), self._summaries()
        while some := list(islice(summaries, _AT_ONCE)):
            self.contents.sessions += len(some)
            rows = session_rows(self._reader, some) if room > 0 else []
            for summary, row in zip(some, rows, strict=False):
                size = len(encoder.encode(row))
                room -= size
                if room < 0:
                    break
                self._rows[summary.session.session_id] = row
                self._left -= size
        self.contents.listed = len(self._rows)

    def _summaries(self) -> Iterator[SessionSummary]:
        """Yield the sessions, then those that have such calls, but began earlier, or are of no such label."""
        listed = set[str]()
        for one in self._reader.sessions(since_ns=self._which.since_ns, which=self._which):
            listed.add(one.session.session_id)
            yield one
        if self._which == CallFilter():
            return
        of_calls = (one.key for one in self._reader.summary("session", self._which, latencies=False))
        others = (self._reader.session(one) for one in of_calls if one is not None and one not in listed)
        yield from (one for one in others if one is not None)

    def _outside(self) -> dict[str, object]:
        """Return the newest calls outside of sessions."""
        room, which = int(self._left * _LIST), msgspec.structs.replace(self._which, in_session=False)
        rows, known = list[msgspec.Raw](), dict[str, dict[str, object]]()
        self.contents.outside = sum(one.calls for one in self._reader.summary("provider", which, latencies=False))
        for call in self._reader.calls(which):
            made = encoder.encode(session.call_entry(call, ConversationReader(), known))
            room -= len(made)
            if room < 0:
                break
            rows.append(msgspec.Raw(made))
        self.contents.outside_listed = len(rows)
        self._left -= sum(map(len, rows)) + len(encoder.encode(known))
        return {"rows": rows, "instructions": known}

    def _read_pages(self) -> None:
        """Read the pages of the listed sessions, all first ones before all second ones, while they fit."""
        waiting = deque[tuple[str, str | None]]((one, None) for one in self._rows)
        while waiting:
            session_id, after = waiting.popleft()
            page = session.page(self._view(id=session_id, after=after or ""))
            page.session = None
            made = encoder.encode(page)
            if len(made) > self._left:
                return
            self._left -= len(made)
            self._pages.setdefault(session_id, []).append(msgspec.Raw(made))
            if page.next is not None:
                waiting.append((session_id, page.next))
            else:
                self.contents.whole += 1
            self._progress(self.contents.whole, len(self._rows), "sessions")
