"""Report: the page as one file, with what its server would answer about the selected calls, up to a size."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeAlias, cast

import msgspec

from callspan.formatting import exact
from callspan.output_file import replacement
from callspan.stores.aggregates import exact_sum, known_sum
from callspan.stores.base import SessionSummary
from callspan.stores.filters import CallFilter
from callspan.stores.new_messages import ConversationReader
from callspan.stores.reader import Reader
from callspan.view import charts, session
from callspan.view.calls import CallRow
from callspan.view.report_file import html
from callspan.view.selected import SelectedReader
from callspan.view.session import EntryRow, SessionPage, TurnRow
from callspan.view.sessions import SessionRow, session_rows
from callspan.view.source import Access, Chosen, View, encoder

Progress: TypeAlias = Callable[[int, int, str], None]
"""Called with the number read, the total, and what is counted: `calls`, then `sessions`."""
_MOST_BYTES: Final = {False: 10_000_000, True: 20_000_000}
"""Of the data, without and with whole conversations."""
_LIST: Final = 0.4
"""The list of sessions has at most this share of them, calls outside of sessions that of what is left."""
_LENGTHS: Final = ((10_000, 160), (50_000, 60))
"""Characters of each text, by the number of calls up to which they are; with more calls there are none."""
_AT_ONCE: Final = 100
_MISSES: Final = 8
"""After so many sessions that do not fit no other is read."""


_Place: TypeAlias = tuple[str, str | None]
"""The id of a session, and behind what a page of it begins."""
_NAMES: Final = {
    "entry": EntryRow.__struct_fields__,
    "call": CallRow.__struct_fields__,
    "turn": TurnRow.__struct_fields__,
}
"""Of the values of entries, which have their names once in a file."""


class Contents(msgspec.Struct):
    """What the file is about and how much of it there is; None is unknown."""

    store: str
    command: str
    """The command with its store."""
    at_ms: float
    most: int | None
    """So many characters of each text, and nothing of any request; None: everything."""
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
    most_bytes: int = 0


def write_report(
    reader: Reader,
    target: Path,
    which: CallFilter = CallFilter(),  # noqa: B008 - immutable
    *,
    full: bool = False,
    progress: Progress = lambda _read, _of, _what: None,
) -> Contents:
    """Write the page about the selected calls and their sessions to one file, and return how much of them it has.

    Without `full` it has the beginnings of answers and events, and nothing of any request. It makes no requests and
    runs only its own script. Nothing is written if no call matches. Raises OSError if the file cannot be written.
    """
    which = msgspec.structs.replace(which, sort="start", newest_first=True, limit=None, offset=0)
    with replacement(target) as fresh:
        made = _Report(reader, which, progress, full=full)
        data = made.data()
        if made.contents.calls or made.contents.sessions:
            with fresh.path.open("wb") as file:
                file.writelines(html(data))
            fresh.commit()
    return made.contents


class _Report:
    """The data of one file."""

    def __init__(self, reader: Reader, which: CallFilter, progress: Progress, *, full: bool) -> None:
        sums = list(reader.summary("model", which, latencies=False))
        calls = sum(one.calls for one in sums)
        most = None if full else next((length for upto, length in _LENGTHS if calls <= upto), 0)
        self.contents = Contents(
            store=reader.name,
            command=shlex.join(["callspan", "--store", reader.name]),
            at_ms=time.time_ns() / 1e6,
            most=most,
            most_bytes=_MOST_BYTES[full],
            calls=calls,
            errors=sum(one.errors for one in sums),
            retries=known_sum(one.retries for one in sums),
            input_tokens=known_sum(one.input_tokens for one in sums),
            output_tokens=known_sum(one.output_tokens for one in sums),
            cost_usd=exact(exact_sum(one.cost_usd for one in sums)),
            calls_without_cost=sum(one.calls_without_cost for one in sums),
        )
        self._which = which
        self._progress = progress
        self._reader = cast("Reader", SelectedReader(reader, which, most))
        self._left = self.contents.most_bytes
        self._rows: dict[str, SessionRow] = {}
        self._pages: dict[str, list[bytes]] = {}

    def data(self) -> list[bytes]:
        """Return the pieces of the JSON that `report.js` reads."""
        parts = {
            "names": encoder.encode(_NAMES),
            "charts": encoder.encode(charts.page(self._view())),
            "tables": encoder.encode({by: charts.table(self._view(by=by)) for by in ("user", "model")}),
            "scores": encoder.encode(self._scores()),
        }
        self._left -= sum(map(len, parts.values()))
        self._list()
        parts["outside"] = self._outside()
        self._read_pages()
        parts["rows"] = encoder.encode(list(self._rows.values()))
        parts["contents"] = encoder.encode(self.contents)
        named = [b'"%s":%s,' % (name.encode(), one) for name, one in parts.items()]
        pages = [b"[%s,[%s]]" % (encoder.encode(one), b",".join(some)) for one, some in self._pages.items()]
        return [b"{", *named, b'"pages":[', *pages[:1], *(b"," + one for one in pages[1:]), b"]}"]

    def _view(self, **query: str) -> View:
        access = Access(
            open=lambda: self._reader,
            chosen=lambda _: Chosen(self._which, lambda reader: reader),
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
        found.objectives, found.keys = found.objectives[:1], [found.key] if found.key else []
        return found

    def _list(self) -> None:
        """Read the rows of the newest sessions."""
        room, some = int(self._left * _LIST), list[SessionSummary]()
        for summary in self._summaries():
            self.contents.sessions += 1
            if room > 0:
                some.append(summary)
            if len(some) == _AT_ONCE:
                room -= self._add_rows(some, room)
                some = []
        self._add_rows(some, room)
        self.contents.listed = len(self._rows)

    def _add_rows(self, some: list[SessionSummary], room: int) -> int:
        used = 0
        for row in session_rows(self._reader, some) if some else []:
            size = len(encoder.encode(row))
            if used + size > room:
                break
            self._rows[row.id] = row
            used += size
        self._left -= used
        return used

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

    def _outside(self) -> bytes:
        """Return the newest calls outside of sessions."""
        room, which = int(self._left * _LIST), CallFilter(in_session=False)
        rows, known = list[bytes](), dict[str, dict[str, object]]()
        self.contents.outside = sum(one.calls for one in self._reader.summary("provider", which, latencies=False))
        for call in self._reader.calls(which) if self.contents.outside else ():
            made = encoder.encode(_values(session.call_entry(call, ConversationReader(), known)))
            room -= len(made)
            if room < 0:
                break
            rows.append(made)
        self.contents.outside_listed = len(rows)
        found = b'{"rows":[%s],"instructions":%s}' % (b",".join(rows), encoder.encode(known))
        self._left -= len(found)
        return found

    def _read_pages(self) -> None:
        """Read the pages of the listed sessions, all first ones before all second ones, while they fit."""
        waiting: list[_Place] = [(one, None) for one in self._rows]
        misses = 0
        while waiting and misses < _MISSES:
            following: list[_Place] = []
            for number, (session_id, place) in enumerate(waiting, 1):
                page = self._page(session_id, place)
                misses += page is None
                if misses == _MISSES:
                    break
                if page is not None and page.next is not None:
                    following.append((session_id, page.next))
                self._progress(number, len(waiting), "sessions")
            waiting = following

    def _page(self, session_id: str, place: str | None) -> SessionPage | None:
        """Read one page of a session; None: it does not fit."""
        after = {} if place is None else {"after": place}
        page = session.page(self._view(id=session_id, **after))
        fields = {name: getattr(page, name) for name in page.__struct_fields__ if name != "session"}
        made = encoder.encode(fields | {"rows": [*map(_values, page.rows)]})
        if len(made) > self._left:
            return None
        self._left -= len(made)
        self._pages.setdefault(session_id, []).append(made)
        self.contents.whole += page.next is None
        if place is None:
            self._name(session_id, page.rows)
        return page

    def _name(self, session_id: str, entries: list[EntryRow]) -> None:
        """Name a session by its last answer, where first words are not for the file."""
        row, labels = self._rows[session_id], (one.call.label for one in reversed(entries) if one.call is not None)
        row.title = row.title or next(filter(None, labels), None)


def _values(entry: EntryRow) -> tuple[object, ...]:
    every = msgspec.structs.astuple(entry)
    return tuple(msgspec.structs.astuple(one) if isinstance(one, CallRow | TurnRow) else one for one in every)
