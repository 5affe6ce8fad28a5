"""Payloads: the JSON of one record as a validated value, a tree for its row and its bodies; and as one line of JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import cache
from typing import Final, NamedTuple

import msgspec

from callspan.providers.registry import by_api, with_conversation
from callspan.record.call import CallRecord
from callspan.record.codec import encode, encode_json
from callspan.record.events import Record, record_key
from callspan.record.labels import label_of, labels
from callspan.record.merging import merged
from callspan.spool.sink import Decoded, Entry, PoisonError, decode_payload
from callspan.stores import bodies
from callspan.stores.columns import PICO, TABLES, Table
from callspan.stores.rows import Cell, Row, RowBuilder, Tree, to_row

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_DERIVED: Final = tuple(column.name for column in TABLES["call"].columns if not column.path)
_IDS: Final = ("organization_id", "project_id", "run_id", "agent_id", "workflow_id")
_NO_LABELS: Final = (None,) * (len(_IDS) + 1)
_SIDES: Final = ("request", "response")
_INT_LIMIT: Final = 2**63
_DEAR_USD: Final = 10_000
"""Calls this expensive are summed separately: a thousand of them would overflow 63 bits of picodollars."""
_SPACES: Final = bytes.maketrans(b"\n\r", b"  ")


class Unpacked(NamedTuple):
    """One record and its parts."""

    record: Record
    request: bytes
    """JSON as sent; empty if it was not recorded."""
    response: bytes
    payload: bytes
    decoded: Record
    """The record before it was processed, with the payload's known fields."""

    def tree(self) -> Tree:
        """Return the record's JSON without bodies, fields of newer versions included. Raises PoisonError."""
        if not isinstance(self.record, CallRecord) and self._is_known:
            tree: Tree = msgspec.to_builtins(self.record)
            return tree
        try:
            return self._tree_of_json()
        except (msgspec.DecodeError, RecursionError) as error:
            raise PoisonError(f"not a record: {error}") from error

    def cells(self) -> Sequence[Cell]:
        """Return the row of the record's table: all columns, `extra` last. Raises PoisonError."""
        kind = record_key(self.record)[0]
        cells = _builder(TABLES[kind]).cells(self.record) if self._is_known else None
        if cells is not None:
            return cells
        row = to_row(TABLES[kind], self.record, self.tree())
        if isinstance(self.record, CallRecord):
            row |= derived(self.record)
        return list(row.values())

    @property
    def _is_known(self) -> bool:
        """Return whether the payload has no unknown fields. Cheaper than decoding it again without types."""
        return encode(self.decoded) == self.payload

    def _tree_of_json(self) -> Tree:
        fields = _fields.decode(self.payload)
        if self.record is not self.decoded:
            fields.update(_changes(self.decoded, self.record))
        if isinstance(self.record, CallRecord):
            fields.pop("conversation", None)
            for side in _SIDES:
                _remove_body(fields, side)
        return {name: msgspec.json.decode(value) for name, value in fields.items()}


def unpack_entry(entry: Entry) -> Unpacked:
    """Return the parts of an entry's record after processing. Raises PoisonError for an invalid record."""
    return _unpacked(entry.payload, entry.decode(entry))


def unpack(payload: bytes) -> Unpacked:
    """Return the parts of an unprocessed record. Raises PoisonError for an invalid record or one of another format."""
    record = decode_payload(payload)
    return _unpacked(payload, Decoded(record, record))


def _unpacked(payload: bytes, decoded: Decoded) -> Unpacked:
    record, original = decoded.record, decoded.original
    if not isinstance(record, CallRecord):
        return Unpacked(record, b"", b"", payload, original)
    response = b"" if record.response is None else bytes(record.response.body)
    return Unpacked(record, bytes(record.request.body), response, payload, original)


def combined(known: CallRecord | None, others: Iterable[Record]) -> Unpacked | None:
    """Return the payload that replaces the `known` call of a background response, merged with other versions.

    None if nothing changes.
    """
    versions = [record for record in (known, *others) if isinstance(record, CallRecord)]
    whole = _without_conversation(merged(versions))
    return None if known is not None and whole == _without_conversation(known) else unpack(whole)


def _without_conversation(record: CallRecord) -> bytes:
    return encode(msgspec.structs.replace(record, conversation=None))


def cells_of(record: Record) -> Sequence[Cell]:
    """Return the row of a record that has no fields of newer versions: all columns, `extra` last."""
    cells = _builder(TABLES[record_key(record)[0]]).cells(record)
    return unpack(encode(record)).cells() if cells is None else cells


@cache
def _builder(table: Table) -> RowBuilder:
    return RowBuilder(table, _derived if table is TABLES["call"] else _no_stamps if table.merges else _nothing)


def _no_stamps(_: Record) -> tuple[Cell, ...]:
    return (None,)


def _nothing(_: Record) -> tuple[Cell, ...]:
    return ()


def _changes(before: Record, after: Record) -> dict[str, msgspec.Raw]:
    """Return the fields of `after` that differ from `before`, as JSON."""
    changed = (name for name in after.__struct_fields__ if getattr(after, name) is not getattr(before, name, None))
    return {name: msgspec.Raw(encode_json(getattr(after, name))) for name in changed}


def _remove_body(fields: dict[str, msgspec.Raw], side: str) -> None:
    """Remove and return the body of a call's request or response."""
    if side in fields:
        inner = _fields.decode(fields[side]) if bytes(fields[side]) != b"null" else {}
        inner.pop("body", None)
        fields[side] = msgspec.Raw(msgspec.json.encode(inner))


def derived(record: CallRecord) -> Row:
    """Return the computed columns of a call; None for those whose inputs are unknown."""
    return dict(zip(_DERIVED, _derived(record), strict=True))


def _derived(record: CallRecord) -> tuple[Cell, ...]:
    status = record.error.status if record.error else None
    if status is None and record.attempts:
        status = record.attempts[-1].status
    duration = record.timing.duration_ns
    return (
        record.finish_reason,
        status,
        None if duration is None else _fitting(record.timing.start_ns + duration),
        None if record.cost is None else picodollars(record.cost.usd),
        record.request_id,
        *_findable(record),
    )


def _findable(record: CallRecord) -> tuple[str | None, ...]:
    """Return the user, organization, project, run, agent, workflow and tags of a call."""
    metadata = record.metadata
    if not metadata:
        return (record.user, *_NO_LABELS)
    tags = labels(metadata, "tags")
    ids = [label_of(metadata, name) for name in _IDS]
    return (record.user, *ids, encode_json(tags).decode() if tags else None)


def _fitting(number: int) -> int | None:
    return number if -_INT_LIMIT <= number < _INT_LIMIT else None


def picodollars(usd: Decimal) -> int | None:
    """Return the amount in whole picodollars; None if that is not exact or would overflow sums."""
    if not usd.is_finite() or abs(usd) >= _DEAR_USD:
        return None
    pico = usd * PICO
    return int(pico) if pico == pico.to_integral_value() else None


def message_key(api: str) -> str | None:
    """Return the key of an endpoint's request body that holds the growing history; None for an unknown endpoint."""
    endpoint = by_api(api)
    return None if endpoint is None else endpoint.message_key


def text_of(api: str, request: bytes, response: bytes) -> str:
    """Return the text of the bodies of a call: system prompt, history and output, joined by line ends."""
    found: list[str | None] = []
    if request:
        parts = bodies.split(request, message_key(api))
        found += [bodies.to_row(part).text for part in (*parts.others, *parts.history)]
    if response:
        found.append(bodies.to_row(bodies.piece(response, "assistant")).text)
    return "\n".join(text for text in found if text is not None)


def users_words(api: str, request: bytes) -> set[bytes]:
    """Return the hashes of the messages of users in the body of a call's request."""
    history = bodies.split(request, message_key(api)).history if request else []
    return {part.hash for part in history if bodies.to_row(part).role == "user"}


def line_of(record: Record) -> bytes:
    """Return a record (a call with its conversation) as JSON on one line.

    A body keeps its exact bytes, except that line ends between values (of pretty-printed JSON) become spaces. JSON
    strings contain no line ends.
    """
    data = encode(with_conversation(record) if isinstance(record, CallRecord) else record)
    return data.translate(_SPACES) if b"\n" in data or b"\r" in data else data
