"""`callspan reprice`: new costs, exactly, in every store that can be read."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from callspan import open_store
from callspan.records import Cost, Usage, decode, encode
from callspan.stores import find_store
from tests.commands import callspan

from .answers import call_of
from .conftest import MakeCall

PRICES = {"version": "v1", "models": {"m": {"input": "0.003", "output": "0.29"}}}


@pytest.fixture
def prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("CALLSPAN_PRICES", raising=False)
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(PRICES))
    return str(path)


def keep(url: str, *calls: Any) -> None:
    sink = find_store(url).sink()
    sink.open()
    sink.deliver([decode(encode(call)) for call in calls])
    sink.close()


def costs(url: str) -> dict[str, Cost | None]:
    reader = open_store(url)
    found = {call.call_id: call.cost for call in reader.calls()}
    reader.close()
    return found


def reprice(url: str, *arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(callspan, ["--store", url, "reprice", "--json", *arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return json.loads(result.stdout) if code == 0 else result.output


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


def test_calls_without_a_cost_get_one_and_others_keep_theirs(store: str, prices: str, call: MakeCall) -> None:
    old = Cost(usd=Decimal("0.5"), source="v0")
    keep(
        store,
        call("m", "x", call_id="a", input_tokens=1, output_tokens=1),
        call("m", "x", call_id="b", input_tokens=1, cost=old),
        call("dark", "x", call_id="c", input_tokens=1),
    )
    output = reprice(store, "--prices", prices)
    assert output == {"calls": 3, "changed": 1, "cost_usd": "0.000000293", "unknown": {"dark": 1}, "written": True}
    assert costs(store) == {"a": Cost(usd=Decimal("0.000000293"), source="v1"), "b": old, "c": None}


def test_all_calls_are_repriced_except_costs_reported_by_the_provider(store: str, prices: str, call: MakeCall) -> None:
    stated = Usage(input_tokens=1, cost_usd=Decimal("0.7"))
    keep(
        store,
        call("m", "x", call_id="a", input_tokens=1, cost=Cost(usd=Decimal(1), source="v0")),
        call("m", "x", call_id="b", usage=stated, cost=Cost(usd=Decimal("0.7"), source="provider")),
    )
    assert reprice(store, "--all", "--prices", prices)["changed"] == 1
    assert reprice(store, "--all", "--prices", prices)["changed"] == 0
    assert costs(store)["b"] == Cost(usd=Decimal("0.7"), source="provider")


def test_everything_else_of_a_call_stays(store: str, prices: str, call: MakeCall) -> None:
    keep(store, call("m", "x", call_id="a", input_tokens=1, metadata={"deep": [1, {"x": None}]}))
    before = next(iter(open_store(store).calls()))
    reprice(store, "--prices", prices)
    after = next(iter(open_store(store).calls()))
    names = [name for name in after.__struct_fields__ if name not in {"cost", "seen_ns"}]
    assert [getattr(after, name) for name in names] == [getattr(before, name) for name in names]
    assert after.seen_ns


def test_many_calls_are_added_without_a_rounding(prices: str, call: MakeCall, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/many.db"
    keep(url, *(call("m", "x", call_id=f"c{number}", input_tokens=1) for number in range(250)))
    assert reprice(url, "--prices", prices)["cost_usd"] == "0.000000750"
    (summary,) = open_store(url).summary("model")
    assert summary.cost_usd == Decimal("0.00000075")


def test_a_price_file_that_is_wrong_is_wrong_usage(store: str, call: MakeCall, tmp_path: Path) -> None:
    keep(store, call("m", "x"))
    (tmp_path / "bad.json").write_text("{")
    assert "bad.json" in reprice(store, "--prices", str(tmp_path / "bad.json"), code=2)


def test_reprice_without_calls_is_exit_code_1(store: str, prices: str, call: MakeCall) -> None:
    keep(store, call("m", "x"))
    result = CliRunner().invoke(callspan, ["--store", store, "reprice", "--prices", prices, "--model", "nope"])
    assert result.exit_code == 1
    assert "No such calls" in result.stderr
