"""Writes the tables of docs/coverage.md out of `callspan.providers.routes`; `--check`: exit with 1 where stale."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from callspan.providers.routes import ROWS, Row, What

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "coverage.md"
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
            print("docs/coverage.md is not what callspan.providers.routes says: run tools/coverage.py")
        return int(fresh != page)
    DOCUMENT.write_text(fresh)
    return 0


def tables() -> str:
    """Return one table for each kind of row."""
    return "\n" + "\n".join(table(what, heading) for what, heading in HEADINGS.items())


def table(what: What, heading: str) -> str:
    """Return the table of one kind."""
    lines = [f"### {heading}", "", "| SDK | Resource | Methods | |", "| --- | --- | --- | --- |"]
    return "\n".join([*lines, *(line(row) for row in ROWS if row.what == what)]) + "\n"


def line(row: Row) -> str:
    """Return a row of the page."""
    methods = " ".join(f"`{name}`" for name in row.methods.split())
    notes = [row.note, "older versions only" if row.older else ""]
    return f"| {row.sdk} | `{row.resource}` | {methods} | {'; '.join(note for note in notes if note)} |"


if __name__ == "__main__":
    sys.exit(main())
