"""`callspan run`: an application runs as without callspan, and is recorded; and the demo, read back."""

from __future__ import annotations

import shlex
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.support.commands import Answer, ask, in_its_own
from tests.support.programs import VOICE_CALLS

from callspan.cli import unseen

ASKING = """
import httpx
from callspan.testing import ScriptedProvider

def ask():
    with ScriptedProvider() as provider:
        body = {"model": "gpt-5", "messages": [{"role": "user", "content": "Hello?"}]}
        answer = httpx.post(f"{provider.openai_url}/chat/completions", json=body).json()
        return answer["choices"][0]["message"]["content"]
"""
"""A call without an SDK, whose import takes most of the time of such a process."""
ASKING_WITH_AN_SDK = """
import openai
from callspan.testing import ScriptedProvider

def ask():
    with ScriptedProvider() as provider, openai.OpenAI(base_url=provider.openai_url, api_key="x") as client:
        messages = [{"role": "user", "content": "Hello?"}]
        return client.chat.completions.create(model="gpt-5", messages=messages).choices[0].message.content
"""
APPLICATION = """
import asking, sys
print(asking.ask(), sys.argv[1:], __name__)
sys.exit(7)
"""
UNSEEN = "".join(f"callspan: {line}\n" for line in filter(None, [unseen.line()]))
RECORDING = (
    "callspan: recording to sqlite:///callspan.db; to see it: callspan calls; if nothing is there: callspan doctor\n"
    f"{UNSEEN}"
)
RECORDED, NOTHING = "callspan: 1 call recorded\n", "callspan: no call recorded by this process\n"
OTHER = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import asking; asking.ask()'], check=True)"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "asking.py").write_text(ASKING)
    return tmp_path


def run(place: Path, *arguments: str, program: str = APPLICATION, **env: str) -> Answer:
    (place / "app.py").write_text(program)
    return in_its_own("run", *(arguments or ("app.py",)), cwd=place, env=env)


def calls(place: Path, *, store: str = "callspan.db") -> list[dict[str, Any]]:
    url = str(place / store)
    # A busy machine may not deliver everything in the time an ending process takes for it.
    assert ask("--store", url, "ship").code == 0
    answer = ask("--store", url, "calls", "--reverse", "--json")
    assert answer.code == 0
    return answer.json


@pytest.mark.parametrize("start", [["app.py"], ["-m", "app"]], ids=["script", "module"])
def test_run_passes_arguments_output_and_exit_code(place: Path, start: list[str]) -> None:
    (place / "asking.py").write_text(ASKING_WITH_AN_SDK)
    answer = run(place, *start, "one", "--json", "--store", "-x", "--", "two words")
    said = "Hello from the scripted provider."
    printed = f"{said} ['one', '--json', '--store', '-x', '--', 'two words'] __main__\n"
    assert answer == (7, printed, RECORDING + RECORDED)
    (call,) = calls(place)
    assert (call["model"], call["outcome"], call["output"]) == ("gpt-5", "success", said)


def test_run_ends_on_an_exception_as_python_does(place: Path) -> None:
    answer = run(place, program="import asking\nasking.ask()\nraise ValueError('mine')\n")
    assert answer.code == 1
    assert answer.err.startswith(f"{RECORDING}Traceback (most recent call last):\n  File")
    assert answer.err.endswith(f"ValueError: mine\n{RECORDED}")
    assert answer.err.count("callspan") == (RECORDING + RECORDED).count("callspan")
    assert len(calls(place)) == 1


def test_run_records_child_processes(place: Path) -> None:
    of_child = NOTHING.replace("\n", ", 1 by 1 child process\n")
    assert run(place, program=OTHER) == (0, "", RECORDING + of_child)
    assert len(calls(place)) == 1


def test_run_counts_the_calls_of_all_processes(place: Path) -> None:
    """A forked one that is killed too, but not what its parent had recorded; a child without calls is not counted."""
    program = """
import os, signal, subprocess, sys, asking
asking.ask()
for calls in (2, 0, 1):
    if not os.fork():
        for _ in range(calls):
            asking.ask()
        os.kill(os.getpid(), signal.SIGKILL)
    os.wait()
asking.ask()
subprocess.run([sys.executable, '-c', 'import asking; asking.ask()'], check=True)
"""
    temporary = place / "temporary"
    temporary.mkdir()
    answer = run(place, program=program, TMPDIR=str(temporary))
    assert answer.err.endswith("callspan: 2 calls recorded by this process, 4 by 3 child processes\n")
    assert not [*temporary.glob("callspan-run-*")]
    assert len(calls(place)) == 6


@pytest.mark.parametrize("own", ["sqlite:///callspan.db", "callspan.db", "./callspan.db"])
def test_run_says_nothing_of_the_store_that_it_has_chosen_too(own: str, place: Path) -> None:
    program = f"import asking, callspan\ncallspan.instrument(stores={own!r})\nasking.ask()"
    assert run(place, program=program).err.splitlines()[-1] == RECORDED.strip()


def test_run_names_the_store_that_the_application_chose(place: Path) -> None:
    program = "import asking, callspan\ncallspan.instrument(stores='sqlite:///mine.db')\nasking.ask()"
    *_, recorded, where = run(place, program=program).err.splitlines()
    assert recorded == RECORDED.strip()
    assert where == (
        "callspan: the application chose another store, sqlite:///mine.db; "
        "to see it: callspan --store sqlite:///mine.db calls"
    )
    in_child = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {program!r}], check=True)"
    *_, recorded, where = run(place, program=in_child).err.splitlines()
    assert recorded.endswith("no call recorded by this process, 1 by 1 child process")
    assert "chose another store, sqlite:///mine.db; " in where


def test_run_names_installed_packages_whose_calls_are_not_seen(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "xai_sdk-1.21.0.dist-info").mkdir()
    (place / "xai_sdk-1.21.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: xai-sdk\nVersion: 1\n")
    said = run(place, PYTHONPATH=str(place)).err.splitlines()
    assert said[1].startswith("callspan: not seen: calls by xai-sdk")
    assert said[1].endswith("; why, and what to do: callspan doctor")
    monkeypatch.syspath_prepend(place)
    checks = ask("--store", str(place / "callspan.db"), "doctor", "--json").json["checks"]
    by_name = {check["name"]: check for check in checks if check["area"] == "not seen"}
    assert (by_name["xai-sdk"]["detail"], "record_call" in by_name["xai-sdk"]["advice"]) == ("it sends by gRPC", True)


def test_run_ends_with_what_was_imported_and_not_seen(place: Path) -> None:
    """Also the SDK of agents, where their telemetry is not received."""
    for name in ("xai_sdk", "claude_agent_sdk"):
        (place / f"{name}.py").touch()
    program = "import asking, xai_sdk, claude_agent_sdk\nasking.ask()"
    unseen_line = "callspan: not seen: calls by xai-sdk; why, and what to do: callspan doctor\n"
    assert run(place, program=program).err.endswith(f"\n{RECORDED}{unseen_line}")
    *_, recorded, _ = run(place, program=program, CALLSPAN_RECEIVE="off").err.splitlines()
    assert recorded == (
        "callspan: 1 call recorded; calls of agents by claude_agent_sdk are not received: see CALLSPAN_RECEIVE"
    )


def test_run_ends_with_agents_that_report_elsewhere(place: Path) -> None:
    """Once, however many were started."""
    transport = place / "claude_agent_sdk" / "_internal" / "transport"
    transport.mkdir(parents=True)
    for package in (transport, transport.parent, transport.parent.parent):
        (package / "__init__.py").touch()  # else an installed one comes first
    (transport / "subprocess_cli.py").write_text(
        "class SubprocessCLITransport:\n"
        "    def __init__(self):\n"
        "        self._options = type('Options', (), {'env': {}})()\n"
        "    async def connect(self): pass\n"
        "    async def close(self): pass\n"
    )
    program = (
        "import asking, asyncio\n"
        "from claude_agent_sdk._internal.transport.subprocess_cli import SubprocessCLITransport\n"
        "asking.ask()\n"
        "for _ in range(2): asyncio.run(SubprocessCLITransport().connect())\n"
    )
    said = run(place, program=program, CLAUDE_CODE_ENABLE_TELEMETRY="1").err.splitlines()
    assert said[-1] == "callspan: 1 call recorded; agent claude: its telemetry is set up elsewhere"


def test_run_honours_disabled_instrumentations(place: Path) -> None:
    (place / "asking.py").write_text(ASKING_WITH_AN_SDK)
    for off in ("callspan-groq", "callspan-anthropic, callspan-openai"):
        assert run(place, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=off).code == 7
        assert len(calls(place)) == 1


def test_run_finds_commands_on_the_path_or_in_the_directory(place: Path) -> None:
    assert run(place, Path(sys.executable).name, "app.py", PATH=str(Path(sys.executable).parent)).code == 7
    (place / "start.sh").write_text(f"#!/bin/sh\nexec {sys.executable} app.py\n")
    (place / "start.sh").chmod(0o755)
    assert run(place, "start.sh").code == 7
    assert len(calls(place)) == 2
    (place / "start.sh").write_text("#!/bin/sh\nkill -PIPE $$\nexit 7\n")
    assert run(place, "start.sh").code == -signal.SIGPIPE


def test_run_resolves_modules_as_python_does(place: Path) -> None:
    """Also in the current directory, which an empty entry of PYTHONPATH means."""
    (place / "scripts").mkdir()
    (place / "scripts" / "app.py").write_text("import asking, other")
    (place / "lib").mkdir()
    (place / "lib" / "other.py").touch()
    assert run(place, "scripts/app.py", PYTHONPATH=":lib") == (0, "", RECORDING + NOTHING)


def test_run_reports_the_number_of_recorded_calls(place: Path) -> None:
    """Also those before the application changed a setting; those of a child apart, which says nothing itself."""
    program = """
import os, asking, callspan
asking.ask()
callspan.instrument(chunk_log=3)
asking.ask()
if not os.fork():
    asking.ask()
    raise SystemExit
os.wait()
"""
    answer = run(place, program=program)
    assert answer.err.endswith("callspan: 2 calls recorded by this process, 1 by 1 child process\n")
    assert answer.err.count(" recorded") == 1
    assert len(calls(place)) == 3


def test_run_applies_settings_of_the_environment(place: Path) -> None:
    assert run(place, CALLSPAN_CONTENT="off").code == 7
    (call,) = calls(place)
    assert call["output"] is None
    assert call["output_tokens"] is not None


@pytest.mark.parametrize(
    ("store", "command"),
    [
        ("sqlite:///a b.db", "callspan --store 'sqlite:///a b.db' "),
        ("new/calls.db,a.jsonl", "callspan --store new/calls.db,a.jsonl "),
        ("run#1/calls.db", "callspan --store 'run#1/calls.db' "),
        ("postgresql://u:secret@127.0.0.1:1/db", "callspan --store postgresql://127.0.0.1:1/db "),
    ],
)
def test_run_first_prints_the_store(place: Path, store: str, command: str) -> None:
    answer = run(place, "--store", store, "app.py", program="import sys; print('mine', file=sys.stderr)")
    name = shlex.split(command)[-1]
    line = f"callspan: recording to {name}; to see it: {command}calls; if nothing is there: {command}doctor\n"
    assert answer == (0, "", f"{line}{UNSEEN}mine\n{NOTHING}")


def test_run_ends_on_ctrl_c_as_python_does(place: Path) -> None:
    catch = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    answer = run(place, program=f"{catch}signal.raise_signal(signal.SIGINT)")
    assert answer.code == -signal.SIGINT
    assert answer.err.endswith(f"KeyboardInterrupt\n{NOTHING}")


def test_demo_fits_into_40_lines(demo: str) -> None:
    """In a directory where nothing is yet."""
    page = Path(demo.removeprefix("sqlite:///")).with_name("printed.txt").read_text()
    for part in (
        "$ callspan --store sqlite:///demo.db show last", "gridworld  success  +1.3", "step 0", "1 retry",
        "tool look", "sqlite:///demo.db", "callspan --store sqlite:///demo.db send --otlp http://localhost:4318 ",
    ):  # fmt: skip
        assert part in page
    assert ("gpt-5-mini" in page) == hasattr(openai.OpenAI, "responses"), "it plans by Responses, where they are"
    assert len(page.splitlines()) <= 40
    assert max(map(len, page.splitlines())) <= 100
    assert "\x1b" not in page
    commands = [line.split("demo.db ", 1)[1].split("  ")[0] for line in page.splitlines()[-3:]]
    assert commands == ["calls --failed", "compare meta:prompt_version=1 =2", "view --open"]


def test_demo_comparison_distinguishes_the_prompts(demo: str) -> None:
    compared = ask("--store", demo, "compare", "meta:prompt_version=1", "=2").out
    (success,) = [line for line in compared.splitlines() if line.startswith("success")]
    (reward,) = [line for line in compared.splitlines() if line.startswith("reward")]
    assert " ".join(success.split()) == "success 33 % 100 % +67 points (+0 to +100) 6 tasks"
    assert " ".join(reward.split()) == "reward -0.2583 +1.383 +1.642 (+0.03333 to +2.45) 6 tasks"
    assert "too few to tell" not in compared


def test_demo_keeps_a_file_of_another_application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    connection = sqlite3.connect("demo.db")
    connection.execute("CREATE TABLE notes (text)")
    connection.close()
    before = Path("demo.db").read_bytes()
    answer = ask("demo")
    assert answer.code == 1
    assert "another application; name another file" in answer.err
    assert Path("demo.db").read_bytes() == before


@pytest.mark.parametrize(
    ("url", "code", "why"),
    [
        ("postgresql://me:word-8@[::1/db", 2, "is not a valid URL"),
        ("postgresql+psycopg://me:word-8@127.0.0.1:9/d", 1, "refused"),
    ],
)
def test_unusable_database_is_named_without_its_password(url: str, code: int, why: str) -> None:
    pytest.importorskip("psycopg")
    answer = ask("--store", url, "demo")
    assert (answer.code, why in answer.err, "word-8" in answer.err) == (code, True, False), answer.err


def test_live_demo_without_keys_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = ask("demo", "--live")
    assert answer.code == 1
    assert "OPENAI_API_KEY" in answer.err
    assert not Path("demo.db").exists()


@pytest.mark.parametrize("installed", [True, False])
def test_demo_asks_the_last_agent_by_voice_if_possible(installed: bool, demo: str, tmp_path: Path) -> None:
    store = demo
    if not installed:
        old = tmp_path / "websockets-14.0.dist-info"
        old.mkdir()
        (old / "METADATA").write_text("Metadata-Version: 2.1\nName: websockets\nVersion: 14.0\n")
        assert in_its_own("demo", "--json", cwd=tmp_path).code == 0
        store = f"sqlite:///{tmp_path / 'demo.db'}"
    sessions = ask("--store", store, "sessions", "--json").json
    (session,) = [row for row in sessions if row["metadata"]["seed"] == 7]
    calls = ask("--store", store, "calls", "--session", session["session_id"], "--json").json
    spoken = sorted(call["api"] for call in calls if "realtime" in call["model"] or call["api"] == "transcriptions")
    assert spoken == (["realtime", "transcriptions"] if installed and VOICE_CALLS else [])
