"""Draws docs/trace.svg: the first session of a demo run, as `callspan show` prints it.

Usage: picture.py STORE   (a store that `callspan demo` has written)
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Run `callspan show` in colour and keep what it prints as a picture."""
    store = sys.argv[1]
    environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": "100"}
    command = [sys.executable, "-m", "callspan.cli", "--store", store]
    listed = subprocess.run([*command, "sessions", "--json"], capture_output=True, text=True, check=True)
    session = re.findall(r'"session_id":\s*"([^"]+)"', listed.stdout)[-1]
    shown = subprocess.run([*command, "show", session], capture_output=True, text=True, check=True, env=environment)
    console = Console(record=True, width=100, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    console.print(Text.from_ansi(shown.stdout))
    (ROOT / "docs/trace.svg").write_text(console.export_svg(title="callspan show"))


if __name__ == "__main__":
    main()
