"""Guides whose programs need another environment or a server: each program is run as it stands on its page."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from tests.stores.conftest import PostgresServer, clickhouse_url, client_of, postgres_server
from tests.support.launching import Stage, python_of, running
from tests.support.pages import examples
from tests.support.processes import ROOT
from tests.support.records import keep
from tests.support.waiting import HANG_S

from callspan import open_store
from callspan.stores import CallFilter

__all__ = ["clickhouse_url", "postgres_server"]
_FILE: Final = re.compile(r"\A# (\w+\.py)\n")
_SQL: Final = re.compile(r"^```sql\n(.*?)^```", re.DOTALL | re.MULTILINE)
BROKER: Final = """\
from pathlib import Path
broker_url, result_backend = "filesystem://", f"file://{Path('results').absolute()}"
broker_transport_options = {"data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "."}
"""
"""Celery's configuration by directories, so that nothing but Celery is needed."""


def page(name: str) -> Path:
    return ROOT / "docs" / f"{name}.md"


def save_programs(name: str, place: Path) -> list[str]:
    """Save the programs of a page under the names in their first lines."""
    found = [(_FILE.match(each.code), each.code) for each in examples(page(name)) if each.kind == "python"]
    programs = {match[1]: code for match, code in found if match is not None}
    for file, code in programs.items():
        (place / file).write_text(code)
    return list(programs)


def run_in(stage: Stage, environment: str, *command: str) -> str:
    """What a program of another environment prints, in the directory of a stage."""
    binaries = Path(python_of(environment)).parent
    done = subprocess.run(
        [str(binaries / command[0]), *command[1:]], cwd=stage.place, env=of_environment(stage, binaries),
        capture_output=True, text=True, timeout=HANG_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def of_environment(stage: Stage, binaries: Path) -> dict[str, str]:
    path = os.pathsep.join((str(binaries), stage.environment["PATH"]))
    return {**stage.environment, "PATH": path, "PYTHONPATH": str(stage.place)}


@pytest.fixture
def bare(stage: Stage) -> Stage:
    """A stage whose environment names no store: the program does."""
    del stage.environment["CALLSPAN_STORES"]
    stage.store = f"sqlite:///{stage.place / 'callspan.db'}"
    return stage


def shown(stage: Stage) -> str:
    done = stage.run("callspan", "--store", stage.store, "show", "last", COLUMNS="160")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_celery_task_continues_the_session_of_the_request(bare: Stage) -> None:
    assert save_programs("celery", bare.place) == ["tasks.py", "request.py"]
    (bare.place / "celeryconfig.py").write_text(BROKER)
    for name in ("queue", "results"):
        (bare.place / name).mkdir()
    binaries = Path(python_of("frameworks/celery")).parent
    worker = [str(binaries / "celery"), "-A", "tasks", "worker", "--concurrency", "2", "--loglevel", "WARNING"]
    environment = of_environment(bare, binaries)
    with running(worker, bare.place / "said", lambda: True, environment) as process:
        answers = run_in(bare, "frameworks/celery", "python", "request.py")
        process.terminate()
        process.wait(HANG_S)
    assert answers.count("Hello") == 2
    calls = bare.calls()
    assert len(calls) == 2, (bare.place / "said").read_text()
    with closing(open_store(bare.store)) as reader:
        (summary,) = reader.sessions()
    assert {call.place.session_id for call in calls} == {summary.session.session_id}
    assert summary.session.user_id == "u1"
    assert "summarise" in shown(bare)


NOTEBOOK: Final = """\
import json, sys, nbformat
from nbclient import NotebookClient
cells = json.load(open(sys.argv[1]))
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
NotebookClient(notebook, kernel_name="python3").execute()
print("".join(output.get("text", "") for cell in notebook.cells for output in cell.outputs))
"""
IN_A_CELL: Final = (
    "import asyncio\nawait asyncio.gather(*(openai.AsyncOpenAI().chat.completions.create("
    "model='gpt-5', messages=[{'role': 'user', 'content': str(n)}]) for n in range(2)))"
)


def test_notebook_of_the_page_has_one_session_in_several_cells(bare: Stage) -> None:
    cells = [each.code for each in examples(page("jupyter")) if each.kind == "python"]
    cells[2:2] = [IN_A_CELL]
    (bare.place / "run.py").write_text(NOTEBOOK)
    (bare.place / "cells.json").write_text(json.dumps([*cells, "!callspan show last"]))
    said = run_in(bare, "frameworks/jupyter", "python", "run.py", "cells.json")
    assert said.count("success 12") == 4
    assert "prompt trials" in said.rpartition("success 12")[2]
    with closing(open_store(bare.store)) as reader:
        (summary,) = reader.sessions()
    assert (summary.session.outcome, summary.session.experiment) == ("success", "notebook-1")
    assert {call.place.session_id for call in bare.calls()} == {summary.session.session_id}


@pytest.mark.parametrize("framework", ["openai-agents", "pydantic-ai", "langgraph", "strands"])
def test_agent_of_the_page_has_a_session_with_its_tool(bare: Stage, framework: str) -> None:
    programs = save_programs("frameworks", bare.place)
    program = f"{framework.replace('-', '_')}_app.py"
    assert program in programs
    bare.provider.reply(tool_calls=[{"name": "weather", "arguments": {"city": "Oslo"}}])
    bare.provider.reply(text="It is sunny.")
    assert "It is sunny." in run_in(bare, f"frameworks/{framework}", "python", program)
    assert len(bare.calls()) == 2
    with closing(open_store(bare.store)) as reader:
        (summary,) = reader.sessions()
        kinds = {getattr(entry, "event_type", None) for entry in reader.events(summary.session.session_id)}
    assert summary.calls == 2
    assert "tool" in kinds
    tree = shown(bare)
    assert re.search("tool weather", tree), tree


ASKING: Final = """\
import openai
openai.OpenAI().chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "Hi"}])
"""


@pytest.mark.postgres
def test_postgres_roles_of_the_page_record_and_read(bare: Stage, postgres_server: PostgresServer) -> None:
    import psycopg

    create, grant = _SQL.findall(page("postgres").read_text())
    (commands,) = [each for each in examples(page("postgres")) if each.kind == "sh"]
    (bare.place / "app.py").write_text(ASKING)
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        for statement in filter(str.strip, create.split(";")):
            connection.execute(statement.encode())
    address = urlsplit(postgres_server.url).netloc.rpartition("@")[2]
    at = f"{address}/calls{'?' + query if (query := urlsplit(postgres_server.url).query) else ''}"
    script = "\n".join(commands.commands).replace("localhost/calls", at)
    done = subprocess.run(
        ["/bin/bash", "-euc", script], cwd=bare.place, env=bare.environment, capture_output=True, text=True,
        timeout=HANG_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    with psycopg.connect(f"postgresql://calls_writer:choose-one@{at}", autocommit=True) as connection:
        for statement in filter(str.strip, grant.split(";")):
            connection.execute(statement.encode())
    with closing(open_store(f"postgresql://calls_reader:choose-another@{at}")) as reader:
        (call,) = reader.calls(CallFilter())
    assert call.request.model == "gpt-5"
    seen = bare.run("callspan", "--store", f"postgresql://calls_reader:choose-another@{at}", "calls")
    assert (seen.returncode, "gpt-5" in seen.stdout) == (0, True), seen.stderr


def statements(sql: str) -> Iterator[str]:
    yield from filter(str.strip, sql.split(";"))


@pytest.mark.clickhouse
def test_clickhouse_queries_of_the_page(clickhouse_url: str, records: Any) -> None:
    keep(clickhouse_url, records.call(), records.call(outcome="error"))
    (block,) = _SQL.findall(page("clickhouse").read_text())
    with closing(client_of(clickhouse_url)) as client:
        per_day, failed = (client.query(statement).result_rows for statement in statements(block))
    assert per_day
    assert per_day[0][2] == 2
    assert [row[1] for row in failed] == [1]
