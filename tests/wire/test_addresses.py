"""Addresses: which requests are calls, and of which API, wherever they are sent, and which are other programs'.

Paths and fields come from the rows of the APIs, their exchanges from `exchanges.yaml`: a new API is tried here too.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from copy import deepcopy
from functools import cache
from itertools import product
from typing import Any, Final

import httpx
import pytest
from opentelemetry.trace import SpanKind
from tests.conftest import Instrument
from tests.support.bodies import APIS, Exact, proves
from tests.support.left_behind import unrecorded
from tests.support.waiting import HANG_MS
from tests.wire.exchanges import exchange

import callspan
from callspan.testing import Capture, capture

pytestmark = pytest.mark.usefixtures("no_settings")
Json = dict[str, Any]
HOST: Final = "https://gateway.example"
TURNS: Final = [{"role": "user", "content": "Hi"}]

PATHS_OF_VERBS: Final = {
    "google": "models/m-1:{}",
    "anthropic": "publishers/anthropic/models/m-1:{}",
    "bedrock": "model/m-1/{}",
    "huggingface": "models/owner/m-1",
    "watsonx": "ml/v1/text/{}",
    "openai": "serving-endpoints/m-1/{}",
    "cloudflare": "ai/{}/@cf/meta/m-1",
}
"""How a path has a verb, by the family of its API."""
BASES: Final = (
    "", "/v1", "/api", "/api/v1", "/openai", "/openai/v1", "/models", "/v1/models", "/api/models", "/model", "/model/x",
    "/endpoints/x", "/endpoints", "/inference", "/deployments/d", "/v1/text", "/ml/v1/text", "/anthropic",
    "/tunedModels", "/v2", "/paas/v4", "/engines/llama.cpp/v1", "/serving-endpoints", "/interactions", "/ollama",
    "/v1beta/models", "/proxy/models/v1",
    # Azure's deployments, Cloudflare's, Portkey's and Helicone's gateways, prefixes of companies
    "/openai/deployments/gpt-5", "/v1/0123456789abcdef/gateway/workers-ai/v1", "/v1/01/gateway/google-ai-studio/v1beta",
    "/v1/proxy/portkey", "/oai/v1", "/corp/ai-platform/eu-west/llm/v3", "/~team/model/v1", "/chat/completions",
)  # fmt: skip
ENDS: Final = ("", "/", "?api-version=2024-10-21", "/?key=k&alt=sse")


def paths_of(name: str) -> Iterator[str]:
    row = APIS[name]
    yield from (*row.paths, *row.path_ends, *((row.bare_path,) if row.bare_path else ()))
    yield from (PATHS_OF_VERBS[row.family].format(verb) for verb in row.verbs)


ADDRESSES: Final = [(name, path) for name, row in APIS.items() if row.asked for path in paths_of(name)]


def client_that_gets(*answers: Any) -> httpx.Client:
    """A client whose requests are answered with these, one after the other."""
    responses = iter(answers)
    return httpx.Client(base_url=HOST, transport=httpx.MockTransport(lambda _: next(responses)))


def json_of(answer: Any) -> httpx.Response:
    return httpx.Response(200, json=answer)


def answer_of(name: str) -> httpx.Response:
    """Return what the API answers: its exchange, of speech a sound."""
    if name == "speech":
        return httpx.Response(200, content=b"ID3", headers={"content-type": "audio/mpeg"})
    return json_of(exchange(name)[2])


@cache
def request_of(name: str) -> Json:
    _, request, _ = exchange(name)
    return {APIS[name].model_fields[0]: "m-1", **request}


@pytest.fixture
def seen() -> Iterator[Capture]:
    with capture() as captured:
        yield captured


def apis(seen: Capture) -> list[str]:
    return [call.api for call in seen.records]


@pytest.mark.parametrize(("name", "path"), ADDRESSES)
def test_call_is_one_of_its_api_at_any_address(name: str, path: str, seen: Capture) -> None:
    urls = [f"{base}/{path}{end}" for base, end in product(BASES, ENDS)]
    client = client_that_gets(*(answer_of(name) for _ in urls))
    for url in urls:
        client.post(url, json=request_of(name))
    assert dict(zip(urls, apis(seen), strict=True)) == dict.fromkeys(urls, name)
    assert {call.outcome for call in seen.records} == {"success"}
    assert [span.kind for span in seen.spans].count(SpanKind.CLIENT) == len(urls)
    assert APIS[name].is_media or not any(call.response and call.response.unrecognized for call in seen.records)


WITNESSES: Final[dict[Any, Any]] = {
    "text": "Hi", "number": 1, "flag": True, "object": {"id": "x"}, "objects": [{"id": "x"}], "texts": ["Hi"],
    "prompt": ["Hi"], "documents": ["Hi"], "reference": "x", "turns": TURNS, "items": "Hi", "contents": ["Hi"],
    "array": [1], "string": "Hi", "size": "1024x1024", "sound": "audio/mpeg", "encoded": "AAAAPwAAAD8=",
    "vector": [0.5], "vectors": [[0.5]], "generated": "Hi",
}  # fmt: skip
"""A value of each kind, as any program's."""
MISTYPED: Final[dict[Any, tuple[Any, ...]]] = {
    "text": (5, "", {"id": 5}, ["a"]), "string": (5, True, {"id": 5}), "number": ("A-1", True, [1]), "flag": ("yes", 1),
    "object": ("sent", 5, [1]), "array": ("sent", {"id": 5}), "objects": ([1], {"id": 5}), "texts": ([1], "sent"),
    "prompt": ({"id": 5}, 5, [True]), "documents": ("a", [1], {"id": 5}), "reference": (5, ["a"]),
    "turns": ([{"to": "ann", "text": "Hi"}], "Hi", ["Hi"]), "items": (5, [1], {"id": 5}), "contents": (5, [1]),
    "vector": (["a"], "sent", [{"id": 5}], {"stored": 5}, [True], []), "generated": (5, "", ["a"]),
    "vectors": ({"stored": 5}, ["a.bin"], 5, [{"id": 5}], [], [[]], {}, {"float": []}),
    "encoded": ("<iframe>", "a.bin", 5), "size": ("A4", 5, "10 x 15"), "sound": ("image/png", 5),
}  # fmt: skip
"""Values of no such kind, under the same name."""


LISTS: Final = (".messages", ".messages.content", ".contents", ".requests", ".instances")


def put(body: Json, name: str, value: Any) -> Json:
    """Set the field of a body to which names lead."""
    *outer, last = name.split(".")
    inner, path = body, ""
    for part in outer:
        path = f"{path}.{part}"
        inner = inner.setdefault(part, [{}] if path in LISTS else {})
        inner = inner[0] if isinstance(inner, list) else inner
    inner[last] = value
    return body


def body_with(fields: Iterable[Any]) -> Json:
    """Return a body with these fields, each of its kind."""
    body: Json = {}
    for name, kind in sorted(fields, key=lambda field: str(field.name).count(".")):
        put(body, name, deepcopy(WITNESSES[kind] if isinstance(kind, str) else kind[0]))
    return body


def mistyped(fields: Iterable[Any]) -> Iterator[Json]:
    """Yield bodies with one of the fields, of another type than any that the field may have."""
    listed = [*fields]
    for name, kind in listed:
        if [field.name for field in listed].count(name) == 1:
            wrong = MISTYPED[kind] if isinstance(kind, str) else (5, "another word", [], {"id": 5})
            yield from (put({}, name, value) for value in wrong)


PROOFS: Final = [
    (name, column, proof)
    for name, row in APIS.items()
    for column, proofs in (("marks", row.marks), ("answered", row.answered))
    for proof in proofs
]


@pytest.mark.parametrize(("name", "column", "proof"), PROOFS)
def test_proof_is_no_plain_word(name: str, column: str, proof: tuple[Any, ...]) -> None:
    """Of another type, or without one of its fields, a proof proves nothing, unless another one of the row does."""
    row, (field, *_) = APIS[name], proof
    fields = {each.name for each in proof}
    assert proves(body_with(proof), [proof])
    assert len(fields) > 1 or isinstance(field, Exact)
    for wrong in (body for each in proof for body in mistyped([each])):
        assert not proves(body_with(proof) | wrong, [proof])
    if any(inner.startswith(f"{outer}.") for inner in fields for outer in fields):
        names = {part for each in fields for part in each.split(".")}
        assert len(names) > 2 or "turns" in {each.kind for each in proof}
    elif not isinstance(field, Exact):
        assert [each for each in proof if proves(body_with([each]), getattr(row, column))] == []


def test_what_can_be_asked_at_a_stranger_has_a_proof_of_its_answer() -> None:
    assert [name for name, row in APIS.items() if row.asked and not row.answered] == []


FOREIGN: Final[dict[str, tuple[str, Any]]] = {
    "an object": ("application/json", {"ok": True}),
    "nothing": ("application/json", {}),
    "a list": ("application/json", [1, 2]),
    "a text": ("application/json", "queued"),
    "null": ("application/json", None),
    "a message": ("application/json", {"id": "m1", "status": "queued", "message": "sent", "text": "Hi"}),
    "content": ("application/json", {"id": "m1", "type": "message", "content": "Hi", "response": "Hi"}),
    "data": ("application/json", {"object": "list", "data": [{"id": 1}], "results": [{"id": 1, "score": 0.5}]}),
    "tensors": ("application/json", {"outputs": [{"name": "y", "shape": [1], "datatype": "FP32", "data": [0.5]}]}),
    "predictions": ("application/json", {"predictions": [[0.1, 0.9]], "choices": ["a", "b"], "output": []}),
    "an error in GraphQL": ("application/json", {"data": None, "errors": []}),
    "places": ("application/json", {"results": [{"index": "A-1"}], "data": [{"index": "A-1", "embedding": {"id": 1}}]}),
    "a text that is none": ("application/json", {"generated_text": 5, "outputText": 5, "completion": {"id": 1}}),
    "texts that are none": ("application/json", [{"generated_text": 5}, {"generated_text": None}]),
    "other types": (
        "application/json",
        {
            "message": "saved",
            "response": {"id": 1},
            "done": True,
            "content": [{"type": 5}],
            "output": [{"type": 5}],
            "usage": {"sms": 1},
            "choices": [{"message": "Hi", "delta": "Hi", "text": 5}],
            "embeddings": {"stored": 5},
            "embedding": ["a.bin"],
            "chat_history": [{"role": "user", "text": "Hi"}],
            "answers": [],
            "steps": [{}],
            "predictions": [{"content": 5, "embeddings": "a.bin"}],
            "outputs": [{"text": 5, "type": 5}],
        },
    ),
    "no tokens": ("text/event-stream", 'data: {"token":{"value":"a"}}\n\ndata: {"generated_text":5}\n\n'),
    "no JSON": ("text/plain; charset=utf-8", '0:"Hi"\nd:{"finishReason":"stop"}\n'),
    "XML": ("application/xml", "<sms><id>1</id></sms>"),
    "an image": ("image/png", "\x89PNG"),
    "events": ("text/event-stream", 'data: {"type":"start"}\n\ndata: {"type":"text-delta","delta":"Hi"}\n\n'),
    "events of text": ("text/event-stream", "data: Hello\n\ndata: you\n\n"),
    "events without data": ("text/event-stream", ": ping\n\ndata: [DONE]\n\n"),
    "events of an agent": (
        "text/event-stream",
        'data: {"type":"RUN_STARTED"}\n\ndata: {"messageId":"m","delta":"Hi"}\n\n',
    ),
    "a message of gRPC": (
        "application/grpc-web+proto",
        "\x00\x00\x00\x00\x05\n\x03abc\x80\x00\x00\x00\x0fgrpc-status:0\r\n",
    ),
    "lines": ("application/x-ndjson", '{"type":"start"}\n{"delta":"Hi"}\n'),
}
"""What other programs answer: a media type and a body."""


def plain_requests(name: str) -> Iterator[Json]:
    """Yield requests with one field of an API, beside a model, as other programs have them too."""
    row = APIS[name]
    for field in row.asked:
        body = {row.model_fields[0]: "m-1", "stream": True, **body_with([field])}
        if not proves(body, row.marks):
            yield body


def answers_of(kind: str) -> httpx.Response:
    mime, body = FOREIGN[kind]
    content = json.dumps(body) if mime.endswith("/json") else body
    return httpx.Response(200, content=pieces(content.encode("latin-1")), headers={"content-type": mime})


def pieces(content: bytes) -> Iterator[bytes]:
    """Yield what is not read before the client reads it."""
    yield from (content[at : at + 7] for at in range(0, len(content), 7))


PLAIN_ADDRESSES: Final = [(name, path) for name, path in ADDRESSES if [*plain_requests(name)]]
"""Those where a field beside a model shows nothing."""


@pytest.mark.parametrize("how", ["read", "iter_bytes", "iter_lines", "opened"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_answer_of_another_program_withdraws_the_call(kind: str, how: str, seen: Capture) -> None:
    for name, path in PLAIN_ADDRESSES:
        for body in plain_requests(name):
            with client_that_gets(answers_of(kind)) as client:
                request = client.build_request("POST", f"/x/{path}", json=body)
                response = client.send(request, stream=how != "opened")
                if how != "opened":
                    read = getattr(response, how)()
                    assert read is not None
                    assert isinstance(read, bytes) or [*read]
    assert apis(seen) == []
    assert seen.everything == []


@pytest.mark.parametrize("name", dict(PLAIN_ADDRESSES))
def test_one_field_of_an_answer_withdraws_the_call(name: str, seen: Capture) -> None:
    path, body = dict(PLAIN_ADDRESSES)[name], next(plain_requests(name))
    proofs = APIS[name].answered
    fields = [field for proof in proofs for field in proof if not isinstance(field, Exact)]
    for answer in (*mistyped(fields), *map(body_with, zip(fields))):
        if proves(answer, proofs):  # a field that is in another one of the proof
            continue
        with client_that_gets(json_of({"id": "x", **answer})) as client:
            client.post(f"/x/{path}", json=body)
    assert [call.response and call.response.body for call in seen.records] == []


@pytest.mark.parametrize("name", dict(PLAIN_ADDRESSES))
def test_field_of_another_type_in_a_request_is_no_call(name: str, seen: Capture) -> None:
    path, row = dict(PLAIN_ADDRESSES)[name], APIS[name]
    for request in mistyped(row.asked):
        with client_that_gets(answer_of(name)) as client:
            client.post(f"/x/{path}", json={row.model_fields[0]: "m-1", **request})
    assert [bytes(call.request.body) for call in seen.records] == []


FAILURES: Final[dict[str, Any]] = {
    "an error": httpx.Response(400, json={"error": {"message": "no such model", "type": "invalid_request_error"}}),
    "an error of a gateway": httpx.Response(502, html="<html>Bad Gateway</html>"),
    "an error of a gateway as text": httpx.Response(503, text="no healthy upstream"),
    "an error without a body": httpx.Response(401),
    "a page": httpx.Response(200, html="<!DOCTYPE html><title>Log in</title>"),
    "a page as text": httpx.Response(200, text="  <html><title>Log in</title></html>"),
    "no body": httpx.Response(200),
    "no content": httpx.Response(204),
    "a redirect": httpx.Response(307, headers={"location": "/elsewhere"}),
    "JSON that is cut": httpx.Response(200, content=b'{"id": "c1", "cho', headers={"content-type": "application/json"}),
    "no connection": httpx.ConnectError("refused"),
    "no answer in time": httpx.ReadTimeout("slow"),
    "a stated error": httpx.Response(200, json={"error": {"message": "overloaded", "code": 529}}),
}
"""What an API, or a gateway before it, answers without a field of the API."""


def answering(answer: Any) -> httpx.MockTransport:
    def answered(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
        return httpx.Response(answer.status_code, content=pieces(answer.content), headers=headers)

    return httpx.MockTransport(answered)


DISPROVING: Final = ("a page", "a page as text", "no body", "no content")
"""Those with the status of success, so that they must agree."""
SHOWN: Final = [
    (path, {row.model_fields[0]: "m-1", **body_with(proof)})
    for name, path in dict(reversed(ADDRESSES)).items()
    for row in [APIS[name]]
    for proof in row.marks
    if path not in (*row.path_ends, row.bare_path) or not row.paths
]
"""Requests that show alone that they are calls."""


@pytest.mark.parametrize("opened", [True, False], ids=["open", "read"])
@pytest.mark.parametrize("kind", FAILURES)
def test_failure_is_a_call_that_the_request_has_shown(kind: str, opened: bool, seen: Capture) -> None:
    undecided = [(path, body) for name, path in PLAIN_ADDRESSES for body in plain_requests(name)]
    for path, body in (*SHOWN, *undecided):
        with httpx.Client(base_url=HOST, transport=answering(FAILURES[kind])) as client, suppress(httpx.HTTPError):
            response = client.send(client.build_request("POST", f"/x/{path}", json=body), stream=opened)
            if opened:
                assert isinstance(response.read(), bytes)
    expected = [] if kind in DISPROVING else [body for _, body in SHOWN]
    assert [json.loads(bytes(call.request.body)) for call in seen.records] == expected
    assert len(seen.spans) == len(expected)
    if not opened:
        assert {call.outcome for call in seen.records} <= {"error", "timeout"}


@pytest.mark.parametrize("status", [204, 301, 302, 303, 304, 307, 308])
@pytest.mark.parametrize("opened", [True, False], ids=["open", "read"])
def test_answer_without_a_body_is_said_with_its_status(status: int, opened: bool, seen: Capture) -> None:
    answer = httpx.Response(status, headers={} if status == 204 else {"location": "/elsewhere"})
    with httpx.Client(base_url="https://api.openai.com", transport=answering(answer)) as client:
        body = {"model": "m-1", "messages": TURNS, "stream": True}
        with client.stream("POST", "/v1/chat/completions", json=body) as response:
            if not opened:
                response.read()
    (call,) = seen.records
    assert call.error is not None
    assert (call.outcome, call.error.status, call.error.kind, call.stream) == ("error", status, "unknown", None)
    assert str(status) in (call.error.message or "")


OTHERS: Final[list[tuple[str, Any]]] = [
    ("/v2/models/resnet50/infer", {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}),
    ("/v2/models/resnet50/versions/1/infer", {"inputs": [{"name": "x", "shape": [1], "data": [1]}]}),
    ("/v2/models/llama/generate", {"text_input": "Hi", "parameters": {"max_tokens": 5}}),
    ("/v1/models/churn:predict", {"instances": [[1.0, 2.0]]}),
    ("/v1/models/churn:predict", {"instances": [{"age": 7}]}),
    ("/v1/projects/p/locations/l/endpoints/7:predict", {"instances": [{"prompt": "Hi"}]}),
    ("/models/churn", {"inputs": {"age": 33, "name": "Ann"}}),
    ("/models/churn/predict", {"inputs": [[1, 2]]}),
    ("/serving-endpoints/churn/invocations", {"dataframe_split": {"columns": ["a"], "data": [[1]]}}),
    ("/serving-endpoints/churn/invocations", {"dataframe_records": [{"a": 1}]}),
    ("/serving-endpoints/churn/invocations", {"inputs": [[1]], "instances": [{"a": 1}]}),
    ("/invocations", {"inputs": [[1]], "model": "churn"}),
    ("/predict", {"model": "churn", "input": [1, 2]}),
    ("/generate", {"model": "sdxl", "prompt": "a cat"}),
    ("/chat", {"model": "m-1", "messages": TURNS}),
    ("/invoke", {"model": "m-1", "input": {"text": "Hi"}}),
    ("/model/chat/invoke", {"input": {"text": "Hi"}}),
    ("/api/model/pump7/invoke", {"speed": 7}),
    ("/api/model/pump7/invoke", {"message": {"speed": 7}}),
    ("/model/parse", {"text": "Hi", "model": "nlu"}),
    ("/webhooks/rest/webhook", {"sender": "ann", "message": "Hi"}),
    ("/conversations/ann/messages", {"text": "Hi", "sender": "user"}),
    ("/interactions", {"agent_id": "sales-7", "input": "customer called"}),
    ("/interactions", {"agent": "sales-7", "input": {"note": "customer called"}}),
    ("/v1/chat", {"message": "Hi", "agent_id": "a1"}),
    ("/v1/chat", {"model": "m-1", "message": {"text": "Hi"}}),
    ("/api/chat", {"id": "c1", "model": "gpt-5", "messages": [{"role": "user", "parts": [{"type": "text"}]}]}),
    ("/api/chat", {"model": "gpt-5", "messages": ["Hi"]}),
    ("/api/chat", {"messages": TURNS}),
    ("/api/generate", {"model": "report", "prompt": {"id": 7}}),
    ("/api/embed", {"model": "player", "input": {"url": "https://example.com"}}),
    ("/api/embeddings", {"model": "player", "url": "https://example.com"}),
    ("/v1/embed", {"model": "player", "texts": "Hi"}),
    ("/v1/embeddings", {"model": "m-1", "input": {"image": "x"}}),
    ("/v1/messages", {"model": "premium", "messages": [{"to": "+15550100", "text": "Hi"}]}),
    ("/v1/messages", {"to": "+15550100", "messages": TURNS}),
    ("/messages", {"model": "m-1", "messages": TURNS}),
    ("/v1/sms/messages", {"model": "m-1", "messages": TURNS, "max_tokens": "many"}),
    ("/survey/42/responses", {"model": "form-7", "input": {"q1": "yes"}}),
    ("/survey/42/responses", {"model": "form-7", "input": 5}),
    ("/completions", {"model": "t9", "prompt": {"text": "hel"}}),
    ("/v1/rerank", {"model": "m-1", "query": "q", "items": ["a"]}),
    ("/rerank", {"model": "m-1", "query": "q", "documents": "a"}),
    ("/decisions", {"model": "credit", "questions": 5}),
    ("/moderations", {"model": "post", "input": {"id": 7}}),
    ("/graphql", {"query": "query { models { id } }", "variables": {"model": "m-1"}}),
    ("/v1/chat/completions", [{"model": "m-1", "messages": TURNS}]),
]  # fmt: skip
"""Requests of other programs that no API has: another path, or fields of other types."""


@pytest.mark.parametrize("number", range(len(OTHERS)), ids=[path for path, _ in OTHERS])
def test_request_of_another_program_is_no_call_however_it_ends(number: int, seen: Capture) -> None:
    path, body = OTHERS[number]
    for answer in (*FAILURES.values(), json_of({"ok": True}), json_of(exchange("chat_completions")[2])):
        with httpx.Client(base_url=HOST, transport=answering(answer)) as client, suppress(httpx.HTTPError):
            client.post(path, json=body)
    assert seen.everything == []


KNOWN: Final[dict[str, tuple[str, dict[str, str], str, Json, str]]] = {
    # the URL, the headers, the provider, the body and the API of a request with an answer that says nothing
    "a host": ("https://api.cohere.com/v2/chat", {}, "cohere", {"model": "m-1", "messages": TURNS}, "cohere_chat"),
    "a host in capitals": ("https://API.Cohere.COM/v1/rerank", {}, "cohere", {"documents": ["a"]}, "rerank"),
    "a port": ("http://localhost:11434/api/chat", {}, "ollama", {"model": "m-1", "messages": TURNS}, "ollama_chat"),
    "an SDK": (
        f"{HOST}/api/chat", {"user-agent": "ollama-python/0.6.0"}, "ollama", {"model": "m-1", "messages": TURNS},
        "ollama_chat",
    ),
    "an SDK of any provider": (
        f"{HOST}/v1/rerank", {"user-agent": "litellm/1.110.2"}, "unknown",
        {"model": "m-1", "query": "q", "documents": ["a"]}, "rerank",
    ),
    "Snowflake": (
        "https://a.snowflakecomputing.com/api/v2/cortex/inference:complete", {}, "snowflake",
        {"model": "m-1", "messages": [{"content": "Hi"}]}, "chat_completions",
    ),
    "Imagen": (
        "https://generativelanguage.googleapis.com/v1beta/models/imagen-4:predict", {}, "gcp.gemini",
        {"instances": [{"prompt": "a cat"}]}, "predict",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_request_that_tells_is_a_call_whatever_comes(name: str, seen: Capture) -> None:
    url, headers, provider, body, api = KNOWN[name]
    with httpx.Client(transport=answering(json_of({"ok": True}))) as client:
        client.post(url, json=body, headers=headers)
    (call,) = seen.records
    assert (call.api, call.provider, call.outcome) == (api, provider, "success")
    assert call.response is not None
    assert call.response.unrecognized


RESOURCES: Final = (
    "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-micro-v1:0",
    "arn:aws:bedrock:us-east-1:123456789012:custom-model/amazon.titan-text-lite-v1:0:4k/abcdef123456",
)


@pytest.mark.parametrize("encode", [str, lambda arn: arn.replace(":", "%3A"), lambda arn: arn.replace("/", "%2F")])
@pytest.mark.parametrize("arn", RESOURCES)
def test_resource_in_a_path_names_the_model(arn: str, encode: Any, seen: Capture) -> None:
    with client_that_gets(json_of(exchange("converse")[2])) as client:
        client.post(f"/proxy/model/{encode(arn)}/converse", json=request_of("converse"))
    assert [(call.api, call.request.model) for call in seen.records] == [("converse", arn)]


INVOKED: Final[dict[str, tuple[Json, Json, str, str | None]]] = {
    # a body and its answer, the API that they are of, and the text of the answer
    "Cohere's reranking": (
        {"query": "Gate?", "documents": ["Gate 9", "Noon"], "top_n": 1, "api_version": 2},
        {"results": [{"index": 0, "relevance_score": 0.9}]}, "rerank", "0.9 [0] Gate 9",
    ),
    "Cohere's reranking of objects": (
        {"query": "Gate?", "documents": [{"text": "Gate 9"}]}, {"results": [{"index": 0, "relevance_score": 0.9}]},
        "rerank", "0.9 [0] Gate 9",
    ),
    "Cohere's chat": (
        {"message": "Gate?", "documents": [{"title": "Gates", "snippet": "Gate 9"}]},
        {"text": "Nine.", "generation_id": "g1", "finish_reason": "COMPLETE"}, "invoke_model", "Nine.",
    ),
    "Cohere's turn of tools": (
        {"message": "", "tool_results": [{"call": {"name": "gates"}, "outputs": [{"gate": 9}]}]},
        {"text": "Nine.", "generation_id": "g1", "finish_reason": "COMPLETE"}, "invoke_model", "Nine.",
    ),
    "Cohere's pictures": (
        {"images": ["data:image/png;base64,AA=="], "input_type": "image"},
        {"id": "e1", "embeddings": [[0.1]], "response_type": "embeddings_floats"}, "invoke_embeddings", None,
    ),
    "Cohere's parts": (
        {"inputs": [{"content": [{"type": "text", "text": "Hi"}]}], "input_type": "search_query"},
        {"id": "e1", "embeddings": {"float": [[0.1]]}}, "invoke_embeddings", None,
    ),
    "Titan's picture": (
        {"inputImage": "AA==", "embeddingConfig": {"outputEmbeddingLength": 256}},
        {"embedding": [0.1], "inputTextTokenCount": 0}, "invoke_embeddings", None,
    ),
    "a video of TwelveLabs": (
        {"inputPrompt": "What happens?", "mediaSource": {"s3Location": {"uri": "s3://films/1.mp4"}}},
        {"message": "A train leaves.", "finishReason": "stop"}, "invoke_model", "A train leaves.",
    ),
    "a text of TwelveLabs": (
        {"inputType": "text", "inputText": "A train"}, {"data": [{"embedding": [0.1]}]}, "invoke_embeddings", None,
    ),
    "a text of TwelveLabs, in an object": (
        {"inputType": "text", "text": {"inputText": "A train"}}, {"data": [{"embedding": [0.1]}]},
        "invoke_embeddings", None,
    ),
    "a picture without a prompt": ({"image": "AA=="}, {"images": ["AA=="], "seeds": [1]}, "invoke_model", None),
    "Claude": ({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": TURNS},
        {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "Nine."}]}, "messages", "Nine.",
    ),
    "a chat": ({"messages": TURNS}, {"choices": [{"message": {"role": "assistant", "content": "Nine."}}]},
        "chat_completions", "Nine.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("model", ["m-1", RESOURCES[0]])
@pytest.mark.parametrize("case", INVOKED)
def test_body_tells_what_an_invoked_model_is_asked_for(case: str, model: str, seen: Capture) -> None:
    """Behind a gateway nothing else tells: the path has no more than a model, which may be the id of a profile."""
    body, answer, api, words = INVOKED[case]
    with httpx.Client(base_url=HOST, transport=answering(json_of(answer))) as client:
        client.post(f"/proxy/model/{model}/invoke", json=body)
    (call,) = seen.records
    assert (call.api, call.provider, call.request.model, call.text) == (api, "aws.bedrock", model, words)
    assert (call.outcome, call.response and call.response.unrecognized) == ("success", False)


def test_databricks_answers_tell_what_is_served(seen: Capture) -> None:
    address = "https://dbc-1.cloud.databricks.com/serving-endpoints/agent/invocations"
    answers = [exchange("chat_completions")[2], exchange("embeddings")[2], {"messages": TURNS}, {"predictions": [1]}]
    with client_that_gets(*map(json_of, answers)) as client:
        for body in ({"messages": TURNS}, {"input": ["Hi"]}, {"messages": TURNS}, {"messages": TURNS}):
            client.post(address, json=body)
    assert [(call.api, call.provider, call.request.model) for call in seen.records] == [
        ("chat_completions", "databricks", "agent"),
        ("embeddings", "databricks", "agent"),
    ]


COMPRESSED: Final[dict[str, Any]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZIP": gzip.compress,
    " gzip": lambda content: gzip.compress(content[:9]) + gzip.compress(content[9:]),
    "deflate": zlib.compress,
    "deflate ": lambda content: zlib.compress(content)[2:-4],
}


@pytest.mark.parametrize("coding", COMPRESSED)
def test_compressed_request_is_read(coding: str, seen: Capture) -> None:
    body = {"model": "m-1", "messages": TURNS}
    sent = COMPRESSED[coding](json.dumps(body).encode())
    with client_that_gets(json_of(exchange("chat_completions")[2])) as client:
        headers = {"content-encoding": coding, "content-type": "application/json"}
        client.post("/v1/chat/completions", content=sent, headers=headers)
    (call,) = seen.records
    assert json.loads(bytes(call.request.body)) == body
    assert (call.request.model, call.request.body_bytes) == ("m-1", len(sent))


@pytest.mark.parametrize(
    ("coding", "content"),
    [
        ("gzip", b"no gzip"), ("gzip", gzip.compress(b'{"model": "m"}')[:-9]), ("br", b"\x0b\x02\x80"),
        ("deflate", b""),
        ("gzip", gzip.compress(b'{"model": "m", "messages": ["' + b"a" * (17 << 20) + b'"]}')),
    ],
    ids=["no gzip", "cut", "another coding", "empty", "too large"],  # a compressed body states its time
)  # fmt: skip
def test_compressed_request_that_cannot_be_read_is_counted(
    coding: str, content: bytes, instrumented: Instrument, tmp_path: Any
) -> None:
    """Some bytes stand for many: what is too large is left."""
    store = f"sqlite:///{tmp_path}/calls.db"
    handle = instrumented(stores=store)
    with httpx.Client(transport=answering(json_of({}))) as client:
        headers = {"content-encoding": coding}
        client.post("https://api.openai.com/v1/chat/completions", content=content, headers=headers)
    handle.force_flush(HANG_MS)
    callspan.uninstrument()
    assert unrecorded(store) == {"POST /v1/chat/completions": 1}


def test_withdrawn_calls_are_counted_by_path(instrumented: Instrument, tmp_path: Any) -> None:
    store = f"sqlite:///{tmp_path}/calls.db"
    handle = instrumented(stores=store)
    with httpx.Client(base_url=HOST, transport=answering(json_of({"ok": True}))) as client:
        for _ in range(2):
            client.post("/private/v1/chat", json={"model": "m-1", "message": "Hi"})
        client.post("/secret/model/pump7/invoke", json={"prompt": "Hi"})
    handle.force_flush(HANG_MS)
    callspan.uninstrument()
    assert unrecorded(store) == {
        "POST /v1/chat: the answer has no field of cohere_chat_v1": 2,
        "POST /model/{id}/invoke: the answer has no field of invoke_model": 1,
    }
