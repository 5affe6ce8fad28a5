"""`callspan reprice`: new costs, exactly, in every store that can be read."""

from __future__ import annotations

import json
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from callspan import open_store
from callspan.records import Cost, Usage
from tests.support.commands import ask
from tests.support.records import keep

from .answers import call_of, counted

PRICES = {"version": "v1", "models": {"m": {"input": "0.003", "output": "0.29"}}}


@pytest.fixture
def prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("CALLSPAN_PRICES", raising=False)
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(PRICES))
    return str(path)


def costs(url: str) -> dict[str, Cost | None]:
    with closing(open_store(url)) as reader:
        return {call.call_id: call.cost for call in reader.calls()}


def reprice(url: str, *arguments: str) -> Any:
    return ask("--store", url, "reprice", "--json", *arguments).json


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/calls.db"


def test_a_dimension_that_was_not_priced_when_a_call_was_recorded_is_repaired(store: str) -> None:
    pytest.importorskip("genai_prices", reason="needs published prices: pip install 'callspan[cost]'")
    asked = {"model": "claude-opus-4-8", "speed": "fast", "inference_geo": "us"}
    usage = {"input_tokens": 1000, "output_tokens": 100, "speed": "fast", "inference_geo": "us"}
    answer = {"type": "message", "content": [], "model": "claude-opus-4-8", "usage": usage}
    old = Cost(usd=Decimal("0.0075"), source="genai-prices 0.1")
    keep(store, call_of("messages", asked, answer, "off", cost=old))
    assert reprice(store, "--all")["changed"] == 1
    (cost,) = costs(store).values()
    assert cost is not None
    assert (cost.usd, cost.estimated, cost.reason) == (Decimal("0.015"), True, "no price for inference_geo=us")


def test_calls_without_a_cost_get_one_and_all_but_stated_ones_on_request(store: str, prices: str) -> None:
    old, stated = Cost(usd=Decimal("0.5"), source="v0"), Cost(usd=Decimal("0.7"), source="provider")
    keep(
        store,
        counted("m", "x", call_id="a", input_tokens=1, output_tokens=1),
        counted("m", "x", call_id="b", input_tokens=1, cost=old),
        counted("dark", "x", call_id="c", input_tokens=1),
        counted("m", "x", call_id="d", usage=Usage(input_tokens=1, cost_usd=Decimal("0.7")), cost=stated),
    )
    output = reprice(store, "--prices", prices)
    assert output == {"calls": 4, "changed": 1, "written": True}
    new = Cost(usd=Decimal("0.000000293"), source="v1")
    assert costs(store) == {"a": new, "b": old, "c": None, "d": stated}
    assert [reprice(store, "--all", "--prices", prices)["changed"] for _ in range(2)] == [1, 0]
    assert costs(store) == {"a": new, "b": Cost(usd=Decimal("0.000000003"), source="v1"), "c": None, "d": stated}


def test_everything_else_of_a_call_stays(store: str, prices: str) -> None:
    keep(store, counted("m", "x", call_id="a", input_tokens=1, metadata={"deep": [1, {"x": None}]}))
    before = next(iter(open_store(store).calls()))
    reprice(store, "--prices", prices)
    after = next(iter(open_store(store).calls()))
    names = [name for name in after.__struct_fields__ if name not in {"cost", "seen_ns"}]
    assert [getattr(after, name) for name in names] == [getattr(before, name) for name in names]
    assert after.seen_ns


def test_a_price_file_that_is_wrong_is_wrong_usage(store: str, tmp_path: Path) -> None:
    keep(store, counted("m", "x"))
    (tmp_path / "bad.json").write_text("{")
    answer = ask("--store", store, "reprice", "--prices", str(tmp_path / "bad.json"))
    assert (answer.code, "bad.json" in answer.err) == (2, True)
