"""Write the tables of docs/attributes.md out of the vocabularies; `--check`: exit with 1 where they are stale."""

from __future__ import annotations

import ast
import sys
from importlib import import_module
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "attributes.md"
TABLES = {
    "llm": "callspan.vocabulary.llm",
    "gen_ai and what belongs beside it": "callspan.vocabulary.gen_ai",
    "Of Anthropic's Messages (with gen_ai)": "callspan.vocabulary.anthropic",
    "Where a call was made, how it ended": "callspan.vocabulary.call",
    "Sessions, timesteps, tools, rewards": "callspan.vocabulary.callspan",
    "Events and spans of a call's attempts": "callspan.vocabulary.call_events",
    "OpenInference (opt-in)": "callspan.vocabulary.openinference",
    "Metrics": "callspan.vocabulary.metric_names",
}
BEGIN, END = "<!-- tables -->", "<!-- /tables -->"


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


def types() -> dict[str, str]:
    """The types of the attributes of some calls, made here on a scripted provider; of rarer ones nothing is known."""
    import openai

    import callspan
    from callspan.testing import ScriptedProvider, capture

    every = ("llm", "gen_ai", "openinference")
    with ScriptedProvider() as provider, capture(vocabularies=every, attempt_spans=True) as captured:
        client = openai.OpenAI(api_key="sk-any", base_url=provider.openai_url, max_retries=1)
        provider.reply(tool_calls=[{"name": "move", "arguments": {"to": "north"}, "id": "call_1"}], cache_read_tokens=2)
        provider.reply(status=429, retry_after_s=0.001)
        provider.reply(text="Done.", reasoning_tokens=1)
        provider.reply(status=400)
        asked = {"model": "gpt-5", "messages": [{"role": "user", "content": "Go"}], "temperature": 0.5, "top_p": 1.0}
        with callspan.session("tables", user_id="u"), callspan.timestep() as step, client:
            client.chat.completions.create(**asked, max_tokens=9, seed=1, stop=["."], user="u")
            list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
            try:
                client.chat.completions.create(**asked)
            except openai.BadRequestError:
                step.action("north")
            with step.tool("move", arguments={"to": "north"}) as tool:
                tool.result = "moved"
            step.environment("a wall", reward=1.0, terminated=False)
    spans = captured.spans
    bags = [span.attributes for span in spans] + [event.attributes for span in spans for event in span.events]
    return {name: _type(value) for bag in bags for name, value in (bag or {}).items()}


def _type(value: object) -> str:
    if isinstance(value, tuple | list):
        return f"{_type(value[0])}[]" if value else "string[]"
    return {str: "string", bool: "boolean", int: "int", float: "double"}[type(value)]


def rendered() -> str:
    """All tables as Markdown."""
    lines: list[str] = []
    seen = types()
    for title, module in TABLES.items():
        rows = constants(module)
        lines += ["", f"### {title}", "", f"From `{module}`.", "", "| Name | Type | Note |", "| --- | --- | --- |"]
        lines += [f"| `{_shown(name)}` | {seen.get(name, '')} | {note} |" for name, note in rows]
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
