"""Foreign data: what other programs write wrongly costs itself, and is said. All else is recorded and acknowledged.

Exporters send a request again only if it may be taken later. One that is refused for a character is lost whole.
"""

from __future__ import annotations

import base64
import gzip
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from tests.conftest import Read
from tests.receive.conftest import (
    GEN_AI,
    REQUESTS,
    Kept,
    ProtobufReader,
    Sender,
    Serve,
    calls,
    logs,
    post,
    recorded,
    span,
    traces,
    unrecorded_of,
)
from tests.support.waiting import HANG_S

from callspan.records import encode

CHARACTERS = "characters that are no Unicode"
NUMBERS = "numbers that have no value"
DEEP = "values that are nested too deeply"
UNDEFINED = "values that OTLP does not define"
PROTOBUF = "application/x-protobuf"
PLACEHOLDER = "PLACEHOLDER"


def two_calls(note: object = PLACEHOLDER) -> bytes:
    """A request with two calls, of which the first has a note."""
    spans = (span({**GEN_AI, "gen_ai.response.id": f"r{i}", "gen_ai.agent.id": "a", "note": note}, i) for i in (1, 2))
    return json.dumps(traces(*spans)).encode()


def with_value(value: bytes) -> bytes:
    """The same, with other bytes in place of the string or number of each note."""
    return two_calls().replace(b'{"stringValue": "PLACEHOLDER"}', value)


@pytest.mark.parametrize(
    ("value", "replaced"),
    [
        (rb'{"stringValue": "cut \ud83d"}', {CHARACTERS: 2}),
        (rb'{"stringValue": "\ude00 cut"}', {CHARACTERS: 2}),
        (rb'{"stringValue": "\ud83d\ud83d\ude00"}', {CHARACTERS: 2}),
        (rb'{"stringValue": "\\\ud83d"}', {CHARACTERS: 2}),
        (rb'{"stringValue": "\\ud83d is no half"}', {}),
        (b'{"stringValue": "cut \xf0\x9f\x98"}', {CHARACTERS: 2}),
        (b'{"stringValue": "a half \xed\xa0\xbd"}', {CHARACTERS: 2}),
        (b'{"stringValue": "two halves \xed\xa0\xbd\xed\xb8\x80"}', {}),
        (b'{"stringValue": "Latin \xe4 \xfc"}', {CHARACTERS: 4}),
        (rb'{"stringValue": "a\u0000b"}', {CHARACTERS: 2}),
        (b'{"stringValue": "two\nlines"}', {}),
        (b'{"doubleValue": NaN}', {NUMBERS: 2}),
        (b'{"doubleValue": "NaN"}', {NUMBERS: 2}),
        (b'{"doubleValue": -Infinity}', {NUMBERS: 2}),
        (b'{"doubleValue": 1e999}', {NUMBERS: 2}),
        (b'{"intValue": 1%s}' % (b"0" * 30), {NUMBERS: 2}),
        (b'{"intValue": 1%s}' % (b"0" * 600), {NUMBERS: 2}),
        (b'{"intValue": 1%s}' % (b"0" * 6000), {NUMBERS: 2}),
        (b'{"doubleValue": 1%s}' % (b"0" * 600), {NUMBERS: 2}),
        (b'{"intValue": "-%s"}' % (b"9" * 40), {NUMBERS: 2}),
        (b'{"arrayValue":{"values":[' * 20 + b"]}}" * 20, {DEEP: 2}),
        (b'{"arrayValue":{"values":[' * 2000 + b'{"stringValue": "]"}' + b"]}}" * 2000, {DEEP: 4}),
        (b'{"stringValue": 7, "stringValue": "twice"}', {}),
        (b'{"arrayValue": 7}', {}),
        (b"[]", {UNDEFINED: 2}),
        (b'"bare"', {UNDEFINED: 2}),
        (b"{}", {}),
        (b"null", {}),
        (b'{"stringValue": 7}', {UNDEFINED: 2}),
        (b'{"boolValue": "true"}', {UNDEFINED: 2}),
        (b'{"decimalValue": "7"}', {UNDEFINED: 2}),
        (b'{"bytesValue": 7}', {UNDEFINED: 2}),
        (b'{"bytesValue": "/w=="}', {CHARACTERS: 2}),
        (b'{"bytesValue": "7aC97aC9"}', {CHARACTERS: 4}),
        (b'{"bytesValue": "77+9"}', {}),
        (b'{"bytesValue": "YQBi"}', {CHARACTERS: 2}),
    ],
)
def test_json_costs_only_what_is_wrong(kept: Kept, value: bytes, replaced: dict[str, int]) -> None:
    receipt = kept.inbox.take("traces", with_value(value), Sender(), is_protobuf=False).result(HANG_S)
    assert receipt is not None
    assert {call.response.id for call in kept.calls.values() if call.response} == {"r1", "r2"}
    assert {call.usage.input_tokens for call in kept.calls.values() if call.usage} == {5}
    assert (receipt.rejected, dict(kept.inbox.unread)) == (0, replaced)
    assert kept.unrecorded == [f"{what}, in OTLP requests" for what in replaced]
    assert all(f"{what} ({number})" in receipt.message for what, number in replaced.items())


@pytest.mark.parametrize(
    ("value", "ident"),
    [
        ({"bytesValue": "cj8/Pz4+Pg=="}, "r???>>>"),
        ({"bytesValue": "cj8_Pz4-Pg=="}, "r???>>>"),
        ({"bytesValue": "cj8/Pz4+Pg"}, "r???>>>"),
        ({"bytesValue": "no base64!"}, "no base64!"),
        ({"bytesValue": "8J+YgA=="}, "\U0001f600"),
        ({"bytesValue": "8J+Y"}, "\ufffd"),
        ({"bytesValue": "YQBi"}, "a\ufffdb"),
        ({"stringValue": None, "bytesValue": "YQ==", "intValue": None}, "a"),
        ({"intValue": None, "stringValue": "b"}, "b"),
    ],
)
def test_bytes_are_read_as_text(kept: Kept, value: dict[str, Any], ident: str) -> None:
    request = traces(span({**GEN_AI, "gen_ai.response.id": PLACEHOLDER}))
    body = json.dumps(request).replace(json.dumps({"stringValue": PLACEHOLDER}), json.dumps(value)).encode()
    assert kept.take(body, "traces")
    (call,) = kept.calls.values()
    assert call.response is not None
    assert call.response.id == ident


@pytest.mark.parametrize(
    ("data", "ident"), [(b"r7", "r7"), (b"\xf0\x9f\x98\x80", "\U0001f600"), (b"\xff", "\ufffd"), (b"YQ==", "YQ==")]
)
def test_bytes_of_protobuf_are_read_as_text(kept: Kept, data: bytes, ident: str) -> None:
    request = ExportTraceServiceRequest()
    one = request.resource_spans.add().scope_spans.add().spans.add(trace_id=bytes([7] * 16), span_id=bytes([1] * 8))
    one.start_time_unix_nano, one.end_time_unix_nano = 1795939000000000000, 1795939001000000000
    for name, text in {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}.items():
        one.attributes.add(key=name).value.string_value = text
    one.attributes.add(key="gen_ai.response.id").value.bytes_value = data
    receipt = kept.inbox.take("traces", request.SerializeToString(), Sender(), is_protobuf=True).result(HANG_S)
    assert receipt is not None
    (call,) = kept.calls.values()
    assert call.response is not None
    assert call.response.id == ident
    assert dict(kept.inbox.unread) == ({CHARACTERS: 1} if ident == "\ufffd" else {})


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", b"\r\n "])
def test_json_with_a_byte_order_mark(kept: Kept, start: bytes) -> None:
    assert kept.take(start + two_calls(), "traces")
    assert len(kept.calls) == 2


def request_of_texts() -> Any:
    """A request in protobuf that has a text in each of its string fields, of the same length."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add(schema_url=PLACEHOLDER + "A")
    group.resource.attributes.add(key="service.name").value.string_value = PLACEHOLDER + "B"
    scopes = group.scope_spans.add(schema_url=PLACEHOLDER + "C")
    scopes.scope.name, scopes.scope.version = PLACEHOLDER + "D", PLACEHOLDER + "E"
    made = scopes.spans.add(
        trace_id=bytes(15) + b"\1", span_id=bytes(7) + b"\1", name=PLACEHOLDER + "F", trace_state=PLACEHOLDER + "G",
        start_time_unix_nano=1795939000000000000, end_time_unix_nano=1795939001000000000,
    )  # fmt: skip
    for key, item in GEN_AI.items():
        if isinstance(item, str):
            made.attributes.add(key=key).value.string_value = item
        elif isinstance(item, int):
            made.attributes.add(key=key).value.int_value = item
    made.attributes.add(key=PLACEHOLDER + "H").value.string_value = PLACEHOLDER + "I"
    made.attributes.add(key="list").value.array_value.values.add().string_value = PLACEHOLDER + "J"
    made.attributes.add(key="map").value.kvlist_value.values.add(key=PLACEHOLDER + "K")
    made.events.add(name=PLACEHOLDER + "L").attributes.add(key=PLACEHOLDER + "M").value.string_value = "x"
    made.status.message = PLACEHOLDER + "N"
    return request


@pytest.mark.parametrize("letter", "ABCDEFGHIJKLMN")
@pytest.mark.parametrize("wrong", [b"cut \xf0\x9f\x98", b"half \xed\xa0\xbd"])
def test_protobuf_costs_only_what_is_wrong(kept: Kept, letter: str, wrong: bytes) -> None:
    text = (PLACEHOLDER + letter).encode()
    body = request_of_texts().SerializeToString().replace(text, wrong.ljust(len(text)))
    receipt = kept.inbox.take("traces", body, Sender(), is_protobuf=True).result(HANG_S)
    (call,) = kept.calls.values()
    assert (receipt is not None, call.usage and call.usage.input_tokens) == (True, 5)
    is_read = letter in "BDFHIJKLMN"
    assert dict(kept.inbox.unread) == ({CHARACTERS: 1} if is_read else {})


def test_deep_protobuf_is_cut(kept: Kept) -> None:
    request = request_of_texts()
    value = request.resource_spans[0].scope_spans[0].spans[0].attributes.add(key="deep").value
    for _ in range(20):
        value = value.array_value.values.add()
    body = request.SerializeToString()
    assert kept.inbox.take("traces", body, Sender(), is_protobuf=True).result(HANG_S)
    nested = b""
    for _ in range(5000):  # deeper than any library makes or reads them
        nested = _field(1, _field(5, nested))
    span_with_it = _field(2, _field(9, _field(1, b"key") + _field(2, _field(5, nested))))
    deep = body + _field(1, _field(2, span_with_it))
    assert kept.inbox.take("traces", deep, Sender(), is_protobuf=True).result(HANG_S)
    assert (len(kept.calls), kept.inbox.unread[DEEP]) == (1, 3)


def _field(number: int, content: bytes) -> bytes:
    size, head = len(content), bytes([number << 3 | 2])
    while size > 127:
        head += bytes([size & 127 | 128])
        size >>= 7
    return head + bytes([size]) + content


def as_read(tree: Any, name: str = "") -> Any:
    """What is read of a request in the form of `MessageToDict`."""
    if isinstance(tree, dict):
        members = {key: as_read(item, key) for key, item in tree.items()}
        return {key: item for key, item in members.items() if item is not None}
    if isinstance(tree, list):
        return [as_read(item, name) for item in tree]
    return int(tree) if name.endswith("Nano") or name == "intValue" else tree


def test_protobuf_is_read_as_by_its_library() -> None:
    request = request_of_texts()
    for number in (0, 1, -1, 2**63 - 1, -(2**63)):
        made = request.resource_spans[0].scope_spans[0].spans.add(start_time_unix_nano=2**64 - 1)
        made.attributes.add(key="").value.int_value = number
        made.attributes.add(key="flag").value.bool_value = number > 0
        made.attributes.add(key="real").value.double_value = number / 3
        made.attributes.add(key="text").value.string_value = "😀\0" * (number & 300)
        made.attributes.add(key="nothing")
        made.status.code = 2
    made.ClearField("attributes")
    ours = ProtobufReader(request.SerializeToString(), 10_000).read(REQUESTS["traces"])
    unread = {"schemaUrl", "version", "traceState"}

    def without_unread(tree: Any, path: str = "") -> Any:
        if isinstance(tree, dict):
            return {key: without_unread(item, key) for key, item in tree.items() if key not in unread}
        if isinstance(tree, list):
            return [without_unread(item) for item in tree]
        if path in ("traceId", "spanId"):
            return base64.b64decode(tree).hex()
        return 2 if path == "code" else tree

    theirs = as_read(without_unread(MessageToDict(request)))
    assert as_read(ours) == theirs
    events = ExportLogsServiceRequest()
    log = events.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=5, observed_time_unix_nano=6)
    log.event_name = "codex.user_prompt"
    assert as_read(MessageToDict(events)) == ProtobufReader(events.SerializeToString(), 99).read(REQUESTS["logs"])


@pytest.mark.parametrize(
    "body",
    [
        b"\x0a",
        b"\x0a\x05abc",
        b"\x0b\x0a\x00",
        b"\xff" * 20,
        b"\x0a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
        b"\x0a\x02\x12\x05",
        b"garbage",
    ],
)
def test_garbage_is_no_protobuf(kept: Kept, body: bytes) -> None:
    with pytest.raises(ValueError, match="not an OTLP request"):
        kept.inbox.take("traces", body, Sender(), is_protobuf=True).result(HANG_S)


def test_a_prompt_that_is_cut_within_an_emoji_costs_its_half(kept: Kept) -> None:
    """JavaScript counts UTF-16: a prompt of emojis after one letter is cut in the middle of one."""
    request = {"model": "claude-opus-5", "messages": [{"role": "user", "content": "a" + "😀" * 40_000}]}
    text = json.dumps(request, ensure_ascii=False)
    halves = text.encode("utf-16-le")[: 2 * 30_001].decode("utf-16-le", "surrogatepass")
    assert halves.endswith("\ud83d")
    event = {"event.name": "api_request_body", "time_ns": 10**18, "session.id": "s", "request_body_id": "b1",
             "body": halves, "body_length": 80_000}  # fmt: skip
    counters = next(item for items in recorded("tools") for item in items if item["event.name"] == "api_request")
    assert kept.take(logs([event, {**counters, "time_ns": 10**18 + 10**9}]))
    kept.inbox.close()
    assert sum(call.usage.input_tokens or 0 for call in kept.calls.values() if call.usage) > 0
    assert kept.inbox.unread == {CHARACTERS: 1}


def test_body_in_a_file_is_read_as_leniently(kept: Kept, tmp_path: Path) -> None:
    file = tmp_path / "b1.request.json"
    file.write_bytes(rb'{"model": "claude-opus-5", "messages": [{"role": "user", "content": "cut \ud83d"}], "x": NaN}')
    event = {"event.name": "api_request_body", "time_ns": 10**18, "session.id": "s", "request_body_id": "b1",
             "body_ref": str(file), "body_length": 20}  # fmt: skip
    assert kept.take(logs([event]), sender=Sender(bodies=tmp_path))
    kept.inbox.close()
    (call,) = kept.calls.values()
    assert json.loads(bytes(call.request.body)) == {
        "model": "claude-opus-5", "messages": [{"role": "user", "content": "cut \ufffd"}], "x": None,
    }  # fmt: skip


COUNTERS = next(item for items in recorded("tools") for item in items if item["event.name"] == "api_request")
ABSURD = [-5, -1.5, 1e300, float("inf"), float("nan"), 10**18, 2**63 - 1, -(2**63), "10 years", "\0", "-3", True, [1]]


@pytest.mark.parametrize("value", ABSURD, ids=str)
@pytest.mark.parametrize("name", ["duration_ms", "ttft_ms", "cost_usd", "attempt", "input_tokens", "model", "speed"])
def test_absurd_field_costs_itself(kept: Kept, name: str, value: object) -> None:
    assert kept.take(logs([{**COUNTERS, name: value}]))
    (call,) = kept.calls.values()
    assert call.usage is not None
    assert call.usage.output_tokens == COUNTERS["output_tokens"]
    assert 0 <= call.timing.start_ns <= COUNTERS["time_ns"]
    assert call.timing.duration_ns is None or 0 <= call.timing.duration_ns < 2**63
    assert call.timing.first_token_ns is None or 0 <= call.timing.first_token_ns < 2**63


@pytest.mark.parametrize("value", [-5, 1e300, float("nan"), "10 years", "\0"], ids=str)
@pytest.mark.parametrize("has_request", [True, False])
def test_duration_that_is_absurd_is_unknown(kept: Kept, has_request: bool, value: object) -> None:
    """It is not 0. With the request, the call began with it."""
    ids = {name: COUNTERS[name] for name in ("session.id", "query_source")}
    sent_ns, took_ns = COUNTERS["time_ns"] - 10**9, 10**9 if has_request else None
    request = {**ids, "event.name": "api_request_body", "time_ns": sent_ns, "request_body_id": "b", "body": "{}"}
    events = [request] if has_request else []
    assert kept.take(logs([*events, {**COUNTERS, "duration_ms": value, "ttft_ms": 1001}]))
    kept.inbox.close()
    (call,) = kept.calls.values()
    assert (call.timing.duration_ns, call.timing.first_token_ns) == (took_ns, None), "it is no token after the end"
    assert (call.outcome, call.attempts[-1].end_ns) == ("success", took_ns)


CODEX = [event for events in recorded("codex") for event in events]


@pytest.mark.parametrize("value", ABSURD, ids=str)
def test_absurd_duration_of_codex_costs_itself(kept: Kept, value: object) -> None:
    plain = Kept()
    assert plain.take(logs(CODEX, service="codex"))
    assert kept.take(logs([{**event, "duration_ms": value} for event in CODEX], service="codex"))
    tokens = [[call.usage and call.usage.total_tokens for call in each.calls.values()] for each in (plain, kept)]
    assert tokens[0] == tokens[1] != []
    for call in kept.calls.values():
        assert call.timing.start_ns >= 0
        assert call.timing.duration_ns is None or 0 <= call.timing.duration_ns < 2**63


@pytest.mark.parametrize("value", ABSURD, ids=str)
def test_absurd_attempt_of_codex_costs_itself(kept: Kept, value: object) -> None:
    """A further attempt after a failed one is still one of the same call."""
    assert kept.take(
        logs([{**event, **({"attempt": value} if event.get("attempt") else {})} for event in CODEX], "codex")
    )
    assert [(call.outcome, call.retries, len(call.attempts)) for call in kept.calls.values()] == [
        ("success", 0, 1), ("success", 1, 2),
    ]  # fmt: skip


@pytest.mark.parametrize("value", [-1, 10**18, "-3"], ids=str)
def test_absurd_attempt_states_no_retries(kept: Kept, value: object) -> None:
    assert kept.take(logs([{**COUNTERS, "attempt": value}]))
    (call,) = kept.calls.values()
    assert call.retries in (0, None)


NUL = "\0"


def with_nul(value: object, *, but: tuple[str, ...]) -> Any:
    """The value with NUL at both ends, and within, of each text but those under some names."""
    if isinstance(value, dict):
        return {key: item if key in but else with_nul(item, but=but) for key, item in value.items()}
    if isinstance(value, str):
        return f"{NUL}{value[:1]}{NUL}{value[1:]}{NUL}"
    return [with_nul(item, but=but) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("program", ["codex", "tools", "failed"])
def test_nul_in_each_text_costs_no_event(program: str, kept: Kept) -> None:
    """PostgreSQL takes none. Those in ids are as others: the same in each event."""
    events = [event for events in recorded(program) for event in events]
    plain, service = Kept(), "codex" if program == "codex" else "claude-code"
    for each, changed in ((plain, events), (kept, [with_nul(event, but=("event.name",)) for event in events])):
        assert each.take(logs(changed, service))
        each.inbox.close()
    assert len(kept.calls) == len(plain.calls) > 0
    assert len(kept.versions) == len(plain.versions)
    assert NUL not in str(kept.versions) and "\\x00" not in str(kept.versions)
    assert "\\u0000" not in "".join(encode(record).decode() for record in kept.versions)


@pytest.mark.parametrize("name", sorted({key for event in CODEX for key in event} - {"event.name", "time_ns"}))
@pytest.mark.parametrize("value", [NUL, f"a{NUL}b", ""], ids=["alone", "within", "empty"])
def test_nul_in_a_field_of_codex_costs_itself(kept: Kept, name: str, value: str) -> None:
    assert kept.take(logs([{**event, **({name: value} if name in event else {})} for event in CODEX], "codex"))
    kept.inbox.close()
    counted = sum(call.usage.total_tokens or 0 for call in kept.calls.values() if call.usage)
    assert counted == 439 or name.endswith("_token_count")
    assert "\\u0000" not in "".join(encode(record).decode() for record in kept.versions)


@pytest.mark.parametrize(
    ("times", "duration_ns"),
    [
        ({"endTimeUnixNano": "1795938000000000000"}, None),
        ({"endTimeUnixNano": str(2**63)}, None),
        ({"endTimeUnixNano": str(10**30)}, None),
        ({"startTimeUnixNano": "1", "endTimeUnixNano": "1795939001000000000"}, None),
        ({"startTimeUnixNano": str(2**64 - 1)}, None),
        ({"startTimeUnixNano": "0"}, None),
        ({"startTimeUnixNano": "soon", "endTimeUnixNano": "later"}, None),
        ({"startTimeUnixNano": "-5", "endTimeUnixNano": None}, None),
        ({"endTimeUnixNano": "1795939000000000000"}, 0),
    ],
)
def test_absurd_time_of_a_span_costs_itself(kept: Kept, times: dict[str, object], duration_ns: int | None) -> None:
    assert kept.take(traces(span(GEN_AI, **times)), "traces")
    (call,) = kept.calls.values()
    assert (call.timing.duration_ns, 0 < call.timing.start_ns < 2**63) == (duration_ns, True)


def test_event_without_a_time_is_kept(kept: Kept) -> None:
    request = logs([COUNTERS])
    (log,) = request["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    log["timeUnixNano"] = str(10**30)
    assert kept.take(request)
    assert len(kept.calls) == 1
    assert kept.inbox.unread == {NUMBERS: 1}


def test_sender_learns_what_was_not_read(serve: Serve, reading: Read, store: str) -> None:
    """By a partial success, which no exporter sends again; the user by `doctor`, and at the end of the command."""
    server = serve()
    nul = span({**GEN_AI, "gen_ai.response.id": "r1", "note": "a\0b"}, 1)
    request = traces(nul, span({**GEN_AI, "gen_ai.response.id": "r2"}, 2), {"name": "no ids"}, {"traceId": "zz"})
    status, answer = post(server, "/v1/traces", json.dumps(request).encode())
    message = f"callspan could not read {CHARACTERS} (1), spans without ids, or too many (2)."
    assert (status, json.loads(answer)) == (
        200,
        {"partialSuccess": {"rejectedSpans": "2", "errorMessage": message}},
    )
    body = request_of_texts().SerializeToString() + _field(1, _field(2, _field(2, b"")) * 200)
    status, answer = post(server, "/v1/traces", body, content_type=PROTOBUF)
    partial = ExportTraceServiceResponse.FromString(answer).partial_success
    assert (status, partial.rejected_spans) == (200, 200)
    assert partial.error_message == "callspan could not read spans without ids, or too many (200)."
    status, answer = post(server, "/v1/logs", json.dumps(logs([{**COUNTERS, "x": "\0"}])).encode())
    assert (status, json.loads(answer)["partialSuccess"]["rejectedLogRecords"]) == (200, "0")
    assert post(server, "/v1/traces", two_calls()) == (200, b"{}")
    assert ExportLogsServiceResponse.FromString(post(server, "/v1/logs", b"", content_type=PROTOBUF)[1]) is not None
    assert len(calls(reading, store)) == 4, "the last two are those of the first request"
    assert unrecorded_of(store) == {
        f"{CHARACTERS}, in OTLP requests": 2, "spans without ids, or too many, in OTLP requests": 2,
    }  # fmt: skip


@pytest.mark.parametrize("content_type", ["application/json", PROTOBUF, "text/plain"])
def test_refusal_says_why_in_the_form_of_the_request(serve: Serve, content_type: str) -> None:
    server = serve()
    for path, body in (("/v1/traces", b"garbage"), ("/v1/other", b"")):
        status, answer = post(server, path, body, content_type=content_type)
        said = Status.FromString(answer) if content_type == PROTOBUF else Status(**json.loads(answer))
        assert (400 <= status < 500, said.code) == (True, 3)
        assert said.message.startswith("callspan refuses requests ")


@pytest.mark.parametrize("compression", ["Deflate", "Gzip"])
def test_compressions_of_opentelemetry(serve: Serve, reading: Read, store: str, compression: str) -> None:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    exporter = OTLPSpanExporter(f"{serve().url()}/v1/traces", compression=getattr(Compression, compression))
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.get_tracer("theirs").start_span("chat", attributes=GEN_AI).end()
    provider.shutdown()
    assert len(calls(reading, store)) == 1


def test_gzip_in_several_parts_is_one_body(serve: Serve, reading: Read, store: str) -> None:
    body = two_calls()
    packed = gzip.compress(body[:100]) + gzip.compress(body[100:]) + bytes(8)
    assert post(serve(), "/v1/traces", packed, content_encoding="gzip") == (200, b"{}")
    assert len(calls(reading, store)) == 2


def test_floats_of_protobuf_that_are_no_numbers(kept: Kept) -> None:
    request = request_of_texts()
    request.resource_spans[0].scope_spans[0].spans[0].attributes.add(key="x").value.double_value = float("nan")
    assert struct.pack("<d", float("nan")) in request.SerializeToString()
    assert kept.inbox.take("traces", request.SerializeToString(), Sender(), is_protobuf=True).result(HANG_S)
    assert (len(kept.calls), kept.inbox.unread) == (1, {NUMBERS: 1})
