"""The pages of functions: signature, arguments, errors and an example of everything public, from its docstring."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import pairwise
from types import ModuleType
from typing import Any, Final, NamedTuple

import msgspec
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

import callspan
from callspan import datasets, stores, testing


class Module(NamedTuple):
    """A module whose names have a page."""

    contents: ModuleType
    names: Sequence[str]


PAGES: Final[dict[str, Module]] = {
    "functions": Module(callspan, callspan.__all__),
    "functions-stores": Module(
        stores, ["CacheUse", "CallFilter", "History", "Reader", "SessionSummary", "Summary", "whole_conversation"]
    ),
    "functions-datasets": Module(datasets, datasets.__all__),
    "functions-testing": Module(testing, testing.__all__),
}  # fmt: skip
"""The modules by page. Names for a store of one's own have a table in `stores.md`."""
SECTION: Final = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Example):\n", re.MULTILINE)
ITEM: Final = re.compile(r"^ {4}(\**\w+(?:, \**\w+)*):\s", re.MULTILINE)
ELSEWHERE: Final[dict[type, str]] = {
    callspan.CallRecord: "Its fields: [fields](fields.md#callrecord-call).",
    callspan.Settings: "Its fields: [settings](settings.md).",
}
"""Classes whose fields have a page of their own."""

ENGINE: Final = frozenset({
    "add", "call_ended", "check_open", "collected", "content_level", "count_reward", "current_metadata", "emit",
    "enter", "event_record", "function_returned", "generator_ended", "give_reward", "inner", "labelled_event",
    "new_block", "next_sequence", "note_episode_end", "observe", "resume", "span_ids", "start_quietly",
    "start_span", "write",
})  # fmt: skip
"""Methods of a session, timestep or tool that only the rest of `callspan.agent` calls: no page shows them."""


class Ellipsed:
    """Stands for a default that would fill lines."""

    def __repr__(self) -> str:
        return "…"


def functions(module: Module) -> str:
    """Return a section for each name of a module, in alphabetical order; the instrumentors share one."""
    parts, instrumentors = [], {}
    for name in sorted(module.names, key=str.lower):
        thing = getattr(module.contents, name)
        if inspect.isclass(thing) and issubclass(thing, BaseInstrumentor):
            instrumentors[name] = thing
        elif callable(thing) and inspect.getdoc(thing):
            parts += [*entry(f"{module.contents.__name__}.{name}", thing), ""]
    if instrumentors:
        parts += [*together(instrumentors), ""]
    return "\n" + "\n".join(parts)


def together(instrumentors: dict[str, type]) -> Iterator[str]:
    """Yield the lines of the instrumentors: what each instruments, then what all have in common."""
    yield "## Instrumentors\n"
    of_all = min(instrumentors.values(), key=lambda kind: len(description(kind)))
    common = description(of_all).partition(". ")[2]
    sentence = common.partition("\n")[0]
    for name, kind in instrumentors.items():
        about = joined(SECTION.split(inspect.getdoc(kind) or "")[0]).replace(sentence, "").replace("  ", " ")
        yield f"- `callspan.{name}`: {about.strip()}"
    yield f"\n{common}\n"
    yield from methods(of_all)


def entry(name: str, thing: Any) -> Iterator[str]:
    """Yield the lines of a function or class."""
    yield f"## {'class ' if inspect.isclass(thing) else ''}{name}\n"
    if inspect.isclass(thing) and not is_constructed(thing):
        yield description(thing)
    else:
        lines = textwrap.fill(signature(name, thing), 116, subsequent_indent="    ", break_long_words=False)
        yield f"```text\n{lines}\n```\n\n{description(thing)}"
    if thing in ELSEWHERE:
        yield f"\n{ELSEWHERE[thing]}"
    elif inspect.isclass(thing):
        yield from ("", *fields(thing), *methods(thing))


def is_constructed(thing: type) -> bool:
    """Return whether users make objects of a class, rather than get them from a function."""
    internal = {
        callspan.Session, callspan.Timestep, callspan.Tool, callspan.RecordedCall, callspan.Handle, stores.Reader,
        stores.History,
    }  # fmt: skip
    return thing not in {*internal, *ELSEWHERE} and not issubclass(thing, Exception)


def fields(kind: type) -> Iterator[str]:
    """Yield a line for each public field of a structure or named tuple that has a docstring."""
    for base in reversed(kind.__mro__) if issubclass(kind, msgspec.Struct | tuple) else ():
        if base.__module__.startswith("callspan"):
            yield from (f"- `{name}`: {note}" for name, note in field_notes(base) if not name.startswith("_"))


def field_notes(kind: type) -> Iterator[tuple[str, str]]:
    """Yield the fields of a class with a docstring, each with its docstring on one line."""
    (node,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(node, ast.ClassDef)
    for field, text in pairwise(node.body):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(note))):
                yield name, inspect.cleandoc(note).replace("\n", " ")


def methods(kind: type) -> Iterator[str]:
    """Yield a line for each public method and property that callspan defines, with the beginning of its docstring."""
    for name in dir(kind):
        member = inspect.getattr_static(kind, name)
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        is_ours = str(getattr(function, "__module__", "")).startswith("callspan")
        note = inspect.getdoc(function) if callable(function) else None
        is_engine = name in ENGINE and issubclass(kind, (callspan.Session, callspan.Timestep, callspan.Tool))
        if name.startswith("_") or is_engine or not is_ours or note is None or inspect.isclass(member):
            continue
        call = name if isinstance(member, property) else signature(name, function, is_method=True)
        yield f"- `{call}`: {joined(SECTION.split(note)[0].partition(chr(10) * 2)[0])}"


def signature(name: str, thing: Any, *, is_method: bool = False) -> str:
    """Return a name with its parameters and their defaults, without types."""
    try:
        parameters = [*inspect.signature(thing).parameters.values()][is_method:]
    except ValueError:
        return name
    return f"{name}{inspect.Signature([shortened(parameter) for parameter in parameters])}"


def shortened(parameter: inspect.Parameter) -> inspect.Parameter:
    """Return a parameter without its type; a default that is an object of callspan is `…`."""
    default = parameter.default
    if isinstance(default, msgspec.Struct) or repr(default) == "<factory>":
        default = Ellipsed()
    return parameter.replace(annotation=inspect.Parameter.empty, default=default)


def description(thing: Any) -> str:
    """Return a docstring as Markdown: its text, then a list for each section, the example as code."""
    text, *sections = SECTION.split(inspect.getdoc(thing) or "")
    parts = [text.strip()]
    for heading, body in zip(sections[::2], sections[1::2], strict=True):
        if heading == "Example":
            parts.append(f"```pycon\n{inspect.cleandoc(body)}\n```")
        elif ITEM.search(body):
            parts.append(f"{'Arguments' if heading == 'Args' else heading}:\n\n{items(body)}")
        else:
            parts.append(f"{heading}: {joined(body)}")
    return "\n\n".join(parts)


def items(body: str) -> str:
    """Return the entries of a section as a list."""
    _, *pairs = ITEM.split(body)
    return "\n".join(f"- `{name}`: {joined(text)}" for name, text in zip(pairs[::2], pairs[1::2], strict=True))


def joined(text: str) -> str:
    """Return a text in one line."""
    return " ".join(text.split())
