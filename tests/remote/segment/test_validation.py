"""Plans that came from strangers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.remote.segment.made import ADD, FETCH_X, GOOD, PUT_X, SCALED, SEEN, X, encoded, one

from remora.core.errors import Refused
from remora.remote.graph.nodes import Named
from remora.remote.segment.plan import (
    FETCH,
    PUT,
    WEIGHT,
    Made,
    Plan,
    Scalar,
    Seen,
    Several,
    Signature,
)
from remora.remote.segment.validation import PlanLimits, decode
from remora.remote.server.segments import Plans

LIMITS = PlanLimits(
    encoded_bytes=4096, stream=100, items=20, tensor_bytes=1_000_000, dimensions=5
)  # fmt: skip


def made(plan: Plan) -> Any:
    return Plans(torch.device("cpu"), LIMITS).made(*encoded(plan))


def changed(**fields: Any) -> Plan:
    return msgspec.structs.replace(GOOD, **fields)


def test_a_plan_as_it_should_be_is_ready() -> None:
    assert made(GOOD).memories.peak_bytes == 2 * 512


def numbers(count: int) -> Several:
    return Several(tuple(range(count)))


WIDE = Seen("float32", (1000, 1000), (0, 0))
BAD: dict[str, tuple[Plan, str]] = {
    "another version": (changed(version=99), "version 99"),
    "a long stream": (changed(stream=(0,) * 101), "101 numbers"),
    "a signature that is not there": (changed(stream=(9,)), "signature 9 of 4"),
    "a memory that is not there": (changed(stream=(0, 1, 0, 5)), "memory 5 is read before"),
    "a negative memory": (changed(stream=(0, 1, 0, -2)), "memory -2"),
    "a memory behind its end": (changed(stream=(0, 3, 0, -1, 0, 3, 0)), "behind its end"),
    "a memory freed twice": (changed(stream=(0, -1, 0, -1, 0)), "freed that is not there"),
    "a stream cut short": (changed(stream=(0, 1, 0)), "ends in the middle"),
    "an input that is not said": (changed(stream=(3, 0)), "more inputs than it says"),
    "an input that is not read": (changed(inputs=(24,)), "says 1 inputs, and reads 0"),
    "an input too small": (Plan((FETCH_X,), (0, 0), (23,)), "reaches beyond its memory of 23"),
    "an input of no size": (Plan((FETCH_X,), (0, 0), (-5,)), "an input of -5 bytes"),
    "an offset beyond": (
        Plan((Signature(FETCH, (Seen("float32", (2,), (1,), 5),)),), (0, 0), (24,)), "beyond"),
    "an unknown operator": (one("aten.from_file.default", "x"), "not one that a server runs"),
    "no operator of ATen": (one("prims.add.default", SEEN, SEEN), "not one that a server runs"),
    "a view": (one("aten.view.default", SEEN, numbers(1), made=(X,)), "not one that"),
    "a resizing": (one("aten.resize_.default", SEEN, numbers(2)), "not one that"),
    "an operator that draws": (one("aten.uniform_.default", SEEN), "not one that"),
    "one that reads a device's memory": (one("aten.set_.source_Tensor", SEEN, SEEN), "not one"),
    "scalars that are not read": (changed(scalars=3), "says 3 scalars, and reads 0"),
    "as many scalars as there are numbers": (changed(scalars=2**62), "scalars, and reads 0"),
    "fewer scalars than are read": (
        msgspec.structs.replace(SCALED, scalars=1), "says 1 scalars, and reads 2"),
    "scalars out of order": (
        msgspec.structs.replace(SCALED, stream=(0, 1, 0, 1)), "scalar 1 behind 0 others"),
    "a negative scalar": (
        msgspec.structs.replace(SCALED, stream=(0, 1, 0, -1)), "scalar -1 behind"),
    "a scalar where a shape depends on it": (
        one("aten.arange.default", Scalar(), made=(X,)), "takes no numbers that come"),
    "a scalar for a put": (one(PUT, Scalar(), made=(X,)), "takes no numbers that come"),
    "a scalar for a digest": (one(WEIGHT, Scalar(), made=(X,)), "takes no numbers that come"),
    "too many arguments": (one("aten.neg.default", SEEN, 1, 2, made=(X,)), "no such arguments"),
    "an unknown keyword": (one("aten.neg.default", SEEN, made=(X,), x=1), "no such arguments"),
    "too few arguments": (one("aten.add.Tensor", SEEN, made=(X,)), "does not take this"),
    "arguments of another type": (one("aten.neg.default", "x", made=(X,)), "does not take this"),
    "shapes that do not go together": (
        one("aten.mm.default", SEEN, SEEN, made=(X,)), "does not take this"),
    "other tensors than it makes": (
        one("aten.neg.default", SEEN, made=(Made("float32", (9,), (1,)),)), "makes other tensors"),
    "none where it makes one": (one("aten.neg.default", SEEN), "makes other tensors"),
    "too large a tensor": (one("aten.neg.default", WIDE, made=(X,)), "at most"),
    "too many dimensions": (
        one("aten.neg.default", Seen("float32", (1,) * 6, (1,) * 6)), "no tensor has the shape"),
    "a negative size": (one("aten.neg.default", Seen("float32", (-1,), (1,))), "no tensor has"),
    "a negative stride": (one("aten.neg.default", Seen("float32", (2,), (-1,))), "no tensor has"),
    "a negative offset": (
        one("aten.neg.default", Seen("float32", (2,), (1,), -1)), "no tensor has"),
    "strides of other dimensions": (
        one("aten.neg.default", Seen("float32", (2, 2), (1,))), "no tensor has"),
    "an unknown dtype": (one("aten.neg.default", Seen("object", (1,), (1,))), "unknown dtype"),
    "an unknown name": (one("aten.neg.default", Named("device", "cuda:0")), "cannot name"),
    "too large a number": (one("aten.neg.default", SEEN, 2**63), "does not fit 64 bits"),
    "too long a list": (one("aten.cat.default", numbers(21)), "a list of 21"),
    "lists in lists": (
        one("aten.cat.default", Several((Several((Several((Several(()),)),)),))), "deep"),
    "a put of nothing": (one(PUT), "is one, and lies row by row"),
    "a put that lies otherwise": (
        one(PUT, made=(Made("float32", (2, 2), (1, 2)),)), "row by row"),
    "a weight without digest": (one(WEIGHT, 3, made=(X,)), "known by its digest"),
    "a fetch of nothing": (one(FETCH), "one tensor"),
    "an out of another shape": (
        one("aten.add.out", SEEN, SEEN, out=Seen("float32", (7,), (1,))), "would resize"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_plan_that_is_not_right_is_refused(name: str) -> None:
    plan, words = BAD[name]
    with pytest.raises(Refused, match=words):
        made(plan)


def test_one_is_not_true() -> None:
    """Python has them equal; what was checked for one does not hold for the other."""
    plans = Plans(torch.device("cpu"), LIMITS)
    whole, result = Seen("int64", (2,), (1,)), Made("int64", (2,), (1,))
    plans.made(*encoded(one("aten.mul.Scalar", whole, 1, made=(result,))))
    with pytest.raises(Refused, match="makes other tensors"):
        plans.made(*encoded(one("aten.mul.Scalar", whole, 1.0, made=(result,))))


def test_a_plan_goes_by_its_own_digest() -> None:
    _, content = encoded(GOOD)
    with pytest.raises(Refused, match="not those of its digest"):
        Plans(torch.device("cpu"), LIMITS).made("a" * 64, content)


def seen(*sizes: int) -> Seen:
    return Seen("float32", sizes, torch.empty(sizes, device="meta").stride())


def like(tensor: Seen) -> Made:
    return Made(tensor.dtype, tensor.sizes, tensor.strides)


def backward(name: str, *arguments: Any, made: tuple[Made | None, ...]) -> Plan:
    return one(f"aten.{name}.default", *arguments, made=made)


ROWS, ROW, SHORT, IMAGE = seen(4, 6), seen(6), seen(1), seen(1, 2, 4, 4)
POOLED, PLACES = seen(1, 2, 2, 2), Seen("int64", (1, 2, 2, 2), (8, 4, 2, 1))
TWO, ALL = Several((2, 2)), Several((True, True, True))
KERNEL = seen(3, 2, 3, 3)
BEYOND: dict[str, Callable[[], Plan]] = {
    "statistics of too few rows": lambda: backward(
        "native_layer_norm_backward", ROWS, ROWS, Several((6,)), SHORT, SHORT, ROW, ROW, ALL,
        made=(like(ROWS), like(ROW), like(ROW))),
    "statistics of too few channels": lambda: backward(
        "native_batch_norm_backward", ROWS, ROWS, ROW, ROW, ROW, SHORT, SHORT, True, 1e-5, ALL,
        made=(like(ROWS), like(ROW), like(ROW))),
    "a gradient of another convolution": lambda: backward(
        "convolution_backward", seen(1, 3, 1, 1), IMAGE, KERNEL, Several((3,)), Several((1, 1)),
        Several((0, 0)), Several((1, 1)), False, Several((0, 0)), 1, ALL,
        made=(like(IMAGE), like(KERNEL), Made("float32", (3,), (1,)))),
    "fewer places than gradients": lambda: backward(
        "max_pool2d_with_indices_backward", POOLED, IMAGE, TWO, TWO, Several((0, 0)),
        Several((1, 1)), False, Seen("int64", (1, 2, 1, 1), (2, 1, 1, 1)), made=(like(IMAGE),)),
    "a gradient of fewer channels": lambda: backward(
        "_adaptive_avg_pool2d_backward", seen(1, 1, 2, 2), IMAGE, made=(like(IMAGE),)),
}  # fmt: skip


@pytest.mark.parametrize("name", BEYOND)
def test_what_would_read_beyond_is_refused(name: str) -> None:
    with pytest.raises(Refused, match=r"shapes that do not go together|does not take this"):
        made(BEYOND[name]())


PARTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8)
    | st.builds(
        Seen, st.sampled_from(["float32", "int64", "bool", "x"]),
        st.lists(st.integers(-1, 4), max_size=3).map(tuple),
        st.lists(st.integers(-1, 4), max_size=3).map(tuple), st.integers(-1, 4),
    )
    | st.just(Scalar())
    | st.builds(Named, st.sampled_from(["dtype", "device", "x"]), st.sampled_from(["int8", "y"])),
    lambda inner: st.builds(Several, st.lists(inner, max_size=3).map(tuple)),
    max_leaves=4,
)  # fmt: skip
MADE = st.builds(
    Made, st.sampled_from(["float32", "int64"]), st.lists(st.integers(0, 3), max_size=2).map(tuple),
    st.lists(st.integers(0, 3), max_size=2).map(tuple),
)  # fmt: skip
SIGNATURES = st.sampled_from([PUT_X, ADD, FETCH_X]) | st.builds(
    Signature,
    st.sampled_from(["aten.add.Tensor", "aten.neg.default", "aten.cat.default", PUT, FETCH, "x"]),
    st.lists(PARTS, max_size=3).map(tuple),
    st.lists(st.tuples(st.sampled_from(["alpha", "out", "x"]), PARTS), max_size=1).map(tuple),
    st.lists(MADE, max_size=2).map(tuple),
)
PLANS = st.builds(
    Plan,
    st.lists(SIGNATURES, max_size=3).map(tuple),
    st.lists(st.integers(-2, 5), max_size=12).map(tuple),
    st.lists(st.integers(-1, 100), max_size=3).map(tuple),
    st.integers(-1, 3),
)


@given(plan=PLANS)
@settings(max_examples=100, deadline=None)
def test_any_plan_is_made_ready_or_refused(plan: Plan) -> None:
    with contextlib.suppress(Refused):
        made(plan)


@given(at=st.integers(0, 10**6), byte=st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_a_plan_with_a_wrong_byte_is_made_ready_or_refused(at: int, byte: int) -> None:
    _, content = encoded(GOOD)
    damaged = bytearray(content)
    damaged[at % len(damaged)] = byte
    with contextlib.suppress(Refused):
        made(decode(bytes(damaged), LIMITS))


@given(content=st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_plan_or_refused(content: bytes) -> None:
    with contextlib.suppress(Refused):
        decode(content, LIMITS)
