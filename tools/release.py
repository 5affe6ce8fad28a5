"""Build a release into dist/: the wheel, the sdist, and the list of what the wheel needs (CycloneDX).

    python tools/release.py v0.1.0

Nothing is built while the tag is not the version, the changelog says "unreleased", or a placeholder stands. Needs
build, twine and cyclonedx-bom.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
PLACEHOLDER = "OWNER"


def problems(tag: str, project: str, changelog: str) -> Iterator[str]:
    """Yield what keeps these files from being released under a tag."""
    version = re.search(r'^version = "(.+)"$', project, re.MULTILINE)
    if version is None or tag != f"v{version[1]}":
        yield f"{tag} is not the version of pyproject.toml"
    elif f"## {version[1]}\n" not in changelog:
        yield f"CHANGELOG.md has no section {version[1]}, or calls it unreleased"
    if f"/{PLACEHOLDER}/" in project:
        yield f"pyproject.toml has the placeholder {PLACEHOLDER}: write the repository's owner"


def build() -> list[Path]:
    """Build the wheel from the sdist; return both."""
    subprocess.run([sys.executable, "-m", "build", "--outdir", DIST, ROOT], check=True)
    files = sorted(DIST.glob("callspan-*"))
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *files], check=True)
    return files


def write_bill_of_materials(wheel: Path) -> None:
    """Write what an installation of the wheel consists of."""
    with tempfile.TemporaryDirectory() as place:
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        subprocess.run([Path(place, "bin", "pip"), "install", "--quiet", wheel], check=True)
        command = ["cyclonedx_py", "environment", place, "--pyproject", ROOT / "pyproject.toml"]
        subprocess.run([sys.executable, "-m", *command, "--output-file", f"{wheel}.cdx.json"], check=True)


def main(tag: str) -> None:
    """Build the release of a tag."""
    project, changelog = ((ROOT / name).read_text() for name in ("pyproject.toml", "CHANGELOG.md"))
    if found := [*problems(tag, project, changelog)]:
        sys.exit("\n".join(found))
    write_bill_of_materials(next(file for file in build() if file.suffix == ".whl"))


if __name__ == "__main__":
    main(sys.argv[1])
