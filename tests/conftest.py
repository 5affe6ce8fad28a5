"""Shared by all tests: hypothesis profiles, fixtures made once per run, and heap inspection."""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import signal
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote
from zlib import crc32

import certifi
import pytest
from hypothesis import HealthCheck, settings

import callspan
from callspan import Handle
from callspan.stores import Reader
from callspan.testing import ScriptedProvider
from tests.nightly import FILES, MOST_CASES, SAMPLES, WHOLE
from tests.support.left_behind import end_instrumentation
from tests.support.processes import plain_environment, ran
from tests.support.provider import FullProvider
from tests.support.records import Records
from tests.support.scale import FULL, scaled

if TYPE_CHECKING:
    import anthropic
    import openai

    from tests.support.launching import Stage
    from tests.support.receiver import OtlpReceiver
    from tests.support.world import World

Instrument = Callable[..., Handle]
Read = Callable[..., Reader]

_OURS = str(Path(callspan.__file__).parent) + os.sep
_opened: set[Path] = set()
"""Files that SQLite has opened."""
_found: list[str] = []
"""Where callspan opened one by itself."""

settings.register_profile(
    "quick", max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=100)
settings.load_profile(scaled("quick", "thorough"))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Imports make many objects and no garbage: to look for some takes an eighth of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what only `make nightly` runs."""
    cases = defaultdict[str, list[pytest.Item]](list)
    for item in items:
        if item.nodeid.partition("::")[0] in FILES:
            item.add_marker(pytest.mark.nightly)
        cases[item.nodeid.partition("[")[0]].append(item)
    for name, items_of_test in () if FULL else cases.items():
        file, _, test = name.partition("::")
        sample = SAMPLES.get(file, {}).get(test, sys.maxsize if file.startswith(WHOLE) else MOST_CASES)
        # By a hash: every fifth case, for example, might always be an asynchronous one.
        by_hash = sorted(items_of_test, key=lambda item: crc32(item.nodeid.encode()))
        kept = by_hash[:sample] if isinstance(sample, int) else [item for item in by_hash if _case(item) in sample]
        for item in {*by_hash}.difference(kept):
            item.add_marker(pytest.mark.nightly)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line what was missing where tests were skipped."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped)
    if reasons:
        terminalreporter.line(f"skipped: {'; '.join(f'{number} {reason}' for reason, number in reasons.most_common())}")


def _case(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[2].removesuffix("]")


def pytest_configure() -> None:
    """Watch which files callspan opens beside SQLite.

    A shell starts background jobs with SIGINT ignored, which every process that a test starts and interrupts inherits.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.addaudithook(_note)


@pytest.fixture(autouse=True, scope="module")
def _small_heap() -> None:
    """Let collections look only at what these tests make: SDKs and the tests themselves take half a second each."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing is left in the state directory of the user who runs the tests, whose screen is as wide as none."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))
    os.environ.pop("COLUMNS", None)


@pytest.fixture(autouse=True, scope="session")
def _one_authority(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Clients trust one authority instead of all, and none is asked for: to load all takes each of them 50 ms."""
    end = "-----END CERTIFICATE-----\n"
    first, _, _ = certifi.contents().partition(end)
    file = tmp_path_factory.mktemp("authorities") / "one.pem"
    file.write_text(first + end)
    os.environ["SSL_CERT_FILE"] = str(file)


@pytest.fixture(autouse=True)
def _no_descriptor_beside_sqlite() -> Iterator[None]:
    """Fail a test in which callspan opens a file by itself that SQLite has opened in this process, or its -wal or -shm.

    Closing such a descriptor drops SQLite's locks on the file, by whatever names the two have opened it.
    """
    _opened.clear()
    _found.clear()
    yield
    assert not _found


@pytest.fixture(autouse=True)
def _nothing_instrumented() -> Iterator[None]:
    """Fail a test that leaves callspan on: a later one would find its settings, or a pipeline, in the process."""
    yield
    assert not end_instrumentation()


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event == "sqlite3.connect" and arguments[0] not in ("", ":memory:"):
        _opened.add(_path(arguments[0]))
    elif event == "open" and _opened and isinstance(arguments[0], str | bytes | os.PathLike):
        place = _caller(sys._getframe(1))
        name = Path(os.fsdecode(arguments[0])).absolute()
        main = name.with_name(name.name.removesuffix("-wal").removesuffix("-shm"))
        if place is not None and any(_are_one(main, file) for file in list(_opened)):
            _found.append(f"{place} opens {name}")


def _path(database: object) -> Path:
    text = os.fsdecode(database) if isinstance(database, bytes | os.PathLike) else str(database)
    if text.startswith("file:"):
        text = unquote(text.removeprefix("file:").partition("?")[0])
    return Path(text).absolute()


def _are_one(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _caller(frame: FrameType | None) -> str | None:
    """Return the innermost place in callspan from which a file is opened; None: not by callspan."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(_OURS):
            return f"{frame.f_code.co_filename.removeprefix(_OURS)}:{frame.f_lineno}"
        frame = frame.f_back
    return None


@pytest.fixture(autouse=True)
def _nothing_left_open() -> Iterator[None]:
    """At full scale, fail a test that leaves a file, a socket or an event loop to the garbage collector."""
    yield
    if FULL:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ResourceWarning)
            gc.collect()
        assert not [str(one.message) for one in caught if issubclass(one.category, ResourceWarning)]


@pytest.fixture
def nothing_warned(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail the test if anything is logged at WARNING or above, by whichever logger, or a resource is left open.

    Other warnings fail every test, also those in finalizers and threads.
    """
    caplog.set_level(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        yield
    heard = [record for when in ("setup", "call") for record in caplog.get_records(when)]
    assert [one.getMessage() for one in heard if one.levelno >= logging.WARNING] == []


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with FullProvider() as running:
        yield running


@pytest.fixture
def client(provider: ScriptedProvider) -> Iterator[openai.OpenAI]:
    import openai

    with openai.OpenAI(api_key="k", base_url=provider.openai_url, max_retries=0) as made:
        yield made


@pytest.fixture
def claude(provider: ScriptedProvider) -> Iterator[anthropic.Anthropic]:
    import anthropic

    with anthropic.Anthropic(api_key="k", base_url=provider.anthropic_url, max_retries=0) as made:
        yield made


@pytest.fixture
def store(tmp_path: Path) -> str:
    """The URL of a store that is not there yet."""
    return f"sqlite:///{tmp_path}/calls.db"


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
def world() -> World:
    from tests.support.world import World  # only the tests that ask need what it imports

    return World()


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    from tests.support.receiver import OtlpReceiver  # it needs what the oldest environments lack

    with OtlpReceiver() as running:
        yield running


@pytest.fixture
def stage(tmp_path: Path, provider: ScriptedProvider, receiver: OtlpReceiver) -> Stage:
    from tests.support.launching import Stage  # with the receiver

    return Stage(tmp_path, provider, receiver)


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no setting of callspan, OpenTelemetry or the SDKs in the environment."""
    for name in set(os.environ) - set(plain_environment()):
        monkeypatch.delenv(name)


@pytest.fixture
def instrumented() -> Iterator[Instrument]:
    """Instrument as an application does; undone after the test."""
    handles: list[Handle] = []

    def instrument(**settings: Any) -> Handle:
        handles.append(callspan.instrument(**settings))
        return handles[-1]

    yield instrument
    for handle in reversed(handles):
        handle.uninstrument()


@pytest.fixture
def reading() -> Iterator[Read]:
    """Open stores for reading, after what has ended has been delivered: a loaded machine may end first.

    Closed after the test.
    """
    with ExitStack() as opened:
        yield lambda store, **options: opened.enter_context(
            closing(callspan.open_store(str(store), **{"deliver": True, **options}))
        )


@pytest.fixture(scope="session")
def once_per_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Has a directory made under a name by the first test that asks, whatever processes the tests are spread over."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def made(name: str, make: Callable[[Path], object]) -> Path:
        place, done = shared / name, shared / f"{name}.done"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                make(place)
                done.touch()
        return place

    return made


@pytest.fixture(scope="session")
def demo(once_per_run: Callable[[str, Callable[[Path], object]], Path]) -> str:
    """The URL of the store that `callspan demo` writes."""
    return f"sqlite:///{once_per_run('demo', _play_demo)}/demo.db"


def _play_demo(place: Path) -> None:
    place.mkdir()
    done = ran("-m", "callspan.cli", "demo", cwd=place)
    (what_it_does,) = done.stderr.splitlines()
    assert "offline" in what_it_does
    (place / "printed.txt").write_text(done.stdout)
