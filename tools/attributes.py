"""Write the tables of docs/attributes.md from those of `callspan.semconv`; `--check`: exit with 1 if it is stale."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from generated import write_or_check

from callspan.semconv.metrics import INSTRUMENTS
from callspan.semconv.table import STRING, From, Parameters, Row, Seconds

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "attributes.md"
CALLS = ("call.START", "llm.START", "gen_ai.START", "llm.END", "gen_ai.END", "call.END")
ATTEMPTS = ("call.ATTEMPT", "call.ATTEMPT_SPAN", "call.ATTEMPT_SPAN_OF_CALL", "session.EXCEPTION")


def _of_span(kind: str) -> tuple[str, ...]:
    return f"session.{kind}.start_with_llm", f"session.{kind}.end"


SCOPES: dict[str, tuple[str, ...]] = {
    "session": _of_span("SESSION"),
    "timestep": _of_span("TIMESTEP"),
    "environment": _of_span("ENVIRONMENT"),
    "tool": _of_span("TOOL"),
    "agent": _of_span("AGENT"),
    "guardrail": _of_span("GUARDRAIL"),
    "handoff": _of_span("HANDOFF"),
    "event": ("events.EVENT", "events.ACTION", "events.ENVIRONMENT"),
    "message": ("events.MESSAGE",),
    "reward": ("events.REWARD", "events.EVALUATION"),
}
SPANS = tuple(SCOPES)[:7]
BEGIN, END = "<!-- tables -->", "<!-- /tables -->"
AT_START, WITH_CONTENT, IF_TRUE = "†", "‡", "§"
COMPARABLE = (str, Seconds, From, Parameters)
"""Sources that give two attributes the same value if they are equal."""
RATE_LIMITS = re.compile(r"(llm\.rate_limiting\.).*(?=`)")
MODEL = ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model")
SERVER = ("gen_ai.response.model", "server.address", "server.port")


class Entry(NamedTuple):
    """An attribute as it is shown."""

    name: str
    """With its marks."""
    type: str
    meaning: str
    source: object


def entries(tables: Iterable[str]) -> list[Entry]:
    """Return the first row of each attribute in these tables of `callspan.semconv`."""
    found: dict[str, Entry] = {}
    for name in tables:
        module, _, constant = name.partition(".")
        rows = attrgetter(constant)(import_module(f"callspan.semconv.{module}"))
        for row in getattr(rows, "rows", rows):
            found.setdefault(row.name, entry(row, is_start=constant.endswith(("START", "start_with_llm"))))
    return list(found.values())


def entry(row: Row, *, is_start: bool) -> Entry:
    """Return a row as it is shown."""
    marks = AT_START * is_start + WITH_CONTENT * bool(row.content) + IF_TRUE * row.if_true
    meaning = "Only without content" if row.content is False else row.about.removesuffix(".")
    return Entry(f"`{row.name}`{marks}", row.type.replace("string (JSON)", "JSON"), meaning, row.source)


def alike(one: Entry, other: Entry) -> bool:
    """Return whether two attributes have the same type, and the same meaning or source."""
    has_source = isinstance(one.source, COMPARABLE) and type(one.source) is type(other.source)
    has_meaning = bool(one.meaning or other.meaning)
    same = one.meaning == other.meaning or (has_source and one.source == other.source)
    return one.type == other.type and same and has_meaning


def merged(found: Iterable[Entry]) -> list[Entry]:
    """Return one entry for attributes that are alike, with all their names."""
    groups: list[Entry] = []
    for each in found:
        position = next((number for number, group in enumerate(groups) if alike(group, each)), None)
        if position is None:
            groups.append(each)
        else:
            group = groups[position]
            groups[position] = group._replace(name=f"{group.name}, {each.name}", meaning=group.meaning or each.meaning)
    return groups


def section(title: str, found: Sequence[Entry]) -> list[str]:
    """Return a table, and below it the attributes that their names explain."""
    lines = ["", f"### {title}", "", "| Attribute | Meaning |", "| --- | --- |"]
    lines += [f"| {each.name}{typed(each)} | {each.meaning} |" for each in found if each.meaning]
    return [*lines, "", *names([each for each in found if not each.meaning])]


def names(found: Sequence[Entry]) -> list[str]:
    """Return a list of names for each type."""
    kinds: dict[str, list[str]] = {}
    for each in sorted(found, key=lambda each: each.name):
        kinds.setdefault(each.type, []).append(each.name)
    return [f"- {kind}: {', '.join(same)}" for kind, same in kinds.items()]


def typed(each: Entry) -> str:
    """Return a type as it follows a name; a string needs none."""
    return "" if each.type == STRING else f" {each.type}"


def scopes() -> list[str]:
    """Return the table of agents' spans and events: each attribute once, with all that have it."""
    kinds: dict[tuple[str, str, str], list[str]] = {}
    found: dict[tuple[str, str, str], Entry] = {}
    for kind, tables in SCOPES.items():
        for each in entries(tables):
            kinds.setdefault(each[:3], []).append(kind)
            found.setdefault(each[:3], each)
    groups: dict[str, list[Entry]] = {}
    for key, on in kinds.items():
        groups.setdefault(spans(on), []).append(found[key])
    lines = ["", "### Sessions and what is in them", "", "| Attribute | On | Meaning |", "| --- | --- | --- |"]
    for where, group in groups.items():
        explained = merged(each for each in group if each.meaning)
        lines += [f"| {each.name}{typed(each)} | {where} | {each.meaning} |" for each in explained]
    lines += [""]
    for where, group in groups.items():
        plain = [f"{each.name}{typed(each)}" for each in group if not each.meaning]
        lines += [f"- {where}: {', '.join(plain)}"] if plain else []
    return lines


def spans(kinds: Sequence[str]) -> str:
    """Return the spans and events in words."""
    missing = [kind for kind in SPANS if kind not in kinds]
    if len(missing) > 2:
        return ", ".join(kinds)
    others = [kind for kind in kinds if kind not in SPANS]
    return ", ".join([" but ".join(["all spans", *[" and ".join(missing)] * bool(missing)]), *others])


def rendered() -> str:
    """Return all tables as Markdown."""
    calls, attempts = merged(entries(CALLS)), entries(ATTEMPTS)
    explained = {each.name.rstrip(AT_START + WITH_CONTENT + IF_TRUE) for each in (*entries(CALLS), *scope_entries())}
    again = dict.fromkeys(RATE_LIMITS.sub(r"\1*", each.name) for each in attempts if each.name in explained)
    measured = {row.name: entry(row, is_start=False) for one in INSTRUMENTS for row in one.attributes.rows}
    lines = section("Calls", calls)
    lines += section("Attempts and exceptions", merged(each for each in attempts if each.name not in explained))
    lines += ["", f"As above: {', '.join(again)}.", *scopes()]
    lines += section("Metrics", [each for each in measured.values() if each.name not in explained])
    return "\n".join([*lines, *metrics()]) + "\n"


def scope_entries() -> list[Entry]:
    """Return the attributes of agents' spans and events."""
    return [each for tables in SCOPES.values() for each in entries(tables)]


def metrics() -> list[str]:
    """Return the table of metrics."""
    rows: dict[str, list[str]] = {}
    for each in {one.name: one for one in INSTRUMENTS}.values():
        names = [row.name for row in each.attributes.rows]
        row = f"{each.kind}, {each.unit} | {each.about.removesuffix('.')} | {attributes(names)}"
        rows.setdefault(row, []).append(f"`{each.name}`")
    lines = ["", "| Metric | Kind, unit | Meaning | Attributes |", "| --- | --- | --- | --- |"]
    return [*lines, *(f"| {', '.join(same)} | {row} |" for row, same in rows.items())]


def attributes(names: Sequence[str]) -> str:
    """Return the attributes of a metric; those that most have are `call` and `server`."""
    groups = {word: group for word, group in (("*call*", MODEL), ("*server*", SERVER)) if set(group) <= set(names)}
    grouped = {name for group in groups.values() for name in group}
    return ", ".join([*groups, *(f"`{name}`" for name in names if name not in grouped)])


def main() -> int:
    """Write or check the page."""
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    return write_or_check({DOCUMENT: f"{before}{BEGIN}\n{rendered()}\n{END}{after}"})


if __name__ == "__main__":
    sys.exit(main())
