"""Calls of every kind in a process whose SDKs lack names, as after a release that renamed them.

    python ladder_victim.py NAME...      names of the hook table; prints what was recorded as JSON

A name is `attribute` or `Owner.attribute`; after `~` it is there, but its parameters are new to us. The SDKs keep their
methods, or they would not work at all; it is the table that looks for them elsewhere.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import Any

import msgspec

from callspan.intercept import patching

GONE = set(sys.argv[1:])


def as_it_is_now(hook: patching.Hook) -> patching.Hook:
    owners = {where.partition(":")[2] for where in hook.where}
    names = {hook.attribute, *(f"{owner}.{hook.attribute}" for owner in owners)}
    if names & GONE:
        return msgspec.structs.replace(hook, where=tuple(f"{where}_gone" for where in hook.where))
    if {f"~{name}" for name in names} & GONE:
        return msgspec.structs.replace(hook, reads={**hook.reads, "gone": 9})
    return hook


patching.HOOKS = tuple(map(as_it_is_now, patching.HOOKS))  # type: ignore[misc]

import anthropic  # noqa: E402
import openai  # noqa: E402

import callspan  # noqa: E402
from callspan.cli.doctor import every_check  # noqa: E402
from callspan.testing import ScriptedProvider, capture  # noqa: E402

MESSAGES: Any = [{"role": "user", "content": "hi"}]


def sync_calls(provider: ScriptedProvider) -> None:
    with openai.OpenAI(api_key="k", base_url=provider.openai_url, max_retries=1) as client:
        chat: Any = client.chat.completions
        provider.reply(status=429, retry_after_s=0.001)
        assert chat.create(model="plain", messages=MESSAGES).choices[0].message.content == "Well."
        assert text(list(chat.create(model="stream", messages=MESSAGES, stream=True))) == "Well."
        early = chat.create(model="early", messages=MESSAGES, stream=True)
        next(early)
        early.close()
        assert chat.with_raw_response.create(model="raw", messages=MESSAGES).parse().choices
        with chat.with_streaming_response.create(model="streaming", messages=MESSAGES) as response:
            assert "Well." in "".join(response.iter_text())
    with anthropic.Anthropic(api_key="k", base_url=provider.anthropic_url, max_retries=0) as claude:
        stream: Any = claude.messages.create(model="claude", max_tokens=9, messages=MESSAGES, stream=True)
        assert len(list(stream)) > 3


async def async_calls(provider: ScriptedProvider) -> None:
    async with openai.AsyncOpenAI(api_key="k", base_url=provider.openai_url, max_retries=0) as client:
        chat: Any = client.chat.completions
        assert (await chat.create(model="async plain", messages=MESSAGES)).choices[0].message.content == "Well."
        stream = await chat.create(model="async stream", messages=MESSAGES, stream=True)
        assert text([chunk async for chunk in stream]) == "Well."


def text(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def text_of(record: callspan.CallRecord) -> str:
    output = record.conversation.output if record.conversation is not None else []
    return "".join(getattr(part, "text", "") or "" for message in output for part in message.parts)


class Warnings(logging.Handler):
    """Collects what callspan says."""

    messages: list[str] = []  # noqa: RUF012

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def main() -> None:
    logging.getLogger("callspan").addHandler(Warnings(level=logging.WARNING))
    with ScriptedProvider() as provider, capture() as seen:
        provider.reply(text="Well.", repeat=True)
        sync_calls(provider)
        asyncio.run(async_calls(provider))
        import gc

        gc.collect()
        calls = {
            record.request.model: {
                "text": text_of(record), "outcome": record.outcome, "end": record.stream and record.stream.end,
                "attempts": [attempt.status for attempt in record.attempts], "retries": record.retries,
                "request": bool(bytes(record.request.body)),
            }
            for record in seen.records
        }  # fmt: skip
        states = {status.name: status.state for status in callspan.patch_status() if status.state != "on"}
        spans = len(seen.spans)
    warnings = list(Warnings.messages)
    doctor_details = {check.name: check.detail for check in every_check("") if check.area == "SDKs"}
    result = {"calls": calls, "states": states, "warnings": warnings, "spans": spans, "doctor": doctor_details}
    print(json.dumps(result))


main()
