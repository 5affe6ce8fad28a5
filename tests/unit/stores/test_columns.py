"""Rows: columns and `extra` together hold the record without loss."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from callspan.records import Cost, ErrorInfo, Place, Request, Response, Stream, Usage
from callspan.stores.columns import CALLS
from callspan.stores.rows import to_row
from tests.records import made


@pytest.mark.parametrize(
    ("fields", "cells", "extra"),
    [
        ({}, {"retries": None, "in_tok": None, "cost_usd": None, "params": None, "sampled": None}, None),
        ({"retries": 0}, {"retries": 0}, None),
        ({"retries": 2**63 - 1}, {"retries": 2**63 - 1}, None),
        ({"retries": 2**63}, {"retries": None}, {"retries": 2**63}),
        ({"retries": -(2**63) - 1}, {"retries": None}, {"retries": -(2**63) - 1}),
        ({"sampled": False}, {"sampled": 0}, None),
        ({"sampled": True}, {"sampled": 1}, None),
        ({"usage": Usage(input_tokens=0)}, {"in_tok": 0, "out_tok": None}, None),
        ({"usage": Usage(output_tokens=1, input_audio_tokens=4)}, {"out_tok": 1}, {"usage": {"input_audio_tokens": 4}}),
        ({"cost": Cost(usd=Decimal("1E-7"), source="t")},
         {"cost_usd": "0.0000001", "price_v": "t"}, None),
        ({"request": Request(params={"a": [1]})}, {"params": '{"a":[1]}'}, None),
        ({"request": Request(params={})}, {"params": None}, None),
        ({"request": Request(model="", stream=True)}, {"model_req": "", "stream": 1}, None),
        ({"response": Response(finish_reasons=["stop", None])}, {"model_resp": None},
         {"response": {"finish_reasons": ["stop", None]}}),
        ({"stream": Stream(end="closed", chunks=2)}, {"stream_end": "closed"}, {"stream": {"chunks": 2}}),
        ({"error": ErrorInfo(kind="k", type="t", message="m", body=[1])},
         {"error_kind": "k", "error_type": "t", "error_message": "m"}, {"error": {"body": [1]}}),
        ({"place": Place(session_id="s", timestep=0)}, {"session_id": "s", "timestep": 0, "timestep_id": None}, None),
        ({"metadata": {"k": None}}, {"metadata": '{"k":null}'}, None),
    ],
)  # fmt: skip
def test_a_field_is_in_its_column_or_in_extra_and_never_in_both(
    fields: dict[str, Any], cells: dict[str, Any], extra: dict[str, Any] | None
) -> None:
    row = to_row(CALLS, msgspec.structs.replace(made("c"), **fields))
    assert {name: row.get(name) for name in cells} == cells
    left = msgspec.json.decode(row["extra"]) if "extra" in row else {}
    # A place or request of which nothing is known is there, and empty.
    assert {name: value for name, value in left.items() if value != {}} == (extra or {})
