"""Recorded wire bodies are returned by every SQL store byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from tests.processed import processed
from tests.wire import corpus

from callspan import Settings
from callspan.delivery.recorder import Recorder
from callspan.records import Request, Response
from callspan.stores import CallFilter
from callspan.stores.urls import open_store

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


def test_a_store_that_is_added_gets_what_is_written_from_then_on(tmp_path: Path, records: Records) -> None:
    """As the exporter adds its own; what the first store has it does not get again."""
    first, second = f"sqlite:///{tmp_path}/a.db", f"sqlite:///{tmp_path}/b.db"
    recorder = Recorder(Settings(stores=(first,)))
    before, after = records.call(at_s=0), records.call(at_s=1)
    recorder.write(processed(before))
    replaced = recorder.add_stores((second, first))
    assert replaced is not None
    assert replaced.close(20)
    recorder.write(processed(after))
    assert recorder.flush(20)
    recorder.retire(20)
    with closing(open_store(first)) as reader:
        assert [one.call_id for one in reader.calls(CallFilter(newest_first=False))] == [before.call_id, after.call_id]
    with closing(open_store(second)) as reader:
        assert [one.call_id for one in reader.calls()] == [after.call_id]
    assert not list((tmp_path / "a.db.spool").glob("*/*.segment"))
