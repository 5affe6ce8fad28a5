"""The attributes of the spans of a batch: of the request that created it, and of the first reading of its results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from callspan.record.codec import encode_json
from callspan.semconv import gen_ai
from callspan.semconv.table import BOOLEAN, INT, JSON, STRING, From, Row, Table


class BatchReport(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a batch at one of its two spans. None: unknown."""

    operation: str
    provider: str
    server_address: str | None = None
    server_port: int | None = None
    batch_id: str | None = None
    status: str | None = None
    read: Mapping[str, int] = {}
    """Lines that were read, by the outcome of their calls."""
    complete: bool | None = None
    requests: Mapping[str, int] = {}
    usage: Mapping[str, object] | None = None
    error_type: str | None = None


def _json(value: object) -> str:
    return encode_json(value).decode()


SPAN: Final = Table(
    Row(gen_ai.OPERATION_NAME, STRING, "operation", "`create_batch` or `batch_results`; the conventions have neither."),
    Row(gen_ai.PROVIDER_NAME, STRING, "provider", "The provider."),
    Row(gen_ai.SERVER_ADDRESS, STRING, "server_address", "Host of the provider's API."),
    Row(gen_ai.SERVER_PORT, INT, "server_port", "Its port."),
    Row("callspan.batch.id", STRING, "batch_id", "The provider's id of the batch, also in the records of its calls."),
    Row("callspan.batch.status", STRING, "status", "Its status, in the provider's words."),
    Row(
        "callspan.batch.requests", JSON, From("requests", _json),
        "Numbers of its requests by their state, in the provider's words.",
    ),
    Row("callspan.batch.read", JSON, From("read", _json), "Results that were read, by the outcome of their calls."),
    Row("callspan.batch.complete", BOOLEAN, "complete", "Whether all of the results were read."),
    Row(
        "callspan.batch.usage", JSON, From("usage", _json),
        "Usage of the whole batch as the provider states it: that of its calls, never to be added to it.",
    ),
    Row(gen_ai.ERROR_TYPE, STRING, "error_type", "Why a batch was not created, as of a call that failed."),
)  # fmt: skip
