"""What is released: files of the package, links that lead somewhere on an index, and what stops a release."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from tests.support.processes import ROOT
from tools import environments, release

PROJECT = 'version = "0.2.0"\nHomepage = "https://github.com/somebody/callspan"\n'
CHANGES = "# Changelog\n\n## 0.2.0\n\n- A line.\n"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel and the sdist."""
    place = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(place)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return place


def metadata(built: Path) -> Message:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        return message_from_bytes(archive.read(name))


def test_wheel_has_the_package_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    source = (path.relative_to(ROOT / "src") for path in (ROOT / "src").rglob("*"))
    suffixes = {".py", ".sql", ".js", ".json", ".css", ".html", ".typed"}
    tracked = {path.as_posix() for path in source if path.suffix in suffixes}
    assert names == tracked
    assert "callspan/py.typed" in names


def test_sdist_can_be_tested_and_has_no_private_files(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names > {"README.md", "LICENSE", "Makefile", "pyproject.toml", "tests/conftest.py", "tools/install.sh"}
    assert not [name for name in names if re.search(r"\.(db|pyc|log)$|^\.(?!gitignore)|__pycache__", name)]


def test_readme_on_an_index_has_no_relative_link(built: Path) -> None:
    text = metadata(built).get_payload()
    links = re.findall(r"\]\(([^)]+)\)", str(text))
    assert len(links) > 40
    assert {link.partition("://")[0] for link in links if not link.startswith("#")} == {"https"}
    assert "<!-- example" not in text
    files = [link.partition("/v0.1.0/")[2].partition("#")[0] for link in links if "/v0.1.0/" in link]
    assert len(files) > 35
    assert not [name for name in files if not (ROOT / name).exists()]


def test_metadata_names_pythons_and_addresses(built: Path) -> None:
    said = metadata(built)
    classifiers = [line for line in said.get_all("Classifier", []) if line.startswith("Programming Language")]
    assert [line.rpartition(":: ")[2] for line in classifiers] == ["3.10", "3.11", "3.12", "3.13", "3.14"]
    addresses = {line.partition(",")[0] for line in said.get_all("Project-URL", [])}
    assert addresses == {"Homepage", "Documentation", "Repository", "Changelog", "Issues"}


def test_every_lower_bound_is_tested(built: Path) -> None:
    required = [line.partition(";")[0] for line in metadata(built).get_all("Requires-Dist", [])]
    bounds = {line.replace(">=", "==") for line in required if not line.startswith("callspan[")}
    assert len(bounds) > 20
    assert all("==" in bound for bound in bounds)
    floors = [name for name in environments.ENVIRONMENTS if name.startswith("sdks/floor")]
    assert bounds <= {word.partition(";")[0] for name in floors for word in environments.ENVIRONMENTS[name]}
    made = (ROOT / "Makefile").read_text()
    assert [name for name in floors if f".venv-{name}/bin/python -m pytest" not in made] == []


@pytest.mark.parametrize(
    ("tag", "project", "changes", "said"),
    [
        ("v0.2.0", PROJECT, CHANGES, []),
        ("v0.2.1", PROJECT, CHANGES, ["v0.2.1 is not the version of pyproject.toml"]),
        ("0.2.0", PROJECT, CHANGES, ["0.2.0 is not the version of pyproject.toml"]),
        ("v0.2.0", PROJECT, CHANGES.replace("0.2.0", "0.2.0 (unreleased)"), ["CHANGELOG.md has no section 0.2.0"]),
        ("v0.2.0", PROJECT.replace("somebody", "OWNER"), CHANGES, ["pyproject.toml has the placeholder OWNER"]),
    ],
)
def test_release_is_refused_with_its_reason(tag: str, project: str, changes: str, said: list[str]) -> None:
    found = [*release.problems(tag, project, changes)]
    assert [line[: len(start)] for line, start in zip(found, said, strict=True)] == said


def test_placeholder_of_today_stops_a_release() -> None:
    """Remove this test with the placeholder."""
    changes = (ROOT / "CHANGELOG.md").read_text().replace(" (unreleased)", "")
    found = [*release.problems("v0.1.0", (ROOT / "pyproject.toml").read_text(), changes)]
    assert len(found) == 1
    assert "OWNER" in found[0]
