"""A key in no provider's format is nowhere, though the provider repeats it in its error."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from contextlib import nullcontext, suppress
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import quote

import anthropic
import httpx
import openai
import pytest
from tests.support import sdks
from tests.support.calls import ask, client_of, everywhere, the_call
from tests.support.mode import Mode

import callspan
from callspan.process.known_keys import KNOWN
from callspan.process.sent_keys import sent_keys
from callspan.records import encode
from callspan.testing import Capture, ScriptedProvider, capture

KEY: Final = "mB4-q0w7e1r5t9"
CHAT: Final = {"model": "gpt-5", "messages": [{"role": "user", "content": "Hi"}]}
REFUSED: Final[dict[str, Any]] = {"error": {"message": f"key {KEY} unknown", "code": KEY, "type": KEY, "param": [KEY]}}


def refusal(key: str) -> dict[str, Any]:
    return json.loads(json.dumps(REFUSED).replace(KEY, json.dumps(key)[1:-1]))


def texts(value: object) -> list[str]:
    """All texts, also of JSON within a text."""
    if isinstance(value, str):
        with suppress(ValueError):
            return [value, *(texts(json.loads(value)) if value[:1] in ("{", "[") else [])]
        return [value]
    items = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for item in items for text in texts(item)]


def shown(seen: Capture, *keys: str) -> bool:
    """Whether a key is anywhere, whole or in part."""
    read = [json.loads(span.to_json()) for span in seen.spans] + [json.loads(encode(one)) for one in seen.everything]
    everything = "\n".join([*texts(read), everywhere(seen)]).lower()
    return any(part in everything for key in keys for part in (key[:12].lower(), key[-12:].lower()))


@pytest.fixture(autouse=True)
def forgotten() -> None:
    """Let no test mask what another has sent."""
    KNOWN.clear()


async def refused(mode: Mode, client: Any, **options: Any) -> str:
    """What the application is told."""
    with pytest.raises((openai.APIError, anthropic.APIError)) as raised:
        await mode.whole(ask(client, **options))
    return str(raised.value)


@pytest.mark.parametrize("level", ["off", "metadata", "full"])
@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_refused_key_is_nowhere(sdk: str, streamed: bool, level: Any, mode: Mode) -> None:
    mode.provider.reply(status=401, raw=REFUSED)
    with capture(content=level) as seen:
        client = client_of(mode, sdk, default_headers={"authorization": f"Bearer {KEY}"})
        assert KEY in await refused(mode, client, stream=streamed)
    assert the_call(seen).error is not None
    assert KEY not in everywhere(seen)


async def test_key_in_an_error_within_a_stream_is_nowhere(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(raw=[{"id": "c", "choices": [{"index": 0, "delta": {"content": "A"}}]}, REFUSED])
    client = client_of(mode, "openai", default_headers={"x-api-key": KEY})
    assert KEY in await refused(mode, client, stream=True)
    assert (the_call(seen).text, KEY in everywhere(seen)) == ("A", False)


async def test_key_in_the_error_of_a_retried_attempt_is_nowhere(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(status=500, raw=REFUSED, retry_after_s=0.001)
    client = client_of(mode, "openai", default_headers={"api-key": KEY}, max_retries=1)
    await mode.wait(ask(client))
    assert (the_call(seen).retries, KEY in everywhere(seen)) == (1, False)


SENT: Final[dict[str, dict[str, Any]]] = {
    "header": {"headers": {"x-goog-api-key": KEY}},
    "parameter": {"params": {"alt": "sse", "key": KEY}},
    "user": {"auth": ("user", KEY)},
    "cookie": {"headers": {"cookie": f"a=b; session={KEY}"}},
}


@pytest.mark.parametrize("where", SENT)
async def test_key_of_another_client_is_nowhere(where: str, mode: Mode, seen: Capture) -> None:
    mode.provider.reply(status=401, raw={"detail": f"no such key: ({KEY})"})
    url, kind = f"{mode.provider.openai_url}/chat/completions", httpx.AsyncClient if mode.is_async else httpx.Client
    async with mode.entered(kind()) as client:
        response = await mode.wait(client.post(url, json=CHAT, **SENT[where]))
        assert KEY in response.text
    assert the_call(seen).outcome == "error"
    assert KEY not in everywhere(seen)


async def test_words_of_headers_stay_in_errors(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(status=401, raw={"error": {"message": "not-needed is no model of application/json"}})
    await refused(mode, client_of(mode, "openai", default_headers={"authorization": "Bearer not-needed"}))
    error = the_call(seen).error
    assert error is not None
    assert error.message == "not-needed is no model of application/json"


UNUSUAL: Final = {
    "words": "correcthorsebatterystaple", "letters": "QwErTyUiOpAsDfGhJk", "colons": "abc1234:def5678:xx",
    "quotes": 'ab12"cd34"ef56', "signs": "mB4/q0+7e1r5t9zz7Q==",
}  # fmt: skip
WAYS: Final[dict[str, Callable[[str], dict[str, Any]]]] = {
    "bearer": lambda key: {"default_headers": {"AUTHORIZATION": f"Bearer {key}"}},
    "header": lambda key: {"default_headers": {"x-portkey-virtual-key": key}},
    "bypass": lambda key: {"default_headers": {"x-protection-bypass": key}},
    "parameter": lambda key: {"default_query": {"token": key}},
    "code": lambda key: {"default_query": {"code": key}},
}


@pytest.mark.parametrize("form", UNUSUAL)
@pytest.mark.parametrize("way", WAYS)
async def test_unusual_key_is_nowhere(way: str, form: str, mode: Mode, seen: Capture) -> None:
    key = UNUSUAL[form]
    mode.provider.reply(status=401, raw=refusal(key))
    assert key in await refused(mode, client_of(mode, "openai", **WAYS[way](key)))
    assert not shown(seen, key)


LONG: Final = "mB4/q0+7e1r5t9zz7Q"
REPEATED: Final = {
    "percent": quote(LONG, safe=""), "base64": base64.b64encode(LONG.encode()).decode(), "upper": LONG.upper(),
    "end": LONG[-13:], "JSON": json.dumps({"a": json.dumps([LONG])}).replace("/", r"\/"),
    "hexadecimal": LONG.encode().hex(), "hexadecimal, upper": LONG.encode().hex().upper(),
    "base64 within other text": base64.b64encode(f"x={LONG}".encode()).decode(),
    "base64 of a login": base64.urlsafe_b64encode(f"user:{LONG}".encode()).decode(),
    "beginning": f"{LONG[:14]}...", "hidden": f"{LONG[:13]}****{LONG[-2:]}",
}  # fmt: skip


@pytest.mark.parametrize("form", REPEATED)
@pytest.mark.parametrize("streamed", [False, True])
async def test_key_is_nowhere_in_any_form(form: str, streamed: bool, mode: Mode, seen: Capture) -> None:
    mode.provider.reply(status=401, raw={"error": {"message": f"({REPEATED[form]})", REPEATED[form]: [REPEATED[form]]}})
    await refused(mode, client_of(mode, "openai", default_headers={"x-api-key": LONG}), stream=streamed)
    assert not shown(seen, LONG, REPEATED[form])


HEX: Final = "9f86d081884c7d659a2feaa0c55ad015"
UNNAMED: Final = {
    "hexadecimal": HEX, "mixed": KEY, "dashes": "8f3e2a1b-7c4d-4f6e-9a8b-1c2d3e4f5a6b", "scheme": f"Bearer {LONG}",
    "JSON": json.dumps({"strategy": "x", "via": HEX}),
}  # fmt: skip


@pytest.mark.parametrize("form", UNNAMED)
@pytest.mark.parametrize("name", ["x-tenant", "x-gateway", "ocp-apim", "x-portkey-config", "X-Access"])
async def test_key_in_a_header_without_a_secret_name_is_nowhere(
    name: str, form: str, mode: Mode, seen: Capture
) -> None:
    key = {"scheme": LONG, "JSON": HEX}.get(form, UNNAMED[form])
    mode.provider.reply(status=401, raw=refusal(key))
    client = client_of(mode, "openai", default_headers={name: UNNAMED[form]})
    assert key in await refused(mode, client)
    assert not shown(seen, key)


PLAIN_HEADERS: Final = {
    "x-tenant": "customer-42", "x-region": "us-east-1", "x-api-version": "2026-11-30-preview", "x-model": "gpt-5.1-a",
    "x-request-id": HEX, "traceparent": f"00-{HEX}-9f86d081884c7d65-01", "x-correlation-id": HEX, "x-mode": "fast",
}  # fmt: skip


@pytest.mark.parametrize("name", PLAIN_HEADERS)
async def test_plain_words_of_headers_stay_in_errors(name: str, mode: Mode, seen: Capture) -> None:
    told = f"{PLAIN_HEADERS[name]} is not served"
    mode.provider.reply(status=400, raw={"error": {"message": told}})
    await refused(mode, client_of(mode, "openai", default_headers={name: PLAIN_HEADERS[name]}))
    error = the_call(seen).error
    assert error is not None
    assert error.message == told


SENT_AS: Final = {
    "authorization": {"authorization": f"Bearer {KEY}"}, "x-api-key": {"x-api-key": KEY}, "x-tenant": {"x-tenant": KEY},
}  # fmt: skip


@pytest.mark.parametrize("level", ["off", "full"])
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
@pytest.mark.parametrize("way", SENT_AS)
async def test_key_that_an_answer_has_as_its_id_is_nowhere(
    way: str, sdk: str, streamed: bool, level: Any, mode: Mode
) -> None:
    headers = {"x-request-id": KEY, "request-id": KEY}
    mode.provider.reply(status=500, raw={"error": {"message": "busy"}}, headers=headers, retry_after_s=0.001)
    mode.provider.reply(text="Hi", headers=headers)
    with capture(content=level) as seen:
        client = client_of(mode, sdk, default_headers=SENT_AS[way], max_retries=1)
        await mode.whole(ask(client, stream=streamed))
    assert [attempt.request_id for attempt in the_call(seen).attempts] == ["[secret]", "[secret]"]
    assert not shown(seen, KEY)


CODED: Final = base64.b64encode(f"Bearer {KEY}".encode()).decode()
REPEATED_IN_ID: Final = {
    "within": f"gw-{KEY}-7", "behind a prefix": f"req_{KEY}", "hexadecimal": KEY.encode().hex(), "end": f"{KEY[-12:]}",
    "base64": base64.b64encode(KEY.encode()).decode(), "base64 with its scheme": CODED,
}  # fmt: skip
SENT_BY: Final[dict[str, dict[str, Any]]] = {
    "a header": {"headers": {"authorization": f"Bearer {KEY}"}}, "a login": {"auth": ("user", KEY)},
    "a header without a secret name": {"headers": {"x-tenant": KEY}}, "a parameter": {"params": {"key": KEY}},
}  # fmt: skip


@pytest.mark.parametrize("form", REPEATED_IN_ID)
@pytest.mark.parametrize("way", SENT_BY)
def test_key_that_an_answer_has_in_its_id_is_nowhere(
    way: str, form: str, provider: ScriptedProvider, seen: Capture
) -> None:
    ident = REPEATED_IN_ID[form]
    provider.reply(text="Hi", headers={"x-request-id": ident})
    httpx.post(f"{provider.url}/v1/chat/completions", json=CHAT, **SENT_BY[way])
    assert the_call(seen).outcome == "success"
    assert "[secret]" in str(the_call(seen).request_id)
    assert not shown(seen, KEY, ident)


PLACE: Final = "PLACE"
CALLED: Final = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
ANSWERS: Final[dict[str, dict[str, Any]]] = {
    "chat": {
        "id": "c", "object": "chat.completion", "created": 1, "model": "m", "service_tier": "default",
        "system_fingerprint": "fp", "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}],
    },
    "tool": {
        "id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {"tool_calls": [CALLED]}}],
    },
    "messages": {
        "id": "a", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
        "content": [{"type": "tool_use", "id": "t", "name": "look", "input": {}}],
        "usage": {"input_tokens": 1, "output_tokens": 2, "service_tier": "standard"},
    },
}  # fmt: skip
STATED: Final = {
    "chat": [
        "id", "model", "service_tier", "system_fingerprint", "object", "choices.0.finish_reason", "usage.x", "x",
    ],
    "tool": ["choices.0.message.tool_calls.0.function.name", "choices.0.message.tool_calls.0.id"],
    "messages": ["id", "model", "stop_reason", "stop_sequence", "content.0.name", "content.0.id", "usage.service_tier"],
}  # fmt: skip


def stating(answer: str, place: str, text: str) -> dict[str, Any]:
    """An answer with a text in place of a value, or beside the others."""
    body = json.loads(json.dumps(ANSWERS[answer]))
    *names, last = [int(name) if name.isdigit() else name for name in place.split(".")]
    holder = body
    for name in names:
        holder = holder[name]
    holder[last] = text
    return body


@pytest.mark.parametrize("level", ["off", "metadata", "full"])
@pytest.mark.parametrize(
    ("answer", "place"), [(answer, place) for answer, places in STATED.items() for place in places]
)
async def test_key_that_a_successful_answer_states_is_nowhere(answer: str, place: str, level: Any, mode: Mode) -> None:
    mode.provider.reply(raw=stating(answer, place, f"gw-{KEY}"))
    sdk = "anthropic" if answer == "messages" else "openai"
    with capture(content=level) as seen, callspan.session("s") as session, session.timestep():
        got = await mode.wait(ask(client_of(mode, sdk, default_headers={"authorization": f"Bearer {KEY}"})))
        assert KEY in got.model_dump_json()
        with callspan.tool("look"):
            pass
    assert [call.outcome for call in seen.records] == ["success"]
    assert not shown(seen, KEY)


@pytest.mark.parametrize("form", REPEATED_IN_ID)
@pytest.mark.parametrize("way", SENT_BY)
@pytest.mark.parametrize("place", ["id", "model", "choices.0.finish_reason"])
def test_key_that_a_successful_answer_states_in_any_form_is_nowhere(
    place: str, way: str, form: str, provider: ScriptedProvider, seen: Capture
) -> None:
    provider.reply(raw=stating("chat", place, REPEATED_IN_ID[form]))
    httpx.post(f"{provider.url}/v1/chat/completions", json=CHAT, **SENT_BY[way])
    assert the_call(seen).outcome == "success"
    assert not shown(seen, KEY, REPEATED_IN_ID[form])


@pytest.mark.parametrize("place", ["id", "model", "choices.0.finish_reason"])
async def test_key_that_a_stream_states_is_nowhere(place: str, mode: Mode, seen: Capture) -> None:
    body = stating("chat", place, KEY)
    (choice,) = body.pop("choices")
    delta = {"index": 0, "delta": choice["message"]}
    mode.provider.reply(
        raw=[{**body, "choices": [delta]}, {**body, "choices": [{**delta, "finish_reason": choice["finish_reason"]}]}]
    )
    await mode.whole(ask(client_of(mode, "openai", default_headers={"x-api-key": KEY}), stream=True))
    assert not shown(seen, KEY)


def test_key_that_a_fetched_answer_states_is_nowhere(provider: ScriptedProvider, seen: Capture) -> None:
    """By the poll of a background response, from its first version on."""
    sdks.needs("openai", "1.66", "the Responses API")
    client = openai.OpenAI(api_key=KEY, base_url=provider.openai_url, max_retries=0)
    job = {"id": "resp_1", "object": "response", "model": KEY, "output": [], "background": True}
    provider.reply(raw={**job, "status": "queued"}, on="/responses")
    provider.reply(raw={**job, "status": "completed"}, on="/responses/resp_1")
    client.responses.create(model="gpt-5", input="Hi", extra_body={"background": True})
    client.responses.retrieve("resp_1")
    client.close()
    assert not shown(seen, KEY)


def test_answer_without_a_key_is_as_it_was(provider: ScriptedProvider, seen: Capture) -> None:
    """Words, even those that clients send in place of a key, and the model that a header names, for a gateway."""
    body = stating("chat", "model", model := "llama3-2-1b-instruct-v1:0")
    provider.reply(raw={**body, "extra": "not-needed"})
    headers = {"authorization": "Bearer not-needed", "x-model-id": model, "x-deployment": model}
    httpx.post(f"{provider.url}/v1/chat/completions", json=CHAT, headers=headers)
    body["extra"] = "not-needed"
    (call,) = seen.records
    assert (json.loads(bytes(call.response.body)), call.redactions) == (body, [])


async def test_id_that_the_client_has_sent_itself_stays(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(text="Hi", headers={"x-request-id": HEX})
    await mode.wait(ask(client_of(mode, "openai", default_headers={"x-request-id": HEX})))
    assert the_call(seen).request_id == HEX


async def test_former_key_of_a_client_is_nowhere(mode: Mode, seen: Capture) -> None:
    keys = ["former-Key-123456789", "later-Key-987654321"]
    left = iter(keys)
    for _ in keys:
        mode.provider.reply(status=500, raw=refusal(keys[0]), retry_after_s=0.001)

    def sent(request: httpx.Request) -> None:
        request.headers["authorization"] = f"Bearer {next(left)}"

    async def sent_later(request: httpx.Request) -> None:
        sent(request)

    hook, kind = (sent_later, httpx.AsyncClient) if mode.is_async else (sent, httpx.Client)
    await refused(mode, client_of(mode, "openai", http_client=kind(event_hooks={"request": [hook]}), max_retries=1))
    assert the_call(seen).retries == 1
    assert not shown(seen, *keys)


@pytest.mark.parametrize("is_recorded", [True, False])
async def test_key_is_nowhere_in_errors_of_scopes(is_recorded: bool, mode: Mode, seen: Capture) -> None:
    mode.provider.reply(status=401, raw=REFUSED, on="/chat/completions" if is_recorded else "/models/m")
    client = client_of(mode, "openai", default_headers={"authorization": f"Bearer {KEY}"})
    with suppress(RuntimeError), callspan.session("s") as session, session.timestep(), callspan.tool("t"):
        try:
            await mode.wait(ask(client) if is_recorded else client.models.retrieve("m"))
        except openai.APIError as error:
            session.event("failed", error=error)
            own = callspan.record_call(provider="vllm", model="m") if is_recorded else nullcontext()
            with suppress(openai.APIError), own:
                raise
            raise RuntimeError(f"It said {error}") from error
    assert not shown(seen, KEY)
    # Older SDKs quote the whole body.
    assert re.search(r"It said Error code: 401 - .*key \[secret\] unknown", everywhere(seen))


async def test_key_in_a_text_about_a_refusal_is_nowhere(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(status=401, raw=REFUSED)
    told = await refused(mode, client_of(mode, "openai", default_headers={"authorization": f"Bearer {KEY}"}))
    with callspan.session("s") as session:
        session.event("failed", error=told)
    assert not shown(seen, KEY)


@pytest.mark.parametrize("login", ["abcde", "a", "====", "a-b_c"])
async def test_invalid_login_beside_a_key_hides_none(login: str, mode: Mode, seen: Capture) -> None:
    mode.provider.reply(status=401, raw=REFUSED)
    headers = {"proxy-authorization": f"Basic {login}", "x-gateway-key": KEY}
    await refused(mode, client_of(mode, "openai", default_headers=headers))
    assert not shown(seen, KEY)


async def test_secrets_of_tools_are_nowhere(mode: Mode, seen: Capture) -> None:
    keys = ["tok3n-aaaa9999bbbb", "head3r-aaaa9999bbbb", "path1-aaaa9999bbbb", "body1-aaaa9999bbbb"]
    server = {
        "type": "mcp", "server_label": "a", "server_url": f"https://h/{keys[2]}/sse", "authorization": keys[0],
        "headers": {"X-T": f"Bearer {keys[1]}"},
    }  # fmt: skip
    mode.provider.reply(status=424, raw=refusal(" ".join(keys)))
    client = client_of(mode, "openai")
    with pytest.raises(openai.APIError):
        await mode.wait(ask(client, tools=[server], extra_body={"provider": {"api_key": keys[3]}}))
    assert not shown(seen, *keys)


@pytest.mark.parametrize("by_sdk", [True, False])
async def test_key_of_a_redirect_is_nowhere(by_sdk: bool, mode: Mode, seen: Capture) -> None:
    url = f"{mode.provider.openai_url}/chat/completions"
    mode.provider.reply(status=307, raw={}, headers={"location": f"{url}?sig={KEY}"})
    mode.provider.reply(status=401, raw=REFUSED)
    if by_sdk:
        await refused(mode, client_of(mode, "openai"))
    else:
        kind: Any = httpx.AsyncClient if mode.is_async else httpx.Client
        async with mode.entered(kind(follow_redirects=True)) as client:
            assert KEY in (await mode.wait(client.post(url, json=CHAT))).text
    assert the_call(seen).outcome == "error"
    assert not shown(seen, KEY)


BASIC: Final = base64.b64encode(f"user:{KEY}".encode()).decode()
REQUESTS: Final[list[tuple[dict[str, str], str, list[str]]]] = [
    ({"authorization": f"Bearer {KEY}", "accept": "1234567890"}, "", [KEY]),
    ({"Proxy-Authorization": f"Basic {BASIC}"}, "", [BASIC, KEY]),
    ({"authorization": "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1, SignedHeaders=host;x-amz-date"}, "", []),
    ({"x-api-key": "short-1"}, f"http://h/v1?a=b&key={KEY}#part", [KEY]),
    ({"authorization": f"key={KEY}"}, "http://h/v1?page=1234567890", [KEY]),
    ({"sec-websocket-protocol": f"realtime, openai-insecure-api-key.{KEY}, openai-beta.realtime-v1"}, "", [KEY]),
    ({"idempotency-key": "12345678-1234", "x-max-tokens": "12345678"}, f"ws://u:{KEY}@h/v1", [KEY]),
]


@pytest.mark.parametrize(("headers", "url", "keys"), REQUESTS)
def test_keys_of_a_request(headers: dict[str, str], url: str, keys: list[str]) -> None:
    as_raw = SimpleNamespace(raw=[(name.encode(), value.encode()) for name, value in headers.items()])
    ways: list[Callable[[], object]] = [lambda: headers, lambda: as_raw]
    assert [sent_keys(SimpleNamespace(headers=way(), url=url)) for way in ways] == [keys, keys]


@pytest.mark.parametrize("request_", [None, object(), SimpleNamespace(headers=None), SimpleNamespace(headers={1: 2})])
def test_no_request_has_no_keys(request_: object) -> None:
    assert json.dumps(sent_keys(request_)) == "[]"
