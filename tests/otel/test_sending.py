"""Spans are sent in requests that a receiver takes, each once; what it refuses is found, and the rest arrives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from callspan.otlp import sending
from callspan.otlp.encoding import encode_resource, encode_scope, encode_span
from callspan.otlp.sending import MAX_REQUEST_BYTES, EncodedSpan, Envelope, SpanSender
from callspan.otlp.transport import RefusedError, Rejection, UnavailableError, transport_of
from callspan.semconv.spans import Span
from tests.otel.receiver import OtlpReceiver

SHOP, BANK = (
    Envelope(encode_resource({"service.name": name}), "https://r", encode_scope("callspan", "1"), "https://s")
    for name in ("shop", "bank")
)


def encoded(number: int, trace: int = 1, *, size: int = 0, envelope: Envelope = SHOP) -> EncodedSpan:
    made = Span(
        trace_id=f"{trace:032x}", span_id=f"{number + 1:016x}", name="n", is_client=True, start_ns=1, end_ns=2,
        attributes={"text": "x" * size},
    )  # fmt: skip
    return EncodedSpan(made.trace_id, encode_span(made), envelope)


class Receiver:
    """Answers requests as `answer` says."""

    def __init__(self, answer: Callable[[Sequence[int]], Rejection | None] = lambda _: None) -> None:
        self.answer = answer
        self.requests: list[list[int]] = []
        self.sizes: list[int] = []

    def send(self, request: bytes) -> Rejection | None:
        parsed = ExportTraceServiceRequest.FromString(request)
        numbers = [
            int.from_bytes(one.span_id, "big") - 1
            for resource in parsed.resource_spans
            for scope in resource.scope_spans
            for one in scope.spans
        ]
        self.sizes.append(len(request))
        self.requests.append(numbers)
        return self.answer(numbers)

    def close(self) -> None:
        """Nothing is open."""


def deliver(receiver: Receiver, spans: Sequence[EncodedSpan]) -> tuple[SpanSender, list[int], dict[int, str]]:
    sender, taken, refused = SpanSender(receiver), list[int](), dict[int, str]()
    sender.send(spans, taken.extend, refused.__setitem__)
    return sender, taken, refused


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 900)), max_size=30))
def test_requests_are_small_enough_and_have_each_span_once_in_order(plan: list[tuple[int, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sending, "MAX_REQUEST_BYTES", 1_500)
        spans = [encoded(number, trace, size=size) for number, (trace, size) in enumerate(plan)]
        receiver = Receiver()
        _, taken, _ = deliver(receiver, spans)
        assert taken == [*range(len(spans))]
        assert [number for request in receiver.requests for number in request] == taken
        assert all(size <= 1_500 for size in receiver.sizes)


def test_spans_of_one_trace_stay_together() -> None:
    third = MAX_REQUEST_BYTES // 3
    sizes = [(1, 1.5), (2, 0.9), (2, 0.9), (3, 0.5), (4, 1), (4, 1), (4, 1)]
    spans = [encoded(number, trace, size=int(third * part)) for number, (trace, part) in enumerate(sizes)]
    receiver = Receiver()
    deliver(receiver, spans)
    assert receiver.requests == [[0], [1, 2, 3], [4, 5], [6]]


def test_spans_of_several_services_are_one_request(receiver: OtlpReceiver) -> None:
    spans = [encoded(0), encoded(1, envelope=BANK), encoded(2, envelope=BANK), encoded(3)]
    transport = transport_of(f"otlp+{receiver.url}", {})
    SpanSender(transport).send(spans, lambda _: None, lambda *_: None)
    transport.close()
    assert len(receiver.requests) == 1
    assert [one.resource["service.name"] for one in receiver.spans] == ["shop", "bank", "bank", "shop"]


def test_what_is_refused_is_found_by_halves() -> None:
    def answer(numbers: Sequence[int]) -> None:
        if {3, 11} & set(numbers):
            raise RefusedError("413 Request Entity Too Large")

    receiver = Receiver(answer)
    sender, taken, refused = deliver(receiver, [encoded(number) for number in range(16)])
    assert refused == dict.fromkeys((3, 11), "413 Request Entity Too Large")
    assert taken == [number for number in range(16) if number not in refused]
    assert (sender.taken, sender.refused, sender.rejected) == (14, 2, 0)
    assert len(receiver.requests) == 15


def test_a_real_receiver_takes_all_but_what_is_too_large(receiver: OtlpReceiver) -> None:
    receiver.max_bytes = 20_000
    sizes = [100, 30_000, 15_000, 9_000, 9_000, 40_000, 10]
    sender, refused = SpanSender(transport_of(f"otlp+{receiver.url}", {})), dict[int, str]()
    sender.send([encoded(number, size=size) for number, size in enumerate(sizes)], lambda _: None, refused.__setitem__)
    assert [*refused] == [1, 5]
    assert sorted(int(one.span_id, 16) - 1 for one in receiver.spans) == [0, 2, 3, 4, 6]
    assert max(receiver.accepted) <= 20_000


def test_what_was_rejected_is_counted_and_not_sent_again() -> None:
    receiver = Receiver(lambda numbers: Rejection(2 if len(numbers) > 1 else 9, "too old"))
    sender, taken, refused = deliver(receiver, [encoded(number) for number in range(4)])
    assert (taken, refused) == ([0, 1, 2, 3], {})
    assert (sender.taken, sender.rejected, sender.message) == (4, 2, "too old")
    sender.send([encoded(5)], taken.extend, refused.__setitem__)
    assert sender.rejected == 3
    assert len(receiver.requests) == 2


def test_after_an_outage_only_the_rest_is_to_be_sent() -> None:
    third = MAX_REQUEST_BYTES // 3
    spans = [encoded(number, number, size=third) for number in range(5)]

    def answer(_: Sequence[int]) -> None:
        if len(receiver.requests) == 2:
            raise UnavailableError("503 Service Unavailable", 7.0)

    receiver = Receiver(answer)
    taken = list[int]()
    with pytest.raises(UnavailableError) as raised:
        SpanSender(receiver).send(spans, taken.extend, lambda *_: None)
    assert raised.value.retry_after_s == 7.0
    assert taken == [0, 1]
