"""A slot's bytes: a valid safetensors file whose every chunk has a hash.

::

    head    u64 length, JSON header padded with spaces to BLOCK
            __checksums__  U64[n]   xxh3-64 of chunk 0, 1, … of the body; zeros to BLOCK
    body    the state's tensors, by falling element size, then name
            __state__      U8[m]    the document (JSON): nesting and plain values, space-padded
            __pad__        U8[p]    to the end of the file; hashed up to the next BLOCK only

The head is written last, once every chunk's hash is known; a slot's root is a hash of its head.
The format of the header is safetensors' (huggingface/safetensors, README, "Format"): tensors
follow each other without a gap and fill the file.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import torch
import xxhash

from remora.checkpoint.storage.contract import BLOCK
from remora.core.errors import CheckpointDamaged, StateUnsupported

FORMAT = "1"
CHECKSUMS, DOCUMENT, PAD = "__checksums__", "__state__", "__pad__"
_OURS, _METADATA = (CHECKSUMS, DOCUMENT, PAD), "__metadata__"
_LENGTH = struct.Struct("<Q")
MAX_HEADER_BYTES = 100_000_000
"""safetensors' own limit."""

DTYPES: dict[torch.dtype, str] = {
    torch.float64: "F64", torch.int64: "I64", torch.uint64: "U64",
    torch.float32: "F32", torch.int32: "I32", torch.uint32: "U32",
    torch.bfloat16: "BF16", torch.float16: "F16", torch.int16: "I16", torch.uint16: "U16",
    torch.bool: "BOOL", torch.int8: "I8", torch.uint8: "U8",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip
"""The dtypes that safetensors has a name for here; others are stored as one of these."""
_BY_NAME = {name: dtype for dtype, name in DTYPES.items()}


@dataclass(frozen=True)
class Stored:
    """A tensor in the file."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    """Offset in the file, in bytes."""

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    @property
    def end(self) -> int:
        return self.begin + self.nbytes


@dataclass(frozen=True)
class SlotLayout:
    """Where everything lies. Equal inputs give equal layouts, so it may be made once and kept."""

    tensors: tuple[Stored, ...]
    """In the order of the file."""
    header: bytes
    """The head's first part, padded; :meth:`head` appends the hashes."""
    chunk_bytes: int
    body: int
    """Offset at which the first chunk begins."""
    document: Stored
    size: int
    """Of the whole file, in bytes."""

    @property
    def hashed_end(self) -> int:
        """Where the last chunk ends."""
        return _round_up(self.document.end)

    @property
    def chunks(self) -> int:
        return -(-(self.hashed_end - self.body) // self.chunk_bytes)

    def chunk(self, index: int) -> tuple[int, int]:
        """Where chunk ``index`` begins and ends in the file; multiples of BLOCK."""
        begin = self.body + index * self.chunk_bytes
        return begin, min(begin + self.chunk_bytes, self.hashed_end)

    @property
    def longest_chunk(self) -> int:
        """Bytes of it: what a buffer must hold."""
        return min(self.chunk_bytes, self.hashed_end - self.body)

    def head(self, hashes: Iterable[int]) -> bytes:
        """The bytes before the body, with the chunks' ``hashes`` in place."""
        table = np.fromiter(hashes, dtype="<u8", count=self.chunks).tobytes()
        return (self.header + table).ljust(self.body, b"\0")

    def hashes(self, head: bytes) -> list[int]:
        """The hashes in ``head``."""
        begin = len(self.header)
        table = np.frombuffer(head, "<u8", count=self.chunks, offset=begin)
        return [int(each) for each in table]

    @cached_property
    def by_name(self) -> dict[str, Stored]:
        return {each.name: each for each in self.tensors}

    @property
    def state_bytes(self) -> int:
        """Bytes of tensors and document, without padding."""
        return self.document.end - self.body


def plan(
    tensors: Mapping[str, torch.Tensor],
    document_bytes: int,
    *,
    chunk_bytes: int,
    size: int = 0,
    metadata: Mapping[str, str] | None = None,
) -> SlotLayout:
    """A layout for ``tensors`` and a document of at most ``document_bytes`` bytes.

    Args:
        chunk_bytes: bytes that share a hash and are written at once; a multiple of BLOCK.
        size: the least size of the file, so that it fits a slot that is there already.
        metadata: strings for the safetensors header, next to our own.

    Raises:
        StateUnsupported: a tensor has a name that is ours.
    """
    if taken := sorted({*_OURS, _METADATA} & set(tensors)):
        raise StateUnsupported(f"the name {taken[0]!r} is reserved; rename that tensor")
    specs = sorted(
        ((name, tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()),
        key=lambda spec: (-spec[1].itemsize, spec[0]),
    )
    body_bytes = sum(prod(s) * d.itemsize for _, d, s in specs) + document_bytes
    chunks = -(-_round_up(body_bytes) // chunk_bytes)
    table = _round_up(8 * chunks)
    about = {"format": "pt", "remora": FORMAT, "chunk_bytes": str(chunk_bytes), **(metadata or {})}
    header = _LENGTH.size + len(_header_json(specs, document_bytes, table, size or 2**62, about))
    header = _round_up(header)  # with a pad as long as can be: the real one takes no more room
    body = header + table
    whole = max(_round_up(body + body_bytes), size)
    pad = whole - body - body_bytes
    text = _header_json(specs, document_bytes, table, pad, about).ljust(header - _LENGTH.size)
    return parse(_LENGTH.pack(len(text)) + text, whole)


def _header_json(
    specs: list[tuple[str, torch.dtype, tuple[int, ...]]],
    document_bytes: int,
    table_bytes: int,
    pad_bytes: int,
    metadata: Mapping[str, str],
) -> bytes:
    fields: dict[str, Any] = {_METADATA: dict(metadata)}
    offset = 0
    u8 = torch.uint8
    ours = [(DOCUMENT, u8, (document_bytes,)), (PAD, u8, (pad_bytes,))]
    for name, dtype, shape in [(CHECKSUMS, torch.uint64, (table_bytes // 8,)), *specs, *ours]:
        end = offset + prod(shape) * dtype.itemsize
        fields[name] = {"dtype": DTYPES[dtype], "shape": shape, "data_offsets": (offset, end)}
        offset = end
    return json.dumps(fields, separators=(",", ":")).encode()


def header_length(first: bytes) -> int:
    """How many bytes the header takes, from the file's first eight.

    Raises:
        CheckpointDamaged: more than safetensors allows.
    """
    length = _LENGTH.unpack_from(first)[0] if len(first) >= _LENGTH.size else MAX_HEADER_BYTES + 1
    if length > MAX_HEADER_BYTES:
        raise CheckpointDamaged("not a checkpoint's slot: its header's length makes no sense")
    return _LENGTH.size + int(length)


def parse(header: bytes, size: int) -> SlotLayout:
    """The layout that ``header`` describes, for a file of ``size`` bytes.

    Raises:
        CheckpointDamaged: it is not a slot's header, or does not fit the file.
    """
    try:
        return _parse(header, size)
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointDamaged(
            f"not a checkpoint's slot: its header is damaged ({reason})"
        ) from None


def _parse(header: bytes, size: int) -> SlotLayout:
    fields: dict[str, Any] = json.loads(header[_LENGTH.size :])
    about = fields.pop(_METADATA)
    if about["remora"] != FORMAT:
        raise ValueError(f"format {about['remora']}; this version reads {FORMAT}")
    stored = {name: _stored(name, field, len(header)) for name, field in fields.items()}
    in_order = sorted(stored.values(), key=lambda each: (each.begin, each.end))
    if [each.name for each in (in_order[0], *in_order[-2:])] != [*_OURS]:
        raise ValueError("hashes, document and padding are not in their places")
    ends = [len(header), *(each.end for each in in_order)]
    if any(each.begin != end for each, end in zip(in_order, ends, strict=False)):
        raise ValueError("tensors overlap or leave gaps")
    chunk_bytes = int(about["chunk_bytes"])
    if ends[-1] != size or chunk_bytes <= 0 or chunk_bytes % BLOCK or len(header) % BLOCK:
        raise ValueError("sizes do not add up")
    layout = SlotLayout(
        tensors=tuple(each for each in in_order if each.name not in _OURS),
        header=header,
        chunk_bytes=chunk_bytes,
        body=stored[CHECKSUMS].end,
        document=stored[DOCUMENT],
        size=size,
    )
    if stored[CHECKSUMS].nbytes < 8 * layout.chunks or layout.hashed_end > size:
        raise ValueError("fewer hashes than chunks")
    return layout


def _stored(name: str, field: Mapping[str, Any], base: int) -> Stored:
    begin, end = field["data_offsets"]
    shape = tuple(field["shape"])
    if not all(isinstance(n, int) and n >= 0 for n in (begin, end, *shape)):
        raise ValueError(f"{name}: offsets and shape must be whole numbers")
    stored = Stored(name, _BY_NAME[field["dtype"]], shape, base + begin)
    if stored.end != base + end:
        raise ValueError(f"{name}: shape and offsets differ")
    return stored


def root_of(heads: Iterable[bytes]) -> bytes:
    """The 16 bytes that stand for a checkpoint: a hash of the heads of its parts, in order."""
    return root_of_digests(head_digest(head) for head in heads)


def head_digest(head: bytes) -> bytes:
    """What of a part's head goes into the root."""
    return xxhash.xxh3_128_digest(head)


def root_of_digests(digests: Iterable[bytes]) -> bytes:
    """The root of the parts whose :func:`head_digest` are ``digests``, in the order of ranks."""
    return xxhash.xxh3_128_digest(b"".join(digests))


def _round_up(count: int) -> int:
    return -(-count // BLOCK) * BLOCK
