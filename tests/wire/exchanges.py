"""The exchanges of `exchanges.yaml`: at least one of each API, which every room of callspan is tried with."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from tests.wire.corpus import OTHERS, SAMPLE

Json = dict[str, Any]
CASES: dict[str, Json] = yaml.safe_load(Path(__file__).with_name("exchanges.yaml").read_text())


@cache
def recorded() -> dict[str, Json]:
    rows: dict[str, Json] = {}
    for path in (SAMPLE, OTHERS):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows |= {row["id"]: row for row in map(json.loads, lines)}
    return rows


def exchange(name: str) -> tuple[str, Json, Any]:
    """Return an API, a request and its answer."""
    case = CASES[name]
    api = case.get("api", name)
    if "recorded" in case:
        row = recorded()[case["recorded"]]
        return api, row["request"], json.loads(row["body"])
    assert case["written"].startswith("https://")
    return api, case["request"], case["response"]
