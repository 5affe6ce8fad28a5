"""Spans as data are encoded byte for byte as OpenTelemetry's exporter encodes the same span of the SDK."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace import SpanLimits as SdkLimits
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceState

from callspan.otlp.encoding import encode_request, encode_span
from callspan.record.span_frames import SpanLimits
from callspan.records import SpanLink
from callspan.semconv.call import SpanEvent
from callspan.semconv.spans import Span
from tests.spans_of_records import sent

RESOURCE, SCOPE = (
    Resource({"service.name": "shop"}, "https://schema"),
    InstrumentationScope("callspan", "1", "https://s"),
)
VALUES = st.one_of(
    st.text(max_size=200), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False),
    st.lists(st.text(max_size=9), max_size=3).map(tuple),
)  # fmt: skip
ATTRIBUTES = st.dictionaries(st.text(min_size=1, max_size=150), VALUES, max_size=6)
TIMES = st.integers(1, 2**63)


def ids(bytes_: int) -> st.SearchStrategy[int]:
    return st.integers(1, 2 ** (8 * bytes_) - 1)


@given(st.data())
def test_any_span_is_encoded_as_by_the_exporter(data: st.DataObject) -> None:
    draw = data.draw
    trace_id, span_id, parent_id = draw(ids(16)), draw(ids(8)), draw(st.none() | ids(8))
    is_remote, state = draw(st.booleans()), draw(st.none() | st.just("vendor=1,other=2"))
    attributes, name, is_client = draw(ATTRIBUTES), draw(st.text(max_size=300)), draw(st.booleans())
    start_ns, end_ns = draw(TIMES), draw(TIMES)
    events = draw(st.lists(st.tuples(st.text(max_size=9), ATTRIBUTES | st.none(), TIMES), max_size=2))
    links = draw(st.lists(st.tuples(ids(16), ids(8), st.booleans()), max_size=2))
    failure = draw(st.none() | st.text(max_size=200))
    trace_state = TraceState.from_header([state]) if state else TraceState()
    theirs = ReadableSpan(
        name=name, context=SpanContext(trace_id, span_id, is_remote=False, trace_state=trace_state),
        parent=None if parent_id is None else SpanContext(trace_id, parent_id, is_remote=is_remote),
        attributes=attributes, kind=SpanKind.CLIENT if is_client else SpanKind.INTERNAL, start_time=start_ns,
        end_time=end_ns, events=[Event(*event) for event in events],
        links=[Link(SpanContext(*link)) for link in links],
        status=Status(StatusCode.UNSET) if failure is None else Status(StatusCode.ERROR, failure),
        resource=RESOURCE, instrumentation_scope=SCOPE,
    )  # fmt: skip
    ours = Span(
        trace_id=f"{trace_id:032x}", span_id=f"{span_id:016x}",
        parent_span_id=None if parent_id is None else f"{parent_id:016x}",
        is_parent_remote=is_remote and parent_id is not None, trace_state=state, name=name, is_client=is_client,
        start_ns=start_ns, end_ns=end_ns, attributes=attributes, events=[SpanEvent(*event) for event in events],
        links=[
            SpanLink(trace_id=f"{one:032x}", span_id=f"{other:016x}", is_remote=remote) for one, other, remote in links
        ],
        failure=failure,
    )  # fmt: skip
    assert encode_span(ours) == sent(theirs).SerializeToString()
    whole = encode_spans([theirs, theirs])
    of_resource = whole.resource_spans[0]
    made = encode_request(
        of_resource.resource.SerializeToString(), of_resource.schema_url,
        of_resource.scope_spans[0].scope.SerializeToString(), of_resource.scope_spans[0].schema_url,
        [encode_span(ours)] * 2,
    )  # fmt: skip
    assert made == whole.SerializeToString()
    assert ExportTraceServiceRequest.FromString(made) == whole


@pytest.mark.parametrize("value", [0, 0.0, -0.0, "", False, (), -1, 2**63 - 1, float("inf")])
def test_values_that_are_defaults_of_protobuf_are_kept(value: Any) -> None:
    context = SpanContext(1, 2, is_remote=False)
    theirs = ReadableSpan("n", context, attributes={"a": value}, start_time=1, end_time=2, kind=SpanKind.CLIENT)
    ours = Span(
        trace_id=f"{1:032x}",
        span_id=f"{2:016x}",
        name="n",
        is_client=True,
        start_ns=1,
        end_ns=2,
        attributes={"a": value},
    )
    assert encode_span(ours) == sent(theirs).SerializeToString()


@given(
    st.dictionaries(st.text(min_size=1, max_size=9), VALUES, max_size=9),
    st.lists(ATTRIBUTES, max_size=5), st.integers(0, 4), st.integers(0, 3), st.integers(0, 2),
    st.none() | st.integers(0, 5),
)  # fmt: skip
def test_what_the_limits_leave_is_what_a_span_of_the_sdk_keeps(
    attributes: dict[str, Any], events: list[dict[str, Any]], most: int, events_most: int, inner: int, chars: int | None
) -> None:
    """The last of what there are too many of, with the number of the others, and short texts."""
    provider = TracerProvider(
        resource=RESOURCE, span_limits=SdkLimits(
            max_span_attributes=most, max_events=events_most, max_event_attributes=inner, max_links=1,
            max_attribute_length=chars,
        ),
    )  # fmt: skip
    other = SpanContext(2**100, 7, is_remote=False)
    theirs: Any = provider.get_tracer("t").start_span("s", attributes=attributes, links=[Link(other), Link(other)])
    for number, one in enumerate(events):
        theirs.add_event(f"e{number}", one, 5)
    theirs.end(9)
    ours = Span(
        trace_id=f"{theirs.context.trace_id:032x}", span_id=f"{theirs.context.span_id:016x}", name="s", is_client=False,
        start_ns=theirs.start_time, end_ns=9, attributes=attributes,
        events=[SpanEvent(f"e{number}", one, 5) for number, one in enumerate(events)],
        links=[SpanLink(trace_id=f"{2**100:032x}", span_id=f"{7:016x}")] * 2,
    )  # fmt: skip
    limits = SpanLimits(
        attributes=most, events=events_most, links=1, event_attributes=inner, value_chars=chars, event_value_chars=chars
    )
    assert encode_span(ours, limits) == sent(theirs).SerializeToString()
