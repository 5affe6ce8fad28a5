"""Costs, comparisons and texts are the same in any decimal context of the application."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.processes import ran

pytest.importorskip("genai_prices", reason="needs published prices: pip install 'callspan[cost]'")

STRICT = """
import decimal

context = decimal.DefaultContext  # that of new threads, too, such as those that price and deliver
context.prec, context.rounding, context.capitals = 3, decimal.ROUND_UP, 0
for signal in (decimal.Inexact, decimal.Rounded, decimal.FloatOperation, decimal.Subnormal, decimal.Clamped):
    context.traps[signal] = True
context.traps[decimal.InvalidOperation] = False
decimal.setcontext(context.copy())
"""
PROGRAM = """
import json
import pathlib
from array import array
from contextlib import closing
from decimal import Decimal

from tests.cost.test_price_lists import cost_of, counted
from tests.support.records import keep

from callspan import open_store
from callspan.comparison.diff import against_text, diff
from callspan.comparison.differences import compare_groups
from callspan.comparison.groups import Group
from callspan.comparison.sides import read_side
from callspan.cost import Pricer
from callspan.formatting import exact, money
from callspan.records import Place, Usage, UsageIteration
from callspan.stores import CallFilter

prices = pathlib.Path("prices.json")
of_model = {"input": "0.1234567", "output": "0.7", "tools": {"web_search": "0.0123456"}}
prices.write_text(json.dumps({"models": {"m": of_model}}))
run = UsageIteration(kind="advisor_message", model="m", input_tokens=34_567, output_tokens=1)
counts = {"input_tokens": 1_234_567, "output_tokens": 333_333}
first, second = Place(session_id="a"), Place(session_id="b")
published = [
    counted("gpt-5", place=first, **counts),
    counted("gpt-3.5-turbo-instruct", batch_id="half", place=second, call_id="c2", **counts),
    counted("claude-sonnet-4-5", "anthropic", tier="batch", batch_id="b", place=second, call_id="c3", **counts),
]
own = [
    counted("m", "x", input_tokens=1_234_567, batch_id="half"),
    counted("m", "x", usage=Usage(input_tokens=1_234_567, output_tokens=0, web_search_requests=3)),
    counted("m", "x", usage=Usage(input_tokens=1_234_567, output_tokens=7, iterations=[run])),
]
costs = [*map(cost_of, published), *(cost_of(record, prices) for record in own)]
print([cost and (exact(cost.usd), money(cost.usd), cost.reason) for cost in costs])

with closing(open_store(keep("sqlite:///calls.db", *map(Pricer().priced, published)))) as reader:
    above = CallFilter(min_cost_usd=Decimal("1.25925825"), max_cost_usd=Decimal("4.87653874"))
    print([call.call_id for call in reader.calls(above)], [exact(sums.cost_usd) for sums in reader.summary("model")])
    sessions = list(reader.sessions())
    values = reader.session_values()
    groups = [Group((name,), values, array("q", [number])) for number, name in enumerate(values.ids)]
    print([(each.measure.name, each.first, each.second, each.difference) for each in compare_groups(*groups)])
    first, second = (read_side(reader, session, 10) for session in sessions)
    print([(fact.name, fact.difference, against_text(fact)) for fact in diff(first, second).facts])
"""


def test_costs_and_comparisons_are_the_same_in_any_decimal_context(tmp_path: Path) -> None:
    (tmp_path / "strict").mkdir()
    usual = ran("-c", PROGRAM, cwd=tmp_path).stdout
    strict = ran("-c", STRICT + PROGRAM, cwd=tmp_path / "strict").stdout
    assert strict == usual
    assert "half the usual price" in usual
