"""Many calls at once, many of them failing: every attempt is on its own call."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, Final

import pytest

from callspan.records import CallRecord
from callspan.testing import Captured, ScriptedProvider
from callspan.testing.provider.script import ReceivedRequest, Reply
from tests.attempts.caller import Caller, assert_log_agrees
from tests.intercept.mode import Mode

CALLS: Final = 50
MAX_RETRIES: Final = 3
FAILURES: Final = (200, 200, 429, 500, 503, 409)


class Chance:
    """Answers by the question and by luck, and remembers what it has answered to whom."""

    def __init__(self) -> None:
        self.answers: dict[str, list[tuple[int, str]]] = {}
        self.log: dict[str, list[ReceivedRequest]] = {}
        self._luck = random.Random(20261120)
        self._lock = Lock()

    def __call__(self, request: ReceivedRequest) -> Reply:
        question = question_of(request)
        with self._lock:
            status = self._luck.choice(FAILURES)
            earlier = self.answers.setdefault(question, [])
            earlier.append((status, f"req_{question}_{len(earlier) + 1}"))
            self.log.setdefault(question, []).append(request)
        name = earlier[-1][1]
        headers = {"x-request-id": name, "request-id": name, "retry-after-ms": "2"}
        return Reply(text=f"answer {question}", status=status, headers=headers)


def question_of(request: ReceivedRequest) -> str:
    messages: Any = request.body["messages"]
    content: Any = messages[0]["content"]
    return str(content)


@pytest.fixture
def chance(provider: ScriptedProvider) -> Iterator[Chance]:
    answers = Chance()
    provider.reply(responder=answers, repeat=True)
    yield answers
    statuses = Counter(status for each in answers.answers.values() for status, _ in each)
    assert len(statuses) == len(set(FAILURES)), "the dice have shown every failure"


def assert_nobody_elses(seen: Captured, chance: Chance) -> None:
    """Each record has the attempts that its own question was answered with, all of them, in order."""
    records = seen.records
    assert len(records) == len(seen.spans) == CALLS
    assert {record.call_id for record in records} == {dict(span.attributes or {})["llm.item_id"] for span in seen.spans}
    for record in records:
        question = text_of(record)
        expected = chance.answers.pop(question)
        assert [(attempt.status, attempt.request_id) for attempt in record.attempts] == expected
        assert record.retries == len(expected) - 1
        assert record.rate_limited == any(status == 429 for status, _ in expected)
        assert record.outcome == ("success" if expected[-1][0] == 200 else "error")
        assert_log_agrees(record, chance.log.pop(question))
    assert not chance.log
    chance.answers = {"all": [(status, "") for status in set(FAILURES)]}


def text_of(record: CallRecord) -> str:
    assert record.conversation is not None
    (message,) = record.conversation.input
    return "".join(getattr(part, "text", None) or "" for part in message.parts)


@pytest.mark.parametrize("api", ["chat_completions", "messages"])
@pytest.mark.parametrize("shape", ["plain", "stream"])
def test_fifty_tasks_share_a_client(
    provider: ScriptedProvider, seen: Captured, chance: Chance, api: str, shape: str
) -> None:
    mode = Mode("async", provider)
    caller = Caller(mode, api, shape)

    async def body() -> None:
        client = caller.client(max_retries=MAX_RETRIES)
        calls = (caller.call(client, question=f"q{number}") for number in range(CALLS))
        await asyncio.gather(*calls, return_exceptions=True)
        await mode.close()

    asyncio.run(body())
    assert_nobody_elses(seen, chance)


@pytest.mark.parametrize("api", ["chat_completions", "messages"])
@pytest.mark.parametrize("shape", ["plain", "stream"])
def test_fifty_calls_on_threads_share_a_client(
    provider: ScriptedProvider, seen: Captured, chance: Chance, api: str, shape: str
) -> None:
    mode = Mode("sync", provider)
    caller = Caller(mode, api, shape)
    client = caller.client(max_retries=MAX_RETRIES)

    def one(number: int) -> None:
        async def body() -> None:
            await asyncio.gather(caller.call(client, question=f"q{number}"), return_exceptions=True)

        asyncio.run(body())

    with ThreadPoolExecutor(CALLS) as pool:
        list(pool.map(one, range(CALLS)))
    asyncio.run(mode.close())
    assert_nobody_elses(seen, chance)
