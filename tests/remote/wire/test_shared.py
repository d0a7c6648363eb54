"""Shared memory: found only by who may, bounded, given back, and nothing left of it."""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.remote.wire.spoken import Echo, is_last, joined, within
from tests.remote.wire.test_listener import Serve

from remora.core.errors import WireDamaged
from remora.remote.wire.channel import Channel
from remora.remote.wire.relay import Relay
from remora.remote.wire.shared import FIRST_PLACE, STEP, Arena, ArenaSeen, MappedArena

SIZE = 2**20


def mapped(
    seen: ArenaSeen, *, lends: bool = False, released: list[int] | None = None
) -> MappedArena:
    told = [] if released is None else released
    return MappedArena(
        seen, lends=lends, allocate=lambda size: np.empty(size, np.uint8), released=told.append
    )


@pytest.mark.parametrize("lends", [False, True])
def test_what_is_put_in_is_found(lends: bool) -> None:
    arena, released = Arena(SIZE), list[int]()
    there = mapped(arena.seen, lends=lends, released=released)
    place = arena.put(memoryview(b"0123456789"))
    assert place is not None
    found = there.take(place, 10)
    assert bytes(found) == b"0123456789"
    assert released == ([] if lends else [place])
    del found
    gc.collect()
    assert released == [place]
    arena.close()


def test_a_copy_does_not_change_any_more() -> None:
    arena = Arena(SIZE)
    place = arena.put(memoryview(b"honest"))
    assert place is not None
    found = mapped(arena.seen).take(place, 6)
    arena._memory[place : place + 6] = 0
    assert bytes(found) == b"honest"
    arena.close()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, SIZE // 4)), max_size=60))
def test_places_never_overlap_and_all_come_back(steps: list[tuple[bool, int]]) -> None:
    arena = Arena(SIZE)
    lent: dict[int, int] = {}
    for puts, size in steps:
        if puts:
            place = arena.put(memoryview(bytes(size)))
            if place is not None:
                assert place % STEP == 0
                assert FIRST_PLACE <= place <= SIZE - size
                assert all(place + size <= at or at + held <= place for at, held in lent.items())
                lent[place] = size
        elif lent:
            place = sorted(lent)[size % len(lent)]
            arena.give_back(place)
            del lent[place]
    for place in lent:
        arena.give_back(place)
    assert arena._free == [(FIRST_PLACE, SIZE)]
    assert arena.lent_bytes == 0
    arena.close()


def test_a_place_that_was_not_lent_cannot_be_given_back() -> None:
    arena = Arena(SIZE)
    place = arena.put(memoryview(b"x"))
    assert place is not None
    arena.give_back(place)
    for wrong in (place, 0, 2**63):
        with pytest.raises(WireDamaged, match="was given back, not lent"):
            arena.give_back(wrong)
    arena.close()


@pytest.mark.parametrize(
    ("place", "size"),
    [(0, 10), (FIRST_PLACE + 1, 10), (FIRST_PLACE, SIZE), (SIZE, 1), (2**62, 1), (-64, 1)],
)
def test_places_outside_the_arena_are_refused(place: int, size: int) -> None:
    arena = Arena(SIZE)
    with pytest.raises(WireDamaged, match="of shared memory were announced"):
        mapped(arena.seen).take(place, size)
    arena.close()


def test_only_the_right_memory_is_mapped(tmp_path: Path) -> None:
    arena, other = Arena(SIZE), Arena(SIZE)
    unsealed = os.memfd_create("remora-wire", os.MFD_ALLOW_SEALING)
    os.ftruncate(unsealed, SIZE)
    file = os.open(tmp_path / "f", os.O_CREAT | os.O_RDWR)
    change = msgspec.structs.replace
    for wrong in (
        change(arena.seen, nonce=other.seen.nonce),
        change(arena.seen, size=SIZE * 2),
        change(arena.seen, descriptor=10_000),
        change(arena.seen, process=2**22 + 1),
        change(arena.seen, descriptor=unsealed),
        change(arena.seen, descriptor=file),
    ):
        with pytest.raises(OSError):
            mapped(wrong)
    mapped(arena.seen)
    os.close(unsealed)
    os.close(file)
    arena.close()
    other.close()


def test_it_cannot_be_cut_short_under_the_other_end() -> None:
    arena = Arena(SIZE)
    with pytest.raises(PermissionError):
        os.ftruncate(arena._file, 0)
    assert fcntl.fcntl(arena._file, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK
    arena.close()


def test_who_copies_cannot_write() -> None:
    arena = Arena(SIZE)
    there = mapped(arena.seen)._memory
    assert not there.flags.writeable
    arena.close()


@pytest.mark.slow
def test_places_come_back_when_tensors_are_gone(served: Serve) -> None:
    made = served("shared")
    with Channel(made.link(), is_last=is_last) as channel:
        held = [channel.call(Echo("x"), [torch.full((50_000,), 3)]) for _ in range(3)]
        theirs = made.server.links[0]._arena
        ours = channel.link._arena
        assert theirs is not None
        assert ours is not None
        assert theirs.lent_bytes >= 3 * 400_000
        assert all(bool((each.tensors[0] == 3).all()) for each in held)
        held[0].tensors[0].add_(1)  # what is lent may be changed as any tensor
        del held
        gc.collect()
        channel.call(Echo("carries what was given back"))
        assert within(5, lambda: theirs.lent_bytes == 0)
        assert within(5, lambda: ours.lent_bytes == 0)


def test_a_link_that_was_closed_holds_no_shared_memory(served: Serve) -> None:
    def arenas() -> int:
        return Path("/proc/self/maps").read_text().count("remora-wire")

    gc.collect()
    made, before = served("shared"), arenas()
    gc.disable()  # what is closed lies in cycles
    try:
        with Channel(made.link(), is_last=is_last) as channel:
            assert channel.call(Echo("x"), [torch.zeros(50_000)]).shared_bytes
            assert arenas() > before
        assert within(5, lambda: not made.listener._threads)
        assert within(5, lambda: arenas() == before)
    finally:
        gc.enable()


@pytest.mark.slow
def test_a_full_arena_is_passed_by(served: Serve) -> None:
    made = served("shared")
    with Channel(made.link(), is_last=is_last) as channel:
        large = torch.zeros(100 * 2**20, dtype=torch.uint8)
        held = [channel.call(Echo("x"), [large]) for _ in range(4)]
        assert all(each.tensors[0].nbytes == large.nbytes for each in held)
        assert {each.shared_bytes for each in held} == {0, large.nbytes}
        assert held[-1].wire_bytes > large.nbytes


def test_it_is_off_where_it_is_not_wanted(served: Serve) -> None:
    tensors = [torch.zeros(50_000)]
    for made, options in ((served("shared", share=False), {}), (served(), {"share": False})):
        with Channel(made.link(**options), is_last=is_last) as channel:
            assert channel.call(Echo("x"), tensors).shared_bytes == 0
            assert not channel.link.shares
            assert channel.link.counted.shared_bytes_sent == 0


def test_a_relay_between_is_not_passed_by(served: Serve) -> None:
    made = served("shared")
    with (
        Relay(made.listener.address) as relay,
        Channel(made.link(relay.address), is_last=is_last) as channel,
    ):
        assert channel.call(Echo("x"), [torch.zeros(50_000)]).shared_bytes == 0
        assert not channel.link.shares


def test_what_was_never_announced_is_taken_back() -> None:
    arena = Arena(SIZE)
    with joined() as (one, _):
        one._writer.arena = arena
        assert one._writer._turns.take_now()
        failed: list[BaseException] = []

        def send() -> None:
            try:
                until_ns = one.clock.wall_ns() + 20_000_000
                one.send(1, Echo("x"), [torch.zeros(50_000)], until_ns=until_ns)
            except Exception as error:
                failed.append(error)

        thread = threading.Thread(target=send)
        thread.start()
        thread.join()
        one._writer._turns.give()
        assert failed
        assert arena.lent_bytes == 0
    arena.close()


CHILD = """
import sys, torch, time
sys.path.insert(0, ".")
from tests.remote.wire.spoken import *
from remora.remote.wire.connect import connect
from remora.remote.wire.channel import Channel
channel = Channel(connect(sys.argv[1], Replies), is_last=is_last)
channel.call(Echo("x"), [torch.zeros(1_000_000)])
print(channel.link.shares, flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_nothing_is_left_after_a_client_is_killed(served: Serve) -> None:
    before = set(Path("/dev/shm").iterdir())
    made = served("shared")
    command = [sys.executable, "-c", CHILD, str(made.listener.address)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        said = client.stdout.readline()
        client.send_signal(signal.SIGKILL)
    assert said == "True\n"
    assert made.server.links[0].counted.shared_bytes_received == 4_000_000
    assert within(5, lambda: not made.listener._threads)
    assert set(Path("/dev/shm").iterdir()) <= before
