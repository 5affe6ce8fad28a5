"""Requests of spans reach real receivers over HTTP and gRPC, and each kind of answer says whether a retry can help."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry import context

from callspan import SettingError
from callspan.fail_open import Once
from callspan.otlp.encoding import encode_request, encode_span
from callspan.otlp.transport import RefusedError, Rejection, Transport, UnavailableError, address_of, transport_of
from callspan.semconv.spans import Span
from tests.otel.receiver import OtlpReceiver

SPAN = Span(trace_id="1" * 32, span_id="2" * 16, name="chat", is_client=True, start_ns=1, end_ns=2, attributes={"a": 1})
REQUEST = encode_request(b"", "", b"", "", [encode_span(SPAN)])


@pytest.fixture(params=["otlp+http", "otlp+grpc"])
def url(request: pytest.FixtureRequest, receiver: OtlpReceiver) -> str:
    server = receiver.serve_grpc() if request.param == "otlp+grpc" else receiver.url.partition("://")[2]
    return f"{request.param}://{server}"


@pytest.fixture
def transport(url: str) -> Iterator[Transport]:
    made = transport_of(url, {})
    yield made
    made.close()


def test_a_request_arrives_as_it_is(transport: Transport, receiver: OtlpReceiver) -> None:
    assert transport.send(REQUEST) is None
    transport.close()
    assert transport.send(REQUEST) is None
    assert receiver.raw == [REQUEST, REQUEST]


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_headers_and_compression_are_those_of_the_environment(
    url: str, receiver: OtlpReceiver, compression: str
) -> None:
    large = encode_request(b"", "", b"", "", [encode_span(SPAN)] * 2_000)
    environment = {
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20sesame,X-Other=1",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": compression,
    }
    transport = transport_of(url, environment)
    transport.send(large)
    transport.close()
    assert receiver.raw == [large]
    (headers,) = receiver.headers
    assert (headers["authorization"], headers["x-other"]) == ("Bearer sesame", "1")
    assert int(headers.get("content-length", 0)) < len(large) / 10
    assert headers.get("content-encoding", compression) == compression


ANSWERS = [
    (400, "INVALID_ARGUMENT", "", RefusedError),
    (413, "RESOURCE_EXHAUSTED", "received message larger than max (9 vs. 4)", RefusedError),
    (422, "OUT_OF_RANGE", "decoded message length too large", RefusedError),
    (429, "RESOURCE_EXHAUSTED", "quota", UnavailableError),
    (401, "UNAUTHENTICATED", "", UnavailableError),
    (403, "PERMISSION_DENIED", "", UnavailableError),
    (404, "UNIMPLEMENTED", "", UnavailableError),
    (500, "INTERNAL", "", UnavailableError),
    (503, "UNAVAILABLE", "", UnavailableError),
]


def failure(transport: Transport) -> Exception:
    with pytest.raises((RefusedError, UnavailableError)) as raised:
        transport.send(REQUEST)
    return raised.value


def test_only_what_is_said_of_the_request_is_refused(transport: Transport, receiver: OtlpReceiver) -> None:
    for status, code, details, expected in ANSWERS:
        receiver.status, receiver.refusal = status, (code, details, ())
        error = failure(transport)
        assert type(error) is expected, code
        assert str(error).startswith((f"{status} ", code))
    receiver.status = 200
    assert transport.send(REQUEST) is None


def retry_info(seconds: int) -> bytes:
    detail = AnyMessage()
    detail.Pack(RetryInfo(retry_delay=Duration(seconds=seconds, nanos=500_000_000)))
    return Status(code=8, details=[detail]).SerializeToString()


def test_a_receiver_says_how_long_to_wait(transport: Transport, receiver: OtlpReceiver) -> None:
    receiver.status = 503
    receiver.answer_headers = {"Retry-After": "7.5"}
    receiver.refusal = ("RESOURCE_EXHAUSTED", "too large a rate", (("grpc-status-details-bin", retry_info(7)),))
    with pytest.raises(UnavailableError) as raised:
        transport.send(REQUEST)
    assert raised.value.retry_after_s == 7.5


def test_a_wait_is_a_date_too(receiver: OtlpReceiver) -> None:
    transport, later = transport_of(f"otlp+{receiver.url}", {}), formatdate(time.time() + 3_600, usegmt=True)
    waits = {}
    for text in (later, formatdate(0), "-3", "soon", "inf"):
        receiver.status, receiver.answer_headers = 429, {"Retry-After": text}
        error = failure(transport)
        assert isinstance(error, UnavailableError)
        waits[text] = error.retry_after_s
    assert waits == {later: pytest.approx(3_600, abs=60), formatdate(0): 0, "-3": 0, "soon": None, "inf": None}


def test_what_was_rejected_is_counted_with_its_message(transport: Transport, receiver: OtlpReceiver) -> None:
    receiver.partial = (3, "too old " + "x" * 300)
    rejection = transport.send(REQUEST)
    assert rejection is not None
    assert rejection.spans == 3
    assert rejection.message.startswith("too old")
    assert len(rejection.message) == 200
    receiver.partial = (0, "deprecated")
    assert transport.send(REQUEST) == Rejection(0, "deprecated")


def test_an_answer_that_is_no_protobuf_is_a_success(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver, "take", lambda *_: (200, b"\xff{}"))
    assert transport_of(f"otlp+{receiver.url}", {}).send(REQUEST) is None


def test_a_receiver_that_hangs_or_is_gone_is_unavailable(url: str, receiver: OtlpReceiver) -> None:
    transport = transport_of(url, {"OTEL_EXPORTER_OTLP_TIMEOUT": "0.2"})
    receiver.pause_s = 1.0
    with pytest.raises(UnavailableError, match="no answer in time"):
        transport.send(REQUEST)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        gone = f"{url.partition('://')[0]}://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(UnavailableError, match="connection refused"):
        transport_of(gone, {}).send(REQUEST)
    transport.close()


def test_a_receiver_that_comes_back_is_found_again(tmp_path: Path) -> None:
    with OtlpReceiver() as first:
        server = first.serve_grpc()
        transport = transport_of(f"otlp+grpc://{server}", {})
        assert transport.send(REQUEST) is None
    with pytest.raises(UnavailableError, match="connection"):
        transport.send(REQUEST)
    transport.close()


def test_an_endless_answer_is_not_read_to_its_end() -> None:
    server = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = server.accept()
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\n\r\n")
        try:
            while True:
                connection.sendall(bytes(65_536))
        except OSError:
            connection.close()

    thread = threading.Thread(target=answer)
    thread.start()
    assert transport_of(f"otlp+http://127.0.0.1:{server.getsockname()[1]}", {}).send(REQUEST) is None
    thread.join(10)
    server.close()
    assert not thread.is_alive()


def test_no_redirect_is_followed(receiver: OtlpReceiver) -> None:
    with OtlpReceiver() as other:
        receiver.status, receiver.answer_headers = 307, {"Location": f"{other.url}/v1/traces"}
        with pytest.raises(UnavailableError, match="307 Temporary Redirect"):
            transport_of(f"otlp+{receiver.url}", {}).send(REQUEST)
        assert other.headers == []


def test_a_path_of_its_own_is_kept(receiver: OtlpReceiver) -> None:
    with pytest.raises(UnavailableError, match="404"):
        transport_of(f"otlp+{receiver.url}/otlp/v1/spans", {}).send(REQUEST)
    assert transport_of(f"otlp+{receiver.url}/v1/traces/", {}).send(REQUEST) is None


def test_other_instrumentations_make_no_spans_of_it(
    transport: Transport, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled, is_instrumentation_enabled

    enabled = []
    connect = socket.socket.connect

    def watched(self: socket.socket, address: object) -> None:
        enabled.append(is_instrumentation_enabled() or is_http_instrumentation_enabled())
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", watched)
    before = context.get_current()
    transport.send(REQUEST)
    assert context.get_current() == before
    assert not any(enabled)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    return certificate, key


@pytest.mark.parametrize("protocol", ["https", "grpc"])
def test_receivers_with_tls(certificates: tuple[Path, Path], protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ssl.SSLContext, "load_verify_locations")
    names = ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY")
    files = (certificates[0], *certificates)
    trusted = {f"OTEL_EXPORTER_OTLP_{name}": str(file) for name, file in zip(names, files, strict=True)}
    untrusted = {"OTEL_EXPORTER_OTLP_INSECURE": "false", "OTEL_EXPORTER_OTLP_TIMEOUT": "3"}
    with OtlpReceiver(tls=certificates) as receiver:
        server = receiver.serve_grpc() if protocol == "grpc" else receiver.url.partition("://")[2]
        transport = transport_of(f"otlp+{protocol}://{server}", trusted)
        assert transport.send(REQUEST) is None
        transport.close()
        with pytest.raises(UnavailableError, match=r"TLS failed|UNAVAILABLE"):
            transport_of(f"otlp+{protocol}://{server}", untrusted).send(REQUEST)
        assert receiver.raw == [REQUEST]


NO_URLS = (
    "http://host:4318", "otlp+http://", "otlp+ftp://host", "otlp+grpc://host:4317/v1/traces", "otlp+http://host:x",
    "otlp+http://sesame@host", "otlp+http://user:sesame@host/path", "otlp+http://host?key=sesame",
    "otlp+grpc://host#sesame", "otlp+http://user:sesa/me@host",
)  # fmt: skip


def test_a_url_that_is_none_or_has_secrets_is_an_error() -> None:
    for url in NO_URLS:
        with pytest.raises(SettingError, match="OTEL_EXPORTER_OTLP_HEADERS") as raised:
            transport_of(url, {})
        assert "sesa" not in str(raised.value), url


def test_variables_that_are_not_understood_are_warned_of_once(
    logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callspan.otlp.transport._WARNED", Once())
    for name, value in {"TIMEOUT": "0", "TRACES_TIMEOUT": "soon", "COMPRESSION": "zstd"}.items():
        for _ in range(2):
            transport_of("otlp+http://host", {f"OTEL_EXPORTER_OTLP_{name}": value})
        assert [f"OTEL_EXPORTER_OTLP_{name} " in line for line in logged] == [True]
        logged.clear()


def test_a_certificate_that_is_not_there_is_an_error() -> None:
    """Without it another server might be trusted."""
    with pytest.raises(SettingError, match="OTEL_EXPORTER_OTLP_CERTIFICATE"):
        transport_of("otlp+http://host", {"OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere/at/all.pem"})


def test_ports_and_paths_that_are_left_out_are_those_of_the_protocol() -> None:
    addresses = {
        "otlp+http://host": "http://host:4318/v1/traces",
        "otlp+https://host/": "https://host:443/v1/traces",
        "OTLP+HTTPS://[::1]:9/x/": "https://[::1]:9/x",
        "otlp+grpc://host": "host:4317",
        "otlp+grpc://host:9/": "host:9",
    }
    assert {url: address_of(url) for url in addresses} == addresses
