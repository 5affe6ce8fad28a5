"""The differential fuzzer.

python -m tests.fuzz --number 2500 --seed 1      run so many cases; 1 if any differs
python -m tests.fuzz --case BLOB                 run one case again, and show what both sides saw
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import closing
from dataclasses import asdict

from tests.fuzz.case import from_blob
from tests.fuzz.search import Pair, search


def main() -> int:
    """Run what the command line asks for; 0 if nothing differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=1000, help="how many cases")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--case", help="the blob of one case")
    chosen = parser.parse_args()
    # What differs may have text that is no Unicode.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    with closing(Pair()) as pair:
        if chosen.case is not None:
            case = from_blob(chosen.case)
            print(json.dumps(asdict(case), indent=1))
            bare, _ = pair.run(case)
            for event in bare["log"]:
                print(json.dumps(event)[:2000])
            found = pair.differences(case)
            print(*found or ["no difference"], sep="\n")
            return 1 if found else 0
        result = search(pair, chosen.seed, chosen.number)
    for count, blob, differences in result.found.values():
        print(f"\n{count} cases, the smallest:", *differences, f"  --case {blob}", sep="\n")
    print(f"\n{result.summary}")
    return 1 if result.found else 0


if __name__ == "__main__":
    sys.exit(main())
