"""Writes the tables of docs/records.md out of `callspan.providers.routes`; `--check`: exit with 1 where stale."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from callspan.providers.routes import ROWS, Row, What

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "records.md"
BLOCK = re.compile(r"(?<=<!-- methods -->\n).*?(?=<!-- /methods -->)", re.DOTALL)
HEADINGS: dict[What, str] = {
    "recorded": "Recorded",
    "counted": "Counted, not recorded",
    "websockets": "Comes with websockets",
}


def main() -> int:
    """Write the page, or with `--check` return 1 if it is stale."""
    page = DOCUMENT.read_text()
    fresh = BLOCK.sub(lambda _match: tables(), page)
    if "--check" in sys.argv:
        if fresh != page:
            print("docs/records.md is not what callspan.providers.routes says: run tools/coverage.py")
        return int(fresh != page)
    DOCUMENT.write_text(fresh)
    return 0


def tables() -> str:
    """Return one table for each kind of row."""
    return "\n" + "\n".join(table(what, heading) for what, heading in HEADINGS.items())


def table(what: What, heading: str) -> str:
    """Return the table of one kind; methods of one SDK with one note share a row."""
    methods: dict[tuple[str, str], list[str]] = {}
    for row in ROWS:
        if row.what == what:
            methods.setdefault((row.sdk, note(row)), []).append(f"`{row.resource}` {', '.join(row.methods.split())}")
    lines = [f"### {heading}", "", "| SDK | Methods | |", "| --- | --- | --- |"]
    lines += [f"| {sdk} | {'; '.join(names)} | {text} |" for (sdk, text), names in methods.items()]
    return "\n".join(lines) + "\n"


def note(row: Row) -> str:
    """Return what the page says of a row."""
    return "; ".join(filter(None, (row.note, "older versions only" if row.older else "")))


if __name__ == "__main__":
    sys.exit(main())
