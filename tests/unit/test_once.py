"""Once: exactly one of several threads is the first."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from callspan.fail_open import Once


class Slow(str):
    """A key whose first look-up by each of two threads waits for that of the other."""

    __slots__ = ("wait",)
    wait: Callable[[], object]

    def __hash__(self) -> int:
        self.wait()
        return 1


def test_one_of_two_threads_that_ask_at_the_same_moment_is_the_first() -> None:
    once, together, looked = Once(), Barrier(2, timeout=5), 0

    def wait() -> None:
        nonlocal looked
        looked += 1
        if looked <= 4:
            together.wait()

    key = Slow("key")
    key.wait = wait
    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(once.first, [key, key])) == [False, True]
    assert not once.first(key)


def test_each_key_has_its_first_and_has_it_again_once_forgotten() -> None:
    once = Once()
    assert [once.first(key) for key in ("a", "b", "a", ("a", 1), "b")] == [True, True, False, True, False]
    once.forget()
    assert once.first("a")


def test_a_stream_of_new_keys_takes_no_memory() -> None:
    """Some keys are chosen by the application, as the provider and API of a call recorded by hand."""
    once = Once()
    assert sum(once.first(("provider", number)) for number in range(5000)) == 1024
    assert not once.first(("provider", 0))
    assert not once.first("one more")
