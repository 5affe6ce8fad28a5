"""The server's processing time from its header, and the network time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from openai import OpenAI

import callspan
from callspan.testing import Captured, ScriptedProvider, capture


def ask(provider: ScriptedProvider) -> None:
    with OpenAI(api_key="k", base_url=provider.openai_url, max_retries=1) as client:
        client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "Hi"}])


def times(seen: Captured) -> tuple[int | None, object]:
    (record,), (span,) = seen.records, seen.spans
    assert span.attributes is not None
    return record.timing.server_ns, span.attributes.get("callspan.answer.server_s")


@pytest.mark.parametrize(
    ("stated", "server_ns"),
    [("42", 42_000_000), ("7.5", 7_500_000), ("0", 0), ("", None), ("soon", None), ("-3", None), (None, None)],
)
def test_the_time_of_the_server_is_what_it_states(stated: str | None, server_ns: int | None) -> None:
    with ScriptedProvider() as provider, capture() as seen:
        provider.reply(headers={"openai-processing-ms": stated})
        ask(provider)
    assert times(seen) == (server_ns, None if server_ns is None else server_ns / 1e9)


def test_of_several_attempts_the_last_counts() -> None:
    with ScriptedProvider() as provider, capture() as seen:
        provider.reply(status=500, headers={"openai-processing-ms": "9000"}, retry_after_s=0.001)
        provider.reply(headers={"openai-processing-ms": "5"})
        ask(provider)
    assert times(seen)[0] == 5_000_000


def test_the_command_shows_it_beside_the_network(tmp_path: Path) -> None:
    pytest.importorskip("rich")  # of the extra `cli`
    from click.testing import CliRunner

    from callspan.cli.commands import callspan as command

    url = f"sqlite:///{tmp_path / 'x.db'}"
    with ScriptedProvider() as provider:
        handle = callspan.instrument(stores=url)
        provider.reply(headers={"openai-processing-ms": "3"}, delay_s=0.05)
        ask(provider)
        handle.force_flush()
        handle.uninstrument()
    (row,) = json.loads(CliRunner().invoke(command, ["calls", "--json", "--store", url]).stdout)
    assert row["server_ms"] == 3
    shown = CliRunner().invoke(command, ["show", row["call_id"], "--store", url]).stdout
    (line,) = [line for line in shown.splitlines() if line.startswith("server")]
    assert "worked for 3" in line
    assert "network" in line
