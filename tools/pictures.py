"""Make the pictures of the documents from the records of the demo: python tools/pictures.py (requires Chromium)."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.text import Text

DOCS = Path(__file__).resolve().parents[1] / "docs"
COMMAND = (sys.executable, "-m", "callspan.cli")


def run(*arguments: str) -> str:
    """Return the output of a command."""
    return subprocess.run([*COMMAND, *arguments], check=True, capture_output=True, text=True).stdout


def main() -> None:
    """Run the demo, and draw its first trace and its pages."""
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        os.environ |= {"CALLSPAN_STORES": "sqlite:///callspan.db", "FORCE_COLOR": "1", "COLUMNS": "100"}
        run("demo")
        console = Console(record=True, width=100, file=io.StringIO())
        console.print(Text.from_ansi(run("show", "last")))
        (DOCS / "trace.svg").write_text(console.export_svg(title="callspan show"))
        calls = json.loads(run("calls", "--json"))
        retried = next(one["call_id"] for one in calls if one["retries"])
        failed = next(one["session_id"] for one in calls if one["outcome"] == "error")
        with subprocess.Popen([*COMMAND, "--json", "view"], stdout=subprocess.PIPE) as view:
            assert view.stdout is not None
            url = json.loads(view.stdout.readline())["url"]
            take(url, {"start": "", "session": f"session/{failed}", "call": f"call/{retried}"})
            view.terminate()


def take(url: str, pages: dict[str, str]) -> None:
    """Take pictures of the pages at an address."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 600})
        page.goto(url)
        home = url.partition("?")[0]
        page.wait_for_url(home)
        for name, place in pages.items():
            page.goto(f"{home}#/{place}")
            page.wait_for_selector(".row.session" if name == "start" else ".titlebar")
            page.wait_for_timeout(500)
            page.screenshot(path=DOCS / "pictures" / f"view-{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
