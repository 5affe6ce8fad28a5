"""The stream of urllib3 inside a body of boto3: whichever of its methods reads it, the call has what was read."""

from __future__ import annotations

import gc
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import httpx
import pytest
from tests.calls.bedrock_clients import LLAMA, keys
from tests.support.calls import the_call, usage_of
from tests.support.waiting import until

from callspan.testing import Capture, capture

boto3: Any = pytest.importorskip("boto3", reason="boto3 is not installed")
urllib3: Any = pytest.importorskip("urllib3")

pytestmark = [pytest.mark.usefixtures("no_settings", "keys"), pytest.mark.filterwarnings("ignore::ResourceWarning")]
__all__ = ["keys"]
ANSWER: Final = json.dumps({"generation": "I am\nwell.", "generation_token_count": 5, "stop_reason": "stop"}, indent=1)
PIECE: Final = 7


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body, server = ANSWER.encode(), self.server
        self.send_response(200)
        if server.is_chunked:  # type: ignore[attr-defined] # see `server`
            self.send_header("transfer-encoding", "chunked")
            pieces = [body[at : at + 20] for at in range(0, len(body), 20)]
            body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""])
        else:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(params=[False, True], ids=["with its length", "chunked"])
def server(request: pytest.FixtureRequest) -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.is_chunked = request.param  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def body_of(server: ThreadingHTTPServer) -> Any:
    client = boto3.Session().client("bedrock-runtime", endpoint_url=f"http://127.0.0.1:{server.server_port}")
    return client.invoke_model(modelId=LLAMA, body=json.dumps({"prompt": "How are you?"}))["body"]


def pieces(read: Callable[[], bytes]) -> bytes:
    return b"".join(iter(read, b""))


def into_buffers(raw: Any) -> bytes:
    buffer = bytearray(PIECE)
    return pieces(lambda: bytes(buffer[: raw.readinto(buffer)]))


READS: Final[dict[str, Callable[[Any], bytes]]] = {
    "read": lambda raw: raw.read(),
    "read decoded": lambda raw: raw.read(decode_content=True),
    "read in pieces": lambda raw: pieces(lambda: raw.read(PIECE)),
    "read1": lambda raw: pieces(raw.read1),
    "read1 in pieces": lambda raw: pieces(lambda: raw.read1(PIECE)),
    "read1, then read": lambda raw: raw.read1(PIECE) + raw.read(),
    "readinto": into_buffers,
    "readline": lambda raw: pieces(raw.readline),
    "readlines": lambda raw: b"".join(raw.readlines()),
    "iterated": b"".join,
    "stream": lambda raw: b"".join(raw.stream()),
    "stream in pieces": lambda raw: b"".join(raw.stream(PIECE)),
    "read_chunked": lambda raw: b"".join(raw.read_chunked(PIECE) if raw.chunked else raw.stream(PIECE)),
    "data": lambda raw: raw.data,
}


@pytest.mark.parametrize("way", READS)
@pytest.mark.parametrize("in_block", [True, False], ids=["in a block", "alone"])
def test_reads_of_the_stream_inside(way: str, in_block: bool, server: Any, seen: Capture) -> None:
    if "read1" in way and not hasattr(urllib3.HTTPResponse, "read1"):
        pytest.skip("this version has no read1")
    body = body_of(server)
    if in_block:
        with body as raw:
            received = READS[way](raw)
    else:
        received = READS[way](body._raw_stream)
    record = the_call(seen)
    assert received == ANSWER.encode()
    assert (record.outcome, record.text, usage_of(record).output_tokens) == ("success", "I am\nwell.", 5)


@pytest.mark.parametrize("act", ["left", "closed", "raised"])
def test_iteration_that_is_left(act: str, server: Any) -> None:
    """As without callspan: what is raised, and the connection, which is closed at once."""

    def used() -> tuple[object, ...]:
        body = body_of(server)
        raw = body._raw_stream
        iterated = raw.stream(PIECE)
        first = next(iterated)
        raised: object = None
        if act == "closed":
            iterated.close()
        elif act == "raised":
            try:
                iterated.throw(KeyError("a"))
            except KeyError as error:
                raised = error.args
        del iterated
        return first, raised, raw.closed, raw.tell() > 0

    bare = used()
    with capture() as seen:
        assert used() == bare
        gc.collect()
        deadline = time.monotonic() + 10
        while not seen.records and time.monotonic() < deadline:
            time.sleep(0.01)
        # An iterator of callspan passes chunks on: what is thrown into it leaves it as a reader's exception does.
        is_thrown_into_ours = act == "raised" and server.is_chunked
        assert the_call(seen).outcome == ("error" if is_thrown_into_ours else "cancelled")


@pytest.mark.parametrize("how", ["closed", "dropped"])
@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("piece", [PIECE, 4096])
def test_a_body_that_was_read_to_its_last_byte_is_whole(how: str, share: float, piece: int, server: Any) -> None:
    """Whether or not its reader knows that nothing follows."""
    size, received = int(len(ANSWER) * share), b""
    with capture() as seen:
        body = body_of(server)
        while len(received) < size:
            received += body.read(min(piece, size - len(received)))
        if how == "closed":
            body.close()
        del body
        gc.collect()
        until(lambda: bool(seen.records))
    record = the_call(seen)
    assert (record.outcome, record.text) == (("success", "I am\nwell.") if share == 1 else ("cancelled", None))


HTTP_READS: Final[dict[str, Callable[[Any], Iterator[Any]]]] = {
    "bytes": lambda response: response.iter_bytes(),
    "small pieces": lambda response: response.iter_bytes(PIECE),
    "text": lambda response: response.iter_text(),
    "lines": lambda response: response.iter_lines(),
}


@pytest.mark.parametrize("how", ["closed", "dropped"])
@pytest.mark.parametrize("way", HTTP_READS)
def test_a_response_that_was_read_to_its_last_byte_is_whole(how: str, way: str, server: Any) -> None:
    """As `test_a_body_that_was_read_to_its_last_byte_is_whole`, of a plain client."""
    url = f"http://127.0.0.1:{server.server_port}/model/{LLAMA}/invoke"
    with httpx.Client() as client, capture() as seen:
        request = client.build_request("POST", url, json={"prompt": "How are you?"})
        response = client.send(request, stream=True)
        pieces, received = HTTP_READS[way](response), ""
        for piece in pieces:
            received += piece if isinstance(piece, str) else piece.decode()
            if received.rstrip().endswith("}"):
                break
        if how == "closed":
            response.close()
        del response, pieces, request
        gc.collect()
        until(lambda: bool(seen.records))
    assert (the_call(seen).outcome, the_call(seen).text) == ("success", "I am\nwell.")


def test_streams_of_other_code_are_its_own(server: Any, seen: Capture) -> None:
    url = f"http://127.0.0.1:{server.server_port}/other"
    with urllib3.PoolManager() as pool:
        answers = [pool.request("POST", url, body=b"{}", preload_content=False) for _ in range(2)]
        chunked = answers[0].read_chunked() if server.is_chunked else answers[0].stream()
        assert type(chunked).__name__ == "generator"
        assert b"".join(chunked) == answers[1].read() == ANSWER.encode()
    assert seen.records == []
