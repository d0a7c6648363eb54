"""Reading one part of a checkpoint: into the tensors given, and only what was verified."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import xxhash
from tests.checkpoint.saving import CHUNK
from tests.checkpoint.states import DOCUMENT, layout_of, many

from remora.checkpoint.layout.chunks import segments
from remora.checkpoint.layout.slot_file import SlotLayout
from remora.checkpoint.reading import PartReader
from remora.checkpoint.snapshot import HostCopy
from remora.checkpoint.staging import Arena
from remora.checkpoint.storage.aligned import aligned
from remora.checkpoint.storage.contract import BLOCK, Storage
from remora.checkpoint.storage.local import LocalStorage
from remora.checkpoint.storage.memory import MemoryStorage
from remora.core.errors import BadValue, CheckpointDamaged
from remora.core.tensors import tensor_bytes


def written(storage: Storage, tensors: dict[str, torch.Tensor]) -> SlotLayout:
    """A slot file with ``tensors``, named "part"."""
    layout = layout_of(tensors)
    copy = HostCopy([tensors[stored.name] for stored in layout.tensors], DOCUMENT)
    buffer = Arena(1, CHUNK).take()
    assert buffer is not None
    hashes = []
    with storage.open("part", create=True, direct=True) as file:
        for index, pieces in enumerate(segments(layout)):
            begin, end = layout.chunk(index)
            copy.fill(buffer, pieces)
            file.pwrite(buffer.view[: end - begin], begin)
            hashes.append(xxhash.xxh3_64_intdigest(buffer.view[: end - begin]))
        head = aligned(layout.body)
        head[:] = layout.head(hashes)
        file.pwrite(head, 0)
        file.allocate(layout.size)
    return layout


def like(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: torch.full(each.shape, 1, dtype=each.dtype) for name, each in tensors.items()}


def assert_same(found: dict[str, torch.Tensor], saved: dict[str, torch.Tensor]) -> None:
    for name, tensor in found.items():
        assert bytes(tensor_bytes(tensor)) == bytes(tensor_bytes(saved[name])), name


@pytest.mark.parametrize("threads", [1, 2, 5, 99])
def test_every_tensor_comes_back_whatever_the_threads(tmp_path: Path, threads: int) -> None:
    storage, tensors = LocalStorage(tmp_path), many()
    written(storage, tensors)
    found = like(tensors)
    part = PartReader(storage, "part")
    part.verify(threads)
    part.read_into(found, threads)
    assert_same(found, tensors)
    assert part.document() == DOCUMENT
    part.close()


def test_a_target_may_lie_in_memory_in_any_way() -> None:
    storage, tensors = MemoryStorage(), many()
    written(storage, tensors)
    view = torch.zeros(100, 100, 2)[..., 0]
    images = torch.zeros(2, 3, 8, 8).to(memory_format=torch.channels_last)
    parameter = torch.nn.Parameter(torch.zeros(77))
    found = {"matrix": view, "channels last": images, "parameter": parameter}
    PartReader(storage, "part").read_into(found)
    assert_same(found, tensors)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert parameter.requires_grad


def test_only_what_is_asked_for_is_read() -> None:
    storage, tensors = MemoryStorage(), many()
    layout = written(storage, tensors)
    name = layout.tensors[-1].name
    part = PartReader(storage, "part")
    first = layout.chunk(0)[0]
    storage.disk.files[0][first] ^= 1
    found = like({name: tensors[name]})
    part.read_into(found)
    assert_same(found, tensors)
    with pytest.raises(CheckpointDamaged, match="part is damaged: chunk 0 of"):
        part.verify()


@pytest.mark.parametrize(
    "wrong",
    [torch.zeros(100, 99), torch.zeros(10_000), torch.zeros(100, 100, dtype=torch.float64)],
    ids=["too small", "another shape", "another dtype"],
)
def test_a_target_that_does_not_fit_is_refused_before_a_byte_is_written(
    wrong: torch.Tensor,
) -> None:
    storage, tensors = MemoryStorage(), many()
    written(storage, tensors)
    with pytest.raises(BadValue, match="'matrix' is stored as"):
        PartReader(storage, "part").read_into({"matrix": wrong})
    assert not wrong.any()


def test_a_name_that_is_not_stored_is_refused() -> None:
    storage = MemoryStorage()
    written(storage, many())
    with pytest.raises(BadValue, match="no tensor 'nobody'"):
        PartReader(storage, "part").read_into({"nobody": torch.zeros(1)})


def test_what_changes_while_it_is_read_is_seen() -> None:
    """The head was read before: chunks written over since are not taken for what it lists."""
    storage, tensors = MemoryStorage(), many()
    layout = written(storage, tensors)
    part = PartReader(storage, "part")
    written(storage, many(2))
    assert layout.chunks > 1
    with pytest.raises(CheckpointDamaged):
        part.read_into(like(tensors))


def test_a_file_that_is_cut_while_it_is_read_is_seen(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    layout = written(storage, many())
    part = PartReader(storage, "part")
    with (tmp_path / "part").open("r+b") as file:
        file.truncate(layout.body + BLOCK // 2)
    with pytest.raises(CheckpointDamaged):
        part.verify()
    part.close()
