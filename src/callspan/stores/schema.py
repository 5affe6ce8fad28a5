"""Schema: the SQL that creates and migrates the tables of SQLite, Postgres and ClickHouse, made from their columns.

`python -m callspan.stores.schema postgres` prints it, for databases whose tables are created manually.
"""

# ruff: noqa: S608 - only our own names and numbers are put into SQL

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from typing import Final, Literal, NamedTuple, TypeAlias

from callspan.stores.columns import LAYOUT, REFERENCES, TABLES, Column, Form, Table
from callspan.stores.packing import CALL_ROWS, unpacking

Dialect: TypeAlias = Literal["sqlite", "postgres", "clickhouse"]

DIALECTS: Final[tuple[Dialect, ...]] = ("sqlite", "postgres", "clickhouse")

APPLICATION_ID: Final = 0x43535031
"""Marks an SQLite file as callspan's: "CSP1"."""

_WIDTH: Final = 118
_PLACEHOLDER: Final = re.compile(r"@(columns|merged|unpacking)\((\w+)\)")
_STATEMENT_END: Final = re.compile(r";\n(?!  |END;)")
"""The end of a statement, not of one within a trigger."""
_RELATION: Final = re.compile(
    r"(?:CREATE (?:OR REPLACE )?(?:TABLE|VIEW) (?:IF NOT EXISTS )?|ALTER TABLE \w+ RENAME TO )(\w+)"
)
_NAMED: Final = 3
_PACKED_SINCE: Final = 2
"""First layout of SQLite that keeps the rows of calls in `call_rows`."""
_NEW_VIEW: Final = "CREATE VIEW IF NOT EXISTS"
_TEXT: Final = 'text COLLATE "C"'
_JSON_CODEC: Final = "CODEC(ZSTD(3))"
_EARLIEST: Final = "start_ns"
_STRICTEST: Final = "content_level"
_KEYED: Final = "metadata"


class _Types(NamedTuple):
    """The SQL types of a dialect."""

    forms: Mapping[Form, str]
    reference: str
    """Type of a reference to a content."""


_TYPES: Final[dict[Dialect, _Types]] = {
    "sqlite": _Types(
        {
            **dict.fromkeys(("text", "word", "decimal", "json", "labels"), "TEXT"),
            **dict.fromkeys(("int", "count", "flag"), "INTEGER"),
            "real": "REAL",
        },
        "INTEGER",
    ),
    "postgres": _Types(
        {
            **dict.fromkeys(("text", "word"), _TEXT),
            **dict.fromkeys(("int", "count"), "bigint"),
            "flag": "boolean",
            "real": "double precision",
            "decimal": "numeric",
            "json": "json",
            "labels": "jsonb",
        },
        "bytea",
    ),
    "clickhouse": _Types(
        {
            "text": "String",
            "word": "String",
            **dict.fromkeys(("int", "count"), "Int64"),
            "flag": "Bool",
            "real": "Float64",
            "decimal": "Decimal(76, 38)",
            "json": "String",
            "labels": "String",
        },
        "Nullable(String)",
    ),
}
_CODECS: Final = {("calls", _EARLIEST): "CODEC(Delta, ZSTD)"}
_VERSION_MARK: Final[dict[Dialect, str]] = {
    "sqlite": f"PRAGMA application_id={APPLICATION_ID};\nPRAGMA user_version={LAYOUT}",
    "postgres": f"UPDATE callspan_layout SET version = {LAYOUT}",
    "clickhouse": f"INSERT INTO callspan_layout VALUES ({LAYOUT})",
}
_EXTRA: Final = Column("extra", ("extra",), "json")


def statements(dialect: Dialect, layout: int, tables: Iterable[Table] | None = None) -> list[str]:
    """Return the SQL that migrates the tables from the previous layout to this one.

    The first creates all tables; each later one adds its columns, then runs its own script in `sql` if it has one.
    `tables` defaults to callspan's own.
    """
    known = {table.name: _until(table, layout) for table in (TABLES.values() if tables is None else tables)}
    if layout == 1:
        return _script(dialect, known)
    found = []
    once = "IF NOT EXISTS " if dialect == "clickhouse" else ""
    for table in known.values():
        added = [column for column in table.columns if column.since == layout]
        name = _altered(dialect, table, layout)
        found += [f"ALTER TABLE {name} ADD COLUMN {once}{_definition(dialect, table, column)}" for column in added]
        if added and dialect == "clickhouse" and table.merges:
            view = next(one for one in _script(dialect, known) if f"{_NEW_VIEW} {table.name} AS" in one)
            found.append(view.replace(_NEW_VIEW, "CREATE OR REPLACE VIEW", 1))
    return found + _script(dialect, known, f"_{layout}")


def relations(dialect: Dialect, layout: int) -> Iterator[str]:
    """Yield the names of the tables and views that a store of this layout has."""
    for number in range(1, layout + 1):
        for statement in statements(dialect, number):
            found = _RELATION.match(_without_comments(statement))
            if found is not None:
                yield found[1]


def _without_comments(statement: str) -> str:
    return "\n".join(line for line in statement.splitlines() if not line.lstrip().startswith("--")).lstrip()


def named(gone: Sequence[str]) -> str:
    """Return an error text that names the first few of these missing tables."""
    more = f" and {len(gone) - _NAMED} more" if len(gone) > _NAMED else ""
    return f"{', '.join(gone[:_NAMED])}{more} missing (dropped?)"


def remedy(dialect: Dialect, gone: Sequence[str], client: str) -> str | None:
    """Return what to do if some tables and views of a server are missing; None if all or none are."""
    if not gone or len(gone) >= len(set(relations(dialect, LAYOUT))):
        return None
    command = f"python -m callspan.stores.schema {dialect} | {client}"
    return f"{named(gone)}; restore from a backup, or create what is missing, empty: {command}"


def _altered(dialect: Dialect, table: Table, layout: int) -> str:
    """Return the name of the table that holds the rows; `table` itself may be a view of it."""
    if dialect == "clickhouse" and table.merges:
        return f"{table.kind}_versions"
    return CALL_ROWS if dialect == "sqlite" and table.kind == "call" and layout > _PACKED_SINCE else table.name


def _script(dialect: Dialect, tables: Mapping[str, Table], layout: str = "") -> list[str]:
    script = resources.files(__package__).joinpath("sql").joinpath(f"{dialect}{layout}.sql")
    if not script.is_file():
        return []
    text = script.read_text(encoding="utf-8")
    filled = _PLACEHOLDER.sub(lambda found: _filled(dialect, tables, found[2], found[1]), text)
    return [statement.strip() for statement in _STATEMENT_END.split(filled) if statement.strip()]


def _until(table: Table, layout: int) -> Table:
    return table._replace(columns=tuple(column for column in table.columns if column.since <= layout))


def _filled(dialect: Dialect, tables: Mapping[str, Table], name: str, what: str) -> str:
    if what == "unpacking":
        return unpacking(name)
    return _merged(tables[name]) if what == "merged" else _wrapped(_definitions(dialect, tables[name]))


def _definitions(dialect: Dialect, table: Table) -> list[str]:
    columns: Sequence[Column] = table.columns
    if dialect == "clickhouse":
        columns = sorted((one for one in columns if one.name != "stamps"), key=lambda column: not column.path)
    found = [_definition(dialect, table, column) for column in (*columns, _EXTRA)]
    return found + [_reference(dialect, name) for name in REFERENCES] if table.kind == "call" else found


def _definition(dialect: Dialect, table: Table, column: Column) -> str:
    kind = _TYPES[dialect].forms[column.form]
    if dialect == "clickhouse":
        return f"{column.name} {_clickhouse_type(table, column, kind)}"
    if column.name == table.key:
        return f"{column.name} {kind} {'NOT NULL UNIQUE' if _has_row_id(dialect, table) else 'PRIMARY KEY'}"
    return f"{column.name} {kind}{' NOT NULL' if column.required else ''}"


def _has_row_id(dialect: Dialect, table: Table) -> bool:
    """Return whether the table has a row id as its primary key, as calls do in SQLite."""
    return dialect == "sqlite" and table.kind == "call"


def _clickhouse_type(table: Table, column: Column, kind: str) -> str:
    # The tables of versions are sorted by session, so it must not be NULL.
    if not column.required and not (table.merges and column.name == "session_id"):
        kind = f"Nullable({kind})"
    if column.form == "word":
        kind = f"LowCardinality({kind})"
    codec = _JSON_CODEC if column.form == "json" else _CODECS.get((table.name, column.name))
    return kind if codec is None else f"{kind} {codec}"


def _reference(dialect: Dialect, name: str) -> str:
    if dialect == "clickhouse" and name == "ctx":
        return f"history Array(String) {_JSON_CODEC}"
    return f"{name} {_TYPES[dialect].reference}"


def _merged(table: Table) -> str:
    """Return the select list of the view that merges the versions of a session or timestep, without its ids."""
    ids = {table.key, "session_id"}
    columns = [column for column in table.columns if column.name not in ids and column.path]
    return _wrapped([_merged_column(column) for column in (*columns, _EXTRA)])


def _merged_column(column: Column) -> str:
    name = column.name
    if name == _KEYED:
        return (
            f"if(count(v.{name}) = 0, NULL, concat('{{', arrayStringConcat(arrayMap((k, x) -> concat(toJSONString(k), "
            f"':', x), mapKeys(keyed), mapValues(keyed)), ','), '}}')) AS {name}"
        )
    if column.required or name == _STRICTEST:
        return f"max(v.{name}) AS {name}"
    return f"min(v.{name}) AS {name}" if name == _EARLIEST else f"argMax(v.{name}, v.rec_version) AS {name}"


def _wrapped(items: Iterable[str]) -> str:
    return textwrap.fill(", ".join(items), _WIDTH, initial_indent="  ", subsequent_indent="  ")


def main(arguments: Sequence[str]) -> int:
    """Print the SQL of a dialect; return the exit status."""
    chosen = next((dialect for dialect in DIALECTS if list(arguments) == [dialect]), None)
    if chosen is None:
        sys.stderr.write(f"usage: python -m callspan.stores.schema [{'|'.join(DIALECTS)}]\n")
        return 2
    for layout in range(1, LAYOUT + 1):
        sys.stdout.writelines(f"{statement};\n" for statement in statements(chosen, layout))
    sys.stdout.write(f"{_VERSION_MARK[chosen]};\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
