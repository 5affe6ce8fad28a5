"""Payloads: the JSON of one record as a validated value, a tree for its row and its bodies; and as one line of JSON."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Final, NamedTuple

import msgspec

from callspan.providers.registry import by_api, with_conversation
from callspan.record.call import CallRecord
from callspan.record.codec import UnknownSchemaError, decode, encode, encode_json
from callspan.record.events import Record
from callspan.spool.sink import PoisonError, as_it_is
from callspan.stores import bodies
from callspan.stores.columns import PICO
from callspan.stores.rows import Row, Tree

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SIDES: Final = ("request", "response")
_INT_LIMIT: Final = 2**63
_DEAR_USD: Final = 10_000
"""Calls that cost as much are summed one by one: a thousand of them would overflow 63 bits of picodollars."""
_SPACES: Final = bytes.maketrans(b"\n\r", b"  ")


class Unpacked(NamedTuple):
    """One record and its parts."""

    record: Record
    tree: Tree
    """The record's JSON without bodies, fields of newer versions included."""
    request: bytes
    """JSON as sent; empty where none was kept."""
    response: bytes


def unpack(payload: bytes, process: Callable[[Record], Record] = as_it_is) -> Unpacked:
    """Return the parts of what `process` makes of a record.

    Raises PoisonError for what is no record of a known schema.
    """
    try:
        # Bodies are passed over by the decoder, bytes that are no text among them.
        payload.decode("utf-8")
        decoded = decode(payload)
        record = process(decoded)
        fields = _fields.decode(payload)
        if record is not decoded:
            fields.update(_changes(decoded, record))
        parts = {}
        if isinstance(record, CallRecord):
            fields.pop("conversation", None)
            parts = {side: _apart(fields, side) for side in _SIDES}
        tree: Tree = {name: msgspec.json.decode(value) for name, value in fields.items()}
    except (msgspec.DecodeError, UnknownSchemaError, UnicodeDecodeError, RecursionError) as error:
        raise PoisonError(f"not a record: {error}") from error
    return Unpacked(record, tree, parts.get("request", b""), parts.get("response", b""))


def _changes(before: Record, after: Record) -> dict[str, msgspec.Raw]:
    """The fields of `after` that are not those of `before`, as JSON."""
    changed = (name for name in after.__struct_fields__ if getattr(after, name) is not getattr(before, name, None))
    return {name: msgspec.Raw(encode_json(getattr(after, name))) for name in changed}


def _apart(fields: dict[str, msgspec.Raw], side: str) -> bytes:
    """Take the body out of one side of a call and return it; empty where there is none."""
    if side not in fields:
        return b""
    inner = _fields.decode(fields[side]) if bytes(fields[side]) != b"null" else {}
    body = bytes(inner.pop("body", b""))
    fields[side] = msgspec.Raw(msgspec.json.encode(inner))
    return body


def derived(record: CallRecord) -> Row:
    """Return the columns of a call that are computed: None where what they need is unknown."""
    reasons = record.response.finish_reasons if record.response else []
    last = record.attempts[-1].status if record.attempts else None
    status = record.error.status if record.error else None
    duration = record.timing.duration_ns
    return {
        "finish_reason": next((reason for reason in reasons if reason is not None), None),
        "http_status": status if status is not None else last,
        "end_ns": None if duration is None else _fitting(record.timing.start_ns + duration),
        "cost_picousd": None if record.cost is None else picodollars(record.cost.usd),
    }


def _fitting(number: int) -> int | None:
    return number if -_INT_LIMIT <= number < _INT_LIMIT else None


def picodollars(usd: Decimal) -> int | None:
    """Return the amount in whole picodollars; None where that would not be exact, or so large that sums overflow."""
    if not usd.is_finite() or abs(usd) >= _DEAR_USD:
        return None
    pico = usd * PICO
    return int(pico) if pico == pico.to_integral_value() else None


def message_key(record: CallRecord) -> str | None:
    """Return the key of the request body that holds the growing history; None for an unknown endpoint."""
    endpoint = by_api(record.api)
    return None if endpoint is None else endpoint.message_key


def text_of(record: CallRecord) -> str:
    """Return the text of a call: system prompt, history and output, joined by line ends."""
    found: list[str | None] = []
    if body := bytes(record.request.body):
        parts = bodies.split(body, message_key(record))
        found += [bodies.to_row(part, press=False).text for part in (*parts.others, *parts.history)]
    if record.response is not None and (answer := bytes(record.response.body)):
        found.append(bodies.to_row(bodies.piece(answer, "assistant"), press=False).text)
    return "\n".join(text for text in found if text is not None)


def line_of(record: Record) -> bytes:
    """Return a record, a call with its conversation, as JSON without any line end.

    A body keeps its exact bytes but for line ends between its values, as pretty-printed JSON has: JSON strings hold
    none, so that spaces in their place mean the same.
    """
    data = encode(with_conversation(record) if isinstance(record, CallRecord) else record)
    return data.translate(_SPACES) if b"\n" in data or b"\r" in data else data
