"""Writes the tables of docs/coverage.md out of `callspan.providers.routes`; `--check`: exit with 1 where stale.

`--installed` writes nothing, and exits with 1 if an SDK of this interpreter has a method that the table does not know.
"""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

from callspan.intercept.coverage import methods_of, unknown
from callspan.providers.routes import EVERY, ROWS, Row, What

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "coverage.md"
BLOCK = re.compile(r"(?<=<!-- methods -->\n).*?(?=<!-- /methods -->)", re.DOTALL)
HEADINGS: dict[What, str] = {
    "recorded": "Recorded",
    "counted": "Counted, not recorded",
    "websockets": "Comes with websockets",
    "no inference": "No inference: nothing to record",
}


LEAST = {"openai": 300, "anthropic": 300, "groq": 15}
"""Methods of an SDK; with fewer its source is laid out in another way, or it is not installed."""


def main() -> int:
    """Write the page, or with `--check` return 1 if it is stale."""
    if "--installed" in sys.argv:
        return int(sum(map(_lacks, LEAST)) > 0)
    page = DOCUMENT.read_text()
    fresh = BLOCK.sub(lambda _match: tables(), page)
    if "--check" in sys.argv:
        if fresh != page:
            print("docs/coverage.md is not what callspan.intercept.coverage says: run tools/coverage.py")
        return int(fresh != page)
    DOCUMENT.write_text(fresh)
    return 0


def _lacks(sdk: str) -> bool:
    """Print which methods of an SDK the table does not know; return whether there are any, or too few methods."""
    found, strange = list(methods_of(sdk)), list(unknown(sdk))
    version = metadata.version(sdk) if found else "not installed"
    print(f"{sdk} {version}: {len(found)} methods, {len(strange)} not in callspan.intercept.coverage")
    for method in strange:
        print(f"  {method}")
    return bool(strange) or len(found) < LEAST[sdk]


def tables() -> str:
    """Return one table for each kind of row."""
    return "\n" + "\n".join(table(what, heading) for what, heading in HEADINGS.items())


def table(what: What, heading: str) -> str:
    """Return the table of one kind."""
    lines = [f"### {heading}", "", "| SDK | Resource | Methods | |", "| --- | --- | --- | --- |"]
    return "\n".join([*lines, *(line(row) for row in ROWS if row.what == what)]) + "\n"


def line(row: Row) -> str:
    """Return a row of the page."""
    methods = "all" if row.methods == EVERY else " ".join(f"`{name}`" for name in row.methods.split())
    notes = [row.note, "older versions only" if row.older else ""]
    return f"| {row.sdk} | `{row.resource}` | {methods} | {'; '.join(note for note in notes if note)} |"


if __name__ == "__main__":
    sys.exit(main())
