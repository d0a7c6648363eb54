"""Copies of a state: from host memory, and from devices on streams of their own."""

from __future__ import annotations

import pytest
import torch
from tests.checkpoint.fake_cuda import FakeCuda
from tests.checkpoint.saving import CHUNK
from tests.checkpoint.states import DOCUMENT, layout_of, many

from remora.checkpoint.layout.chunks import Segment, segments
from remora.checkpoint.layout.slot_file import SlotLayout
from remora.checkpoint.snapshot import Copy, CudaCopy, HostCopy, begin_copy
from remora.checkpoint.staging import Arena, Buffer
from remora.core.tensors import tensor_bytes


def buffers(count: int) -> list[Buffer]:
    arena = Arena(count, CHUNK)
    taken = [arena.take() for _ in range(count)]
    for buffer in taken:
        assert buffer is not None
        buffer.memory.fill_(0xEE)
    return [buffer for buffer in taken if buffer is not None]


def expected(tensors: dict[str, torch.Tensor], layout: SlotLayout) -> bytes:
    body = b"".join(bytes(tensor_bytes(tensors[stored.name])) for stored in layout.tensors)
    return (body + DOCUMENT).ljust(layout.hashed_end - layout.body, b"\0")


def copied(copy: Copy, layout: SlotLayout, *, wait: bool = True) -> bytes:
    """The body, chunk by chunk."""
    rooms = buffers(layout.chunks)
    arrivals = [
        copy.fill(room, pieces) for room, pieces in zip(rooms, segments(layout), strict=True)
    ]
    copy.issued()
    for arrival in arrivals:
        if wait and arrival is not None:
            arrival.synchronize()
    lengths = [end - begin for begin, end in map(layout.chunk, range(layout.chunks))]
    return b"".join(bytes(room.view[:n]) for room, n in zip(rooms, lengths, strict=True))


def in_order(tensors: dict[str, torch.Tensor]) -> tuple[SlotLayout, list[torch.Tensor]]:
    layout = layout_of(tensors)
    return layout, [tensors[stored.name] for stored in layout.tensors]


# ---------------------------------------------------------------- host


def test_a_host_copy_is_the_bytes_of_every_tensor_in_order() -> None:
    tensors = many()
    layout, sources = in_order(tensors)
    assert copied(HostCopy(sources, DOCUMENT), layout) == expected(tensors, layout)


def test_a_lazily_negated_tensor_is_written_as_it_reads() -> None:
    tensors = {"negative": torch._neg_view(torch.ones(9))}
    layout, sources = in_order(tensors)
    assert copied(HostCopy(sources, DOCUMENT), layout) == expected(tensors, layout)


def test_what_is_made_contiguous_is_made_so_once_and_held_no_longer_than_needed() -> None:
    tensors: dict[str, torch.Tensor] = {
        name: torch.arange(20_000, dtype=torch.float32).view(100, 200).T for name in "ab"
    }
    layout, sources = in_order(tensors)
    copy = HostCopy(sources, DOCUMENT)
    held = []
    for room, pieces in zip(buffers(layout.chunks), segments(layout), strict=True):
        copy.fill(room, pieces)
        held.append({name: each.data_ptr() for name, each in copy._contiguous.items()})
    assert {len(each) for each in held} <= {0, 1}
    assert len({address for each in held for address in each.values()}) <= 2
    copy.issued()
    assert not copy._contiguous


def test_tensors_on_the_host_are_copied_from_there() -> None:
    assert isinstance(begin_copy([torch.ones(3)], b""), HostCopy)
    assert isinstance(begin_copy([], b""), HostCopy)


# ---------------------------------------------------------------- devices


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


def mixed(cuda: FakeCuda) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Tensors as they are on the host, and the same ones spread over it and two devices."""
    host = many()
    spread = {
        name: cuda.tensor(tensor.detach(), number % 2) if number % 3 else tensor
        for number, (name, tensor) in enumerate(host.items())
    }
    return host, spread


def test_what_is_on_a_device_arrives_when_it_is_waited_for(cuda: FakeCuda) -> None:
    host, spread = mixed(cuda)
    layout, sources = in_order(spread)
    assert copied(CudaCopy(sources, DOCUMENT, cuda), layout) == expected(host, layout)


def test_and_not_before(cuda: FakeCuda) -> None:
    host, spread = mixed(cuda)
    layout, sources = in_order(spread)
    found = copied(CudaCopy(sources, DOCUMENT, cuda), layout, wait=False)
    assert found != expected(host, layout), "copying does not wait for the device"
    assert all(stream.queue for stream in cuda.streams)


def test_copies_follow_what_the_step_had_asked_for(cuda: FakeCuda) -> None:
    _, spread = mixed(cuda)
    CudaCopy(list(spread.values()), DOCUMENT, cuda)
    assert sorted(cuda.log) == ["copy-0 waits for training-0", "copy-1 waits for training-1"]


def test_the_next_step_follows_the_copies_and_the_thread_does_not_wait(cuda: FakeCuda) -> None:
    _, spread = mixed(cuda)
    layout, sources = in_order(spread)
    copy = CudaCopy(sources, DOCUMENT, cuda)
    copied(copy, layout, wait=False)
    cuda.log.clear()
    copy.hold_step()
    assert sorted(cuda.log) == [
        "training-0 waits for an event of copy-0",
        "training-1 waits for an event of copy-1",
    ]
    assert copy._last.keys() == {torch.device("cuda", 0), torch.device("cuda", 1)}
    for device, event in copy._last.items():
        pending = len(event.stream.queue)
        assert event._count == pending, f"the last copy of {device} is covered"


def test_an_arrival_waits_for_its_own_chunk_only(cuda: FakeCuda) -> None:
    tensors = {"a": cuda.tensor(torch.arange(3000, dtype=torch.int32))}
    layout, sources = in_order(dict(tensors))
    copy = CudaCopy(sources, DOCUMENT, cuda)
    rooms, parts = buffers(layout.chunks), segments(layout)
    arrivals = [copy.fill(room, pieces) for room, pieces in zip(rooms, parts, strict=True)]
    assert arrivals[0] is not None
    arrivals[0].synchronize()
    assert bytes(rooms[0].view) == torch.arange(1024, dtype=torch.int32).numpy().tobytes()
    assert bytes(rooms[1].view) == b"\xee" * CHUNK


def test_a_chunk_without_device_tensors_has_nothing_to_wait_for(cuda: FakeCuda) -> None:
    tensors = {"a": cuda.tensor(torch.ones(1)), "b": torch.ones(1)}
    copy = CudaCopy(list(tensors.values()), b"", cuda)
    (room,) = buffers(1)
    arrival = copy.fill(room, [Segment(1, 0, 0, 4)])
    assert arrival is not None
    arrival.synchronize()
    assert bytes(room.view) == torch.ones(1).numpy().tobytes() + bytes(CHUNK - 4)
    assert not any(stream.queue for stream in cuda.streams)


@pytest.mark.cuda
def test_a_real_device_is_copied_as_it_was_at_the_time() -> None:
    host = {
        name: tensor.detach() if tensor.is_contiguous() else tensor
        for name, tensor in many().items()
    }
    spread = {name: tensor.detach().cuda() for name, tensor in host.items()}
    layout, sources = in_order(spread)
    copy = begin_copy(sources, DOCUMENT)
    assert isinstance(copy, CudaCopy)
    arena = Arena(layout.chunks, CHUNK, pinned=True)
    rooms = [room for room in (arena.take() for _ in range(layout.chunks)) if room]
    arrivals = [
        copy.fill(room, pieces) for room, pieces in zip(rooms, segments(layout), strict=True)
    ]
    copy.issued()
    copy.hold_step()
    for tensor in spread.values():
        tensor.zero_()  # what the next step does comes after the copies
    for arrival in arrivals:
        if arrival is not None:
            arrival.synchronize()
    lengths = [end - begin for begin, end in map(layout.chunk, range(layout.chunks))]
    found = b"".join(bytes(room.view[:n]) for room, n in zip(rooms, lengths, strict=True))
    assert found == expected(host, layout)
