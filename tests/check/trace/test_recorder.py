"""When what is recorded reaches the file, where that is, and what happens when it cannot."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import pytest
from tests.check.stories import Story, Told
from tests.check.trace.logs import played, recorder, tell

from remora.check.trace.layout import claim, files_of, rank_of
from remora.check.trace.pulse import Pulse
from remora.check.trace.recorder import BUFFER_BYTES, Recorder
from remora.core.errors import TraceUnusable


class Disk(io.RawIOBase):
    """Takes a little at a time; raises where it is full."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.writes: list[bytes] = []
        self._room = room

    def write(self, data: object) -> int:
        part = bytes(data)[:1000]  # type: ignore[call-overload]
        self._room -= len(part)
        if self._room < 0:
            raise OSError(28, "No space left on device")
        self.writes.append(part)
        return len(part)


def test_every_step_reaches_the_file_when_it_ends(tmp_path: Path) -> None:
    record = recorder(tmp_path / "t")
    story = Story(record)
    for step in range(3):
        story.step("f")
        assert played(tmp_path / "t")[1].steps == step + 1
    record.close()


def test_within_a_step_no_more_than_the_buffer_waits() -> None:
    disk = Disk()
    record = Recorder(disk)
    calls = [Told("f", inputs={"x": number}) for number in range(5000)]
    record.step_ended(0)
    before = len(disk.writes)
    Story(record).step(*calls[:10])
    assert len(disk.writes) == before + 1
    Story(record).step(*calls)
    assert sum(map(len, disk.writes)) > 3 * BUFFER_BYTES
    assert b"".join(disk.writes).endswith(b'["step",0]\n')


def test_a_flush_hands_over_all_there_is(tmp_path: Path) -> None:
    class Stuck(Exception):
        """The program hangs, and is looked at."""

    record = recorder(tmp_path / "t")
    begin = record.begin

    def hang(call: object) -> None:
        begin(call)  # type: ignore[arg-type]
        raise Stuck

    record.begin = hang  # type: ignore[method-assign]
    with pytest.raises(Stuck):
        Story(record).step("never_returns")
    assert played(tmp_path / "t")[0] == []
    record.flush()
    assert [event[:2] for event in played(tmp_path / "t")[0]] == [("begin", "never_returns")]
    record.close()


def test_a_pulse_beats_until_it_is_stopped() -> None:
    beaten = threading.Semaphore(0)
    pulse = Pulse(beaten.release, seconds=0.001)
    for _ in range(3):
        assert beaten.acquire(timeout=10)
    pulse.stop()
    pulse.stop()
    while beaten.acquire(blocking=False):
        pass
    assert not beaten.acquire(timeout=0.02)


def test_a_full_disk_is_told_and_a_later_flush_goes_on() -> None:
    disk = Disk(room=5_000)
    record = Recorder(disk)
    with pytest.raises(TraceUnusable, match="No space"):
        tell(record, steps=100)
    written = b"".join(disk.writes)
    disk._room = 1 << 30
    record.flush()
    assert b"".join(disk.writes).startswith(written)
    assert b"".join(disk.writes).count(b'"format"') == 1


def test_a_full_disk_is_told_once() -> None:
    record = Recorder(Disk(room=5_000))
    with pytest.raises(TraceUnusable, match="the trace ends here"):
        tell(record, steps=100)
    record.close()


def test_past_its_bound_it_records_no_more(tmp_path: Path) -> None:
    record = recorder(tmp_path / "t", most_bytes=2_000)
    tell(record, steps=100)
    record.close()
    assert record.full
    assert 1_900 < (tmp_path / "t").stat().st_size < 2_500
    assert 0 < played(tmp_path / "t")[1].steps < 100


def test_events_of_many_threads_are_whole_lines(tmp_path: Path) -> None:
    record = recorder(tmp_path / "t")

    def work(number: int) -> None:
        story = Story(record)
        story._order = iter(range(number * 1_000_000, (number + 1) * 1_000_000))  # type: ignore[assignment]
        for step in range(200):
            story.step(Told(f"f{step % 7}", inputs={"x": step}, thread=number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    record.close()
    assert played(tmp_path / "t")[1].steps == 800


# ---------------------------------------------------------------- the folder


def test_each_rank_has_a_file(tmp_path: Path) -> None:
    for rank in (10, 2, 0):
        claim(tmp_path / "a" / "trace", rank)
    files = files_of(tmp_path / "a" / "trace")
    assert [rank_of(path) for path in files] == [0, 2, 10]
    assert files[0].name == f"rank0-pid{os.getpid()}.jsonl"


def test_a_trace_is_not_written_over_unless_asked(tmp_path: Path) -> None:
    old = tmp_path / "rank0-pid1.jsonl"
    other = tmp_path / "rank1-pid2.jsonl"
    old.touch()
    other.touch()
    with pytest.raises(TraceUnusable, match=r"holds a trace already \(rank0.*--overwrite"):
        claim(tmp_path, 0)
    assert old.exists()
    claim(tmp_path, 0, overwrite=True)
    assert not old.exists()
    assert other.exists()


def test_a_rank_that_torchrun_restarted_adds_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rank0-pid1.jsonl").touch()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    claim(tmp_path, 0)
    assert len(files_of(tmp_path)) == 2


def test_what_is_no_trace(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_text("mine")
    with pytest.raises(TraceUnusable, match=r"holds no trace; record one with `remora run --rec"):
        files_of(tmp_path)
    with pytest.raises(TraceUnusable, match="is no trace: No such file"):
        files_of(tmp_path / "none")
    with pytest.raises(TraceUnusable, match="is no trace: Not a directory"):
        files_of(tmp_path / "notes.jsonl")
    with pytest.raises(TraceUnusable, match=r"cannot be written: (File exists|Not a directory)"):
        claim(tmp_path / "notes.jsonl", 0)
