"""What every program that generates a document ends with: it writes its files, or with `--check` compares them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path


def write_or_check(texts: Mapping[Path, str]) -> int:
    """Write the files; with `--check`, name those that would change and return 1 if there are any."""
    if "--check" not in sys.argv:
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
        return 0
    stale = [path for path, text in texts.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        print(f"{path.name} is stale: python {sys.argv[0]}")
    return int(bool(stale))
