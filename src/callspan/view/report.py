"""Report: the page as one file, with the server's answers about the selected calls and sessions.

It contains the page's HTML, styles and modules, the data, and a policy that forbids anything else.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
import time
from collections.abc import Callable, Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from callspan.formatting import exact, json_block, plural
from callspan.runtime.output_file import replacement
from callspan.stores import CallFilter, ConversationReader, Reader, exact_sum, known_sum
from callspan.view import charts, session
from callspan.view.source import PageRequest, StoreAccess

Progress: TypeAlias = Callable[[int, int, str], None]
"""Called with the size read, the limit, and the unit `MB`."""
_MB: Final = 1_000_000
_MAX_BYTES: Final = 20 * _MB
_OF_SESSIONS: Final = 0.8
"""Maximum share of the bytes for sessions if there are calls outside of sessions, which get the rest."""

_IMPORT: Final = re.compile(r'^import (\{.*\}) from "\./(\w+)\.js";$', re.MULTILINE)
_EXPORT: Final = re.compile(r"^export (?=(?:const|class) (\w+))", re.MULTILINE)
_DEFAULT: Final = re.compile(r"^export default ", re.MULTILINE)
_LINKED: Final = re.compile(r'^<(?:link rel="stylesheet"|script|a href="#/compare").*\n', re.MULTILINE)
_FIRST: Final = "report"
"""The module that answers instead of the server."""


class Contents(msgspec.Struct):
    """The subject of the file and its numbers; None is unknown."""

    store: str
    command: str
    """The command with its store."""
    at_ns: int
    max_bytes: int
    """Limit of the data. The oldest sessions and calls beyond it are omitted."""
    calls: int = 0
    errors: int = 0
    retries: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: str | None = None
    calls_without_cost: int = 0
    sessions: int = 0
    missing_sessions: int = 0
    outside: int = 0
    """Number of calls outside of sessions."""
    missing_outside: int = 0
    missing: str = ""
    """A description of omitted data."""


def write_report(
    reader: Reader,
    target: Path,
    selection: CallFilter,
    *,
    progress: Progress,
) -> Contents:
    """Write the page about the selected calls and their sessions to one file, and return how much of them it has.

    The file makes no requests and runs only its own script. Nothing is written if no call matches. Raises OSError if
    the file cannot be written.
    """
    selection = msgspec.structs.replace(selection, sort="start_ns", newest_first=True, limit=None, offset=0)
    with replacement(target) as new_file:
        report = _Report(reader, selection, progress)
        data = report.data()
        if report.contents.calls or report.contents.sessions:
            with new_file.path.open("wb") as file:
                file.writelines(html([data]))
            new_file.commit()
    return report.contents


class _Report:
    """The data of one file."""

    def __init__(self, reader: Reader, selection: CallFilter, progress: Progress) -> None:
        sums = list(reader.summary("model", selection, latencies=False))
        self._selection_outside = msgspec.structs.replace(selection, in_session=False)
        outside = reader.summary("provider", self._selection_outside, latencies=False)
        self.contents = Contents(
            store=reader.name,
            command=shlex.join(["callspan", "--store", reader.name]),
            at_ns=time.time_ns(),
            max_bytes=_MAX_BYTES,
            calls=sum(summary.calls for summary in sums),
            errors=sum(summary.errors for summary in sums),
            retries=known_sum(summary.retries for summary in sums),
            input_tokens=known_sum(summary.input_tokens for summary in sums),
            output_tokens=known_sum(summary.output_tokens for summary in sums),
            cost_usd=exact(exact_sum(summary.cost_usd for summary in sums)),
            calls_without_cost=sum(summary.calls_without_cost for summary in sums),
            outside=sum(summary.calls for summary in outside),
        )
        self._reader, self._selection, self._progress = reader, selection, progress
        self._bytes_left = self.contents.max_bytes

    def data(self) -> bytes:
        """Return the JSON that `report.js` reads."""
        parts: dict[str, object] = {
            "charts": charts.page(self._view()),
            "tables": {by: charts.table(self._view(by=by)) for by in ("user", "model")},
            "scores": self._scores(),
        }
        self._bytes_left -= len(msgspec.json.encode(parts))
        parts["sessions"] = self._sessions()
        parts["outside"] = self._outside()
        self.contents.missing = _missing(self.contents)
        return msgspec.json.encode({**parts, "contents": self.contents})

    def _view(self, **query: str) -> PageRequest:
        access = StoreAccess(
            open=lambda: self._reader,
            parse_filter=lambda _: self._selection,
            arguments=lambda _: [],
            error_text=str,
            errors=tuple,
            waiting=list,
            write_reward=lambda _: None,
            name=self._reader.name,
            command=self.contents.command,
        )
        return PageRequest(self._reader, access, query)

    def _scores(self) -> charts.Scores:
        """Return the scores that the page shows first. Others are not in the file."""
        scores = charts.scores(self._view())
        scores.objectives = scores.objectives[:1]
        return scores

    def _sessions(self) -> list[list[msgspec.Raw]]:
        """Return the pages of the newest sessions that fit."""
        session_pages: list[list[msgspec.Raw]] = []
        room = int(self._bytes_left * _OF_SESSIONS) if self.contents.outside else self._bytes_left
        for session_id in self._session_ids():
            self.contents.sessions += 1
            if self.contents.missing_sessions or (pages := self._session_pages(session_id, room)) is None:
                self.contents.missing_sessions += 1
                continue
            size = sum(map(len, pages))
            room, self._bytes_left = room - size, self._bytes_left - size
            session_pages.append(pages)
            self._progress((_MAX_BYTES - self._bytes_left) // _MB, _MAX_BYTES // _MB, "MB")
        return session_pages

    def _session_pages(self, session_id: str, room: int) -> list[msgspec.Raw] | None:
        """Return the pages of a session; None if they do not fit."""
        pages: list[msgspec.Raw] = []
        cursor: str | None = ""
        while cursor is not None:
            page = session.page(self._view(id=session_id, after=cursor))
            pages.append(msgspec.Raw(msgspec.json.encode(page)))
            room -= len(pages[-1])
            if room < 0:
                return None
            cursor = page.next
        return pages

    def _session_ids(self) -> Iterator[str]:
        """Yield the ids of the selected sessions, then of other sessions of the selected calls."""
        listed_ids = set[str]()
        for session_id in self._reader.listed_session_ids(self._selection):
            listed_ids.add(session_id)
            yield session_id
        if self._selection == CallFilter():
            return
        groups = self._reader.summary("session", self._selection, latencies=False)
        yield from (group.key for group in groups if group.key is not None and group.key not in listed_ids)

    def _outside(self) -> dict[str, object]:
        """Return the newest calls outside of sessions."""
        rows, instructions = list[msgspec.Raw](), dict[str, dict[str, object]]()
        for call in self._reader.calls(self._selection_outside):
            entry = msgspec.json.encode(session.call_entry(call, ConversationReader(), instructions))
            self._bytes_left -= len(entry)
            if self._bytes_left < 0:
                break
            rows.append(msgspec.Raw(entry))
        self.contents.missing_outside = self.contents.outside - len(rows)
        return {"rows": rows, "instructions": instructions}


def _missing(contents: Contents) -> str:
    parts = [
        f"{contents.missing_sessions:,} of {plural(contents.sessions, 'session')}" if contents.missing_sessions else "",
        f"{contents.missing_outside:,} of {plural(contents.outside, 'call')} outside of sessions"
        if contents.missing_outside
        else "",
    ]
    omitted = " and ".join(filter(None, parts))
    return f"cut at {contents.max_bytes // _MB} MB: the oldest are missing, {omitted}" if omitted else ""


def html(data: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the file; `data` are pieces of JSON for the script."""
    style, script = _styles(), _script()
    head, _, body = _LINKED.sub("", _text("index.html")).partition("</head>")
    start, _, end = body.partition("</body>")
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:; "
        "media-src data:; base-uri 'none'; form-action 'none'"
    )
    first_lines, other_lines = head.split("\n", 4)[:4], head.split("\n", 4)[4]
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    yield "\n".join([*first_lines, meta, other_lines]).encode()
    yield f"<style>{style}</style>\n</head>{start}".encode()
    yield b'<script type="application/json" id="data">'
    yield from map(json_block, data)
    yield f'</script>\n<script type="module">{script}</script>\n</body>{end}'.encode()


def _styles() -> str:
    names = re.findall(r'href="/static/(\w+\.css)"', _text("index.html"))
    return "\n".join(map(_text, names))


def _script() -> str:
    """Return all modules as one script: each is a function that returns its exports, after those that it requires."""
    static = resources.files(__package__).joinpath("static")
    names = sorted(file.name.removesuffix(".js") for file in static.iterdir() if file.name.endswith(".js"))
    sources = {name: _text(f"{name}.js") for name in (_FIRST, *names)}
    ordered_names: list[str] = []

    def append_with_imports(name: str) -> None:
        for _, imported_name in _IMPORT.findall(sources[name]):
            if imported_name not in ordered_names:
                append_with_imports(imported_name)
        if name not in ordered_names:
            ordered_names.append(name)

    for name in sources:
        append_with_imports(name)
    return "const modules = Object.create(null);\n" + "\n".join(_module(name, sources[name]) for name in ordered_names)


def _module(name: str, source: str) -> str:
    exported = _EXPORT.findall(source)
    text = _EXPORT.sub("", _IMPORT.sub(r"const \1 = modules.\2;", source))
    if _DEFAULT.search(text):
        text = _DEFAULT.sub("const made = ", text)
        exported.append("default: made")
    text = text.replace("import(`./${place.page}.js`)", "modules[place.page]")
    return f"modules.{name} = (() => {{\n{text}\nreturn {{ {', '.join(exported)} }};\n}})();"


def _text(name: str) -> str:
    return resources.files(__package__).joinpath("static").joinpath(name).read_text(encoding="utf-8")


def _digest(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
