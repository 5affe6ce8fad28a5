"""The differential fuzzer.

python -m tests.fuzz --number 2500 --seed 1      run so many cases; 1 if any differs, with the smallest that does
python -m tests.fuzz --sdks google,bedrock       only these SDKs; a blob is that of the same ones
python -m tests.fuzz --case BLOB                 run one case again: the blob is that of its `@reproduce_failure`
"""

from __future__ import annotations

import argparse
import sys
import traceback
from contextlib import closing

from tests.fuzz.sdks import SDKS
from tests.fuzz.search import Pair, search


def main() -> int:
    """Run what the command line asks for; 0 if nothing differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=1000, help="how many cases")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--case", help="the blob of one case")
    parser.add_argument("--sdks", type=lambda names: names.split(","), default=list(SDKS), help=", ".join(SDKS))
    chosen = parser.parse_args()
    # What differs may have text that is no Unicode.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    with closing(Pair(chosen.sdks)) as pair:
        try:
            search(pair, chosen.seed, chosen.number, chosen.case)
        except AssertionError:
            traceback.print_exc()
            return 1
        print(pair.summary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
