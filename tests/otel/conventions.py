"""The GenAI conventions as data, and where a signal differs from them: its names, types, levels, values and units.

Names that begin with `callspan.` or `llm.` are callspan's own, which conventions allow everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.tables import table

CONVENTIONS: dict[str, Any] = table(Path(__file__).with_name("conventions.yaml"))
TYPES = {name: kind for kind, names in CONVENTIONS["attributes"].items() for name in names.split()}
VALUES = {name: frozenset(values.split()) for name, values in CONVENTIONS["values"].items()}
DEPRECATED = {name: frozenset(values.split()) for name, values in CONVENTIONS["deprecated values"].items()}
ANY_VALUE = ("gen_ai.provider.name",)
"""Attributes with values that providers and applications choose."""
OWN = ("callspan.", "llm.")
SPAN_OF = {operation: kind for kind, row in CONVENTIONS["spans"].items() for operation in row["operations"].split()}
PYTHON: dict[str, type] = {"string": str, "int": int, "double": float, "boolean": bool}


class SeenSpan(NamedTuple):
    """A span that has ended."""

    name: str
    kind: str
    attributes: Mapping[str, Any]
    events: Sequence[tuple[str, Mapping[str, Any]]]
    is_failed: bool
    at_start: Mapping[str, Any] | None = None
    """The attributes with which it began; None: not known."""


class SeenMetric(NamedTuple):
    """A metric and its points: the attributes of each, and the bounds of its buckets if it has some."""

    name: str
    unit: str
    instrument: str
    points: Sequence[tuple[Mapping[str, Any], Sequence[float]]]


class Difference(NamedTuple):
    """One difference between a signal and the conventions."""

    where: str
    """The signal, such as `metric gen_ai.client.operation.duration`, or `attribute`."""
    what: str
    name: str
    """The attribute, value or word that differs."""


def of_span(span: SeenSpan) -> Iterator[Difference]:
    """Yield what differs in a span and in its events."""
    attributes = span.attributes
    operation = attributes.get("gen_ai.operation.name")
    yield from of_attributes(attributes)
    for name, about in span.events:
        yield from of_event(name, about) if name in CONVENTIONS["events"] else of_attributes(about)
    if operation not in SPAN_OF:
        if operation is None:
            yield Difference("span", "without operation", span.name.partition(" ")[0])
        return
    where, row = f"span {SPAN_OF[operation]}", CONVENTIONS["spans"][SPAN_OF[operation]]
    named = attributes.get(row.get("named", ""))
    if span.name != (f"{operation} {named}" if named else operation):
        yield Difference(where, "with the name", span.name)
    if span.kind != row["kind"]:
        yield Difference(where, "with the kind", span.kind)
    yield from of_levels(where, row, attributes)
    if span.is_failed and "error.type" not in attributes:
        yield Difference(where, "required on a failure", "error.type")
    for name in row["start"].split() if span.at_start is not None else ():
        if name in attributes and name not in span.at_start:
            yield Difference(where, "only at the end", name)


def of_event(name: str, attributes: Mapping[str, Any], severity: str | None = None) -> Iterator[Difference]:
    """Yield what differs in an event; `severity` is that of a log event."""
    if name.startswith(OWN):
        yield from of_attributes(attributes)
        return
    row = CONVENTIONS["events"].get(name)
    if row is None:
        yield Difference("event", "not registered", name)
        return
    where = f"event {name}"
    yield from of_attributes(attributes, structured=severity is not None)
    if severity is not None and severity != row.get("severity", severity):
        yield Difference(where, "with the severity", severity)
    operation = attributes.get("gen_ai.operation.name")
    if "operations" in row and operation not in row["operations"].split():
        yield Difference(where, "with the operation", str(operation))
        return
    span = CONVENTIONS["spans"].get(row.get("attributes of"), {})
    others = [name for level in (span, row) for field in ("required", "others") for name in _words(level, field)]
    yield from of_levels(where, span | {"required": ""} | row | {"others": others}, attributes)


def of_metric(metric: SeenMetric) -> Iterator[Difference]:
    """Yield what differs in a metric."""
    for attributes, _ in metric.points:
        yield from of_attributes(attributes)
    if metric.name.startswith(OWN):
        return
    row = CONVENTIONS["metrics"].get(metric.name)
    if row is None:
        yield Difference("metrics", "not registered", metric.name)
        return
    where = f"metric {metric.name}"
    if metric.unit != row["unit"]:
        yield Difference(where, "with the unit", metric.unit)
    if metric.instrument != row["instrument"]:
        yield Difference(where, "an instrument of the kind", metric.instrument)
    for attributes, bounds in metric.points:
        if "buckets" in row and [*bounds] != CONVENTIONS["buckets"][row["buckets"]]:
            yield Difference(where, "with the buckets", str(bounds))
        yield from of_levels(where, row, attributes)


def of_attributes(attributes: Mapping[str, Any], *, structured: bool = False) -> Iterator[Difference]:
    """Yield attributes without an entry in the registry, of another type, and values that are not well known.

    `structured`: a value of any type is no JSON text.
    """
    for name, value in attributes.items():
        if name.startswith(OWN):
            continue
        kind = TYPES.get(name)
        if kind is None:
            yield Difference("attribute", "not registered", name)
        elif not _has_type(value, kind, structured=structured):
            yield Difference("attribute", f"not of type {kind}", name)
        elif value in DEPRECATED.get(name, ()):
            yield Difference(f"value {name}", "deprecated", value)
        elif name in VALUES and name not in ANY_VALUE and value not in VALUES[name]:
            yield Difference(f"value {name}", "not well known", value)


def of_levels(where: str, row: Mapping[str, Any], attributes: Mapping[str, Any]) -> Iterator[Difference]:
    """Yield the required attributes that are missing, and those that are registered but not listed for the signal."""
    refinement = row.get("refinements", {}).get(attributes.get("gen_ai.provider.name"), {})
    required = [*_words(row, "required"), *_words(refinement, "required")]
    yield from (Difference(where, "required, but absent", name) for name in required if name not in attributes)
    if "server.address" in attributes and "server.port" not in attributes:
        yield Difference(where, "required with server.address", "server.port")
    groups = [name for group in row.get("groups", ()) for name in CONVENTIONS["groups"][group].split()]
    listed = {*required, *groups, *_words(row, "others"), *_words(refinement, "others")}
    yield from (Difference(where, "not listed", name) for name in attributes if name in TYPES and name not in listed)


def _words(row: Mapping[str, Any], field: str) -> list[str]:
    words = row.get(field, "")
    return words.split() if isinstance(words, str) else words


def _has_type(value: Any, kind: str, *, structured: bool) -> bool:
    if kind == "any":
        return not isinstance(value, str) if structured else isinstance(value, str)
    if kind == "string[]":
        return isinstance(value, tuple | list) and all(isinstance(item, str) for item in value)
    return type(value) is PYTHON[kind]


class Deviations:
    """The differences that are meant, each with its reason, and which of them have been met."""

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._met = {
            Difference(where, row["what"], name): False
            for row in rows
            for where in ([row["where"]] if isinstance(row["where"], str) else row["where"])
            for name in row["names"].split()
        }

    def beside(self, found: Iterable[Difference]) -> list[Difference]:
        """Return the differences that no row has; the others are met."""
        every = sorted(set(found))
        self._met.update({difference: True for difference in every if difference in self._met})
        return [difference for difference in every if difference not in self._met]

    @property
    def unmet(self) -> list[Difference]:
        """Those that no signal had."""
        return [difference for difference, is_met in self._met.items() if not is_met]
