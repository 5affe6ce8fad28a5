"""The table of locks in docs/durability.md is complete, and its reentrant locks are reentrant."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src/callspan"
MADE = re.compile(r"\b(R?Lock)\(\)")


def rows() -> list[str]:
    page = (ROOT / "docs/durability.md").read_text(encoding="utf-8")
    section = page.partition("## Locks\n")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("| `")]


def test_every_lock_is_in_the_table_and_those_reported_as_reentrant_are() -> None:
    made: dict[str, set[str]] = {}
    for file in SOURCE.rglob("*.py"):
        if kinds := set(MADE.findall(file.read_text(encoding="utf-8"))):
            made[file.relative_to(SOURCE).as_posix()] = kinds
    listed: dict[str, bool] = {}
    for row in rows():
        _, lock, _, why, _ = row.split("|")
        names = re.findall(r"`([\w/]+\.py)`", lock)
        folder = names[0].rpartition("/")[0]
        for name in names:
            listed[name if "/" in name or not folder else f"{folder}/{name}"] = why.strip().startswith("reentrant")
    assert listed.keys() == made.keys()
    for name, reentrant in listed.items():
        # `forks` makes plain locks anew for others.
        assert ("RLock" in made[name]) == reentrant, name
