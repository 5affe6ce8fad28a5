"""A master that has made a call, and forked workers that make the others, as Celery's prefork pool does."""

import multiprocessing
import os
import sys

from calling import ask


def main(count: int, how: str) -> None:
    ask("from the master")
    if how == "os-fork":
        child = os.fork()
        if child == 0:
            for number in range(count):
                ask(f"{number}")
            sys.exit(0)
        os.waitpid(child, 0)
        return
    with multiprocessing.get_context(how).Pool(2) as pool:
        pool.map(ask, [f"question {number}" for number in range(count)], chunksize=1)
        pool.close()
        pool.join()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
