"""Attributes set on a span or event in one step: equal to the SDK's own method, with all its limits."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import Span, SpanLimits, TracerProvider

from callspan.spans.call import add_event, put_attributes

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
    [
        SpanLimits(),
        SpanLimits(max_span_attributes=6),
        SpanLimits(max_event_attributes=6),
        SpanLimits(max_events=1),
        SpanLimits(max_attribute_length=5),
        SpanLimits(max_attributes=0),
    ]
)


def a_span(limits: SpanLimits, begun_with: dict[str, Any]) -> Span:
    span = TracerProvider(span_limits=limits).get_tracer("t").start_span("s", attributes=begun_with)
    assert isinstance(span, Span)
    return span


def events(span: Span) -> list[tuple[str, dict[str, Any], int, int]]:
    return [
        (event.name, dict(event.attributes or {}), event.dropped_attributes, event.timestamp) for event in span.events
    ]


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
    put_attributes(at_once, attributes)
    one_by_one.set_attributes(attributes)
    assert shown(at_once) == shown(one_by_one)


@given(limits=LIMITS, several=st.lists(ATTRIBUTES, max_size=3))
def test_events_are_what_the_sdk_would_make_of_them(limits: SpanLimits, several: list[dict[str, Any]]) -> None:
    ours, theirs = a_span(limits, {}), a_span(limits, {})
    for number, attributes in enumerate(several):
        add_event(ours, f"event {number}", attributes, number)
        theirs.add_event(f"event {number}", attributes, number)
    assert events(ours) == events(theirs)
    assert ours.dropped_events == theirs.dropped_events


class _Odd:
    def __str__(self) -> str:
        return "odd"


@pytest.mark.parametrize("value", [["a", 1], _Odd(), ("a", _Odd()), (("a",),), {"a": _Odd()}, None, b"a", (1, 2.5)])
def test_values_set_by_a_callback_are_converted_by_the_sdk(value: Any) -> None:
    """An exporter that cannot write one value loses the spans of others with it."""
    ours, theirs = a_span(SpanLimits(), {}), a_span(SpanLimits(), {})
    given = {"plain": 1, "hooked": value}
    put_attributes(ours, given)
    add_event(ours, "event", given, 1)
    theirs.set_attributes(given)
    theirs.add_event("event", given, 1)
    assert shown(ours) == shown(theirs)
    assert events(ours) == events(theirs)
