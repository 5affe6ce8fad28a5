"""Former names: the names of columns up to format 18, so that `callspan import` reads older stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from callspan.record.formats import FORMAT
from callspan.stores.tables.facts import CALLS, OWNER, Table

_SHARED: Final = {"schema_v": "schema_version"}
_OF_CALLS: Final = {
    "model_req": "request_model",
    "model_resp": "response_model",
    "ttft_ns": "first_token_ns",
    "in_tok": "input_tokens",
    "out_tok": "output_tokens",
    "total_tok": "total_tokens",
    "cache_read_tok": "cache_read_tokens",
    "cache_write_tok": "cache_write_tokens",
    "reasoning_tok": "reasoning_tokens",
    "price_v": "cost_source",
    "request_bytes": "request_body_bytes",
    "response_bytes": "response_body_bytes",
}


def with_current_names(table: Table, row: Mapping[str, object]) -> dict[str, object]:
    """Return a row from any earlier format by the current names; missing columns are None."""
    current = _SHARED | (_OF_CALLS if table is CALLS else {})
    cells = {current.get(name, name): cell for name, cell in dict(row).items()}
    return {**dict.fromkeys((*table.names, OWNER)), **cells, "schema_version": FORMAT}
