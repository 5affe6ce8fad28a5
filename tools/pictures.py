"""Makes the pictures of the documents from a demo's store: python tools/pictures.py (needs Chromium)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.text import Text

TARGET = Path(__file__).parents[1] / "docs" / "pictures"
TRACE = TARGET.with_name("trace.svg")
COMMAND = (sys.executable, "-m", "callspan.cli")
SIZE = {"width": 1280, "height": 600}


def main() -> int:
    """Play the demo, and take the pictures of its first trace and of its pages."""
    with tempfile.TemporaryDirectory() as place:
        environment = os.environ | {"CALLSPAN_STORES": "sqlite:///callspan.db"}
        subprocess.run([*COMMAND, "demo"], cwd=place, env=environment, check=True, stdout=subprocess.DEVNULL)
        listed = subprocess.run(
            [*COMMAND, "calls", "--json"], cwd=place, env=environment, check=True, capture_output=True
        )
        calls = json.loads(listed.stdout)
        draw({**environment, "FORCE_COLOR": "1", "COLUMNS": "100"}, place)
        with subprocess.Popen([*COMMAND, "--json", "view"], cwd=place, env=environment, stdout=subprocess.PIPE) as view:
            assert view.stdout is not None
            take(json.loads(view.stdout.readline())["url"], calls)
            view.terminate()
    return 0


def draw(environment: dict[str, str], place: str) -> None:
    """Draw what `callspan show last` prints."""
    shown = subprocess.run(
        [*COMMAND, "show", "last"], cwd=place, env=environment, check=True, capture_output=True, text=True
    )
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=100, file=nowhere)
        console.print(Text.from_ansi(shown.stdout))
    TRACE.write_text(console.export_svg(title="callspan show"))


def take(url: str, calls: list[dict[str, Any]]) -> None:
    """Take the pictures of the pages behind an address."""
    retried = next(one for one in calls if one["retries"])
    failed = next(one for one in calls if one["outcome"] == "error")
    pages = {"start": "", "session": f"session/{failed['session_id']}", "call": f"call/{retried['call_id']}"}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        page.goto(url)
        page.wait_for_url(url.partition("?")[0])
        for name, place in pages.items():
            page.goto(f"{url.partition('?')[0]}#/{place}")
            page.wait_for_selector(".row.session" if name == "start" else ".titlebar")
            page.wait_for_timeout(500)
            page.screenshot(path=TARGET / f"view-{name}.png")
        browser.close()


if __name__ == "__main__":
    sys.exit(main())
