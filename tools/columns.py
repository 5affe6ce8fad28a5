"""Writes the columns of every table into docs/sql.md; `--check` only compares."""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

from generated import write_or_check

from callspan.stores.columns import TABLES, Table

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/sql.md"
BLOCK = re.compile(r"(?<=<!-- columns -->\n).*?(?=<!-- /columns -->)", re.DOTALL)
WIDTH = 120


def main() -> int:
    """Write or check the page."""
    columns = "\n".join(map(paragraph, TABLES.values()))
    fresh = f"\n```text\n{columns}\n```\n\n{notes()}\n\n"
    return write_or_check({PAGE: BLOCK.sub(lambda _: fresh, PAGE.read_text(encoding="utf-8"))})


def paragraph(table: Table) -> str:
    """Return the names of a table's columns, those that hold JSON last."""
    plain = [column.name for column in table.columns if column.form != "json"]
    json = [column.name for column in table.columns if column.form == "json"]
    text = f"{table.name}: {' '.join(plain)}; as JSON {' '.join([*json, 'extra'])}"
    return textwrap.fill(text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def notes() -> str:
    """Return a table of the columns that need an explanation; a column of several tables has one row."""
    tables: dict[tuple[str, str], list[str]] = {}
    for table in TABLES.values():
        for column in table.columns:
            if column.note:
                tables.setdefault((column.name, column.note), []).append(table.name)
    rows = [f"| `{name}` | {', '.join(of)} | {note} |" for (name, note), of in tables.items()]
    return "\n".join(["| Column | Of | Meaning |", "| --- | --- | --- |", *rows])


if __name__ == "__main__":
    sys.exit(main())
