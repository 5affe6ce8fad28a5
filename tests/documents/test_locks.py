"""The table of locks in docs/architecture.md is complete, and its reentrant locks are reentrant."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src/callspan"
CALL_IDS = re.compile(r"\b(R?Lock)\(\)")


def listed(kind: str) -> set[str]:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| {kind} \| (.*) \|$", page, re.MULTILINE)
    return set(re.findall(r"`([\w/]+\.py)`", row))


def test_every_lock_is_in_the_table_and_those_reported_as_reentrant_are() -> None:
    made = {
        file.relative_to(SOURCE).as_posix(): kinds
        for file in SOURCE.rglob("*.py")
        if (kinds := set(CALL_IDS.findall(file.read_text(encoding="utf-8"))))
    }
    # `forks` makes plain locks anew for others.
    assert listed("reentrant") == {name for name, kinds in made.items() if "RLock" in kinds}
    assert listed("never taken by a call") == {name for name, kinds in made.items() if kinds == {"Lock"}}
