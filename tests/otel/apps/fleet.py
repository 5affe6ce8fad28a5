"""A service of agents that goes on until its input ends: calls that succeed, are retried and fail.

Two of its stores are down, so that records wait, and are lost, because the spool is small.
"""

import sys
import threading
from contextlib import suppress

import openai

import callspan
from callspan.testing import ScriptedProvider

STORES = ["sqlite:///fleet.db", "postgresql://nobody@127.0.0.1:9/none", "clickhouse://127.0.0.1:9/none"]
QUESTION = {"model": "gpt-5", "messages": [{"role": "user", "content": "Where is my parcel? " * 50}]}


def serve(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    """Answer one customer."""
    with callspan.session("support") as session, session.timestep() as step:
        provider.reply(status=429, retry_after_s=0.001)
        with step.invoke_agent("triage"):
            client.chat.completions.create(**QUESTION)
        list(client.chat.completions.create(**QUESTION, stream=True, stream_options={"include_usage": True}))
        with suppress(ConnectionError), step.tool("lookup"):
            raise ConnectionError
        with step.tool("lookup"):
            pass
        for status in (400, 401):
            provider.reply(status=status)
            with suppress(openai.APIStatusError):
                client.chat.completions.create(**QUESTION)
    with suppress(ValueError), callspan.session("returns") as session, session.timestep():
        raise ValueError


def main() -> None:
    """Serve customers until the input ends."""
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    handle = callspan.instrument(otlp=True, service="fleet", stores=STORES, spool_max_bytes=200_000)
    with ScriptedProvider() as provider, openai.OpenAI(base_url=provider.openai_url, api_key="k") as client:
        while not ended.wait(0.05):
            serve(client, provider)
    handle.uninstrument()


main()
