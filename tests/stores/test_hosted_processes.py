"""Sessions of hosted agents whose events several processes read, each killed as soon as it has read them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path

import pytest

from callspan.delivery.recorder import store_sinks
from callspan.spool.spool import ship_once
from callspan.stores.urls import open_store
from callspan.testing import ScriptedProvider

pytestmark = [
    pytest.mark.timeout(300),  # several processes, one after the other
    pytest.mark.skipif(
        find_spec("anthropic.resources.beta.sessions") is None, reason="needs the sessions of anthropic"
    ),
    pytest.mark.skipif(find_spec("openai.resources.beta.agents") is None, reason="needs the agents of openai"),
]
PRICES = {"version": "t", "models": {"claude-*": {"input": "1", "output": "5"}, "gpt-5": {"input": "2", "output": "8"}}}
PROCESS = """
    import os, signal, sys
    from pathlib import Path
    import callspan
    store, url, spool, prices, place, *does = sys.argv[1:]
    handle = callspan.instrument(stores=store, prices=Path(prices), spool_dir=Path(spool))
    callspan.reported.look_ups.LOOK_UP_S = 100.0  # content and model need the answer, which a busy machine delays
    if {"openai", "begin", "turns"}.isdisjoint(does):
        import anthropic
        of_anthropic = anthropic.Anthropic(base_url=url, api_key="k", max_retries=0).beta.sessions
    else:
        import openai
        of_openai = openai.OpenAI(base_url=url + "/v1", api_key="k", max_retries=0).beta.agents.sessions
    place = Path(place)
    question = {"type": "user.message", "content": [{"type": "text", "text": "Hi"}]}
    for what in does:
        known = place.read_text() if place.exists() else ""
        if what == "anthropic":
            agent = {"type": "agent", "id": "a", "model": "claude-x"}
            session = of_anthropic.create(agent=agent, environment_id="e")
            of_anthropic.events.send(session.id, events=[question])
            place.write_text(session.id)
        elif what == "one":
            for event in of_anthropic.events.stream(known):
                if event.type == "span.model_request_end":
                    os.kill(os.getpid(), signal.SIGKILL)
        elif what == "list":
            list(of_anthropic.events.list(known, limit=4))
        elif what == "flush":
            assert handle.force_flush(100_000)  # the content level that the store knows is looked up beside the call
        elif what == "openai":
            session = of_openai.create(agent={"model": "gpt-5"}, environment={"type": "none"}, input="Hi")
            place.write_text(session.id)
        elif what == "begin":
            for event in of_openai.events.stream(known):
                if event.type == "agent.session.turn.item.done":
                    os.kill(os.getpid(), signal.SIGKILL)
        elif what == "turns":
            list(of_openai.turns.list(known))
    os.kill(os.getpid(), signal.SIGKILL)
"""


class Processes:
    """Runs processes that are killed at their end, each with a spool of its own."""

    def __init__(self, url: str, provider: ScriptedProvider, place: Path) -> None:
        self.url, self.provider, self.place = url, provider, place
        self.prices = place / "prices.json"
        self.prices.write_text(json.dumps(PRICES))

    def run(self, name: str, *does: str) -> None:
        program = [sys.executable, "-c", textwrap.dedent(PROCESS)]
        given = [self.url, self.provider.url, str(self.place / name), str(self.prices), str(self.place / "session")]
        assert subprocess.Popen([*program, *given, *does]).wait() == -signal.SIGKILL

    def deliver(self, *names: str) -> None:
        for name in names:
            ship_once(self.place / name, store_sinks((self.url,), self.prices), 30.0)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with ScriptedProvider() as provider:
        yield Processes(f"sqlite:///{tmp_path}/calls.db", provider, tmp_path)


def test_events_that_killed_processes_read_are_calls_once(processes: Processes) -> None:
    """One streams and dies, two list: two model requests, their tokens and their cost once, and one session.

    What the last one saw may lack its content: it died before the level of the content was looked up.
    """
    processes.provider.reply(text="A", tool_calls=[{"name": "bash", "arguments": {}, "result": "x"}], input_tokens=1000)
    processes.provider.reply(text="B", input_tokens=2000, output_tokens=100)
    processes.run("0", "anthropic", "one")
    processes.run("1", "list", "flush", "list")
    processes.run("2", "list")
    processes.deliver("2", "0", "1", "0")
    reader = open_store(processes.url)
    first, second = sorted(reader.calls(), key=lambda call: call.timing.start_ns)
    (sums,) = reader.summary("provider")
    assert (first.text, second.text, sums.calls, sums.input_tokens) == ("A", "B", 2, 3000)
    (session,) = reader.sessions()
    assert (session.calls, session.session.session_id) == (2, first.place.session_id)
    assert first.cost is not None
    assert first.cost.usd == Decimal("0.001035")
    assert len(list(reader.events(session.session.session_id))) == 1
    reader.close()


def test_a_turn_that_a_killed_process_saw_begin_is_completed(processes: Processes) -> None:
    """By a process that lists turns; its tokens and cost count once."""
    processes.provider.reply(text="One.", input_tokens=1000, output_tokens=100)
    processes.run("0", "openai", "begin")
    processes.deliver("0")
    (begun,) = open_store(processes.url).calls()
    assert (begun.outcome, begun.usage) == ("in_progress", None)
    processes.run("1", "turns", "turns", "flush")
    processes.deliver("1")
    reader = open_store(processes.url)
    (call,) = reader.calls()
    (sums,) = reader.summary("provider")
    assert (call.outcome, sums.calls, sums.input_tokens, call.request.model) == ("success", 1, 1000, "gpt-5")
    assert (call.cost and call.cost.usd) == Decimal("0.0028")
    reader.close()
