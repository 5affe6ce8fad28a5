"""Lines of JSON Lines and the socket state what a reader selects by, false and 0 included; absent means unknown."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import openai
import pytest

import callspan
from callspan.records import FORMAT, CallRecord, RewardRecord, decode, encode
from callspan.semconv.records_from_spans import call_of
from callspan.testing import ScriptedProvider

HI: Any = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def written(provider: ScriptedProvider, tmp_path: Path) -> Path:
    """A file with an answer, a stream, a call that was limited first, one that failed, one by hand, and a reward."""
    path = tmp_path / "calls.jsonl"
    handle = callspan.instrument(stores=f"jsonl:///{path}")
    with openai.OpenAI(api_key="sk-test", base_url=provider.openai_url, max_retries=1) as client:
        client.chat.completions.create(model="plain", messages=HI)
        list(client.chat.completions.create(model="stream", messages=HI, stream=True))
        provider.reply(status=429, retry_after_s=0.001)
        client.chat.completions.create(model="limited", messages=HI)
        provider.reply(status=400)
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="failed", messages=HI)
    with callspan.record_call(provider="vllm", model="by hand"):
        pass
    with callspan.session() as session:
        session.reward(1.0)
    assert handle.force_flush()
    handle.uninstrument()
    return path


@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
def test_jq_selects_by_outcome(written: Path) -> None:
    query = 'select(.kind == "call" and .outcome == "success" and .rate_limited == false) | .request.model'
    found = subprocess.run(["jq", "-r", query, str(written)], capture_output=True, text=True, check=True).stdout
    assert sorted(found.split()) == ["plain", "stream"]


@pytest.mark.parametrize(
    ("fields", "stream"),
    [({}, None), ({"gen_ai.request.stream": False}, False), ({"llm.is_streaming": True}, True),
     ({"gen_ai.request.stream": "yes"}, None)],
)  # fmt: skip
def test_a_record_of_another_librarys_span_has_only_what_the_span_has(
    fields: dict[str, object], stream: bool | None
) -> None:
    call = call_of(
        {"gen_ai.operation.name": "chat", **fields}, trace_id="1", span_id="2", parent_span_id=None, start_ns=1,
        end_ns=2, failed=False, scope=None,
    )  # fmt: skip
    assert call is not None
    line = json.loads(encode(call))
    assert line.get("request", {}).get("stream") is stream
    assert line.keys().isdisjoint({"rate_limited", "retries"})
    assert (line["outcome"], line["operation"]) == ("success", "chat")


def test_records_of_earlier_versions_can_still_be_read() -> None:
    """They left out what had its default."""
    old = b'{"kind":"call","call_id":"old","schema_version":%d,"api":"responses","timing":{"start_ns":1}}' % FORMAT
    call = decode(old)
    assert isinstance(call, CallRecord)
    assert (call.outcome, call.operation, call.part) == ("success", "chat", "ended")
    assert (call.request.stream, call.rate_limited) == (None, None)
    assert decode(encode(call)) == call
    reward = decode(b'{"kind":"reward","reward_id":"r","schema_version":%d,"value":1.0,"time_ns":5}' % FORMAT)
    assert isinstance(reward, RewardRecord)
    assert (reward.objective, reward.scope) == ("reward", "event")
