"""Writes docs/call_record.schema.json from the types; `--check` only says whether it is up to date."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from callspan.record.json_schema import json_schema

TARGET = Path(__file__).resolve().parent.parent / "docs" / "call_record.schema.json"


def main() -> int:
    """Write or check the file; return 1 where a check fails."""
    text = json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == text:
        return 0
    print("docs/call_record.schema.json is not what the record types say; run: python tools/schema.py")
    return 1


if __name__ == "__main__":
    sys.exit(main())
