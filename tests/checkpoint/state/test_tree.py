"""A nested state goes apart and comes back exactly; a document that is none is refused."""

from __future__ import annotations

import enum
import struct
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from remora.checkpoint.state.plain import DEEPEST
from remora.checkpoint.state.stored import DTYPES, SAFETENSORS_NAMES, TAGS
from remora.checkpoint.state.tree import Flat, flatten, unflatten
from remora.core.errors import CheckpointDamaged, StateUnsupported

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")

STORABLE = sorted({*SAFETENSORS_NAMES, *TAGS.values()}, key=str)
NUMPY_DTYPES = ["?", "<i2", ">i4", "<u8", "<f2", ">f8", "<c8", "<M8[ns]", "<m8[D]", "<U3", "|S4"]


def back(flat: Flat) -> dict[str, Any]:
    return unflatten(flat.document, flat.tensors.__getitem__)


def bits(value: float) -> bytes:
    return struct.pack(">d", value)


def same(one: Any, other: Any) -> bool:
    """Equal in type, order and every bit, all the way down."""
    if type(one) is not type(other):
        return False
    match one:
        case torch.Tensor():
            return same_tensor(one, other)
        case np.ndarray() | np.generic():
            return (one.dtype, one.shape) == (other.dtype, other.shape) and (
                one.tobytes() == other.tobytes()
            )
        case float():
            return bits(one) == bits(other)
        case complex():
            return bits(one.real) + bits(one.imag) == bits(other.real) + bits(other.imag)
        case dict():
            factories = getattr(one, "default_factory", 0), getattr(other, "default_factory", 0)
            return factories[0] is factories[1] and same(list(one.items()), list(other.items()))
        case set() | frozenset():
            return len(one) == len(other) and all(any(same(a, b) for b in other) for a in one)
        case list() | tuple() if type(one) is not torch.Size:
            return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def same_tensor(one: torch.Tensor, other: torch.Tensor) -> bool:
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    parts = [torch.view_as_real(t) if t.is_complex() else t for t in (one, other)]
    first, second = (t.contiguous().reshape(-1).view(torch.uint8) for t in parts)
    return torch.equal(first, second)


def make_tensor(dtype: torch.dtype, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Random bytes seen as ``dtype``: every pattern of bits, nan included."""
    wanted = torch.Size(shape).numel() * dtype.itemsize
    data = np.random.default_rng(seed).integers(0, 256, wanted, np.uint8)
    if dtype is torch.bool:
        data %= 2
    if not wanted:
        return torch.empty(shape, dtype=dtype)
    if dtype is torch.complex32:
        return torch.view_as_complex(torch.from_numpy(data).view(torch.float16).reshape(*shape, 2))
    return torch.from_numpy(data).view(dtype).reshape(shape)


tensors = st.builds(
    make_tensor,
    st.sampled_from(STORABLE),
    st.lists(st.integers(0, 3), max_size=3).map(tuple),
    st.integers(0, 2**32),
)
arrays = st.builds(
    lambda name, shape, seed: np.frombuffer(
        np.random.default_rng(seed).bytes(np.dtype(name).itemsize * int(np.prod(shape)) or 16)
        if name not in ("?", "<U3")
        else bytes(np.dtype(name).itemsize * max(int(np.prod(shape)), 2)),
        name,
        count=int(np.prod(shape)),
    ).reshape(shape),
    st.sampled_from(NUMPY_DTYPES),
    st.lists(st.integers(0, 3), max_size=2).map(tuple),
    st.integers(0, 2**32),
)
keys = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.binary(max_size=5)
    | st.text(st.characters(exclude_categories=()), max_size=8)
    | st.sampled_from(["$tensor", "$", "a.b", "__state__", ""])
    | st.complex_numbers()
    | st.sampled_from(sorted(DTYPES.values(), key=str))
    | st.sampled_from([torch.device("cpu"), torch.device("cuda:3"), torch.Size([2, 0])])
    | st.builds(np.float32, st.floats(width=32)),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    pairs = st.lists(st.tuples(keys, inner), max_size=4)
    return (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | pairs.map(dict)
        | pairs.map(OrderedDict)
        | pairs.map(lambda items: defaultdict(list, items))
        | st.dictionaries(keys, st.integers(), max_size=3).map(Counter)
        | st.sets(keys, max_size=4)
    )


values = st.recursive(keys | tensors | arrays, containers, max_leaves=12)
states = st.dictionaries(keys, values, max_size=5)


@given(states)
def test_any_state_comes_back_exactly(state: dict[Any, Any]) -> None:
    flat = flatten(state)
    assert same(back(flat), state)
    assert all(tensor.dtype in SAFETENSORS_NAMES for tensor in flat.tensors.values())
    assert all(name and not name.startswith("__") for name in flat.tensors)
    assert all(name.encode() for name in flat.tensors)


@given(states)
def test_the_same_state_gets_the_same_names(state: dict[Any, Any]) -> None:
    again = back(flatten(state))
    assert list(flatten(again).tensors) == list(flatten(state).tensors)


@pytest.mark.parametrize("dtype", STORABLE, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3, 2)], ids=str)
def test_every_dtype_comes_back_without_a_copy(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = make_tensor(dtype, shape, 1)
    flat = flatten({"t": tensor})
    assert flat.tensors["t"].data_ptr() == tensor.data_ptr()
    assert same(back(flat)["t"], tensor)


def test_names_say_where_a_tensor_lies() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    flat = flatten({"model": module.state_dict(), "optimizer": optimizer.state_dict()})
    assert list(flat.tensors)[:6] == [
        "model.0.weight", "model.0.bias", "model.1.weight", "model.1.bias",
        "optimizer.state.0.step", "optimizer.state.0.exp_avg",
    ]  # fmt: skip
    assert flat.tensors["model.0.weight"].data_ptr() == next(module.parameters()).data_ptr()
    assert not any(tensor.requires_grad for tensor in flat.tensors.values())


def test_shared_tensors_are_stored_once_and_come_back_shared() -> None:
    shared = torch.nn.Parameter(torch.arange(9.0).reshape(3, 3))
    flat = flatten({"a": shared, "b": shared.data, "turned": shared.t(), "row": shared[0]})
    assert list(flat.tensors) == ["a", "turned", "row"]
    state = back(flat)
    assert state["a"] is state["b"]
    assert torch.equal(state["turned"], shared.t())


def test_empty_tensors_are_not_taken_for_shared() -> None:
    flat = flatten({"a": torch.empty(0), "b": torch.empty(0)})
    assert list(flat.tensors) == ["a", "b"]


def test_names_that_would_collide_are_told_apart() -> None:
    state = {"a.b": torch.zeros(1), "a": {"b": torch.ones(1)}, "": torch.ones(2)}
    flat = flatten(state)
    assert list(flat.tensors) == ["a.b", "a.b~1", "~"]
    assert same(back(flat), state)


def test_a_module_s_versions_come_back() -> None:
    state = torch.nn.BatchNorm1d(2).state_dict()
    again = back(flatten({"model": state}))["model"]
    assert again._metadata == vars(state)["_metadata"] == OrderedDict({"": {"version": 2}})


class Colour(enum.IntEnum):
    RED = 1


class Wrapper(torch.Tensor):
    @classmethod
    def __torch_dispatch__(cls, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


def contains_itself() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (object(), "builtins.object"),
        (Colour.RED, "Colour"),
        (slice(1), "slice"),
        (np.array([object()]), "ndarray"),
        (np.zeros(1, [("a", "i4")]), "ndarray"),
        (defaultdict(lambda: 1), "defaultdict of"),
        (torch.ones(2, device="meta"), "meta tensor"),
        (torch.ones(2).to_sparse(), "to_dense"),
        (torch.ones(2).as_subclass(Wrapper), "Wrapper"),
        ({torch.ones(1): 1}, "keyed by a Tensor"),
        (contains_itself(), f"deeper than {DEEPEST}"),
    ],
    ids=range(11),
)
def test_what_cannot_be_stored_is_named_with_its_place(value: object, said: str) -> None:
    with pytest.raises(StateUnsupported) as refused:
        flatten({"optimizer": {"param_groups": [{"foo": value, 1: 2}]}})
    assert str(refused.value).startswith("the state's optimizer.param_groups[0]['foo']")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def nest(levels: int, around: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = around(value)
    return value


@pytest.mark.parametrize(
    "around",
    [lambda v: [v], lambda v: {1: v}, lambda v: (v,), lambda v: OrderedDict({None: v})],
    ids=["list", "pairs", "tuple", "ordered"],
)
def test_the_deepest_state_comes_back(around: Callable[[Any], Any]) -> None:
    state = {"s": nest(DEEPEST - 1, around)}
    assert same(back(flatten(state)), state)
    with pytest.raises(StateUnsupported, match="deeper"):
        flatten({"s": nest(DEEPEST + 1, around)})


DAMAGED = [
    b"",
    b"{",
    b"[]",
    b"1",
    b"[" * 100_000,
    b'{"a":' * 400 + b"1" + b"}" * 400,
    b'{"a":[' * 400 + b"1" + b"]}" * 400,
    b'{"a":{"$tuple":' * 400 + b"[]" + b"}}" * 400,
    b'{"a":{"$eval":"1"}}',
    b'{"a":1,"$tensor":"x"}',
    b'{"a":{"$tensor":"x","also":1}}',
    b'{"a":{"$tensor":"missing"}}',
    b'{"a":{"$tensor":1}}',
    b'{"a":{"$tensor":["x"]}}',
    b'{"a":{"$tensor":"x","as":"qint8"}}',
    b'{"a":{"$tensor":"x","as":"complex64"}}',
    b'{"a":{"$tensor":"x","as":"float4_e2m1fn_x2"}}',
    b'{"a":{"$tensor":"x","as":5}}',
    b'{"a":{"$array":"x"}}',
    b'{"a":{"$array":{"$tensor":"bf"}}}',
    b'{"a":{"$array":{"$tensor":"x"},"dtype":"O"}}',
    b'{"a":{"$array":{"$tensor":"x"},"dtype":"|O8","shape":[1]}}',
    b'{"a":{"$array":{"$tensor":"x"},"dtype":"<f8","shape":[1000]}}',
    b'{"a":{"$numpy":["|O8","0000000000000000"]}}',
    b'{"a":{"$numpy":["<f4",""]}}',
    b'{"a":{"$numpy":1}}',
    b'{"a":{"$int":"zz"}}',
    b'{"a":{"$int":5}}',
    b'{"a":{"$float":"00"}}',
    b'{"a":{"$float":[]}}',
    b'{"a":{"$complex":[1.0]}}',
    b'{"a":{"$complex":[1.0,"x"]}}',
    b'{"a":{"$str":"!"}}',
    b'{"a":{"$bytes":"\xc3\xa9"}}',
    b'{"a":{"$dtype":"os"}}',
    b'{"a":{"$dtype":[]}}',
    b'{"a":{"$device":"nowhere:1"}}',
    b'{"a":{"$size":[1.5]}}',
    b'{"a":{"$size":[99999999999999999999]}}',
    b'{"a":{"$tuple":{}}}',
    b'{"a":{"$set":[[]]}}',
    b'{"a":{"$frozenset":1}}',
    b'{"a":{"$dict":[1]}}',
    b'{"a":{"$dict":[[[],1]]}}',
    b'{"a":{"$dict":[[1,2,3]]}}',
    b'{"a":{"$counter":[]}}',
    b'{"a":{"$ordered":[]}}',
    b'{"a":{"$default":"os.system","items":{}}}',
    b'{"a":{"$default":"list"}}',
    b'{"a":{"$default":[],"items":{}}}',
    b'{"a":1e999}',
    b"\xff\xfe",
    b'{"a":1}}',
]
GIVEN = {"x": torch.zeros(3, dtype=torch.float32), "bf": torch.zeros(2, dtype=torch.bfloat16)}


@pytest.mark.parametrize("document", DAMAGED, ids=range(len(DAMAGED)))
def test_a_document_that_is_none_is_refused(document: bytes) -> None:
    with pytest.raises(CheckpointDamaged) as refused:
        unflatten(document, GIVEN.__getitem__)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=6)
    | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(["x", "bf", "<f4", "00"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    | st.dictionaries(
        st.sampled_from([
            "$tensor", "$array", "$int", "$float", "$str", "$bytes", "$complex", "$dtype",
            "$device", "$size", "$numpy", "$tuple", "$set", "$frozenset", "$dict", "$ordered",
            "$counter", "$default", "items", "as", "dtype", "shape", "versions",
        ]), inner, min_size=1, max_size=2),
    max_leaves=20,
)  # fmt: skip


@given(json)
def test_no_document_crashes_the_reader(nesting: Any) -> None:
    try:
        unflatten(msgspec.json.encode({"a": nesting}), GIVEN.__getitem__)
    except CheckpointDamaged as refused:
        assert str(refused)  # noqa: PT017, any other error fails the test


@given(states, st.data())
def test_no_damaged_document_crashes_the_reader(state: dict[Any, Any], data: st.DataObject) -> None:
    flat = flatten(state)
    document = bytearray(flat.document)
    at = data.draw(st.integers(0, len(document) - 1))
    document[at] ^= data.draw(st.integers(1, 255))
    try:
        unflatten(bytes(document), flat.tensors.__getitem__)
    except CheckpointDamaged as refused:
        assert str(refused)  # noqa: PT017, any other error fails the test


def test_the_document_may_be_padded_with_spaces() -> None:
    flat = flatten({"a": 1})
    assert unflatten(flat.document + b" " * 100, flat.tensors.__getitem__) == {"a": 1}


def test_an_error_of_the_reader_is_not_disguised() -> None:
    def broken(name: str) -> torch.Tensor:
        raise OSError(name)

    with pytest.raises(OSError, match="x"):
        unflatten(b'{"a":{"$tensor":"x"}}', broken)
