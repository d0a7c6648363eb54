"""What becomes of a trace that is damaged, hostile, or cut short by a kill."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.check.trace.logs import Log, played, recorder, tell

from remora.check.trace.replay import replay
from remora.core.errors import TraceUnusable

HEADER = '{"format":"remora-trace","version":1}\n'
NAMES = '["function",0,"f"]\n["thread",0,7]\n["properties",0,{}]\n'


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    record = recorder(tmp_path / "trace")
    tell(record)
    record.close()
    return tmp_path / "trace"


def test_a_trace_may_be_cut_anywhere_as_a_kill_leaves_it(trace: Path) -> None:
    whole, _ = played(trace)
    data = trace.read_bytes()
    for length in range(0, len(data), 7):
        trace.write_bytes(data[:length])
        seen, result = played(trace)
        assert seen == whole[: len(seen)]
        assert result.cut is (length > 0 and data[length - 1 : length] != b"\n")
        assert not result.ended


def test_a_bit_that_flipped_is_told_with_file_and_line(trace: Path) -> None:
    lines = trace.read_bytes().splitlines(keepends=True)
    for number in range(1, len(lines)):
        damaged = [*lines]
        damaged[number] = b"[" + damaged[number][2:]
        trace.write_bytes(b"".join(damaged))
        with pytest.raises(TraceUnusable, match=rf"trace, line {number + 1}: "):
            replay(trace, Log())


@pytest.mark.parametrize(("lines", "said"), [
    ("", None),
    ("junk\n", "line 1: no trace"),
    ('{"format":"remora-trace","version":1,"more":2}\n', "line 1: no trace .*more"),
    ('{"format":"remora-trace","version":2}\n', "version 2; this Remora reads .* version 1"),
    ('{"format":"remora-invariants","version":1}\n', "is a remora-invariants"),
    (HEADER + '["begin",0,0,0,null,0,0,0]\n', "line 2: number 0 stands for nothing yet"),
    (HEADER + NAMES + '["begin",0,0,0,5,0,0,0]\n', "line 5: call 5, which this one is within"),
    (HEADER + NAMES + '["end",0,0,false]\n', "line 5: call 0 ends, which never began"),
    (HEADER + NAMES + '["begin",0,0,0,null,0,0,0]\n["end",0,9,false]\n', "line 6: number 9 "),
    (HEADER + '["function",16384,"f"]\n', "line 2: number 16384 is not below 16,384"),
    (HEADER + '["function",-1,"f"]\n', "line 2: number -1 "),
    (HEADER + '["observations",0,[["w",0,true,false,true,null,null]]]\n', "line 2: number 0 "),
    (HEADER + '["observations",256,[]]\n', "line 2: number 256 is not below 256"),
    (HEADER + '["names",0,["w"]]\n["compare",0,0,[1,2]]\n', "line 3: 2 contents of no or other"),
    (HEADER + NAMES + '["begin",0,0,0,null,0,0,0,[1]]\n', "line 5: 1 identities for 0 places"),
    (HEADER + '["import","os"]\n', "line 2: Invalid value 'import'"),
    (HEADER + '["step",1,2]\n', "line 2: Expected `array`"),
    (HEADER + '["step","x"]\n', "line 2: Expected `int`"),
    (HEADER + '["properties",0,{"x":{"odd":"float","value":"q"}}]\n', "line 2: could not convert"),
    (HEADER + '["properties",0,{"x":{"odd":"text","value":"q"}}]\n', "line 2: non-hexadecimal"),
    (HEADER + '["properties",0,{"x":[[[1]]]}]\n', "line 2: Expected"),
    (HEADER + " " * (16 << 20) + "\n", "line 2: it is longer than 16,777,216 bytes"),
    (HEADER + "[" * 10_000 + "\n", "line 2: "),
], ids=lambda value: repr(value)[-40:])  # fmt: skip
def test_what_is_refused(tmp_path: Path, lines: str, said: str | None) -> None:
    path = tmp_path / "t"
    path.write_text(lines)
    if said is None:
        assert played(path)[0] == []
        return
    with pytest.raises(TraceUnusable, match=said):
        replay(path, Log())


def test_one_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TraceUnusable, match="cannot be read: No such file"):
        replay(tmp_path / "none", Log())
