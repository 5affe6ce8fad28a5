"""Write public_names.txt: every name that users' programs, queries and dashboards contain.

python tools/public_names.py            write docs/public_names.txt
python tools/public_names.py --check    only say what differs, and exit with 1 if anything does

From release 0.1.0 on these names are kept: a line may be added, and none goes without a release that still accepts it.
"""

from __future__ import annotations

import difflib
import inspect
import json
import sqlite3
import sys
import tempfile
from collections.abc import Iterable, Iterator
from importlib.metadata import distribution
from pathlib import Path
from types import ModuleType
from typing import Any, Final, get_args

import click
import msgspec
import openai
from click.testing import CliRunner
from functions import ELSEWHERE, ENGINE, PAGES, Module, is_constructed
from reference import KINDS, STRUCTS, definition, rows

import callspan
from callspan import records, stores
from callspan.cli.commands import callspan as command
from callspan.datasets import trajectories
from callspan.environments import gymnasium
from callspan.otlp import span_ids
from callspan.semconv import call, events, gen_ai, llm, openinference, session
from callspan.semconv.metrics import OBSERVED, RECORDED
from callspan.settings_loader import variables
from callspan.stores.tables.facts import TABLES

PATH: Final = Path(__file__).resolve().parent.parent / "docs" / "public_names.txt"
SCOPES: Final = (callspan.Session, callspan.Timestep, callspan.Tool)
PROPERTIES: Final = frozenset({"finish_reason", "is_bought", "model", "text", "tool_calls"})
"""What the documents use of records besides their fields."""
IN_GUIDES: Final = (
    Module(stores, ["EmptyStoreError", "FileStore", "Rejected", "ServerStore", "Store", "StoreError"]),
    Module(records, ["decode", "encode"]),
    Module(gymnasium, ["Traced", "TracedVector"]),
    Module(span_ids, ["SpanIds"]),
    Module(trajectories, ["tokens_of"]),
)
"""Names without an entry on a page of functions, which guides tell users to write; their methods are the guides'."""
DERIVED: Final = ("call_messages", "call_scores", "call_sums", "reward_values", "session_scores")
"""Tables and views that documented queries contain, besides those of the records."""
ASKED: Final = (
    "calls", "calls --rewards", "sessions", "sessions --by name", "stats", "stats --by user", "compare name=a =b",
    "cache", "cache {session}", "show {session}", "show {call}", "doctor", "doctor --fleet",
)  # fmt: skip
"""The commands whose `--json` has keys of callspan's own."""


def listing() -> str:
    """Return the text of the file."""
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/calls.db"
        ids = recorded(f"sqlite:///{path}")
        keys_of_json, derived = [*keys_of_commands(f"sqlite:///{path}", ids)], [*columns(path)]
    sections = {
        "Python": python_names(),
        "Entry points": (f"{point.group}: {point.name}" for point in distribution("callspan").entry_points),
        "Settings": (f"{setting} = {variable}" for setting, variable in variables().items()),
        "Commands": options("callspan", command),
        "Keys of --json": keys_of_json,
        "Fields of records": fields(),
        "Values of fields": values(),
        "Columns": [f"{table.name}.{column.name}" for table in TABLES.values() for column in table.columns] + derived,
        "Attributes of spans, events and metrics": attributes(),
        "Metrics": (f"{metric.name} ({metric.kind}, {metric.unit})" for metric in metrics()),
    }
    return "\n".join(f"# {title}\n{text(lines)}" for title, lines in sections.items())


def text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in sorted({*lines}, key=str.lower))


def python_names() -> Iterator[str]:
    """Yield the public functions with their parameters, and the classes with their fields and methods."""
    for module in PAGES.values():
        for name in module.names:
            yield from members(module.contents, name)
    for module in IN_GUIDES:
        for name in module.names:
            path, thing = f"{module.contents.__name__}.{name}", getattr(module.contents, name)
            yield path if inspect.isclass(thing) else with_parameters(path, thing)


def members(module: ModuleType, name: str) -> Iterator[str]:
    thing, path = getattr(module, name), f"{module.__name__}.{name}"
    if not inspect.isclass(thing):
        yield with_parameters(path, thing) if callable(thing) else path
        return
    is_bare = issubclass(thing, msgspec.Struct) or not is_constructed(thing)
    yield path if is_bare else with_parameters(path, thing)
    yield from (f"{path}.{field}" for field in getattr(thing, "__struct_fields__", getattr(thing, "_fields", ())))
    for member in dir(thing):
        function = inspect.getattr_static(thing, member)
        inner = function.fget if isinstance(function, property) else getattr(function, "__func__", function)
        is_ours = str(getattr(inner, "__module__", "")).startswith("callspan")
        is_internal = member in ENGINE and issubclass(thing, SCOPES)
        is_internal |= thing in ELSEWHERE and member not in PROPERTIES
        if is_ours and not member.startswith("_") and not is_internal and inspect.isfunction(inner):
            is_value = isinstance(function, property)
            yield (
                f"{path}.{member}" if is_value else with_parameters(f"{path}.{member}", inner, skipped={"self", "cls"})
            )


def with_parameters(path: str, function: Any, skipped: Iterable[str] = ()) -> str:
    """Return a name with the names of its parameters; positional ones without `*`, optional ones with `=`."""
    try:
        parameters = [*inspect.signature(function).parameters.values()]
    except ValueError:
        return path
    bare = [
        parameter.replace(annotation=parameter.empty, default=parameter.empty)
        for parameter in parameters if parameter.name not in {*skipped}
    ]  # fmt: skip
    optional = {parameter.name for parameter in parameters if parameter.default is not parameter.empty}
    shown = str(inspect.Signature(bare)).strip("()").split(", ")
    return f"{path}({', '.join(f'{one}=' if one in optional else one for one in shown)})"


def options(path: str, shown: click.Command) -> Iterator[str]:
    """Yield a command with its arguments, its options, and those of its sub-commands."""
    context = click.Context(shown)
    arguments = [parameter for parameter in shown.params if isinstance(parameter, click.Argument)]
    yield " ".join([path, *(argument.make_metavar(context) for argument in arguments)])
    for parameter in shown.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            yield f"{path} {' '.join([*parameter.opts, *parameter.secondary_opts])}"
    if isinstance(shown, click.Group):
        for name in shown.list_commands(context):
            yield from options(f"{path} {name}", shown.get_command(context, name) or shown)


def keys_of_commands(store: str, ids: dict[str, str]) -> Iterator[str]:
    """Yield the keys of the JSON that commands print, of a store with two sessions, their calls and a reward."""
    for words in ASKED:
        arguments = ["--store", store, *words.format_map(ids).split(), "--json"]
        done = CliRunner().invoke(command, arguments)
        name = words.replace(" {", " ").replace("}", "").upper() if "{" in words else words
        yield from (f"{name}: {key}" for key in keys(json.loads(done.stdout)))


def columns(path: str) -> Iterator[str]:
    """Yield the columns of the tables and views that are derived from records."""
    connection = sqlite3.connect(path)
    for name in DERIVED:
        yield from (
            f"{name}.{column}" for (column,) in connection.execute(f"SELECT name FROM pragma_table_info('{name}')")
        )
    connection.close()


def recorded(store: str) -> dict[str, str]:
    """Record two sessions with a call each; return the ids of the last."""
    with (
        callspan.testing.ScriptedProvider() as provider,
        openai.OpenAI(base_url=provider.openai_url, api_key="k") as client,
    ):
        handle = callspan.instrument(stores=store)
        for name in ("a", "b"):
            with callspan.session(name, user_id="u") as scope:
                client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
                scope.reward(1.0, objective="quality")
        ids = {"session": scope.id, "call": callspan.last_call_id() or ""}
        handle.uninstrument()
    return ids


def keys(value: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of the keys in JSON, those of lists without their positions."""
    for item in value if isinstance(value, list) else [value]:
        for key, inner in item.items() if isinstance(item, dict) else ():
            yield f"{path}{key}"
            if key not in {"metadata", "scores", "request", "response", "params", "request_headers"}:
                yield from keys(inner, f"{path}{key}.")


def fields() -> Iterator[str]:
    """Yield the fields of records and of their parts, as in JSON."""
    for name, kind in STRUCTS.items():
        if name in KINDS or name in records.__all__:
            yield from (f"{name}.{field}" for field in definition(kind)["properties"])


def values() -> Iterator[str]:
    """Yield the words that fields may have."""
    for name in records.__all__:
        words = get_args(getattr(records, name))
        yield from (f"{name}: {word}" for word in words if isinstance(word, str))


def attributes() -> Iterator[str]:
    tables = [
        call.START, llm.START, gen_ai.START, llm.END, gen_ai.END, call.END, call.ATTEMPT, call.ATTEMPT_SPAN,
        call.ATTEMPT_SPAN_OF_CALL, session.EXCEPTION, events.EVENT, events.ACTION, events.ENVIRONMENT, events.MESSAGE,
        events.REWARD, events.EVALUATION, openinference.START, openinference.END,
        *(metric.attributes for metric in metrics()),
    ]  # fmt: skip
    yield from (row.name for row in rows(*tables))
    for kind in ("session", "timestep", "environment", "tool", "agent", "guardrail", "handoff"):
        scope = getattr(session, kind.upper())
        yield from (row.name for row in (*scope.start_with_llm.rows, *scope.end.rows))


def metrics() -> Iterable[Any]:
    return {metric.name: metric for metric in (*RECORDED, *OBSERVED)}.values()


def main() -> None:
    """Write or check the file."""
    names, written = listing(), PATH.read_text(encoding="utf-8") if PATH.exists() else ""
    if "--check" not in sys.argv:
        PATH.write_text(names, encoding="utf-8")
    elif names != written:
        changes = difflib.unified_diff(
            written.splitlines(), names.splitlines(), "public_names.txt", "code", lineterm="", n=0
        )
        sys.exit("\n".join(changes))


if __name__ == "__main__":
    main()
