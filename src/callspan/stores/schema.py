"""Schema: the SQL that creates the tables of SQLite, Postgres and ClickHouse, made from their columns.

`python -m callspan.stores.schema postgres` prints it, for databases with manually created tables.
"""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Final, Literal, TypeAlias

from callspan.record.formats import FORMAT
from callspan.stores.tables import clickhouse_views, scores
from callspan.stores.tables.facts import GIVEN, OFFER, OWNER, REFERENCES, STORED, TABLES, Fact, Form, Table

Dialect: TypeAlias = Literal["sqlite", "postgres", "clickhouse"]

DIALECTS: Final[tuple[Dialect, ...]] = ("sqlite", "postgres", "clickhouse")

APPLICATION_ID: Final = 0x43535031
""""CSP1": marks a SQLite file as callspan's."""

_PLACEHOLDER: Final = re.compile(r"@(columns|names|format)\((\w*)\)")
_SHARED: Final = "@shared()\n"
"""Placeholder for the script shared by SQLite and Postgres."""
_STATEMENT_END: Final = re.compile(r";\n")
_TEXT: Final = 'text COLLATE "C"'
_JSON_CODEC: Final = "CODEC(ZSTD(3))"


_FORMS: Final[dict[Dialect, Mapping[Form, str]]] = {
    "sqlite": {
        **dict.fromkeys(("text", "word", "decimal", "json", "labels"), "TEXT"),
        **dict.fromkeys(("int", "count", "flag"), "INTEGER"),
        "real": "REAL",
    },
    "postgres": {
        **dict.fromkeys(("text", "word"), _TEXT),
        **dict.fromkeys(("int", "count"), "bigint"),
        "flag": "boolean",
        "real": "double precision",
        "decimal": "numeric",
        "json": "json",
        "labels": "jsonb",
    },
    "clickhouse": {
        **dict.fromkeys(("text", "word", "decimal", "json", "labels"), "String"),
        **dict.fromkeys(("int", "count"), "Int64"),
        "flag": "Bool",
        "real": "Float64",
    },
}
"""The SQL types of the columns of each form."""
_BY_STORE: Final[dict[Dialect, dict[str, dict[str, str]]]] = {
    "sqlite": {
        "call": dict(zip((*REFERENCES, OWNER, OFFER), ("INTEGER", "INTEGER", "TEXT", "TEXT", "INTEGER"), strict=True)),
        "reward": dict.fromkeys(GIVEN, "TEXT"),
    },
    "postgres": {
        "call": dict(zip((*REFERENCES, OWNER, OFFER), ("bigint", "bigint", "jsonb", _TEXT, "bigint"), strict=True)),
        "reward": dict.fromkeys(GIVEN, _TEXT),
    },
    "clickhouse": {},
}
"""The columns that are no part of a record, by its kind: references to contents, and what a joined reward had stated.
In ClickHouse the references are in a table of their own, and views join."""
MARKS: Final = (f"PRAGMA application_id={APPLICATION_ID}", f"PRAGMA user_version={FORMAT}")
"""Statements that mark a SQLite file as callspan's and set its format."""
_EXTRA: Final = Fact("extra", ("extra",), "json")
_BY_DATABASE: Final[dict[Dialect, str]] = {
    "sqlite": "GENERATED ALWAYS AS ({})",
    "postgres": "GENERATED ALWAYS AS ({}) STORED",
    "clickhouse": "ALIAS {}",
}
"""The definition of a column that the database computes; only Postgres stores its values."""
NOW_NS: Final[dict[Dialect, str]] = {
    "sqlite": "(CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) * 1000000)",
    "postgres": "(CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint) * 1000)",
    "clickhouse": "toUnixTimestamp64Nano(now64(9))",
}
"""The store's clock in Unix nanoseconds."""


def statements(dialect: Dialect) -> list[str]:
    """Return the SQL that creates the tables, without `MARKS`."""
    script = _script(dialect).replace(_SHARED, _script("shared"))
    complete_script = _PLACEHOLDER.sub(lambda match: _filled(dialect, match[2], match[1]), script)
    created = [statement.strip() for statement in _STATEMENT_END.split(complete_script) if statement.strip()]
    if dialect != "clickhouse":
        return [*created, *scores.tables(dialect)]
    return [*created[:-1], *clickhouse_views.views(), created[-1]]  # the last one says that all others are there


def types_of(dialect: Dialect, table: Table) -> dict[str, str]:
    """Return the SQL types of a table's columns, including their collation, without `STORED`."""
    forms = {fact.name: _FORMS[dialect][fact.form] for fact in (*table.columns, _EXTRA) if not fact.sql}
    return forms | _BY_STORE[dialect].get(table.kind, {})


def _script(name: str) -> str:
    return resources.files(__package__).joinpath("sql").joinpath(f"{name}.sql").read_text(encoding="utf-8")


def _filled(dialect: Dialect, name: str, placeholder: str) -> str:
    if placeholder == "format":
        return str(FORMAT)
    table = next(table for table in TABLES.values() if table.name == name)
    if placeholder == "names":
        return ", ".join((*(fact.name for fact in table.columns), "extra"))
    return ",\n".join(f"  {definition}" for definition in _definitions(dialect, table))


def _definitions(dialect: Dialect, table: Table) -> list[str]:
    definitions = [_definition(dialect, table, column) for column in (*table.columns, _EXTRA)]
    required = "" if dialect == "clickhouse" else " NOT NULL"
    definitions.append(f"{STORED} {_FORMS[dialect]['int']}{required} DEFAULT {NOW_NS[dialect]}")
    return definitions + [f"{name} {kind}" for name, kind in _BY_STORE[dialect].get(table.kind, {}).items()]


def _definition(dialect: Dialect, table: Table, column: Fact) -> str:
    kind = _FORMS[dialect][column.form]
    if dialect == "clickhouse":
        kind = _clickhouse_type(column, kind)
    if column.sql:
        return f"{column.name} {kind} {_BY_DATABASE[dialect].format(column.sql)}"
    if dialect == "clickhouse":
        return f"{column.name} {kind}"
    if column.name == table.key:
        return f"{column.name} {kind} PRIMARY KEY"
    return f"{column.name} {kind}{' NOT NULL' if column.required else ''}"


def _clickhouse_type(column: Fact, kind: str) -> str:
    if not column.required:
        kind = f"Nullable({kind})"
    if column.form == "word":
        kind = f"LowCardinality({kind})"
    return f"{kind} {_JSON_CODEC}" if column.form == "json" else kind


def main(arguments: Sequence[str]) -> int:
    """Print the SQL of a dialect; return the exit status."""
    target = next((dialect for dialect in DIALECTS if list(arguments) == [dialect]), None)
    if target is None:
        sys.stderr.write(f"usage: python -m callspan.stores.schema [{'|'.join(DIALECTS)}]\n")
        return 2
    marks = MARKS if target == "sqlite" else ()
    sys.stdout.writelines(f"{statement};\n" for statement in (*statements(target), *marks))
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a reader such as `head` may end first
    sys.exit(main(sys.argv[1:]))
