"""Bytes and fingerprints of tensors: every element counts, every dtype works."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from remora.core.tensors import fingerprint, tensor_bytes

DTYPES = [
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.int64,
    torch.uint8,
    torch.bool,
    torch.complex64,
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4)], ids=str)
def test_bytes_are_all_elements_in_row_major_order(
    dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    count = torch.Size(shape).numel()
    tensor = torch.arange(count).to(dtype).reshape(shape)
    data = tensor_bytes(tensor)
    assert data.nbytes == count * tensor.element_size()
    if count:
        back = torch.frombuffer(bytearray(data), dtype=dtype)
        assert torch.equal(back.view(torch.uint8), tensor.reshape(-1).view(torch.uint8))


def test_contiguous_tensors_are_viewed_not_copied() -> None:
    tensor = torch.zeros(4)
    data = tensor_bytes(tensor)
    tensor[0] = 1.0
    assert bytes(data[:4]) != bytes(4)


def test_views_of_the_same_values_are_equal() -> None:
    base = torch.arange(12.0).reshape(3, 4)
    assert fingerprint(base.t().contiguous()) == fingerprint(base.t())
    assert fingerprint(torch.complex(base, base).conj()) == fingerprint(torch.complex(base, -base))


@given(st.integers(0, 99), st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_any_single_element_changes_the_fingerprint(index: int, value: float) -> None:
    tensor = torch.zeros(100)
    changed = tensor.clone()
    changed[index] = value
    same = torch.equal(changed.view(torch.uint8), tensor.view(torch.uint8))
    assert (fingerprint(changed) == fingerprint(tensor)) is same


def test_shape_and_dtype_count() -> None:
    prints = {
        fingerprint(torch.zeros(4)),
        fingerprint(torch.zeros(2, 2)),
        fingerprint(torch.zeros(4, dtype=torch.int32)),
        fingerprint(torch.zeros(0)),
        fingerprint(torch.tensor(float("nan")).expand(4)),
        fingerprint(torch.tensor(float("inf")).expand(4)),
    }
    assert len(prints) == 6
