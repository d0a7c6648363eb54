"""The writer's threads: the state reaches the disk as it was, and nothing waits for ever."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest
import torch
from tests.checkpoint.saving import CHUNK
from tests.checkpoint.states import DOCUMENT, layout_of, many

from remora.checkpoint.layout.chunks import Segment, segments
from remora.checkpoint.layout.slot_file import plan
from remora.checkpoint.reading import PartReader
from remora.checkpoint.snapshot import Arrival, Copy, HostCopy
from remora.checkpoint.staging import Arena, Buffer
from remora.checkpoint.storage.contract import Storage, StorageFile
from remora.checkpoint.storage.faulty import Call, FaultyStorage, nth
from remora.checkpoint.storage.memory import MemoryStorage
from remora.checkpoint.storage.wrapped import WrappedFile, WrappedStorage
from remora.checkpoint.writer import Save, Writer
from remora.core.tensors import tensor_bytes

SECONDS = 20.0
"""Longer than anything here takes: a wait that ends by it has failed."""


def make_save(
    storage: Storage,
    tensors: Mapping[str, torch.Tensor],
    slot: int = 0,
    copy: Callable[[Sequence[torch.Tensor], bytes], Copy] = HostCopy,
) -> Save:
    layout = layout_of(tensors)
    return Save(
        sequence=slot,
        step=slot,
        layout=layout,
        segments=segments(layout),
        copy=copy([tensors[stored.name] for stored in layout.tensors], DOCUMENT),
        file=storage.open(f"slot-{slot}", create=True),
    )


class Finished:
    """Finishes saves by writing their heads, and notes the order."""

    def __init__(self) -> None:
        self.order: list[int] = []
        self.errors: list[BaseException | None] = []

    def __call__(self, save: Save) -> None:
        self.order.append(save.sequence)
        self.errors.append(save.error)
        if not save.lost:
            save.file.pwrite(memoryview(save.layout.head(save.hashes)), 0)


@contextmanager
def writing(
    finish: Callable[[Save], None], *, buffers: int = 3, threads: int = 1
) -> Iterator[tuple[Writer, Arena]]:
    arena = Arena(buffers, CHUNK)
    writer = Writer(arena, threads, finish)
    try:
        yield writer, arena
    finally:
        closer = threading.Thread(target=writer.close, daemon=True)
        closer.start()
        closer.join(SECONDS)
        assert not closer.is_alive(), "the writer does not end"


def all_free(arena: Arena) -> bool:
    """Whether every buffer of an arena is back."""
    return len(arena._free) == arena.count


def read(storage: Storage, name: str, like: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    part = PartReader(storage, name)
    part.verify()
    assert part.document() == DOCUMENT
    found = {key: torch.empty(each.shape, dtype=each.dtype) for key, each in like.items()}
    part.read_into(found)
    return found


def assert_same(found: Mapping[str, torch.Tensor], saved: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in saved.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert bytes(tensor_bytes(found[name])) == bytes(tensor_bytes(tensor)), name


# ---------------------------------------------------------------- what is written


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("buffers", [1, 2, 40])
def test_every_kind_of_tensor_is_written_as_it_is(threads: int, buffers: int) -> None:
    storage, tensors = MemoryStorage(), many()
    with writing(Finished(), buffers=buffers, threads=threads) as (writer, arena):
        save = make_save(storage, tensors)
        writer.submit(save)
        assert save.done.wait(SECONDS)
        assert save.copied.is_set()
        assert save.error is None
    assert all_free(arena)
    assert_same(read(storage, "slot-0", tensors), tensors)


def test_the_state_may_change_as_soon_as_it_is_copied() -> None:
    storage, gate = Gated(MemoryStorage()), threading.Event()
    storage.gate = gate
    tensors = many()
    before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    with writing(Finished(), buffers=64) as (writer, _):
        save = make_save(storage, tensors)
        writer.submit(save)
        assert save.copied.wait(SECONDS), "copying does not wait for the disk"
        assert not save.done.is_set()
        for name, tensor in tensors.items():
            if name != "expanded":
                tensor.data.zero_()
        gate.set()
        assert save.done.wait(SECONDS)
    assert_same(read(storage, "slot-0", tensors), before)


def test_a_state_larger_than_the_arena_goes_through_in_pieces() -> None:
    storage = MemoryStorage()
    held: list[int] = []
    arena_of: list[Arena] = []

    class Counting(HostCopy):
        def fill(self, buffer: Buffer, pieces: Sequence[Segment]) -> None:
            held.append(arena_of[0].count - len(arena_of[0]._free))
            super().fill(buffer, pieces)

    with writing(Finished(), buffers=2) as (writer, arena):
        arena_of.append(arena)
        save = make_save(storage, many(), copy=Counting)
        writer.submit(save)
        assert save.done.wait(SECONDS)
    assert save.layout.chunks > 10
    assert max(held) <= 2


def test_what_follows_the_last_byte_is_zeros_whatever_the_buffer_held() -> None:
    storage = MemoryStorage()
    with writing(Finished(), buffers=1) as (writer, arena):
        buffer = arena.take()
        assert buffer is not None
        buffer.memory.fill_(255)
        arena.give_back(buffer)
        save = make_save(storage, {"a": torch.ones(3)})
        writer.submit(save)
        assert save.done.wait(SECONDS)
    begin, end = save.layout.chunk(0)
    data = bytes(storage.disk.files[0][begin:end])
    assert data == torch.ones(3).numpy().tobytes() + DOCUMENT + bytes(end - begin - 12 - 10)


def test_a_state_of_nothing_is_done_at_once() -> None:
    layout = plan({}, 0, chunk_bytes=CHUNK)
    finished = Finished()
    with writing(finished) as (writer, _):
        file = MemoryStorage().open("slot", create=True)
        save = Save(0, 0, layout, segments(layout), HostCopy([], b""), file)
        writer.submit(save)
        assert save.done.wait(SECONDS)
        assert save.copied.wait(SECONDS)
    assert finished.order == [0]


# ---------------------------------------------------------------- order


class _GatedFile(WrappedFile):
    def __init__(self, inner: StorageFile, storage: Gated) -> None:
        super().__init__(inner)
        self._storage = storage

    def pwrite(self, data: memoryview, offset: int) -> None:
        assert self._storage.gate.wait(SECONDS)
        self.inner.pwrite(data, offset)


class Gated(WrappedStorage):
    """A storage whose writes wait until :attr:`gate` is set."""

    gate = threading.Event()

    def open(self, name: str, *, create: bool = False, direct: bool = False) -> StorageFile:
        return _GatedFile(self.inner.open(name, create=create, direct=direct), self)


@pytest.mark.parametrize("threads", [1, 2])
def test_saves_pass_in_the_order_in_which_they_came(threads: int) -> None:
    storage, finished = MemoryStorage(), Finished()
    with writing(finished, threads=threads) as (writer, _):
        saves = [make_save(storage, many(slot), slot) for slot in range(6)]
        for save in saves:
            writer.submit(save)
        for save in saves:
            assert save.done.wait(SECONDS)
    assert sorted(finished.order) == list(range(6))
    if threads == 1:
        assert finished.order == list(range(6))
    for slot in range(6):
        assert_same(read(storage, f"slot-{slot}", many(slot)), many(slot))


def test_the_next_save_is_copied_while_the_one_before_is_being_written() -> None:
    storage = Gated(MemoryStorage())
    storage.gate = threading.Event()
    with writing(Finished(), buffers=64) as (writer, _):
        saves = [make_save(storage, many(slot), slot) for slot in range(2)]
        for save in saves:
            writer.submit(save)
        assert saves[1].copied.wait(SECONDS)
        assert not saves[0].done.is_set()
        storage.gate.set()
        assert saves[1].done.wait(SECONDS)


def test_closing_waits_for_what_was_submitted() -> None:
    storage, finished = MemoryStorage(), Finished()
    with writing(finished) as (writer, _):
        saves = [make_save(storage, many(slot), slot) for slot in range(3)]
        for save in saves:
            writer.submit(save)
    assert all(save.done.is_set() for save in saves)
    assert finished.order == [0, 1, 2]


# ---------------------------------------------------------------- what fails


def test_a_failing_write_fails_its_save_and_no_other() -> None:
    fails = {"slot-1"}

    def fault(call: Call) -> int:
        return errno.ENOSPC if call.kind == "pwrite" and call.name in fails else 0

    inner = MemoryStorage()
    storage, finished = FaultyStorage(inner, fault), Finished()
    with writing(finished, buffers=2) as (writer, arena):
        saves = [make_save(storage, many(slot), slot) for slot in range(3)]
        for save in saves:
            writer.submit(save)
        for save in saves:
            assert save.done.wait(SECONDS)
            assert save.copied.is_set()
    assert all_free(arena)
    assert [error and type(error) for error in finished.errors] == [None, OSError, None]
    assert isinstance(saves[1].error, OSError)
    assert saves[1].error.errno == errno.ENOSPC
    assert sum(call.name == "slot-1" for call in storage.calls if call.kind == "pwrite") == 1
    for slot in (0, 2):
        assert_same(read(inner, f"slot-{slot}", many(slot)), many(slot))


def test_every_single_write_may_fail() -> None:
    chunks = make_save(MemoryStorage(), many()).layout.chunks
    for number in range(chunks):
        storage = FaultyStorage(MemoryStorage(), nth(number + 1))  # the first call makes the file
        with writing(Finished(), buffers=2) as (writer, arena):
            save = make_save(storage, many())
            writer.submit(save)
            assert save.done.wait(SECONDS)
            assert save.copied.is_set()
            assert isinstance(save.error, OSError)
            again = make_save(storage, many())
            writer.submit(again)
            assert again.done.wait(SECONDS)
            assert again.error is None
        assert all_free(arena)


class Boom(Exception):
    pass


class FailsToCopy(HostCopy):
    def fill(self, buffer: Buffer, pieces: Sequence[Segment]) -> None:
        raise Boom


class FailsToIssue(HostCopy):
    def issued(self) -> None:
        raise Boom


class NeverArrives(HostCopy):
    def fill(self, buffer: Buffer, pieces: Sequence[Segment]) -> Arrival | None:  # type: ignore[override]
        super().fill(buffer, pieces)
        return _Lost()


class _Lost:
    def synchronize(self) -> None:
        raise Boom


@pytest.mark.parametrize("copy", [FailsToCopy, FailsToIssue, NeverArrives])
def test_a_failing_copy_fails_its_save_and_lets_the_step_go_on(copy: type[HostCopy]) -> None:
    storage, finished = MemoryStorage(), Finished()
    with writing(finished, buffers=2) as (writer, arena):
        bad, good = make_save(storage, many(0), 0, copy), make_save(storage, many(1), 1)
        writer.submit(bad)
        writer.submit(good)
        for save in (bad, good):
            assert save.copied.wait(SECONDS)
            assert save.done.wait(SECONDS)
    assert all_free(arena)
    assert isinstance(bad.error, Boom)
    assert good.error is None
    assert_same(read(storage, "slot-1", many(1)), many(1))


def test_finishing_that_fails_fails_its_save_and_no_other() -> None:
    storage, heads = MemoryStorage(), Finished()

    def finish(save: Save) -> None:
        if save.sequence == 0:
            raise Boom
        heads(save)

    with writing(finish) as (writer, _):
        saves = [make_save(storage, many(slot), slot) for slot in range(2)]
        for save in saves:
            writer.submit(save)
        for save in saves:
            assert save.done.wait(SECONDS)
    assert isinstance(saves[0].error, Boom)
    assert saves[1].error is None
    assert heads.order == [1]


def test_one_that_is_given_up_is_written_no_further_and_is_done_all_the_same() -> None:
    storage = Gated(MemoryStorage())
    storage.gate = threading.Event()
    finished = Finished()
    with writing(finished, buffers=2) as (writer, arena):
        save = make_save(storage, many())
        writer.submit(save)
        save.given_up = True
        assert save.untouched
        storage.gate.set()
        assert save.done.wait(SECONDS)
    assert all_free(arena)
    assert finished.order == [0]
    inner = storage.inner
    assert isinstance(inner, MemoryStorage)
    written = sum(change.kind == "write" for change in inner.log)
    assert written <= 2, "only what was on its way"


def test_a_buffer_is_not_used_again_before_the_copy_into_it_has_arrived() -> None:
    """Also where the save was given up: on CUDA the copy goes on whatever becomes of the save."""
    arrived: list[int] = []

    class Late(HostCopy):
        def fill(self, buffer: Buffer, pieces: Sequence[Segment]) -> Arrival | None:  # type: ignore[override]
            save.given_up = True
            super().fill(buffer, pieces)
            return _Noted(arrived, buffer.number)

    with writing(Finished(), buffers=1) as (writer, arena):
        save = make_save(MemoryStorage(), many(), copy=Late)
        writer.submit(save)
        assert save.done.wait(SECONDS)
    assert arrived == [0]
    assert all_free(arena)


class _Noted:
    def __init__(self, log: list[int], number: int) -> None:
        self._log, self._number = log, number

    def synchronize(self) -> None:
        self._log.append(self._number)
