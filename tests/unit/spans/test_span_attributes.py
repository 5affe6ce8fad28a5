"""Attributes put on a span in one step: the same span as when each is set, whatever its limits."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import Span, SpanLimits, TracerProvider
from opentelemetry.trace import INVALID_SPAN

from callspan.spans.span_attributes import put

NAMES = st.sampled_from([f"llm.{letter}" for letter in "abcdefghijkl"])
VALUES: st.SearchStrategy[Any] = (
    st.text(max_size=12)
    | st.integers()
    | st.floats(allow_nan=False)
    | st.booleans()
    | st.lists(st.text(max_size=12), max_size=3).map(tuple)
)
ATTRIBUTES = st.dictionaries(NAMES, VALUES, max_size=10)
LIMITS = st.sampled_from(
    [SpanLimits(), SpanLimits(max_span_attributes=6), SpanLimits(max_attribute_length=5), SpanLimits(max_attributes=0)]
)


def a_span(limits: SpanLimits, begun_with: dict[str, Any]) -> Span:
    span = TracerProvider(span_limits=limits).get_tracer("t").start_span("s", attributes=begun_with)
    assert isinstance(span, Span)
    return span


def shown(span: Span) -> tuple[dict[str, Any], int]:
    return dict(span.attributes or {}), span.dropped_attributes


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    """The SDK warns of each value it cuts or drops."""
    logger = logging.getLogger("opentelemetry")
    before = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(before)


@given(limits=LIMITS, before=ATTRIBUTES, attributes=ATTRIBUTES)
def test_a_span_shows_what_setting_each_would_show(
    limits: SpanLimits, before: dict[str, Any], attributes: dict[str, Any]
) -> None:
    at_once, one_by_one = a_span(limits, before), a_span(limits, before)
    put(at_once, attributes)
    one_by_one.set_attributes(attributes)
    assert shown(at_once) == shown(one_by_one)


def test_an_ended_span_takes_no_more() -> None:
    span = a_span(SpanLimits(), {"a": 1})
    span.end()
    put(span, {"b": 2})
    assert shown(span)[0] == {"a": 1}


def test_a_span_of_another_make_is_asked_to_set_them() -> None:
    class Own:
        def __init__(self) -> None:
            self.seen: dict[str, Any] = {}

        def set_attributes(self, attributes: dict[str, Any]) -> None:
            self.seen.update(attributes)

    own = Own()
    put(own, {"a": 1})  # type: ignore[arg-type]
    assert own.seen == {"a": 1}
    put(INVALID_SPAN, {"a": 1})


@pytest.mark.parametrize("kept_in", [None, {}, "elsewhere"])
def test_an_sdk_that_keeps_them_otherwise_is_asked_to_set_them(kept_in: object) -> None:
    told: list[Any] = []

    class Otherwise(Span):
        def set_attributes(self, attributes: Any) -> None:
            told.append(attributes)

    span = object.__new__(Otherwise)
    if kept_in is not None:
        span._attributes = kept_in  # type: ignore[assignment]
    put(span, {"a": 1})
    assert told == [{"a": 1}]
