"""Who records a version: the first in the process, within bounded memory, until his work is done or has failed."""

from __future__ import annotations

import threading
from typing import Any

from callspan.reported.claims import Claims, later

ANSWER, END = later("answered"), later("ended")


def test_the_first_has_the_claim_and_may_try_again() -> None:
    """A step that was interrupted is taken again by the same report."""
    claims, first, second = Claims[Any](), object(), object()
    mine = claims.take("c", first, ANSWER)
    assert mine is not None
    assert claims.take("c", first, ANSWER) is mine
    assert claims.take("c", second, ANSWER) is None
    mine.finish()
    assert claims.take("c", first, ANSWER) is None
    assert claims.take("d", second, ANSWER)


def test_a_higher_version_is_claimed_beside_a_lower_one() -> None:
    """A webhook before the answer has its part, after it none."""
    claims = Claims[Any]()
    end, answer = claims.take("c", object(), END), claims.take("c", object(), ANSWER)
    assert end
    assert answer
    assert (end.before, answer.before) == (None, "ended")
    assert not claims.take("c", object(), END)
    assert claims.state("c") == "answered"


def test_what_is_released_may_be_claimed_again() -> None:
    """What was recorded before it stays recorded."""
    claims = Claims[Any]()
    assert claims.take("c", object(), END)
    answer = claims.take("c", object(), ANSWER)
    assert answer
    answer.release()
    assert claims.state("c") == "ended"
    assert claims.take("c", object(), END) is None
    again = claims.take("c", object(), ANSWER)
    assert again
    assert again.before == "ended"


def test_one_of_many_threads_has_the_claim() -> None:
    claims, taken, start = Claims[Any](), [], threading.Barrier(8)

    def take() -> None:
        start.wait()
        for number in range(200):
            for rank in (END, ANSWER):
                if claims.take(number, object(), rank):
                    taken.append((number, rank))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken))
    assert {number for number, rank in taken if rank is ANSWER} == set(range(200))


def test_the_newest_are_remembered() -> None:
    """An older one may be recorded again, which changes no record."""
    claims: Claims[Any] = Claims()
    for number in range(16_385):
        assert claims.take(number, None, ANSWER)
    assert claims.take(16_384, None, ANSWER) is None
    assert claims.take(0, None, ANSWER)
