"""A row of a local store has what a query needs, without JSON."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import anthropic
import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider

import callspan
from callspan.testing import ScriptedProvider
from tests.e2e.ask import QUESTION


def test_a_row_has_what_is_expected_of_it(provider: ScriptedProvider, tmp_path: Path) -> None:
    """Sizes, error, tokens, latency and trace of a call are columns, so that a query needs no JSON; so of a failure."""
    provider.reply(status=429, retry_after_s=0.001)
    provider.reply(input_tokens=15, cache_read_tokens=7, reasoning_tokens=2, output_tokens=4, delay_s=0.05)
    provider.reply(input_tokens=20, cache_read_tokens=3, cache_write_tokens=5, output_tokens=1, on="/messages")
    provider.reply(status=400, error_type="invalid_request_error", on="/messages")
    handle = callspan.instrument(stores=f"sqlite:///{tmp_path}/calls.db", tracer_provider=TracerProvider())
    with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        answer = client.chat.completions.with_raw_response.create(model="gpt-5", messages=QUESTION)
    first = (len(provider.requests[-1].content), len(answer.content))
    with anthropic.Anthropic(api_key="k", base_url=provider.anthropic_url) as claude:
        claude.messages.create(model="claude-sonnet-5", max_tokens=9, messages=QUESTION)
        with pytest.raises(anthropic.BadRequestError):
            claude.messages.create(model="claude-sonnet-5", max_tokens=9, messages=QUESTION)
    handle.uninstrument()
    with closing(sqlite3.connect(tmp_path / "calls.db")) as connection:
        rows = connection.execute(
            "SELECT in_tok, out_tok, cache_read_tok, cache_write_tok, reasoning_tok, retries, rate_limited, "
            "http_status, error_type, error_kind, outcome, unrecognized, duration_ns >= 50000000, "
            "end_ns - start_ns = duration_ns, length(trace_id), length(span_id), request_bytes, "
            "abs(response_bytes - ?) < 99 FROM calls ORDER BY start_ns",
            (first[1],),
        ).fetchall()
    assert rows[0] == (15, 4, 7, 0, 2, 1, 1, 200, None, None, "success", 0, 1, 1, 32, 16, first[0], 1)
    assert rows[1][:11] == (20, 1, 3, 5, None, 0, 0, 200, None, None, "success")
    assert rows[2][:11] == (None,) * 5 + (0, 0, 400, "invalid_request_error", "bad_input", "error")
