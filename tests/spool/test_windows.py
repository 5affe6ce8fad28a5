"""Windows: import, instrument and the SQLite store without Unix-only modules.

No Windows is at hand: a fresh interpreter is robbed of what Windows lacks and given its locks, see `windows.py`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .rig import python, until

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the stand-in for Windows' locks is made of Linux's"),
]
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]|[ .]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)', re.IGNORECASE)

_RECORDS = """
import sys, windows
import callspan
handle = callspan.instrument(stores=sys.argv[1])
for number in range(int(sys.argv[2])):
    with callspan.session("s", session_id=f"{sys.argv[3]}-{number}"):
        with callspan.record_call(provider="mine", model="m") as call:
            call.request({"model": "m", "messages": [{"role": "user", "content": "Hi"}]})
            call.response({"choices": [{"message": {"role": "assistant", "content": "Hello"}}]})
print("recorded", flush=True)
if sys.argv[4] == "stay":
    sys.stdin.readline()
assert handle.force_flush(30_000)
handle.uninstrument()
reader = callspan.open_store(sys.argv[1])
print(reader.count_calls())
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    here = Path(__file__).parent
    return subprocess.run(python("-c", *arguments), capture_output=True, text=True, cwd=here, timeout=100, check=False)


@pytest.mark.parametrize("kind", ["sqlite", "jsonl"])
def test_calls_are_recorded_delivered_and_read_without_unix_only_modules(tmp_path: Path, kind: str) -> None:
    url = f"{kind}:///{tmp_path}/calls.{kind}"
    done = run(_RECORDS, url, "20", "a", "end")
    assert done.stderr == ""
    assert done.stdout.split() == ["recorded", "20"]
    assert run(_RECORDS, url, "5", "b", "end").stdout.split() == ["recorded", "25"]


def test_segments_of_a_living_process_are_left_alone_and_of_a_killed_one_adopted(tmp_path: Path) -> None:
    """The locks of Windows say who lives."""
    url, spool = f"sqlite:///{tmp_path}/calls.db", tmp_path / "spool"
    script = _HOLD.format(wait="sys.stdin.readline()")
    holder = subprocess.Popen(
        python("-c", script, str(spool)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parent
    )
    assert holder.stdout is not None
    assert holder.stdout.readline()
    (segment,) = spool.glob("*.segment")
    assert run(_SHIP, str(spool), url).stdout.split() == ["0"]
    holder.kill()
    holder.wait(30)
    assert run(_SHIP, str(spool), url).stdout.split() == ["1"]
    until(lambda: not segment.exists())
    holder.stdout.close()
    assert holder.stdin is not None
    holder.stdin.close()


_HOLD = """
import sys, windows
from pathlib import Path
from callspan.record.call import CallRecord, Timing
from callspan.record.codec import encode
from callspan.spool.spool import Spool
spool = Spool(Path(sys.argv[1]), list)
spool.append(encode(CallRecord(call_id="x", timing=Timing(start_ns=1))))
print("kept", flush=True)
{wait}
"""
_SHIP = """
import sys, windows
from pathlib import Path
from callspan.spool.spool import ship_once
from callspan.stores.urls import sinks_for
counts = ship_once(Path(sys.argv[1]), sinks_for(sys.argv[2]), 30)
print(sum(count for name, count in counts.items() if name.startswith("shipped.")))
"""


def test_file_names_are_valid_on_windows(tmp_path: Path) -> None:
    done = run(_FILES, str(tmp_path))
    (damage,) = done.stderr.splitlines()
    assert damage.startswith("Damage in "), "nothing else is said"
    names = done.stdout.split("\n")[:-1]
    assert {Path(name).suffix for name in names} >= {".segment", ".cursor", ".bad", ".db", ".jsonl", ".rejected", ".1"}
    assert [name for name in names if _FORBIDDEN.search(name)] == []


_FILES = """
import sys, time, windows
from pathlib import Path
from callspan.record.call import CallRecord, Timing
from callspan.record.codec import encode
from callspan.spool.directory import write_cursor
from callspan.spool.segment import encode_frame as frame
from callspan.spool.sink import Entry
from callspan.spool.spool import Spool, ship_once
from callspan.stores.urls import sinks_for
place = Path(sys.argv[1])
record = encode(CallRecord(call_id="a:b/c", timing=Timing(start_ns=1)))
urls = f"sqlite:///{place}/calls.db,jsonl:///{place}/calls.jsonl?max_bytes=300"
for sink in sinks_for(urls):
    sink.open()
    for number in range(3):
        sink.deliver([Entry("s", number, number + 1, record.replace(b"a:b", b"a:%d" % number))])
    sink.set_aside(Entry("s", 9, 10, b"bad"), "why")
    sink.close()
(place / "0-1-a.segment").write_bytes(frame(record) + b"rubbish" + frame(record))
(place / "1-2-3.segment").write_bytes(frame(record))
spool = Spool(place, sinks_for(urls))
spool.append(record)
ship_once(place, sinks_for(f"sqlite:///{place}/calls.db"), 30)
write_cursor(place, "1-2-3.segment", "5e3340b33aa7", 5)
# Either of the two spools may have taken the damaged segment over, the first on a thread of its own.
deadline = time.monotonic() + 20
while not list(place.glob("*.bad")) and time.monotonic() < deadline:
    time.sleep(0.01)
print(*sorted(path.name for path in place.iterdir()), sep="\\n")
"""


def test_a_unix_socket_is_refused_with_a_reason_on_windows() -> None:
    done = run(
        "import windows\\nfrom callspan.stores.urls import sinks_for\\ntry: sinks_for('unix:///x')\\n"
        "except Exception as error: print(type(error).__name__, error)".replace("\\n", "\n")
    )
    assert done.stdout.startswith("SettingError CALLSPAN_STORES: unix:///x: this system has no Unix sockets")
