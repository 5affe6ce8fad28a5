"""Stores of the application's own, found by an entry point, and the Unix socket."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib import metadata
from itertools import count
from pathlib import Path

import openai
import pytest
from click.testing import CliRunner
from tests.commands import callspan as command

import callspan
from callspan import open_store, stores
from callspan.cli.doctor import store_state
from callspan.settings_loader import forget_warnings, load
from callspan.stores import find_store
from callspan.stores.spools import target_of
from callspan.stores.unix_socket import PROTOCOL_VERSION
from callspan.stores.urls import _STORES
from callspan.testing import ScriptedProvider
from callspan.wiring import CHECKS

from .conftest import Delivery, Records
from .own_store import install

_SCHEMES = count(1)


@pytest.fixture
def scheme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The scheme of the page's store, new for each test: a process imports a store once."""
    name = f"lines{next(_SCHEMES)}"
    monkeypatch.syspath_prepend(install(tmp_path / "site", name))
    return name


def broken(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a store whose module has this code."""
    name = f"broken{next(_SCHEMES)}"
    monkeypatch.syspath_prepend(install(tmp_path / "site", name, code, name="callspan-broken"))
    return f"{name}:///x.lines"


def test_calls_are_recorded_and_not_read(scheme: str, tmp_path: Path) -> None:
    url = f"{scheme}:///{tmp_path}/calls.lines?end=crlf"
    with ScriptedProvider() as provider, openai.OpenAI(base_url=provider.openai_url, api_key="k") as client:
        handle = callspan.instrument(stores=url)
        with callspan.session("talk"):
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        assert handle.force_flush(30_000)
        handle.uninstrument()
    assert (tmp_path / "calls.lines").read_bytes().endswith(b"\r\n")
    assert (tmp_path / "calls.lines.spool").is_dir()
    lines = map(json.loads, (tmp_path / "calls.lines").read_text().splitlines())
    assert [line["outcome"] for line in lines if line["kind"] == "call"][-1] == "success"
    shown = CliRunner().invoke(command, ["--store", url, "calls", "--json"])
    assert (shown.exit_code, "cannot be read" in " ".join(shown.output.split())) == (2, True)


def test_doctor_opens_no_sink_that_it_cannot_try_out(scheme: str, tmp_path: Path) -> None:
    check = store_state(f"{scheme}:///{tmp_path}/calls.lines")
    assert (check.state, check.detail) == ("ok", "not tried out: its store has no trial")
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_where_it_cannot_erase_the_receipt_says_so_and_alone_it_is_refused(
    scheme: str, tmp_path: Path, records: Records
) -> None:
    own = f"{scheme}:///{tmp_path}/calls.lines"
    delivery = Delivery(f"sqlite:///{tmp_path}/calls.db")
    delivery.write(records.session("s1"), records.call(session_id="s1"))
    delivery.close()
    both = f"sqlite:///{tmp_path}/calls.db,{own}"
    done = CliRunner().invoke(command, ["--store", both, "delete", "s1", "--yes"])
    assert (done.exit_code, "nothing can be deleted there" in " ".join(done.output.split())) == (0, True), done.output
    with closing(open_store(f"sqlite:///{tmp_path}/calls.db")) as reader:
        assert reader.count_calls() == 0
    done = CliRunner().invoke(command, ["--store", own, "delete", "--user", "u1", "--yes"])
    assert done.exit_code == 2, done.output
    assert "a filter needs a SQLite or Postgres store" in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("code", "cause", "why"),
    [
        ("import no_such_driver", ModuleNotFoundError, "ModuleNotFoundError: No module named 'no_such_driver'"),
        ("raise RuntimeError('no licence')", RuntimeError, "RuntimeError: no licence"),
        ("x = 1", AttributeError, "AttributeError: module"),
        ("Lines = dict", None, "is no callspan.stores.Store"),
    ],
)
def test_one_that_fails_to_load_is_an_error_of_an_argument_and_a_warning_of_the_environment(
    code: str,
    cause: type[Exception] | None,
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = broken(code, tmp_path, monkeypatch)
    with pytest.raises(stores.SettingError, match=r"callspan-broken 1\.2") as raised:
        callspan.instrument(stores=url)
    assert why in str(raised.value)
    assert cause is None or isinstance(raised.value.__cause__, cause)
    forget_warnings()
    with caplog.at_level(logging.WARNING):
        settings = load(environment={"CALLSPAN_STORES": f"{url},console://"}, checks=CHECKS)
    assert settings.stores == ("console://",)
    (warning,) = [record.getMessage() for record in caplog.records]
    assert why in warning
    assert warning.endswith("This store is not used")
    check = store_state(url)
    assert (check.state, why in check.detail) == ("failed", True)


@pytest.mark.parametrize("query", ["end=hunter2", "colour=hunter2", "end=", "hunter2"])
def test_an_option_that_it_has_not_is_refused_without_its_value(query: str, scheme: str) -> None:
    with pytest.raises(stores.SettingError, match="there are: end") as raised:
        callspan.instrument(stores=f"{scheme}:///calls.lines?{query}")
    assert "hunter2" not in str(raised.value)
    forget_warnings()
    assert load(environment={"CALLSPAN_STORES": f"{scheme}:///a?{query}"}, checks=CHECKS).stores == ()


def test_an_exception_of_its_own_code_is_an_error_without_the_text_which_may_quote_the_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
from callspan import stores
class Lines(stores.ServerStore):
    example = "x://host"
    def __init__(self, url):
        raise KeyError(url)
"""
    url = broken(code, tmp_path, monkeypatch).replace(":///x.lines", "://ann:hunter2@host/db")
    with pytest.raises(stores.SettingError, match=r"not understood by its store \(KeyError\)") as raised:
        callspan.instrument(stores=url)
    assert "hunter2" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_two_distributions_with_one_scheme_are_an_error(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(install(tmp_path / "other", scheme, name="callspan-twin"))
    with pytest.raises(stores.SettingError, match=r"callspan-(twin|lines) 1.2 and callspan-(twin|lines) 1.2"):
        find_store(f"{scheme}:///x")


def test_stores_of_one_database_that_differ_in_their_options_are_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
from callspan import stores
class TableOptions(stores.Options):
    table: str = "calls"
class Lines(stores.ServerStore):
    example = "x://host"
    options_type = TableOptions
"""
    server = broken(code, tmp_path, monkeypatch).replace(":///x.lines", "://ann:{}@host/db{}")
    one, two, again = (server.format(*more) for more in (("x", ""), ("x", "?table=secret7"), ("y", "")))
    keys = [target_of(find_store(url)).key(tmp_path) for url in (one, two, again)]
    assert keys[0] == keys[2] != keys[1]
    assert "secret7" not in target_of(find_store(two)).listed_as(tmp_path)


def test_entry_points_are_read_for_no_scheme_of_callspan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "entry_points", None)
    for scheme in _STORES:
        assert find_store(f"{scheme}:///x").name
    with pytest.raises(TypeError):
        find_store("other:///x")


def test_an_unknown_scheme_names_those_of_other_distributions(scheme: str) -> None:
    with pytest.raises(stores.SettingError, match=f"of other distributions: .*{scheme}://"):
        find_store("nobody://x")


class Receiver:
    """Listens, keeps the received lines, and answers as configured."""

    def __init__(self, path: Path, answer: Callable[[dict[str, object]], bytes | None] | None = None) -> None:
        self.lines: list[dict[str, object]] = []
        self._answer = answer
        self._arrived = threading.Condition()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def wait_for(self, count: int) -> list[dict[str, object]]:
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.lines) >= count, timeout=10)
            return list(self.lines)

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines:
                while (line := lines.readline()) and self._take(connection, json.loads(line)):
                    pass

    def _take(self, connection: socket.socket, line: dict[str, object]) -> bool:
        """Keep and answer a line; False, without either, where the answer is to hang up."""
        answer = self._answer(line) if self._answer else None
        if answer == b"":
            return False
        with self._arrived:
            self.lines.append(line)
            self._arrived.notify_all()
        if answer is not None:
            connection.sendall(answer)
        return True


@pytest.fixture
def receive(tmp_path: Path) -> Iterator[Callable[..., Receiver]]:
    started: list[Receiver] = []

    def start(answer: Callable[[dict[str, object]], bytes | None] | None = None) -> Receiver:
        (tmp_path / "r.sock").unlink(missing_ok=True)
        started.append(Receiver(tmp_path / "r.sock", answer))
        return started[-1]

    yield start
    for receiver in started:
        receiver.stop()


def test_each_record_is_one_line_with_the_protocol_version(
    tmp_path: Path, deliver: Callable[[str], Delivery], receive: Callable[..., Receiver], records: Records
) -> None:
    receiver = receive()
    store = deliver(f"unix://{tmp_path}/r.sock")
    written = records.every_kind()
    store.write(*written)
    lines = receiver.wait_for(6)
    store.sink.close()
    assert [line["kind"] for line in lines] == ["session", "timestep", "call", "event", "message", "reward"]
    assert {line["protocol_version"] for line in lines} == {PROTOCOL_VERSION}
    call_line = lines[2]
    assert call_line["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert call_line["conversation"]["output"][0]["role"] == "assistant"  # type: ignore[index]
    assert "ack" not in call_line


def test_no_listener_is_an_error_and_a_later_receiver_gets_the_record(
    tmp_path: Path, receive: Callable[..., Receiver], records: Records
) -> None:
    sink = find_store(f"unix://{tmp_path}/r.sock").sink()
    with pytest.raises(FileNotFoundError):
        sink.open()
    receiver = receive()
    sink.open()
    sink.deliver([records.call()])
    assert receiver.wait_for(1)
    sink.close()
