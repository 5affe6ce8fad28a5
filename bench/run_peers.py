"""Measures other tracers of these SDKs, each in its own environment, and prints a table (`make bench-peers`)."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TypeAlias

from peers import PEERS, THEIRS, Peer
from rows import BARE, DEFAULT
from run import print_table
from valgrind import run

_ROOT = Path(__file__).resolve().parent.parent
_PROGRAM = str(Path(__file__).with_name("peer_process.py"))
_SAME = ("openai", "anthropic", "google-genai", "httpx2")
_ROWS = (BARE, DEFAULT, THEIRS)
_ROUNDS = 5
"""Number of processes per row."""
_Taken: TypeAlias = tuple[float, float | None]


class Place:
    """A peer's environment."""

    def __init__(self, key: str, peer: Peer) -> None:
        self.key, self.peer = key, peer
        self.directory = _ROOT / ".venv-bench" / key
        self.python = str(self.directory / "bin" / "python")

    def make(self) -> None:
        """Install the newest release compatible with our SDKs, and callspan, unless already installed."""
        ours = (f"{name}=={metadata.version(name)}" for name in _SAME if name not in self.peer.older)
        wanted = [*self.peer.packages, *(f"{name}<{bound}" for name, bound in self.peer.older.items()), *ours]
        stamp = self.directory / ".complete"
        if stamp.exists() and json.loads(stamp.read_text()) == wanted:
            return
        print(f"making {self.directory.relative_to(_ROOT)}: {' '.join(wanted)}", flush=True)
        if not Path(self.python).exists():
            subprocess.run([sys.executable, "-m", "venv", str(self.directory)], check=True)
        # Theirs first, so that callspan's requirements do not select their release.
        for packages in (["--upgrade", *wanted], ["-e", str(_ROOT)]):
            subprocess.run([self.python, "-m", "pip", "install", "-q", *packages], check=True)
        stamp.write_text(json.dumps(wanted))

    def measure(self, rounds: int, wanted: str, *, count: bool) -> dict[str, dict[str, list[_Taken]]]:
        """Return CPU nanoseconds or instructions by column and row, each row in its own process, alternating.

        Of each, that of a call, and of its spans alone: None if there are none, or not in the bench's provider.
        """
        found: dict[str, dict[str, list[_Taken]]] = {}
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory, "measured.json")
            for number in range(rounds):
                turn = number % len(_ROWS)
                for row in (*_ROWS[turn:], *_ROWS[:turn]):
                    arguments = [_PROGRAM, self.key, str(file), "--columns", wanted, "--row", row]
                    environment = {**os.environ, **self.peer.environment, "PYTHONHASHSEED": "0"}
                    if count:
                        run(self.python, [*arguments, "--count", directory], Path(directory), environment)
                    else:
                        subprocess.run([self.python, *arguments], check=True, env=environment)
                    for column, taken in json.loads(file.read_text()).items():
                        found.setdefault(column, {name: [] for name in _ROWS})[row].append(taken)
        return found


def main() -> None:
    """Measure the requested peers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, plain calls only")
    parser.add_argument("--only", choices=PEERS, action="append", help="this peer")
    parser.add_argument("--columns", default="", help="columns whose name contains this")
    parser.add_argument("--instructions", action="store_true", help="count thousands of instructions, not CPU time")
    parser.add_argument("--make", action="store_true", help="make the environments, measure nothing")
    options = parser.parse_args()
    places = [Place(key, PEERS[key]) for key in options.only or PEERS]
    for place in places:
        place.make()
    wanted = options.columns or ("plain sync" if options.quick else "")
    for place in [] if options.make else places:
        rows = []
        rounds = 1 if options.quick or options.instructions else _ROUNDS
        for column, taken in place.measure(rounds, wanted, count=options.instructions).items():
            bare, ours, theirs = (statistics.median(whole for whole, _ in taken[row]) / 1000 for row in _ROWS)
            ratio = (theirs - bare) / (ours - bare)
            rows.append((
                column, f"{bare:.1f}", f"{ours - bare:.1f}", _spans(taken[DEFAULT]), f"{theirs - bare:.1f}",
                _spans(taken[THEIRS]), f"{ratio:.2f}",
            ))  # fmt: skip
        unit = "thousands of instructions" if options.instructions else "µs"
        head = ("bare", "callspan adds", "its spans alone", "it adds", "its spans alone", "of callspan's")
        print_table((f"{place.peer.name}, {unit}", *head), rows)


def _spans(taken: Sequence[_Taken]) -> str:
    alone = [spans for _, spans in taken if spans is not None]
    return f"{statistics.median(alone) / 1000:.1f}" if alone else ""


if __name__ == "__main__":
    main()
