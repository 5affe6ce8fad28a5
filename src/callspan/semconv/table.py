"""Tables of attributes: each row defines an attribute and the source of its value.

An unknown value (None) or an empty string is not set. A table is compiled to one function on first use, as
`dataclasses` does, because interpreting the rows for every call takes twice as many instructions. The readers of
request parameters at the end of this module are total: they return None for unexpected values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple, TypeAlias, cast

from callspan.record.codec import encodable
from callspan.semconv.content_attributes import NO_CONTENT, Attributes, SpanContent, put_json

STRING: Final = "string"
STRINGS: Final = "string[]"
BOOLEAN: Final = "boolean"
INT: Final = "int"
DOUBLE: Final = "double"
JSON: Final = "string (JSON)"
ANY: Final = "any scalar"
_Put: TypeAlias = Callable[[Attributes, Any, SpanContent], None]

_MAX_INTEGER: Final = 2**63 - 1
MAX_TOKENS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_tokens_to_sample")
"""The parameters that limit the output tokens, in all APIs."""
_NUMBERS: Final = (int, float)
_SCALARS: Final = (bool, int, float)
_OUTPUT_TYPES: Final = {"text": "text", "json_object": "json", "json_schema": "json"}
_MEDIA_TYPES: Final = {"text/plain": "text", "application/json": "json"}
_MODALITIES: Final = {"audio": "speech", "image": "image"}
_LEVELS: Final = ("effort", "thinkingLevel", "thinking_level")


class Seconds(NamedTuple):
    """Source: nanoseconds at a path in the record, as seconds."""

    path: str


class Constant(NamedTuple):
    """Source: a constant."""

    value: str


class Parameter(NamedTuple):
    """Source: a function of a request parameter, by its name on the wire; not called if it was not sent."""

    name: str
    read: Callable[[Any], object]


class From(NamedTuple):
    """Source: a function of the value at a path in the record; not called if the value is absent or empty."""

    path: str
    read: Callable[[Any], object]


class Put(NamedTuple):
    """Source: a function that sets the attributes of all adjacent rows that share it, within the budget."""

    put: Callable[[Attributes, Any, SpanContent], None]


class SetByCode(NamedTuple):
    """Source: other code, which sets the attribute; the row is for the documentation. `source` names it."""

    source: str


Source: TypeAlias = str | Callable[[Any], object] | Seconds | Constant | From | Parameter | Put | SetByCode
"""The source of a value. A string is a path of fields in the record; `[-1]` after a field is its last item."""


class Row(NamedTuple):
    """One attribute."""

    name: str
    """Name on the span; `*` stands for a part that depends on the record."""
    type: str
    source: Source
    about: str = ""
    """One sentence for the documentation: meaning and unit; empty: name and type say it."""
    apis: Sequence[str] = ()
    """The endpoints with this attribute; by default all except `not_apis`."""
    not_apis: Sequence[str] = ()
    when: str = ""
    """A path in the record; its value must be present, and neither empty nor false."""
    content: bool | None = None
    """True: set only if content is exported; False: set only if it is not."""
    if_true: bool = False
    """Whether 0 and False are not set."""
    if_empty: bool = False
    """Whether an empty string is set, which may be intended by the application."""
    if_content: str = ""
    """A path from the `SpanContent`: the attribute is only set if its value is not empty."""
    instead_of: str = ""
    """A path from the `SpanContent`: with other vocabularies the attribute is only set if its value is empty."""


class Table:
    """Rows, in the order of setting their attributes. Thread-safe."""

    __slots__ = ("put", "rows")

    put: _Put
    """Sets the attributes of a record, with the content that may be exported. Compiled on first use."""

    def __init__(self, *rows: Row) -> None:
        self.rows = rows

    def __add__(self, other: Table) -> Table:
        return Table(*self.rows, *other.rows)

    def of(self, record: object, content: SpanContent | None = None) -> Attributes:
        """Return the attributes of a record; content only if `content` is given."""
        attributes: Attributes = {}
        self.put(attributes, record, content or NO_CONTENT)
        return attributes

    def __getattr__(self, name: str) -> _Put:
        # Called while the slot is empty.
        if name != "put":
            raise AttributeError(name)
        self.put = _compiled(self.rows)
        return self.put


def source(rows: Sequence[Row], names: dict[str, object]) -> str:
    """Return the source code of a function that sets the rows' attributes; adds the objects it uses to `names`."""
    lines = ["def put(attributes, record, content):", "    has_content = content.has_content"]
    of_records = [row for row in rows if not isinstance(row.source, SetByCode)]
    for condition, alike in groupby(of_records, _condition):
        block = [line for _, group in groupby(alike, _kind) for line in _lines(tuple(group), names)]
        lines += _under(condition, block) if condition else block
    return "\n".join(lines) + "\n"


def _compiled(rows: Sequence[Row]) -> _Put:
    names: dict[str, object] = {}
    exec(compile(source(rows, names), f"<attributes from {rows[0].name} on>", "exec"), names)  # noqa: S102 - our rows
    return cast("_Put", names["put"])


def _condition(row: Row) -> str:
    conditions = []
    if row.content is not None:
        conditions.append("has_content" if row.content else "not has_content")
    if row.apis:
        conditions.append(f"record.api in {_constant_set(row.apis)}")
    if row.not_apis:
        conditions.append(f"record.api not in {_constant_set(row.not_apis)}")
    if row.when:
        conditions.append(f"record.{row.when}")
    if row.if_content:
        conditions.append(f"content.{row.if_content}")
    if row.instead_of:
        conditions.append(f"(content.is_only or not content.{row.instead_of})")
    return " and ".join(conditions)


def _constant_set(names: Sequence[str]) -> str:
    """Return the code of a set of names. Python makes the set once, and finds a name among many in one step."""
    return f"{{{', '.join(map(repr, names))}}}"


def _kind(row: Row) -> object:
    """Return the key; adjacent rows with the same key share code."""
    if isinstance(row.source, str):
        return row.source.rpartition(".")[0]
    return Parameter if isinstance(row.source, Parameter) else row.source


def _lines(rows: Sequence[Row], names: dict[str, object]) -> list[str]:
    """Return the lines of code for adjacent rows of the same kind."""
    row, source = rows[0], rows[0].source
    match source:
        case str():
            return _field_lines(rows)
        case Seconds():
            owner, _, field = source.path.rpartition(".")
            return _of_owner(owner, _set(row, f"owner.{field}", "value / 1e9"))
        case Constant():
            return [f"    attributes[{row.name!r}] = {source.value!r}"]
        case From():
            return _of_owner(source.path, _set(row, f"{_bound_name(source.read, names)}(owner)"))
        case Parameter():
            return _of_owner("request.params", [line for row in rows for line in _parameter_lines(row, names)])
        case Put():
            return [f"    {_bound_name(source.put, names)}(attributes, record, content)"]
    return _set(row, f"{_bound_name(source, names)}(record)")


def _under(condition: str, lines: Sequence[str]) -> list[str]:
    return [f"    if {condition}:", *("    " + line for line in lines)]


def _set(row: Row, value: str, expression: str = "value") -> list[str]:
    is_text = row.type in (STRING, STRINGS, JSON) and not row.if_empty
    test = "value" if is_text or row.if_true else "value is not None"
    return [f"    value = {value}", *_under(test, [f"    attributes[{row.name!r}] = {expression}"])]


def _field_lines(rows: Sequence[Row]) -> list[str]:
    path = str(rows[0].source).rpartition(".")[0]
    fields = [line for row in rows for line in _set(row, f"owner.{str(row.source).rpartition('.')[2]}")]
    return _of_owner(path, fields)


def _parameter_lines(row: Row, names: dict[str, object]) -> list[str]:
    name, read = cast("Parameter", row.source)
    return _under(f"{name!r} in owner", _set(row, f"{_bound_name(read, names)}(owner[{name!r}])"))


def _of_owner(path: str, lines: list[str]) -> list[str]:
    """Wrap lines of code so that `owner` is the object at the path; skipped if that is absent or empty."""
    first, *deeper = _accesses(path) if path else ["record"]
    block = lines
    for access in reversed(deeper):
        block = [f"    owner = {access}", *_under("owner", block)]
    return [f"    owner = {first}", *(_under("owner", block) if path else block)]


def _accesses(path: str) -> list[str]:
    first, *members = path.replace("[", ".[").split(".")
    return [f"record.{first}", *(f"owner{field}" if field[0] == "[" else f"owner.{field}" for field in members)]


def _bound_name(value: object, names: dict[str, object]) -> str:
    name = f"constant{len(names)}"
    names[name] = value
    return name


def text_row(name: str, path: str, about: str = "") -> Row:
    """Return a row for a string of the application, which may be empty."""
    return Row(name, STRING, path, about, if_empty=True)


def json_row(name: str, read: Callable[[Any], object], *, when: str = "", content: bool | None = True) -> Row:
    """Return a row for a value as JSON, within the budget; it is content unless `content` is None."""

    def put(attributes: Attributes, record: Any, span_content: SpanContent) -> None:
        if (value := read(record)) is not None:
            put_json(attributes, name, value, span_content.budget)

    return Row(name, JSON, Put(put), when=when, content=content)


def data_rows(names: Mapping[str, tuple[str, str]], prefix: str = "callspan.") -> tuple[Row, ...]:
    """Return content rows for the items of an event's data; `names` has their attributes, other keys get the prefix."""

    def put(attributes: Attributes, record: Any, content: SpanContent) -> None:
        for key, value in record.data.items() if isinstance(record.data, dict) else ():
            put_json(attributes, names[key][0] if key in names else prefix + key, value, content.budget)

    source = Put(put)
    return tuple(Row(name, JSON, source, about, content=True) for name, about in names.values())


def in_metadata(field: str) -> From:
    """Return the source for a scalar field of the record's metadata."""
    return From("metadata", lambda metadata: as_scalar(metadata.get(field)))


def as_float(value: object) -> float | None:
    """Return a number as float; None for anything else, including bool."""
    return float(value) if isinstance(value, _NUMBERS) and not isinstance(value, bool) else None


def as_int(value: object) -> int | None:
    """Return an integer of 64 bits, also from an integral float; None for anything else, including bool.

    OTLP exporters reject larger integers.
    """
    if isinstance(value, float):
        value = int(value) if value.is_integer() else None
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if -_MAX_INTEGER <= value <= _MAX_INTEGER else None


def as_text(value: object) -> str | None:
    """Return a non-empty string, None for anything else."""
    return encodable(value) if isinstance(value, str) and value else None


def as_scalar(value: object) -> str | bool | int | float | None:
    """Return a string, bool or number; an integer of more than 64 bits as text; None for anything else."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, int) and not -_MAX_INTEGER <= value <= _MAX_INTEGER:
        return str(value)  # such as an id that is a UUID's integer
    return value if isinstance(value, _SCALARS) else None


def as_texts(value: object) -> tuple[str, ...] | None:
    """Return the strings of a list, or a single string as a tuple; None without a string."""
    if isinstance(value, str):
        return (encodable(value),) if value else None
    if isinstance(value, list):
        return tuple([encodable(item) for item in value if isinstance(item, str)]) or None
    return None


def reasoning_level(value: object) -> str | None:
    """Return the effort of `reasoning_effort`, `reasoning` or `output_config`, or Google's and Ollama's level."""
    if not isinstance(value, dict):
        return as_text(value)
    return next(filter(None, (as_text(value.get(name)) for name in _LEVELS)), None)


def choice_count(value: object) -> int | None:
    """Return the number of requested choices; None for 1."""
    count = as_int(value)
    return None if count == 1 else count


def guardrail_id(value: object) -> str | None:
    """Return the id of Bedrock's `guardrailConfig`."""
    return as_text(value.get("guardrailIdentifier")) if isinstance(value, dict) else None


def service_tier(value: object) -> str | None:
    """Return the requested service tier; None for `auto`."""
    return None if value == "auto" else as_text(value)


def output_type(value: object) -> str | None:
    """Return the conventions' output type of `response_format` and similar parameters: `text` or `json`."""
    kind = value.get("type") if isinstance(value, dict) else None
    return _OUTPUT_TYPES.get(kind) if isinstance(kind, str) else None


def output_type_of_text(value: object) -> str | None:
    """Return the output type of an object with a `format`: `text` of Responses, `output_config` of Messages."""
    return output_type(value.get("format")) if isinstance(value, dict) else None


def output_type_of_modalities(value: object) -> str | None:
    """Return `speech` or `image` if audio or images are among the modalities."""
    if not isinstance(value, list):
        return None
    words = [item.casefold() for item in value if isinstance(item, str)]
    return next((kind for word, kind in _MODALITIES.items() if word in words), None)


def output_type_of_media_type(value: object) -> str | None:
    """Return the output type of Google's `responseMimeType`: `text` or `json`."""
    return _MEDIA_TYPES.get(value) if isinstance(value, str) else None


def output_type_of_schema(value: object) -> str | None:
    """Return `json` for Ollama's `format`: the word, or a schema."""
    return "json" if value == "json" or (isinstance(value, dict) and value) else None
