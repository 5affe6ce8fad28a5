"""The server's processing time from its header, and the network time."""

from __future__ import annotations

import pytest
from openai import OpenAI

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
