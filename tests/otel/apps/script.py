"""A plain script: makes calls, of both SDKs if it simply ends, and ends in the requested way, or leaves them to others.

`fork`, `spawn` and `os-fork`: a master makes a call, and its children the others, as Celery's prefork pool does.
"""

import multiprocessing
import os
import signal
import sys

from calling import ask, ask_claude


def main(count: int, ending: str) -> None:
    if ending in ("fork", "spawn", "os-fork"):
        ask("from the master")
        in_children(count, ending)
    else:
        calls(count, both=ending == "return")
        end(ending)


def calls(count: int, *, both: bool) -> None:
    for number in range(count):
        ask(f"question {number}")
        if both:
            ask_claude(f"question {number}")


def in_children(count: int, how: str) -> None:
    if how == "os-fork":
        child = os.fork()
        if child == 0:
            calls(count, both=False)
            sys.exit(0)
        os.waitpid(child, 0)
        return
    with multiprocessing.get_context(how).Pool(2) as pool:
        pool.map(ask, [f"question {number}" for number in range(count)], chunksize=1)
        pool.close()
        pool.join()


def end(ending: str) -> None:
    if ending == "graceful-sigterm":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if "sigterm" in ending:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    if ending == "sigkill":
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "return")
