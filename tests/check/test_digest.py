"""Digests: no change of any element of any dtype, layout or view goes unseen."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from remora.check.digest import device_digest, digest
from remora.core.errors import BadValue

pytestmark = [
    pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental"),
    pytest.mark.filterwarnings("ignore:Sparse .* tensor support is in beta"),
]
Digest = Callable[[torch.Tensor], int]


def on_device(tensor: torch.Tensor) -> int:
    """The device's digest, here on the CPU: it is made of torch's own operations only."""
    return int(device_digest(tensor).item())


BOTH: list[Digest] = [digest, on_device]
DTYPES = [
    torch.bool,
    torch.uint8, torch.uint16, torch.uint32, torch.uint64,
    torch.int8, torch.int16, torch.int32, torch.int64,
    torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz,
    torch.float8_e8m0fnu,
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
    torch.complex32, torch.complex64, torch.complex128,
]  # fmt: skip
NAN, INF = float("nan"), float("inf")

each = pytest.mark.parametrize("of", BOTH, ids=["host", "device"])


def counting(dtype: torch.dtype, count: int) -> torch.Tensor:
    """Elements of ``dtype`` with the bit patterns 0, 1, 2, …; for bool, one in three."""
    if dtype is torch.bool:
        return torch.arange(count) % 3 == 1
    raw = (torch.arange(count * dtype.itemsize) % 127).to(torch.uint8)
    return raw.view(dtype)


def flipped(tensor: torch.Tensor, index: int, bit: int) -> torch.Tensor:
    """A copy with one bit of one element changed; for bool, the element negated."""
    copy = tensor.clone()
    if copy.dtype is torch.bool:
        copy[index] = ~copy[index]
        return copy
    raw = copy.view(torch.uint8)
    place, within = divmod(bit % (8 * copy.element_size()), 8)
    raw[index * copy.element_size() + place] ^= 1 << within
    return copy


@each
@given(
    dtype=st.sampled_from(DTYPES),
    count=st.integers(1, 67),
    where=st.integers(0),
    bit=st.integers(0),
)
@settings(deadline=None, max_examples=300)
def test_any_bit_of_any_element_counts(
    of: Digest, dtype: torch.dtype, count: int, where: int, bit: int
) -> None:
    tensor = counting(dtype, count)

    assert of(flipped(tensor, where % count, bit)) != of(tensor)
    assert of(tensor.clone()) == of(tensor)


@each
@given(rows=st.integers(2, 9), columns=st.integers(1, 9), one=st.integers(0), other=st.integers(0))
@settings(deadline=None)
def test_rows_exchanged_are_seen(of: Digest, rows: int, columns: int, one: int, other: int) -> None:
    tensor = torch.arange(rows * columns, dtype=torch.float32).reshape(rows, columns)
    one, other = one % rows, other % rows
    order = list(range(rows))
    order[one], order[other] = order[other], order[one]

    assert (of(tensor[order]) == of(tensor)) is (one == other)


@each
@pytest.mark.parametrize(
    ("one", "other"),
    [(NAN, INF), (NAN, 1.0), (INF, 1.0), (INF, -INF), (1e12, 2e12), (1.0, -1.0), (0.0, -0.0)],
)
def test_values_that_a_sum_or_a_norm_confuses_are_told_apart(
    of: Digest, one: float, other: float
) -> None:
    assert of(torch.full((5, 7), one)) != of(torch.full((5, 7), other))
    assert of(torch.full((5, 7), one)) == of(torch.full((5, 7), one))


@each
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_no_dimension_and_no_element(of: Digest, dtype: torch.dtype) -> None:
    two = counting(dtype, 2)

    assert of(two[0]) != of(two[1])
    assert of(two[:0]) == of(torch.empty(0, dtype=dtype))


@each
def test_more_elements_than_a_device_takes_at_once(
    of: Digest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remora.check.digest._CHUNK", 8)
    tensor = torch.arange(30.0)
    seen = {of(tensor)}
    for index in range(30):
        changed = tensor.clone()
        changed[index] += 1
        seen.add(of(changed))

    assert len(seen) == 31


def _views(base: torch.Tensor) -> dict[str, torch.Tensor]:
    return {
        "transposed": base.t(),
        "every second column": base[:, ::2],
        "from the third element on": base.reshape(-1)[3:],
        "expanded": base[:1].expand(4, -1),
        "conjugated": torch.complex(base, base + 1).conj(),
        "negated and contiguous": torch._neg_view(base),
        "negated": torch.complex(base, base + 1).conj().imag,
        "channels last": base.reshape(1, 3, 2, 4).contiguous(memory_format=torch.channels_last),
    }


@each
@pytest.mark.parametrize("kind", list(_views(torch.zeros(6, 4))))
def test_a_view_reads_as_its_elements(of: Digest, kind: str) -> None:
    view = _views(torch.arange(24.0).reshape(6, 4))[kind]
    changed = _views(torch.arange(24.0).reshape(6, 4) * 2)[kind]
    plain = view.resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)

    assert of(view) == of(plain)
    assert of(changed) != of(view)


@each
@pytest.mark.parametrize("offset", [1, 2, 3])
def test_where_it_lies_in_memory_does_not_count(of: Digest, offset: int) -> None:
    base = torch.arange(12, dtype=torch.bfloat16)

    assert of(base[offset : offset + 6]) == of(base[offset : offset + 6].clone())


@each
def test_what_lies_beside_a_view_does_not_count(of: Digest) -> None:
    base = torch.arange(10.0)
    before = of(base[3:7])
    base[2] = base[7] = -1

    assert of(base[3:7]) == before


@pytest.mark.parametrize("layout", ["coo", "csr", "csc", "bsr", "bsc"])
def test_sparse_tensors_by_indices_and_values(layout: str) -> None:
    def sparse(dense: torch.Tensor) -> torch.Tensor:
        if layout in ("bsr", "bsc"):
            return getattr(dense, f"to_sparse_{layout}")((2, 2))  # type: ignore[no-any-return]
        return dense.to_sparse() if layout == "coo" else getattr(dense, f"to_sparse_{layout}")()

    dense = torch.zeros(4, 4)
    dense[1, 2], dense[3, 0] = 5.0, 7.0
    other_value, other_row, other_column = dense.clone(), dense.clone(), dense.clone()
    other_value[1, 2] = 6.0
    other_row[1, 2], other_row[2, 2] = 0.0, 5.0
    other_column[1, 2], other_column[1, 0] = 0.0, 5.0
    all_of_them = [dense, other_value, other_row, other_column, torch.zeros(4, 4)]

    assert len({digest(sparse(one)) for one in all_of_them}) == len(all_of_them)
    assert digest(sparse(dense.clone())) == digest(sparse(dense))


def test_the_order_of_sparse_entries_does_not_count() -> None:
    one = torch.sparse_coo_tensor(
        torch.tensor([[0, 1]]), torch.tensor([1.0, 2.0]), (3,), check_invariants=False
    )
    other = torch.sparse_coo_tensor(
        torch.tensor([[1, 0]]), torch.tensor([2.0, 1.0]), (3,), check_invariants=False
    )

    assert digest(one) == digest(other)


def test_a_tensor_without_elements_at_hand_is_refused() -> None:
    with pytest.raises(BadValue, match="has no elements to digest"):
        digest(torch.empty(4, device="meta"))
    freed = torch.ones(4)
    freed.untyped_storage().resize_(0)
    with pytest.raises(BadValue, match="has no elements to digest"):
        digest(freed)


def test_a_digest_needs_no_gradient_and_leaves_none() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))

    assert digest(parameter) == digest(torch.ones(3))
    assert not device_digest(parameter).requires_grad
    assert parameter.grad is None
