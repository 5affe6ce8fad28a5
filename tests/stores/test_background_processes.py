"""A background response that three processes see, each killed as soon as its request has returned: one call."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from decimal import Decimal
from pathlib import Path

import openai
import pytest

from callspan import open_store
from callspan.delivery.store_sink import StoreSink
from callspan.records import CallRecord
from callspan.spool import leftover
from callspan.spool.directory import directories_in, waiting
from callspan.stores import CallFilter, Reader, find_store
from callspan.stores.spools import target_of
from callspan.testing import ScriptedProvider

pytestmark = [
    pytest.mark.timeout(300),  # several processes, one after the other
    pytest.mark.skipif(not hasattr(openai.OpenAI, "responses"), reason="needs the Responses API"),
]

PRICES = {"version": "t", "models": {"gpt-5": {"input": "2", "output": "8"}}}
PROCESS = """
    import os, signal, sys
    from pathlib import Path
    import callspan, openai
    store, url, spool, prices, job, *does = sys.argv[1:]
    callspan.instrument(stores=store, prices=Path(prices), spool_dir=Path(spool))
    client = openai.OpenAI(base_url=url, api_key="k", max_retries=0)
    for what in does:
        if what == "create":
            with callspan.session("jobs", session_id="jobs"):
                answer = client.responses.create(model="gpt-5", input="Hi", background=True)
            Path(job).write_text(answer.id)
        elif what == "break":
            with callspan.session("jobs", session_id="jobs"):
                stream = client.responses.create(model="gpt-5", input="Hi", background=True, stream=True)
                answer = next(stream).response
            Path(job).write_text(answer.id)
        elif what == "poll":
            client.responses.retrieve(Path(job).read_text())
        elif what == "read":
            list(client.responses.retrieve(Path(job).read_text(), stream=True, starting_after=3))
        elif what == "hook":
            payload, _, headers = Path(job + ".hook").read_text().partition(chr(10))
            client.webhooks.unwrap(payload, __import__("json").loads(headers), secret="whsec_c2VjcmV0")
    os.kill(os.getpid(), signal.SIGKILL)
"""


class Processes:
    """Runs processes that are killed at their end, each with a spool of its own, delivered when the test says."""

    def __init__(self, url: str, provider: ScriptedProvider, place: Path) -> None:
        self.url, self.provider, self.place = url, provider, place
        self.job = place / "job"
        self.prices = place / "prices.json"
        self.prices.write_text(json.dumps(PRICES))

    def run(self, name: str, *does: str) -> None:
        program = [sys.executable, "-c", textwrap.dedent(PROCESS)]
        given = [self.url, self.provider.openai_url, str(self.place / name), str(self.prices), str(self.job)]
        assert subprocess.Popen([*program, *given, *does]).wait() == -signal.SIGKILL

    def deliver(self, name: str) -> None:
        store, directories = find_store(self.url), list(directories_in([self.place / name]))
        sink = StoreSink(store, self.prices)
        assert directories
        assert leftover.deliver(directories, target_of(store), sink, timeout_s=30.0).error is None
        key = target_of(store).key(self.place / name)
        assert [one for directory in directories for one in waiting(directory, key)] == []

    def hook(self) -> None:
        payload, headers = self.provider.webhook(self.job.read_text(), "whsec_c2VjcmV0")
        Path(f"{self.job}.hook").write_text(f"{payload}\n{json.dumps(dict(headers))}")


def the_call(reader: Reader) -> CallRecord:
    (call,) = reader.calls(CallFilter())
    (sums,) = reader.summary("model")
    usage = call.usage
    assert (sums.calls, sums.input_tokens, sums.cost_usd) == (
        1, usage and usage.input_tokens, call.cost and call.cost.usd
    )  # fmt: skip
    return call


def test_a_response_that_three_killed_processes_saw_is_one_call(
    url: str, provider: ScriptedProvider, tmp_path: Path
) -> None:
    """Created by one, polled by all, and delivered in the opposite order: its tokens and cost count once."""
    provider.reply(text="Well.", polls=2, input_tokens=1000, output_tokens=100)
    processes = Processes(url, provider, tmp_path)
    processes.run("0", "create", "poll")
    processes.run("1", "poll", "poll", "poll")
    processes.run("2", "poll", "read")
    for name in "210":
        processes.deliver(name)
    reader = open_store(url)
    call = the_call(reader)
    reader.close()
    assert (call.outcome, call.text, call.place.session_id) == ("success", "Well.", "jobs")
    assert call.cost is not None
    assert call.cost.usd == Decimal("0.0028")
    assert [message.text for message in (call.conversation.input if call.conversation else [])] == ["Hi"]


def test_a_stream_that_was_killed_is_completed_by_others(provider: ScriptedProvider, tmp_path: Path) -> None:
    """Its first event has left the id of the call behind; until somebody fetches it, it is in progress."""
    url = f"sqlite:///{tmp_path}/calls.db"
    provider.reply(text="Well.", input_tokens=1000, output_tokens=100)
    processes = Processes(url, provider, tmp_path)
    processes.run("0", "break")
    processes.deliver("0")
    reader = open_store(url)
    assert the_call(reader).outcome == "in_progress"
    processes.hook()
    processes.run("1", "hook", "hook")
    processes.deliver("1")
    half = the_call(open_store(url))
    assert (half.outcome, half.usage) == ("success", None)
    processes.run("2", "read", "poll")
    processes.deliver("2")
    call = the_call(open_store(url))
    assert (call.outcome, call.text, call.cost and call.cost.usd) == ("success", "Well.", Decimal("0.0028"))
    assert (call.place.session_id, call.request.model) == ("jobs", "gpt-5")
