"""Runs the examples of README.md and docs/: every Python block, and every `$ callspan ...` line.

Blocks of one document run in order as one program, beside a `callspan.db` that the demo has written, against a
scripted provider on loopback. A block under `<!-- not run: why -->` is left out; the reason is printed.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from callspan.testing import ScriptedProvider

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(?:<!-- not run: (?P<why>[^>]*?) -->\s*)?```(?P<kind>python|console)\n(?P<code>.*?)```", re.DOTALL)


def main() -> int:
    """Run every document; return 1 if any example failed."""
    with tempfile.TemporaryDirectory() as directory:
        succeeds([sys.executable, "-m", "callspan.cli", "demo"], directory, dict(os.environ))
        failed = [document for document in documents() if not runs(document, Path(directory, "callspan.db"))]
    for document in failed:
        print(f"{document.relative_to(ROOT)}: an example failed")
    return 1 if failed else 0


def documents() -> list[Path]:
    """Return the documents that may hold examples."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def runs(document: Path, store: Path) -> bool:
    """Run a document's examples beside a copy of `store`; True if all of them succeeded."""
    program: list[str] = []
    commands: list[str] = []
    for block in BLOCK.finditer(document.read_text()):
        if block["why"]:
            print(f"{document.relative_to(ROOT)}: not run: {block['why']}")
        elif block["kind"] == "python":
            program.append(block["code"])
        else:
            commands.extend(line[2:] for line in block["code"].splitlines() if line.startswith("$ callspan"))
    if not program and not commands:
        return True
    with tempfile.TemporaryDirectory() as directory, ScriptedProvider() as provider:
        shutil.copy(store, directory)
        environment = {
            **os.environ,
            "OPENAI_API_KEY": "sk-example",
            "ANTHROPIC_API_KEY": "sk-ant-example",
            "OPENAI_BASE_URL": provider.openai_url,
            "ANTHROPIC_BASE_URL": provider.anthropic_url,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        steps = [[sys.executable, "-c", "\n".join(program)]] if program else []
        steps.extend(shlex.split(command) for command in commands)
        return all(succeeds(step, directory, environment) for step in steps)


def succeeds(step: list[str], directory: str, environment: dict[str, str]) -> bool:
    """Run one step; True if it exited with 0, else its output is printed."""
    done = subprocess.run(
        step, cwd=directory, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        print(f"$ {' '.join(step)[:300]}\n{done.stdout}{done.stderr}")
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
