"""The contract of a slicing, held against every operator that can be cut, along every axis."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.share.slicing.examples import Sizes, example, overload

from remora.core.clock import SystemClock
from remora.share.slicing.call import bound
from remora.share.slicing.registry import slicers
from remora.share.slicing.rehearsal import Rehearsal

CPU = torch.device("cpu")
_SUMS = """
    _native_batch_norm_legit _scaled_dot_product_flash_attention_for_cpu
    _scaled_dot_product_flash_attention_for_cpu_backward addmm baddbmm bmm convolution
    convolution_backward linear matmul mean mm native_batch_norm native_batch_norm_backward
    native_group_norm_backward native_layer_norm_backward sum
"""
ADDS_IN_ANY_ORDER = frozenset(_SUMS.split())
"""Libraries add in an order that depends on sizes: these are close, and a profiler looks closer."""

sizes = st.builds(
    Sizes,
    a=st.integers(1, 70),
    b=st.integers(2, 70),
    c=st.integers(2, 70),
    d=st.integers(1, 5),
    is_transposed=st.booleans(),
)


@pytest.mark.parametrize("name", sorted(slicers()))
@settings(max_examples=4, deadline=None)
@given(sizes=sizes, share=st.floats(0, 1))
def test_pieces_glued_together_are_the_whole(name: str, sizes: Sizes, share: float) -> None:
    torch.manual_seed(0)
    operator = overload(name)
    args, kwargs = example(name, sizes)
    rehearsal = Rehearsal(operator, bound(operator, args, kwargs), CPU, SystemClock())
    for place, part in enumerate(rehearsal.wanted):
        for axis in part.axes:
            pieces = 1 + round(share * (min(axis.most, 12) - 1))
            difference = rehearsal.difference(place, axis.name, pieces)
            allowed = 1e-9 if name.split(".")[1] in ADDS_IN_ANY_ORDER else 0.0
            assert difference <= allowed, (part.name, axis.name, pieces)


@pytest.mark.parametrize("name", sorted(slicers()))
def test_usual_calls_can_be_cut_and_a_rehearsal_writes_nothing_of_the_job(name: str) -> None:
    torch.manual_seed(0)
    operator = overload(name)
    args, kwargs = example(name, Sizes(64, 64, 64, 4))
    values = bound(operator, args, kwargs)
    before = {key: _copied(value) for key, value in values.items()}
    rehearsal = Rehearsal(operator, values, CPU, SystemClock())
    rehearsal.time_whole()
    for place, part in enumerate(rehearsal.wanted):
        for axis in part.axes:
            rehearsal.time_pieces(place, axis.name, min(2, axis.most))
    for key, value in before.items():
        assert _equal(values[key], value), key
    assert rehearsal.wanted, "no parts"
    assert max(axis.most for part in rehearsal.wanted for axis in part.axes) > 1


def _copied(value: object) -> object:
    if isinstance(value, torch.Tensor):
        return value.clone()
    return [_copied(each) for each in value] if isinstance(value, list) else value


def _equal(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, list) and isinstance(other, list):
        return all(_equal(a, b) for a, b in zip(one, other, strict=True))
    return one == other
