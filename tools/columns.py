"""Writes the columns of every table into docs/stores.md; `--check` only compares."""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

from callspan.stores.columns import TABLES, Column, Table

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/stores.md"
BLOCK = re.compile(r"(?<=<!-- columns -->\n).*?(?=<!-- /columns -->)", re.DOTALL)
WIDTH = 120


def main() -> int:
    """Write the page, or with `--check` return 1 if it is stale."""
    page = PAGE.read_text()
    fresh = BLOCK.sub(lambda _match: "\n" + "\n\n".join(map(paragraph, TABLES.values())) + "\n\n", page)
    if "--check" in sys.argv:
        if fresh != page:
            print("docs/stores.md lists other columns than callspan.stores.columns: run tools/columns.py")
        return int(fresh != page)
    PAGE.write_text(fresh)
    return 0


def paragraph(table: Table) -> str:
    """Return the columns of a table, those that hold JSON last."""
    plain = [described(column) for column in table.columns if column.form != "json"]
    json = [described(column) for column in table.columns if column.form == "json"]
    text = f"`{table.name}`: {', '.join(plain)}; as JSON {', '.join([*json, '`extra`'])}."
    # A code span or a note is not broken where that would change it: lines break at the spaces between columns.
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def described(column: Column) -> str:
    """Return a column with its note."""
    return f"`{column.name}`" + (f" ({column.note})" if column.note else "")


if __name__ == "__main__":
    sys.exit(main())
