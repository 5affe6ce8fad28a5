"""Recorded wire bodies are returned by every SQL store byte for byte."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from tests.wire import corpus

from callspan.records import Request, Response
from callspan.stores import CallFilter

from .conftest import Delivery, Records, raw


def test_recorded_requests_and_answers_come_back_byte_for_byte(
    url: str, deliver: Callable[[str], Delivery], records: Records
) -> None:
    """Every recorded exchange: whatever providers and frameworks have sent."""
    store = deliver(url)
    made: dict[str, tuple[bytes, bytes]] = {}
    for exchange in corpus.load():
        request = msgspec.Raw(b"" if exchange.request is None else bytes(raw(exchange.request)))
        answer = exchange.body.strip().encode() if is_json(exchange.body) else b""
        record = records.call(
            api=exchange.endpoint,
            request=Request(body=request) if bytes(request) else Request(),
            response=Response(body=msgspec.Raw(answer)) if answer else None,
        )
        store.write(record)
        made[record.call_id] = (bytes(request), answer)
    reader = store.read()
    found = {
        one.call_id: (bytes(one.request.body), bytes(one.response.body) if one.response else b"")
        for one in reader.calls(CallFilter())
    }
    assert len(found) == len(corpus.load())
    assert found == made


def is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return False
    return True


@pytest.mark.parametrize("name", ["vllm", "openai"])
def test_token_ids_and_log_probabilities_stay_with_the_answer(
    url: str, deliver: Callable[[str], Delivery], records: Records, name: str
) -> None:
    """There is no table of them: the body holds them exactly."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    more: dict[str, object] = {
        "vllm": {"token_ids": [1, 2, 3], "logprobs": None},
        "openai": {"logprobs": {"content": [{"token": "Hi", "logprob": -0.12345678901234567, "bytes": [72, 105]}]}},
    }[name]
    body = raw({"choices": [choice | more], "prompt_token_ids": [5, 6]})
    store = deliver(url)
    made = records.call(response=Response(body=body))
    store.write(made)
    found = store.read().call(made.call_id)
    assert found is not None
    assert found.response is not None
    assert bytes(found.response.body) == bytes(body)
