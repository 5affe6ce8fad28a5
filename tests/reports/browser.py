"""A headless browser that opens a page and returns the result; without one, its tests are skipped."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def executable() -> str:
    """The browser's path; skips the test where there is none."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("needs headless Chromium on the PATH")
    return found


def run(page: Path, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Open a page without any network and return what the browser said."""
    return subprocess.run(
        [
            *(executable(), "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *("--proxy-server=127.0.0.1:1", "--enable-logging=stderr", "--v=0", "--virtual-time-budget=5000"),
            *(f"--user-data-dir={tmp_path / 'profile'}", *arguments, page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )


def opened(page: Path, tmp_path: Path) -> tuple[str, str]:
    """The document as the browser has it after all scripts ran, and the lines of its console."""
    done = run(page, tmp_path, "--dump-dom")
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
