"""Helpers: one call with content in every possible field."""

from __future__ import annotations

import json

import msgspec
import pytest

from callspan.records import CallRecord, ErrorInfo, Request, Response, Timing


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


@pytest.fixture
def call() -> CallRecord:
    """A call whose every content-bearing field says SESAME."""
    request = {
        "model": "m",
        "messages": [{"role": "system", "content": "SESAME"}, {"role": "user", "content": "SESAME"}],
        "tools": [{"type": "function", "function": {"name": "open", "description": "SESAME"}}],
        "temperature": 0.5,
    }
    return CallRecord(
        call_id="c",
        provider="openai",
        api="chat_completions",
        timing=Timing(start_ns=1),
        request=Request(
            model="m",
            message_count=2,
            tool_names=["open"],
            params={
                "temperature": 0.5,
                "stop": ["SESAME"],
                "prediction": {"type": "content", "content": "SESAME"},
                "reasoning": {"effort": "low", "note": "SESAME"},
                "service_tier": "flex",
                "user": "SESAME",
            },
            body_bytes=500,
            body=raw(request),
        ),
        response=Response(
            id="r",
            finish_reasons=["stop"],
            body_bytes=90,
            body=raw({"choices": [{"message": {"role": "assistant", "content": "SESAME"}}]}),
        ),
        error=ErrorInfo(
            kind="bad_input",
            type="invalid_request_error",
            code="x",
            status=400,
            message="bad: SESAME",
            param="SESAME",
            body={"error": {"message": "SESAME"}},
        ),
        outcome="error",
    )
