"""Write the tables of docs/attributes.md out of the vocabularies; `--check`: exit with 1 where they are stale."""

from __future__ import annotations

import ast
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callspan.semconv.table import BOOLEAN, Body, Each, Elsewhere, From, Row, Sent

if TYPE_CHECKING:
    from callspan.testing import ScriptedProvider

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "attributes.md"
TABLES: dict[str, tuple[str, ...]] = {
    "llm": ("llm.START", "llm.END"),
    "gen_ai and what belongs beside it": ("gen_ai.START", "gen_ai.END"),
    "In place of the anthropic SDK's own span": ("anthropic.NATIVE",),
    "Where a call was made, how it ended": ("call.START", "call.END"),
    "OpenInference (opt-in)": ("openinference.START", "openinference.END"),
}
CONSTANTS = {
    "Sessions, timesteps, tools, rewards": "callspan.semconv.callspan",
    "Events and spans of a call's attempts": "callspan.semconv.call_events",
    "Metrics": "callspan.semconv.metric_names",
}
CALLS = {"chat", "attempt"}
"""First words of the spans of calls, whose names are those of the vocabularies."""
WHERE = "Spans by the first word of their names, span events by theirs; `{type}` is a word of the application's own."
BEGIN, END = "<!-- tables -->", "<!-- /tables -->"


def table(names: tuple[str, ...]) -> list[Row]:
    """Return the rows of the tables of these names in `callspan.semconv`, the first row of each attribute."""
    found: dict[str, Row] = {}
    for name in names:
        module, _, constant = name.partition(".")
        rows = getattr(import_module(f"callspan.semconv.{module}"), constant)
        for row in getattr(rows, "rows", rows):
            found.setdefault(row.name, row)
    return list(found.values())


def when(row: Row) -> str:
    """Return the conditions of a row in words."""
    words = [f"of `{api}`" for api in row.apis] + [f"not of `{api}`" for api in row.not_apis]
    if row.content is not None:
        words.append("with content" if row.content else "without content")
    if row.if_true:
        words.append("where true" if row.type == BOOLEAN else "unless 0")
    if row.compatibility:
        words.append("with `compatibility`")
    return ", ".join(words)


def origin(row: Row) -> str:
    """Return where the value comes from in words: a path in the record, request parameters, or what it is made of."""
    match row.source:
        case str(path) | From(path=path) | Each(path=path) if path:
            return f"`{path}`"
        case Sent(readers=readers):
            return "parameters " + ", ".join(f"`{name}`" for name in readers)
        case Body(answers=answers):
            return "the answer" if answers else "the request"
        case Elsewhere(where=where):
            return where
    return "computed"


def constants(module_name: str) -> list[tuple[str, str]]:
    """The dotted names a vocabulary writes, in its order, each with the first line of its docstring."""
    module = import_module(module_name)
    body = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8")).body
    found: list[tuple[str, str]] = []
    for number, node in enumerate(body):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name) or node.target.id[0] == "_":
            continue
        value = getattr(module, node.target.id)
        if isinstance(value, str) and "." in value:
            found.append((value, _docstring(body[number + 1 : number + 2])))
    return found


def _docstring(after: list[ast.stmt]) -> str:
    value = after[0].value if after and isinstance(after[0], ast.Expr) else None
    if not isinstance(value, ast.Constant) or not isinstance(value.value, str):
        return ""
    return " ".join(value.value.split()).replace("|", "\\|")


def _shown(name: str) -> str:
    return f"{name}*" if name.endswith(".") else name


def sample() -> list[tuple[str, Any]]:
    """Attributes as they are on the spans and events of a small agent, run here on a scripted provider.

    Each bag with what it is on: the first word of a span's name, or an event's name.
    """
    import openai

    import callspan
    from callspan.testing import ScriptedProvider, capture

    every = ("llm", "gen_ai", "openinference")
    with ScriptedProvider() as provider, capture(vocabularies=every, llm_prompts=True, attempt_spans=True) as captured:
        client = openai.OpenAI(api_key="sk-any", base_url=provider.openai_url, max_retries=1)
        provider.reply(tool_calls=[{"name": "move", "arguments": {"to": "north"}, "id": "call_1"}], cache_read_tokens=2)
        provider.reply(status=429, retry_after_s=0.001)
        provider.reply(text="Done.", reasoning_tokens=1)
        provider.reply(status=400)
        asked = {"model": "gpt-5", "messages": [{"role": "user", "content": "Go"}], "temperature": 0.5, "top_p": 1.0}
        known = {"user_id": "u", "group_id": "g", "task_id": "t", "experiment": "e", "metadata": {"seed": 7}}
        with callspan.session("tables", **known) as session, callspan.timestep("turn", 1) as step, client:
            client.chat.completions.create(**asked, max_tokens=9, seed=1, stop=["."], user="u")
            list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
            try:
                client.chat.completions.create(**asked)
            except openai.BadRequestError:
                step.action("north")
            shown = step.message("a wall", call="c")
            step.message("hm", causal_influence=[shown])
            step.event("thought", "why", "doubt", system="planner", call="c", error="lost")
            with step.tool("move", call="call_1", arguments={"to": "north"}) as tool:
                tool.result = "moved"
            with step.invoke_agent("planner", input="go", description="plans") as agent:
                agent.output = "north"
                with step.guardrail("walls", input="north") as check:
                    check.triggered = True
                step.handoff("actor", call="call_2")
            step.environment("a wall", reward=1.0, terminated=False, truncated=False, before="a hall", info={"n": 1})
            step.reward(0.5, label="good", source="judge", annotation="why", event=shown)
            with step.environment_step("a hall") as world, session.timestep("inner"):
                world.set_result("a wall", reward=1.0, terminated=False, truncated=True, info={"n": 2})
            session.outcome(success=True)
            with callspan.session("inner"):
                pass
        callspan.reward(0.5, session_id=session.id, call_id=captured.records[0].call_id, label="good")
        _ask_anthropic(provider)
    bags = [(span.name.split(" ")[0], span.attributes) for span in captured.spans]
    return bags + [(event.name, event.attributes) for span in captured.spans for event in span.events]


def _ask_anthropic(provider: ScriptedProvider) -> None:
    """A call with all that Anthropic's Messages have of their own."""
    import anthropic

    usage = {
        "input_tokens": 1,
        "output_tokens": 1,
        "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 1},
        "service_tier": "standard",
        "iterations": [{"type": "compaction", "input_tokens": 1, "output_tokens": 1}],
    }
    provider.reply(usage=usage, headers={"anthropic-organization-id": "o", "anthropic-workspace-id": "w"})
    with anthropic.Anthropic(api_key="sk-any", base_url=provider.anthropic_url) as client:
        client.messages.create(
            model="claude-haiku-4-5", max_tokens=2000, messages=[{"role": "user", "content": "Go"}],
            service_tier="auto", thinking={"type": "enabled", "budget_tokens": 1024},
            extra_headers={"anthropic-beta": "one"},
        )  # fmt: skip


def agent_rows(bags: list[tuple[str, Any]], named: set[str]) -> list[str]:
    """The rows of the names that no other table has, with what they are on; not those of the vocabularies of calls."""
    places: dict[str, set[str]] = {}
    types: dict[str, str] = {}
    for place, bag in bags:
        for name, value in (bag or {}).items():
            places.setdefault(name, set()).add(place.replace("thought", "{type}"))
            types[name] = _type(value)
    rows = sorted(name for name, found in places.items() if name not in named and not found & CALLS)
    return [f"| `{name}` | {types[name]} | {', '.join(f'`{one}`' for one in sorted(places[name]))} |" for name in rows]


def _type(value: object) -> str:
    if isinstance(value, tuple | list):
        return f"{_type(value[0])}[]" if value else "string[]"
    return {str: "string", bool: "boolean", int: "int", float: "double"}[type(value)]


def rendered() -> str:
    """All tables as Markdown."""
    lines: list[str] = []
    bags = sample()
    seen = {name: _type(value) for _, bag in bags for name, value in (bag or {}).items()}
    named: set[str] = set()
    for title, tables in TABLES.items():
        listed = table(tables)
        named |= {row.name for row in listed}
        lines += ["", f"### {title}", "", f"From `callspan.semconv.{tables[0].partition('.')[0]}`.", ""]
        lines += ["| Name | Type | From | When | What |", "| --- | --- | --- | --- | --- |"]
        lines += [f"| `{row.name}` | {row.type} | {origin(row)} | {when(row)} | {row.about} |" for row in listed]
    for title, module in CONSTANTS.items():
        rows = constants(module)
        named |= {name for name, _ in rows}
        lines += ["", f"### {title}", "", f"From `{module}`.", "", "| Name | Type | Note |", "| --- | --- | --- |"]
        lines += [f"| `{_shown(name)}` | {seen.get(name, '')} | {note} |" for name, note in rows]
    lines += ["", "### Other names, and the spans and events they are on", "", WHERE, ""]
    lines += ["| Name | Type | On |", "| --- | --- | --- |", *agent_rows(bags, named)]
    return "\n".join(lines) + "\n"


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
