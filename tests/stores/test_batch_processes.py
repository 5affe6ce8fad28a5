"""A batch that several processes see, each killed as soon as its request has returned: each line is one call."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from callspan.delivery.recorder import store_sinks
from callspan.records import CallRecord
from callspan.spool.spool import ship_once
from callspan.stores import CallFilter
from callspan.stores.urls import open_store
from callspan.testing import ScriptedProvider

pytestmark = [pytest.mark.timeout(300)]  # several processes, one after the other

PRICES = {"version": "t", "models": {"m": {"input": "2", "output": "8", "tiers": {"batch": {"input": 1, "output": 4}}}}}
PROCESS = """
    import json, os, signal, sys
    from pathlib import Path
    import anthropic, callspan, openai
    store, url, spool, prices, job, *does = sys.argv[1:]
    callspan.instrument(stores=store, prices=Path(prices), spool_dir=Path(spool))
    of_openai = openai.OpenAI(base_url=url + "/v1", api_key="k", max_retries=0)
    of_anthropic = anthropic.Anthropic(base_url=url, api_key="k", max_retries=0)
    asked = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    for what in does:
        jobs = json.loads(Path(job).read_text()) if Path(job).exists() else {}
        batches = of_anthropic.messages.batches
        if what == "upload":
            line = {"method": "POST", "url": "/v1/chat/completions", "body": asked}
            content = "\\n".join(json.dumps({"custom_id": f"o{n}", **line}) for n in range(3)).encode()
            jobs["file"] = of_openai.files.create(file=("in.jsonl", content), purpose="batch").id
        elif what == "create":
            with callspan.session("jobs", session_id="jobs"):
                jobs["batch"] = of_openai.batches.create(
                    input_file_id=jobs["file"], endpoint="/v1/chat/completions", completion_window="24h").id
                requests = [{"custom_id": f"a{n}", "params": asked} for n in range(3)]
                jobs["messages"] = batches.create(requests=requests).id
        elif what == "many":
            requests = [{"custom_id": f"a{n:04}", "params": asked} for n in range(1500)]
            jobs["messages"] = batches.create(requests=requests).id
        elif what == "results":
            batches.retrieve(jobs["messages"])
            list(batches.results(jobs["messages"]))
            callspan.instrument().force_flush()
        elif what == "poll":
            seen = of_openai.batches.retrieve(jobs["batch"])
            jobs["results"] = [seen.output_file_id, seen.error_file_id]
            batches.retrieve(jobs["messages"])
        elif what == "read":
            batch = of_openai.batches.retrieve(jobs["batch"])
            of_openai.files.content(batch.output_file_id)
            of_openai.files.content(batch.error_file_id)
            list(batches.results(jobs["messages"]))
            callspan.instrument().force_flush()
        elif what == "content":
            for file_id in jobs["results"]:
                of_openai.files.content(file_id)
            callspan.instrument().force_flush()
        elif what == "begin":
            next(iter(batches.results(jobs["messages"])))
        Path(job).write_text(json.dumps(jobs))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def run(url: str, provider: ScriptedProvider, place: Path, spool: str, *does: str) -> None:
    program = [sys.executable, "-c", textwrap.dedent(PROCESS)]
    given = [url, provider.url, str(place / spool), str(place / "prices.json"), str(place / "job")]
    assert subprocess.Popen([*program, *given, *does]).wait() == -signal.SIGKILL


def test_each_line_is_one_call(provider: ScriptedProvider, tmp_path: Path) -> None:
    """Uploaded by one, created by another, read by two, delivered in reverse: tokens and costs count once."""
    url = f"sqlite:///{tmp_path}/calls.db"
    (tmp_path / "prices.json").write_text(json.dumps(PRICES))
    for text in ("Well.", "Fine."):
        provider.reply(text=text, input_tokens=1000, output_tokens=100)
        provider.reply(status=400)
        provider.reply(in_batch="expired")
    for spool, *does in (line.split() for line in ("0 upload", "0 create poll", "1 poll poll begin", "2 read read")):
        run(url, provider, tmp_path, spool, *does)
    for spool in "210":
        ship_once(tmp_path / spool, store_sinks((url,), tmp_path / "prices.json"), 30.0)
    with closing(open_store(url)) as reader:
        found = list(reader.calls(CallFilter()))
        calls = {str(call.custom_id): call for call in found}
        assert len(found) == len(calls) == 6
        for family in "oa":
            check([calls[f"{family}{number}"] for number in range(3)])
        sums, other = reader.summary("provider")
        assert (sums.calls, other.calls) == (3, 3)
        batch_id = calls["a0"].batch_id
        assert {call.custom_id for call in reader.calls(CallFilter(batch_id=batch_id))} == {"a0", "a1", "a2"}
        assert (sums.input_tokens, sums.output_tokens, sums.cost_usd) == (1000, 100, Decimal("0.0014"))


def test_results_are_read_by_a_process_that_knows_only_their_files(provider: ScriptedProvider, tmp_path: Path) -> None:
    """Another process with the same spool has seen the batch, and was killed as soon as it had."""
    url = f"sqlite:///{tmp_path}/calls.db"
    (tmp_path / "prices.json").write_text(json.dumps(PRICES))
    provider.reply(text="Well.", input_tokens=1000, output_tokens=100)
    provider.reply(status=400)
    provider.reply(in_batch="expired")
    for does in ("upload", "create", "poll", "poll", "content", "content"):
        run(url, provider, tmp_path, "0", does)
    ship_once(tmp_path / "0", store_sinks((url,), tmp_path / "prices.json"), 30.0)
    with closing(open_store(url)) as reader:
        calls = sorted(reader.calls(CallFilter(provider="openai")), key=lambda call: str(call.custom_id))
        assert [call.custom_id for call in calls] == ["o0", "o1", "o2"]
        check(calls)


def test_a_kill_while_a_large_batch_is_written_costs_requests_and_no_answers(
    provider: ScriptedProvider, tmp_path: Path
) -> None:
    """The first hundred requests are on disk when the method returns; every answer has its tokens and cost."""
    url = f"sqlite:///{tmp_path}/calls.db"
    (tmp_path / "prices.json").write_text(json.dumps(PRICES))
    provider.reply(text="Well.", input_tokens=1000, output_tokens=100, repeat=True)
    run(url, provider, tmp_path, "0", "many")
    run(url, provider, tmp_path, "0", "results")
    ship_once(tmp_path / "0", store_sinks((url,), tmp_path / "prices.json"), 30.0)
    with closing(open_store(url)) as reader:
        calls = sorted(reader.calls(CallFilter(newest_first=False)), key=lambda call: str(call.custom_id))
        assert [call.custom_id for call in calls] == [f"a{number:04}" for number in range(1500)]
        has_request = [call.request.model is not None for call in calls]
        assert all(has_request[:100])
        assert not all(has_request), "the process was killed too late for this test"
        for call in calls:
            assert call.outcome == "success"
            assert call.response is not None
            assert call.response.model == "m"
            assert call.usage is not None
            assert call.cost is not None
            assert (call.usage.total_tokens, call.cost.usd) == (1100, Decimal("0.0014"))
            assert call.conversation is not None
            assert call.conversation.output[0].text == "Well."


def check(calls: list[CallRecord]) -> None:
    """One answer, one error, one that expired; each with its request."""
    assert [call.outcome for call in calls] == ["success", "error", "timeout"]
    assert {call.place.session_id for call in calls} == {"jobs"}
    assert len({call.batch_id for call in calls}) == 1
    first = calls[0]
    assert first.usage is not None
    assert first.cost is not None
    assert (first.usage.total_tokens, first.cost.usd, first.cost.estimated) == (1100, Decimal("0.0014"), False)
    for call in calls:
        assert call.request.model == "m"
        assert [message.text for message in (call.conversation.input if call.conversation else [])] == ["Hi"]
