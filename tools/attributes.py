"""Write the tables of docs/attributes.md out of those of `callspan.semconv`; `--check`: exit with 1 where stale."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from callspan.semconv.metrics import INSTRUMENTS
from callspan.semconv.table import BOOLEAN, STRING, Row

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "attributes.md"


def _of_span(kind: str) -> tuple[str, ...]:
    """Return the tables of a kind of an agent's spans."""
    return f"session.{kind}.start_with_llm", f"session.{kind}.end", f"session.{kind}.content"


TABLES: dict[str, tuple[str, ...]] = {
    "llm": ("llm.START", "llm.END"),
    "gen_ai and related": ("gen_ai.START", "gen_ai.END"),
    "Place and outcome of calls": ("call.START", "call.END"),
    "OpenInference (opt-in)": ("openinference.START", "openinference.END"),
    "Attributes of metrics": ("metrics.ATTRIBUTES",),
    "Attempts and exceptions of calls": (
        "call.ATTEMPT",
        "call.ATTEMPT_SPAN",
        "call.ATTEMPT_SPAN_OF_CALL",
        "session.EXCEPTION",
    ),
    "Sessions": _of_span("SESSION"),
    "Timesteps": _of_span("TIMESTEP"),
    "Steps of the environment": _of_span("ENVIRONMENT"),
    "Tools": _of_span("TOOL"),
    "Agents": _of_span("AGENT"),
    "Guardrails": _of_span("GUARDRAIL"),
    "Handoffs": _of_span("HANDOFF"),
    "OpenInference of agents' spans (opt-in)": ("openinference.SCOPE_VALUES",),
    "Events (`callspan.{type}`)": (
        "events.EVENT",
        "events.EVENT_CONTENT",
        "events.ACTION_CONTENT",
        "events.ENVIRONMENT_CONTENT",
    ),
    "Messages (`callspan.message`)": ("events.MESSAGE", "events.MESSAGE_CONTENT"),
    "Rewards (`gen_ai.evaluation.result`)": (
        "events.REWARD",
        "events.EVALUATION",
        "events.REWARD_CONTENT",
    ),
}
AGENT_SPANS = ("Sessions", "Timesteps", "Steps of the environment", "Tools", "Agents", "Guardrails", "Handoffs")
FEWEST = 4
BEGIN, END = "<!-- tables -->", "<!-- /tables -->"
AT_START, WITH_CONTENT = "†", "‡"
MODEL = ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model")
SERVER = ("gen_ai.response.model", "server.address", "server.port")


class Entry(NamedTuple):
    """An attribute of a table: its name with its marks, its type, and what it means."""

    name: str
    type: str
    meaning: str


def table(names: tuple[str, ...]) -> list[Entry]:
    """Return the first row of each attribute in the tables of these names in `callspan.semconv`."""
    found: dict[str, Entry] = {}
    for name in names:
        module, _, constant = name.partition(".")
        rows = attrgetter(constant)(import_module(f"callspan.semconv.{module}"))
        for row in getattr(rows, "rows", rows):
            found.setdefault(row.name, entry(row, is_start=constant.endswith(("START", "start_with_llm"))))
    return list(found.values())


def entry(row: Row, *, is_start: bool) -> Entry:
    """Return how a row is shown."""
    marks = (AT_START if is_start else "") + (WITH_CONTENT if row.content else "")
    conditions = conditions_of(row)
    meaning = " ".join(filter(None, (row.about.removesuffix("."), conditions and f"({conditions})")))
    return Entry(f"`{row.name}`{marks}", row.type.replace("string (JSON)", "JSON"), meaning)


def conditions_of(row: Row) -> str:
    """Return in words when the attribute of a row is set, apart from what the marks say."""
    words = [f"of `{api}`" for api in row.apis] + [f"not of `{api}`" for api in row.not_apis]
    if row.content is False:
        words.append("without content")
    if row.if_true:
        words.append("never false" if row.type == BOOLEAN else "unless 0")
    return ", ".join(words)


def rendered() -> str:
    """Return all tables as Markdown; an attribute that an earlier table explains is named only."""
    lines: list[str] = []
    shown: set[Entry] = set()
    found = {title: table(names) for title, names in TABLES.items()}
    counts = Counter(each for title in AGENT_SPANS for each in found[title])
    common = [each for each, number in counts.items() if number >= FEWEST]
    for title, entries in found.items():
        if title == AGENT_SPANS[0]:
            lines += _section("Common to the spans of agents", common, shown)
        if title in AGENT_SPANS:
            lines += _section(title, [each for each in entries if each not in common], shown)
        else:
            lines += _section(title, entries, shown)
        shown.update(entries)
    return "\n".join([*lines, *_metrics()]) + "\n"


def _section(title: str, entries: Sequence[Entry], shown: AbstractSet[Entry]) -> list[str]:
    """Return a table, below it what its name explains, and what an earlier table has; rows of one meaning are one."""
    names: dict[tuple[str, str], list[str]] = {}
    for each in entries:
        if each.meaning and each not in shown:
            names.setdefault((each.type, each.meaning), []).append(each.name)
    lines = ["", f"### {title}"]
    if names:
        lines += ["", "| Attribute | Meaning |", "| --- | --- |"]
        lines += [f"| {', '.join(same)}{typed(kind)} | {meaning} |" for (kind, meaning), same in names.items()]
    plain: dict[str, list[str]] = {}
    for each in entries:
        if not each.meaning and each not in shown:
            plain.setdefault(each.type, []).append(each.name)
    if plain:
        lines += ["", "Also " + "; ".join(f"{', '.join(same)}{typed(kind)}" for kind, same in plain.items()) + "."]
    again = [each.name for each in entries if each in shown]
    if again:
        lines += ["", f"As above: {', '.join(again)}."]
    return lines


def typed(kind: str) -> str:
    """Return a type as it follows a name; a string needs none."""
    return "" if kind == STRING else f" {kind}"


def _metrics() -> list[str]:
    rows = []
    for each in INSTRUMENTS:
        about, attributes = each.about.removesuffix("."), _attributes(each.attributes)
        rows.append(f"| `{each.name}` | {each.kind}, {each.unit} | {about} | {attributes} |")
    head = ["", "### Metrics", "", "| Metric | Kind, unit | Meaning | Attributes |", "| --- | --- | --- | --- |"]
    return [*head, *rows]


def _attributes(names: Sequence[str]) -> str:
    """Return the attributes of a metric; those that most have are `call` and `server`."""
    groups = [word for word, group in (("*call*", MODEL), ("*server*", SERVER)) if set(group) <= set(names)]
    grouped = {*(MODEL if "*call*" in groups else ()), *(SERVER if "*server*" in groups else ())}
    return ", ".join([*groups, *(f"`{name}`" for name in names if name not in grouped)])


def main() -> int:
    """Write or check."""
    text = DOCUMENT.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    wanted = f"{before}{BEGIN}\n{rendered()}\n{END}{after}"
    if "--check" in sys.argv:
        if text != wanted:
            print("docs/attributes.md is stale: python tools/attributes.py")
        return int(text != wanted)
    DOCUMENT.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
