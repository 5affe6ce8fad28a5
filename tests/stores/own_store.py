"""Installs the store of docs/stores.md as a reader would: a distribution with an entry point, on the import path."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "stores.md"
SECTION = PAGE.read_text().partition("## A store of your own")[2].partition("\n## ")[0]
MODULE = re.search(r"```python\n(.*?)```", SECTION, re.DOTALL)
ENTRY_POINT = re.search(r'\[project\.entry-points\."callspan\.stores"\]\n(\w+) = "([\w.:]+)"', SECTION)


def install(place: Path, scheme: str, code: str | None = None, name: str = "callspan-lines") -> Path:
    """Install a distribution whose store is found by `scheme`, in a directory for the import path; return that.

    Its module has a name of its own, as one process may have several. `code` None: that of the page.
    """
    assert MODULE is not None
    assert ENTRY_POINT is not None
    module = f"{scheme}_module"
    information = place / f"{name.replace('-', '_')}-1.2.dist-info"
    information.mkdir(parents=True)
    (place / f"{module}.py").write_text(MODULE[1] if code is None else code)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    target = ENTRY_POINT[2].partition(":")[2]
    (information / "entry_points.txt").write_text(f"[callspan.stores]\n{scheme} = {module}:{target}\n")
    return place
