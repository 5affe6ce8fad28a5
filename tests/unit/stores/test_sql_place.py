"""SQL stands in the stores only: whoever asks one does so by the protocol of readers and look-ups."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import callspan

SOURCE = Path(callspan.__file__).parent
SQL = re.compile(r"\bSELECT\b.*\bFROM\b|\bINSERT INTO\b|\bDELETE FROM\b|\bUPDATE\b.*\bSET\b", re.DOTALL)


def test_no_other_package_has_sql() -> None:
    found = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if SQL.search(text := path.read_text())
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.search(node.value)
    }
    assert "stores/sql_reader.py" in found
    assert {name for name in found if not name.startswith("stores/")} == set()
