"""Write the tables of docs/attributes.md out of those of `callspan.semconv`; `--check`: exit with 1 where stale."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from callspan.semconv.metrics import INSTRUMENTS
from callspan.semconv.table import BOOLEAN, Row

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "attributes.md"


def _starts(kind: str, own: str | None = None) -> tuple[str, ...]:
    """Return the tables of the start of a kind of an agent's spans; `own`: the kind of callspan's table of them."""
    return f"gen_ai.{kind}_START", f"session.{own or kind}_START", f"openinference.{kind}_START", "llm.SCOPE_START"


TABLES: dict[str, tuple[str, ...]] = {
    "llm": ("llm.START", "llm.END"),
    "gen_ai and what belongs beside it": ("gen_ai.START", "gen_ai.END"),
    "Where a call was made, how it ended": ("call.START", "call.END"),
    "OpenInference (opt-in)": ("openinference.START", "openinference.END"),
    "Attributes of metrics": ("metrics.ATTRIBUTES",),
    "Attempts and exceptions of calls": (
        "call.ATTEMPT",
        "call.ATTEMPT_SPAN",
        "call.ATTEMPT_SPAN_OF_CALL",
        "session.EXCEPTION",
    ),
    "Sessions": (*_starts("SESSION"), "session.SESSION_END", "session.SESSION_CONTENT"),
    "Timesteps": (*_starts("TIMESTEP"), "session.TIMESTEP_END", "session.SESSION_CONTENT"),
    "Steps of the environment": (
        *_starts("ENVIRONMENT", own="OPERATION")[1:],
        "session.ENVIRONMENT_END",
        "events.ENVIRONMENT_CONTENT",
        "scope_messages.OPERATION_MESSAGES",
    ),
    "Tools": (*_starts("TOOL", own="OPERATION"), "session.OPERATION_END", "gen_ai.TOOL_CONTENT"),
    "Agents": (*_starts("INVOKED_AGENT", own="OPERATION"), "session.OPERATION_END", "session.OPERATION_CONTENT"),
    "Guardrails": (
        *_starts("GUARDRAIL"),
        "session.GUARDRAIL_END",
        "session.OPERATION_CONTENT",
        "scope_messages.OPERATION_MESSAGES",
    ),
    "Handoffs": (
        *_starts("HANDOFF"),
        "session.OPERATION_END",
        "session.OPERATION_CONTENT",
        "scope_messages.OPERATION_MESSAGES",
    ),
    "OpenInference of agents' spans (opt-in)": ("openinference.SCOPE_VALUES",),
    "Events (`callspan.{type}`)": (
        "events.EVENT",
        "events.EVENT_CONTENT",
        "events.ACTION_CONTENT",
        "events.ENVIRONMENT_CONTENT",
    ),
    "Messages (`callspan.message`)": ("events.MESSAGE", "events.MESSAGE_CONTENT"),
    "Rewards (`gen_ai.evaluation.result`)": (
        "gen_ai.REWARD",
        "events.REWARD",
        "gen_ai.EVALUATION",
        "gen_ai.REWARD_CONTENT",
    ),
}
AGENT_SPANS = ("Sessions", "Timesteps", "Steps of the environment", "Tools", "Agents", "Guardrails", "Handoffs")
FEWEST = 3
BEGIN, END = "<!-- tables -->", "<!-- /tables -->"


def table(names: tuple[str, ...]) -> list[tuple[Row, str]]:
    """Return the first row of each attribute in the tables of these names in `callspan.semconv`, and when it is put."""
    found: dict[str, tuple[Row, str]] = {}
    for name in names:
        module, _, constant = name.partition(".")
        rows = getattr(import_module(f"callspan.semconv.{module}"), constant)
        for row in getattr(rows, "rows", rows):
            found.setdefault(row.name, (row, when(row, is_start=constant.endswith("START"))))
    return list(found.values())


def when(row: Row, *, is_start: bool) -> str:
    """Return in words when the attribute of a row is put."""
    words = ["at the start"] if is_start else []
    words += [f"of `{api}`" for api in row.apis] + [f"not of `{api}`" for api in row.not_apis]
    if row.content is not None:
        words.append("with content" if row.content else "without content")
    if row.if_true:
        words.append("where true" if row.type == BOOLEAN else "unless 0")
    return ", ".join(words)


def rendered() -> str:
    """Return all tables as Markdown; what several kinds of an agent's spans have in common is in one table."""
    lines: list[str] = []
    found = {title: table(names) for title, names in TABLES.items()}
    counts = Counter(shown for title in AGENT_SPANS for shown in map(_line, found[title]))
    common = [shown for shown, number in counts.items() if number >= FEWEST]
    for title, rows in found.items():
        if title == AGENT_SPANS[0]:
            lines += _table("Agents' spans: what three or more of the following have", common)
        left_out = common if title in AGENT_SPANS else ()
        lines += _table(title, [shown for shown in map(_line, rows) if shown not in left_out])
    lines += ["", "### Metrics", ""]
    lines += ["| Name | Instrument | Unit | Attributes | What |", "| --- | --- | --- | --- | --- |"]
    for each in INSTRUMENTS:
        attributes = ", ".join(f"`{name}`" for name in each.attributes)
        lines.append(f"| `{each.name}` | {each.kind} | {each.unit} | {attributes} | {each.about} |")
    return "\n".join(lines) + "\n"


def _line(found: tuple[Row, str]) -> str:
    row, conditions = found
    return f"| `{row.name}` | {row.type} | {conditions} | {row.about} |"


def _table(title: str, lines: Sequence[str]) -> list[str]:
    return ["", f"### {title}", "", "| Name | Type | When | What |", "| --- | --- | --- | --- |", *lines]


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
