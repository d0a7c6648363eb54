"""A slot's bytes: always a valid safetensors file; no other header is believed."""

from __future__ import annotations

import copy
import json
import struct
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from remora.checkpoint.layout.chunks import segments
from remora.checkpoint.layout.slot_file import (
    CHECKSUMS,
    DOCUMENT,
    DTYPES,
    PAD,
    SlotLayout,
    header_length,
    parse,
    plan,
    root_of,
)
from remora.checkpoint.storage.contract import BLOCK
from remora.core.errors import CheckpointDamaged, StateUnsupported
from remora.core.tensors import tensor_bytes

RESERVED = {CHECKSUMS, DOCUMENT, PAD, "__metadata__"}
SHAPES = st.lists(st.integers(0, 9), max_size=4).map(tuple)
NAMES = st.text(max_size=30).filter(lambda name: name not in RESERVED)


def tensor_of(dtype: torch.dtype, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    count = int(np.prod(shape)) * dtype.itemsize
    if not count:
        return torch.empty(shape, dtype=dtype)
    data = torch.from_numpy(np.random.default_rng(seed).integers(0, 2, count, dtype=np.uint8))
    return data.view(dtype).reshape(shape)


TENSORS = st.dictionaries(
    NAMES,
    st.builds(tensor_of, st.sampled_from(list(DTYPES)), SHAPES, st.integers(0, 99)),
    max_size=6,
)


def file_of(layout: SlotLayout, tensors: dict[str, torch.Tensor], document: bytes) -> bytes:
    """The whole file, put together from what the layout says of each piece."""
    data = bytearray(layout.size)
    data[: layout.body] = layout.head(range(layout.chunks))
    for stored in layout.tensors:
        data[stored.begin : stored.end] = tensor_bytes(tensors[stored.name])
    data[layout.document.begin : layout.document.end] = document.ljust(layout.document.nbytes)
    return bytes(data)


@settings(deadline=None)
@given(TENSORS, st.integers(0, 9000), st.sampled_from([1, 2, 16]), st.sampled_from([0, 64]))
def test_stock_safetensors_reads_every_file(
    tensors: dict[str, torch.Tensor], capacity: int, chunk_blocks: int, size_blocks: int
) -> None:
    layout = plan(tensors, capacity, chunk_bytes=chunk_blocks * BLOCK, size=size_blocks * BLOCK)
    assert layout.size % BLOCK == layout.body % BLOCK == len(layout.header) % BLOCK == 0
    data = file_of(layout, tensors, b"{}"[:capacity])
    loaded = safetensors.torch.load(data)
    assert set(loaded) == {*tensors, CHECKSUMS, DOCUMENT, PAD}
    for name, tensor in tensors.items():
        assert (loaded[name].dtype, loaded[name].shape) == (tensor.dtype, tensor.shape)
        assert bytes(tensor_bytes(loaded[name])) == bytes(tensor_bytes(tensor))
    assert loaded[CHECKSUMS][: layout.chunks].tolist() == list(range(layout.chunks))
    assert bytes(tensor_bytes(loaded[DOCUMENT])).rstrip() == b"{}"[:capacity]


@settings(deadline=None)
@given(TENSORS, st.integers(0, 9000), st.sampled_from([1, 2, 16]))
def test_a_layout_is_read_back_from_its_own_head(
    tensors: dict[str, torch.Tensor], capacity: int, chunk_blocks: int
) -> None:
    layout = plan(tensors, capacity, chunk_bytes=chunk_blocks * BLOCK, metadata={"step": "7"})
    head = layout.head(range(7, 7 + layout.chunks))
    again = parse(head[: header_length(head[:8])], layout.size)
    assert again == layout
    assert again.hashes(head) == list(range(7, 7 + layout.chunks))
    assert {each.name: (each.dtype, each.shape) for each in again.tensors} == {
        name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()
    }


@settings(deadline=None)
@given(TENSORS, st.integers(0, 9000), st.sampled_from([1, 2, 16]))
def test_the_chunks_hold_every_byte_once_and_in_order(
    tensors: dict[str, torch.Tensor], capacity: int, chunk_blocks: int
) -> None:
    layout = plan(tensors, capacity, chunk_bytes=chunk_blocks * BLOCK)
    position = layout.body
    for index, pieces in enumerate(segments(layout)):
        begin, end = layout.chunk(index)
        for source, source_offset, chunk_offset, length in pieces:
            stored = [*layout.tensors, layout.document][source]
            assert stored.begin + source_offset == begin + chunk_offset == position
            position += length
        assert position <= end
    assert position == layout.document.end <= layout.hashed_end <= layout.size


def test_an_equal_state_has_an_equal_layout_whatever_its_order() -> None:
    one = {"b": torch.zeros(3), "a": torch.zeros(3), "c": torch.zeros(3, dtype=torch.float64)}
    other = {name: one[name] for name in "cab"}
    layout = plan(one, 100, chunk_bytes=BLOCK)
    assert layout == plan(other, 100, chunk_bytes=BLOCK)
    assert [each.name for each in layout.tensors] == ["c", "a", "b"]


def test_a_layout_may_fill_a_larger_file() -> None:
    tensors = {"a": torch.zeros(3)}
    natural = plan(tensors, 10, chunk_bytes=BLOCK)
    padded = plan(tensors, 10, chunk_bytes=BLOCK, size=100 * BLOCK)
    assert padded.size == 100 * BLOCK
    assert padded.chunks == natural.chunks, "what pads is not hashed"


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_our_own_names_are_not_to_be_had(name: str) -> None:
    with pytest.raises(StateUnsupported, match="reserved"):
        plan({name: torch.zeros(3)}, 10, chunk_bytes=BLOCK)


def test_the_root_tells_heads_and_their_order_apart() -> None:
    roots = {root_of(heads) for heads in ([b"a", b"b"], [b"b", b"a"], [b"ab"], [b"a"], [])}
    assert len(roots) == 5
    assert {len(root) for root in roots} == {16}


# ---------------------------------------------------------------- damaged and hostile headers

LAYOUT = plan(
    {"a": torch.zeros(5000), "empty": torch.zeros(0), "scalar": torch.tensor(1.0)},
    300,
    chunk_bytes=BLOCK,
    size=16 * BLOCK,
)
FIELDS: dict[str, Any] = json.loads(LAYOUT.header[8:])


def header_of(fields: object) -> bytes:
    text = json.dumps(fields).encode()
    length = -(-(len(text) + 8) // BLOCK) * BLOCK - 8
    return struct.pack("<Q", length) + text.ljust(length)


def believed(header: bytes, size: int = LAYOUT.size) -> SlotLayout | None:
    """The layout, if ``header`` is accepted; it must then be one that can be read safely."""
    try:
        layout = parse(header, size)
    except CheckpointDamaged:
        return None
    assert len(header) <= layout.body <= layout.hashed_end <= layout.size == size
    for stored in layout.tensors:
        assert layout.body <= stored.begin <= stored.end <= layout.document.begin
    assert layout.longest_chunk <= size
    for index, pieces in enumerate(segments(layout)):
        begin, end = layout.chunk(index)
        assert all(0 <= p.chunk_offset <= p.chunk_offset + p.length <= end - begin for p in pieces)
    assert len(layout.hashes(bytes(layout.body))) == layout.chunks
    return layout


def test_the_untouched_header_is_believed() -> None:
    assert believed(header_of(FIELDS)) is not None


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["U64", "F8_E4M3", "nope", "1", "4096", str(2**90), "9" * 5000]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
PLACES = [
    (name, *rest) for name, field in FIELDS.items() for rest in [(), *((key,) for key in field)]
] + [(name, "data_offsets", end) for name in FIELDS if name != "__metadata__" for end in (0, 1)]


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(PLACES), JSON)
def test_any_value_anywhere_is_refused_or_harmless(place: tuple[Any, ...], value: object) -> None:
    fields = copy.deepcopy(FIELDS)
    inner = fields
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    believed(header_of(fields))


@settings(deadline=None, max_examples=100)
@given(st.permutations(list(FIELDS)))
def test_tensors_in_any_order_of_names_are_refused_or_harmless(names: list[str]) -> None:
    believed(header_of({name: FIELDS[old] for name, old in zip(FIELDS, names, strict=True)}))


@settings(deadline=None, max_examples=100)
@given(st.integers(8, len(LAYOUT.header) - 1), st.binary(min_size=1, max_size=8))
def test_any_bytes_anywhere_are_refused_or_harmless(at: int, junk: bytes) -> None:
    header = LAYOUT.header[:at] + junk + LAYOUT.header[at + len(junk) :]
    believed(header[: len(LAYOUT.header)])


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_garbage_is_no_header(data: bytes) -> None:
    assert believed(data) is None


def changed(**changes: Any) -> bytes:
    return header_of({**FIELDS, **changes})


def without(name: str) -> bytes:
    return header_of({key: value for key, value in FIELDS.items() if key != name})


def moved(name: str, begin: int, end: int) -> bytes:
    return changed(**{name: {**FIELDS[name], "data_offsets": [begin, end]}})


BEGIN, END = FIELDS["a"]["data_offsets"]


@pytest.mark.parametrize(
    "header",
    [
        moved("a", BEGIN - 4, END - 4),
        moved("a", BEGIN + 4, END + 4),
        moved("a", END, BEGIN),
        moved("a", -BEGIN, -END),
        moved("a", BEGIN, 2**80),
        changed(a={**FIELDS["a"], "shape": [2**40, 2**40]}),
        changed(a={**FIELDS["a"], "shape": [5000.0]}),
        changed(a={**FIELDS["a"], "dtype": "F4"}),
        changed(a={**FIELDS["a"], "dtype": ["F32"]}),
        changed(a=[1, 2]),
        without("__metadata__"),
        without(CHECKSUMS),
        without(DOCUMENT),
        without(PAD),
        without("a"),
        changed(__metadata__={"format": "pt"}),
        changed(__metadata__={**FIELDS["__metadata__"], "remora": "2"}),
        changed(__metadata__={**FIELDS["__metadata__"], "chunk_bytes": "100"}),
        changed(__metadata__={**FIELDS["__metadata__"], "chunk_bytes": "-4096"}),
        header_of([]),
        header_of("text"),
        LAYOUT.header[:-BLOCK],
        struct.pack("<Q", 40_000) + b"[" * 40_000,
        struct.pack("<Q", 12) + b'{"a": \xff\xfe"}',
    ],
)
def test_a_header_that_lies_is_refused_in_one_line(header: bytes) -> None:
    with pytest.raises(CheckpointDamaged) as refused:
        parse(header, LAYOUT.size)
    assert "\n" not in str(refused.value)


def test_a_header_for_another_file_is_refused() -> None:
    with pytest.raises(CheckpointDamaged, match="do not add up"):
        parse(LAYOUT.header, LAYOUT.size + BLOCK)


@pytest.mark.parametrize("first", [b"", b"short", struct.pack("<Q", 2**63)])
def test_a_length_that_makes_no_sense_is_refused(first: bytes) -> None:
    with pytest.raises(CheckpointDamaged, match="makes no sense"):
        header_length(first)
