"""Measures the peers, each in its own environment, and writes their part of the page (`make bench-peers`)."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import page
import peer_report
import valgrind
import weight_report
from peers import PEERS, THEIRS, Peer
from rows import BARE, DEFAULT

_ROOT = Path(__file__).resolve().parent.parent
_PROGRAM = str(Path(__file__).with_name("peer_process.py"))
_SAME = ("openai", "anthropic", "httpx2")
_ENCODER = "opentelemetry-exporter-otlp-proto-common"
"""Writes spans as OTLP, which is how they are weighed."""
_SECONDS = {True: 0.2, False: 5.5}
"""Per column of a peer, by whether the run is a quick one."""
_STARTS = 3
_ROUNDS = 5
"""Of processes for each row."""


@dataclass
class Place:
    """A peer's environment, and what was found in it."""

    key: str
    peer: Peer
    trouble: str = ""
    """Why there is nothing to measure; empty: there is."""
    newest: dict[str, str] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def directory(self) -> Path:
        """Where it lies."""
        return _ROOT / ".venv-bench" / self.key

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(self.directory / "bin" / "python")

    def make(self) -> None:
        """Install the newest release that goes with our versions of the SDKs, and callspan, unless that is done."""
        wanted = [*self.peer.packages, _ENCODER, *(f"{name}=={metadata.version(name)}" for name in _SAME)]
        stamp = self.directory / ".complete"
        if not stamp.exists() or json.loads(stamp.read_text())["wanted"] != wanted:
            print(f"making {self.directory.relative_to(_ROOT)}: {' '.join(wanted)}", flush=True)
            if not Path(self.python).exists():
                subprocess.run([sys.executable, "-m", "venv", str(self.directory)], check=True)
            # Theirs first: what callspan needs is not to decide which of their releases is taken.
            done = self._pip("install", "-q", "--upgrade", *wanted)
            if done.returncode == 0:
                done = self._pip("install", "-q", "-e", str(_ROOT))
            if done.returncode:
                line_of_error = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), "ERROR")
                self.trouble = f"could not be installed beside these SDKs: `{line_of_error}`"
                return
            stamp.write_text(
                json.dumps({"wanted": wanted, "newest": {name: self._newest(name) for name in self.peer.packages}})
            )
        self.newest = json.loads(stamp.read_text())["newest"]

    def run(self, kind: str, directory: Path, *arguments: str) -> dict[str, Any]:
        """Return one kind of figures; callgrind counts if they are instructions."""
        file = directory / f"{kind}.json"
        command = [_PROGRAM, kind, self.key, str(file), *arguments]
        environment = {**os.environ, **self.peer.environment, "PYTHONHASHSEED": "0"}
        if kind == "weighed-without":
            environment.update(self.peer.without or {})
        if kind == "instructions":
            valgrind.run(self.python, command, directory, environment)
        else:
            subprocess.run([self.python, *command], check=True, env=environment)
        found: dict[str, Any] = json.loads(file.read_text())
        return found

    def _newest(self, package: str) -> str:
        done = self._pip("index", "versions", package)
        return done.stdout.partition("(")[2].partition(")")[0]

    def _pip(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [self.python, "-m", "pip", "--disable-pip-version-check", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)


def main() -> None:
    """Measure the requested peers and print, or write, the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less than two minutes; prints and writes no page")
    parser.add_argument("--only", choices=PEERS, action="append", help="this peer; prints and writes no page")
    parser.add_argument("--columns", default="", help="columns whose name contains this; prints and writes no page")
    parser.add_argument("--seconds", type=float, help="time per column of a peer")
    parser.add_argument("--instructions", action="store_true", help="instructions and allocations, no times")
    parser.add_argument("--times", action="store_true", help="times, no instructions")
    parser.add_argument("--weights", action="store_true", help="bytes of spans, and write no other part of the page")
    parser.add_argument("--apart", action="store_true", help="a plain call in processes of its own; no other part")
    parser.add_argument("--make", action="store_true", help="make the environments, measure nothing")
    parser.add_argument("--page", type=Path, help="write the page there")
    options = parser.parse_args()
    places = [Place(key, PEERS[key]) for key in options.only or PEERS]
    for place in places:
        place.make()
    if options.make:
        return
    if options.apart or not (options.quick or options.columns):
        _put_apart(places, options)
    if options.apart:
        return
    if not options.quick:
        _weigh(places)
        if not options.only:
            page.put("weights", weight_report.text(places), options.page or page.PAGE)
        else:
            print(weight_report.text(places))
    if not options.weights:
        _put_measured(places, options)


def _put_apart(places: list[Place], options: argparse.Namespace) -> None:
    neighbours = page.Neighbours()
    compared = {place.peer.name: _apart(place) for place in places if not place.trouble}
    text = peer_report.apart(compared, neighbours)
    if options.only:
        print(text)
    else:
        page.put("apart", text, options.page or page.PAGE)


def _put_measured(places: list[Place], options: argparse.Namespace) -> None:
    neighbours = page.Neighbours()
    text = peer_report.text(_measured(places, options), neighbours)
    partly = options.quick or options.only or options.columns or options.times or options.instructions
    if options.page is not None or not partly:
        page.put("peers", text, options.page or page.PAGE)
        if not partly:
            page.replace("peers", peer_report.brief(places), page.README)
    else:
        print(text)


def _weigh(places: list[Place]) -> None:
    _each([place for place in places if not place.trouble], "weighed", [], workers=2)
    able = [place for place in places if not place.trouble and place.peer.without is not None]
    _each(able, "weighed-without", [], workers=2)


def _measured(places: list[Place], options: argparse.Namespace) -> list[Place]:
    quick = ["--columns", options.columns, *(["--quick"] if options.quick else [])]
    seconds = ["--seconds", str(options.seconds or _SECONDS[options.quick])]
    usable = [place for place in places if not place.trouble]
    _each(usable, "seen", quick, workers=2)
    if not options.instructions:
        for place in [] if options.quick else usable:
            place.found["started"] = _starts(place, _STARTS)
        _each(usable, "times", [*seconds, *quick], workers=1)
    if not options.times and valgrind.usable():
        # What is counted is not disturbed by a neighbour.
        _each(usable, "instructions", quick, workers=2)
    return places


def _each(places: list[Place], kind: str, arguments: list[str], *, workers: int) -> None:
    def one(place: Place) -> None:
        with tempfile.TemporaryDirectory() as directory:
            try:
                place.found.update(place.run(kind, Path(directory), *arguments))
            except subprocess.CalledProcessError:
                place.trouble = f"could not be measured: {kind} failed in the run that wrote this"
        print(f"{place.peer.name}: {place.trouble or kind}", flush=True)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, [place for place in places if not place.trouble]))


def _apart(place: Place) -> list[dict[str, dict[str, float]]]:
    """Return rounds: by row and column the CPU nanoseconds of a call, each row in a process of its own, in turn."""
    rounds = []
    names = (BARE, DEFAULT, THEIRS)
    with tempfile.TemporaryDirectory() as directory:
        for number in range(_ROUNDS):
            turn = number % len(names)
            order = (*names[turn:], *names[:turn])
            arguments = ("--columns", "plain sync", "--row")
            rounds.append({row: place.run("apart", Path(directory), *arguments, row)["apart"] for row in order})
    print(f"{place.peer.name}: apart", flush=True)
    return rounds


def _starts(place: Place, times: int) -> dict[str, float]:
    """Milliseconds of CPU to import and switch on, theirs and ours in turn, each in a fresh interpreter."""
    taken: dict[str, list[float]] = {"started": [], "started-ours": []}
    with tempfile.TemporaryDirectory() as directory:
        for _ in range(times):
            for kind, values in taken.items():
                values.append(place.run(kind, Path(directory))["started_ms"])
    return {kind: statistics.median(values) for kind, values in taken.items()}


if __name__ == "__main__":
    main()
