"""Who completes a background response's call: the first in the process, within bounded memory."""

from __future__ import annotations

from callspan.observe.background_responses import Completions
from callspan.record.merging import ANSWER_VERSION, ENDED_VERSION


def test_the_first_completes_a_call_and_may_try_again() -> None:
    """A step that was interrupted is taken again by the same fetch."""
    completions, first, second = Completions(), object(), object()
    assert completions.claim("c", ANSWER_VERSION, first)
    assert completions.claim("c", ANSWER_VERSION, first)
    assert not completions.claim("c", ANSWER_VERSION, second)
    assert completions.claim("d", ANSWER_VERSION, second)


def test_a_webhook_completes_nothing_after_the_answer() -> None:
    """Before it, each has its part."""
    completions = Completions()
    assert completions.claim("c", ENDED_VERSION, object())
    assert not completions.claim("c", ENDED_VERSION, object())
    assert completions.claim("c", ANSWER_VERSION, object())
    assert completions.claim("d", ANSWER_VERSION, object())
    assert not completions.claim("d", ENDED_VERSION, object())


def test_the_newest_4096_are_remembered() -> None:
    """An older one may be completed again, which changes no record."""
    completions, token = Completions(), object()
    for number in range(4097):
        completions.claim(str(number), ANSWER_VERSION, token)
    assert not completions.claim("4096", ANSWER_VERSION, object())
    assert not completions.claim("1", ANSWER_VERSION, object())
    assert completions.claim("0", ANSWER_VERSION, object())
