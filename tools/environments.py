"""Make the virtual environments of `environments.yaml`.

    python tools/environments.py frameworks sdks/floor

makes every environment whose name begins with one of these. Each is made once, beside `.venv`. An existing one with all
packages is left alone, unless it should have their newest versions.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import yaml

TOOLS = Path(__file__).resolve().parent
ROOT = TOOLS.parent
UPGRADE = "--upgrade"
"""Marks an environment whose packages are upgraded each time."""
ALONE = "--no-deps"
"""Precedes packages that are installed without their dependencies."""
DATA = yaml.safe_load((TOOLS / "environments.yaml").read_text())
PROJECT = msgspec.toml.decode((ROOT / "pyproject.toml").read_bytes())["project"]
REQUIREMENTS = {"dependencies": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
"""What the project and each of its extras require."""


def meant(word: str | dict[str, list[str]]) -> Iterator[str]:
    """Yield the packages that an entry of an environment stands for."""
    if isinstance(word, dict):
        for extra in word["lowest"]:
            yield from lowest(extra)
    elif word == "CAPTURE":
        yield from DATA["capture"]
    else:
        yield word


def lowest(extra: str) -> Iterator[str]:
    """Yield the oldest versions that an extra allows, on a Python for which they have wheels."""
    for requirement in REQUIREMENTS[extra]:
        oldest = requirement.replace(">=", "==")
        python = DATA["wheels"].get(requirement.partition(">=")[0])
        yield from (requirement, f"{oldest}; python_version < '{python}'") if python else (oldest,)


ENVIRONMENTS = {name: [*itertools.chain(*map(meant, words))] for name, words in DATA["environments"].items()}


def interpreter(name: str) -> str:
    """Return the Python of an environment, from pyenv or the PATH; the running one if there is none."""
    for version, names in DATA["pythons"].items():
        if name in names:
            of_pyenv = map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
            found = filter(None, (*of_pyenv, shutil.which(f"python{version}")))
            return next((one for one in found if runs(one)), sys.executable)
    return sys.executable


def runs(python: str) -> bool:
    """Return whether an interpreter starts; a pyenv shim may not."""
    return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0


def make(place: Path, packages: list[str], python: str = sys.executable) -> None:
    """Make one environment, or add the packages that it lacks. Raises CalledProcessError."""
    done = place / ".complete"
    wanted = "\n".join(packages)
    if done.exists() and done.read_text() == wanted and UPGRADE not in packages:
        return
    print(f"{place.name} by {python}: {' '.join(packages)}", flush=True)
    place.parent.mkdir(exist_ok=True)
    if not (place / "bin" / "python").exists():
        subprocess.run([TOOLS / "make_venv.sh", place], env={**os.environ, "PYTHON": python}, check=True)
    at = packages.index(ALONE) if ALONE in packages else len(packages)
    for some in filter(None, (packages[:at], packages[at:])):
        subprocess.run([TOOLS / "install.sh", place, *some], cwd=ROOT, check=True)
    done.write_text(wanted)


if __name__ == "__main__":
    for name, packages in ENVIRONMENTS.items():
        if name.startswith(tuple(sys.argv[1:])):
            make(ROOT / f".venv-{name}", packages, interpreter(name))
