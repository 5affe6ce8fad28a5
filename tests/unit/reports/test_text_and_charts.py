"""Safe text, charts of few and unusual values, and own prices."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from callspan import formatting
from callspan.cost.price_table import ModelPrices, PriceTable
from callspan.record.usage import Usage
from callspan.reports import page
from tests.points import points


@given(st.text(), st.integers(1, 20))
def test_shown_text_is_one_line_within_its_limit(value: str, limit: int) -> None:
    found = formatting.shown(value, limit)
    assert len(found) <= limit
    assert not set(found) & set("\n\r\t\0\x1b\u202e\u2028")


@given(st.text() | st.dictionaries(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8"))))
def test_a_block_of_json_holds_no_markup(value: object) -> None:
    if isinstance(value, str):
        value = value.encode("utf-8", "replace").decode()
    block = formatting.json_block(value)
    assert not set(block) & set("<>&\u2028\u2029")
    assert json.loads(block) == value


def drawing(figure: str) -> ET.Element:
    return ET.fromstring(figure)


@given(st.lists(st.floats(-10, 1e7, allow_nan=False), max_size=20))
def test_a_histogram_counts_every_call_once(values: list[float]) -> None:
    positive = [value for value in values if value > 0]
    figure = page.histogram([value * 1e6 for value in values], "time & <b>")
    assert "<b>" not in figure
    if not positive:
        assert "nothing to show" in figure
        return
    bars = [bar.findtext("title") or "" for bar in drawing(figure).iter("rect")]
    assert sum(int(title.rpartition(": ")[2]) for title in bars) == len(positive)


@points(
    "rewards",
    [
        [],
        [("one", 0.0, None)],
        [("a", 1.0, True), ("b", -1.0, False)],
        [("a", 5.0, None)] * 100,
        [("nan", float("nan"), None), ("inf", float("inf"), True), ("x", 1.0, None), ("y", 2.0, None)],
    ],
)
def test_a_curve_has_a_dot_for_each_reward_that_is_a_number(rewards: list[tuple[str, float, bool | None]]) -> None:
    found = drawing(page.reward_curve(rewards))
    finite = [reward for _, reward, _ in rewards if abs(reward) < float("inf")]
    dots = list(found.iter("circle"))
    assert len(dots) == len(finite)
    assert all(page._REWARD_TOP <= float(dot.attrib["cy"]) <= page._HEIGHT - page._BOTTOM for dot in dots)
    assert len(list(found.iter("polyline"))) == (len(finite) > 2)


def test_a_bar_of_shares_lays_its_parts_side_by_side() -> None:
    parts = list(drawing(page.share_bar((("in", 0.25), ("out", 0.5)))).iter("rect"))
    assert [(part.attrib["class"], part.attrib["x"], part.attrib["width"]) for part in parts] == [
        ("in", "0.0", "25.0"),
        ("out", "25.0", "50.0"),
    ]


PRICES = ModelPrices(
    input=Decimal(2),
    output=Decimal(10),
    cache_read=Decimal("0.2"),
    cache_write=Decimal("2.5"),
    cache_write_1h=Decimal(4),
)


@points(
    ("usage", "microdollars"),
    [
        (Usage(), None),
        (Usage(output_tokens=5), None),
        (Usage(input_tokens=0), "0"),
        (Usage(input_tokens=3, output_tokens=2), "26"),
        (Usage(input_tokens=10, cache_read_tokens=4), "12.8"),
        (Usage(input_tokens=10, cache_read_tokens=10), "2"),
        (Usage(input_tokens=10, cache_write_tokens=4), "22"),
        (Usage(input_tokens=10, cache_write_tokens=4, cache_write_1h_tokens=1), "23.5"),
        (Usage(input_tokens=10, cache_read_tokens=6, cache_write_tokens=5), None),
    ],
)
def test_own_prices_count_each_kind_of_token_once(usage: Usage, microdollars: str | None) -> None:
    assert PRICES.usd(usage) == (None if microdollars is None else Decimal(microdollars) / 10**6)


@points(
    ("provider", "model", "row"),
    [
        ("p", "gpt-5", 1), ("q", "gpt-5", 2), ("p", "gpt-5-mini", 3), ("p", "gpt-6", 4), ("p", "other", 5),
        ("q", "other", None), ("q", "gp", None), ("q", "GPT-5", None),
    ],
)  # fmt: skip
def test_the_nearest_row_of_a_price_file(provider: str, model: str, row: int | None) -> None:
    rows = {"p/gpt-5": 1, "gpt-5": 2, "gpt-5*": 3, "gpt*": 4, "p/*": 5}
    table = PriceTable(models={name: ModelPrices(input=Decimal(number)) for name, number in rows.items()})
    found = table.find(provider, model)
    assert (found and found.input) == row
