"""Reading what is wanted of a call finds what describing the whole of it would have found."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from remora.check.observe.reading import Inputs, Outputs
from remora.check.values import properties

ALL = frozenset({"*"})
TENSORS = st.sampled_from(
    [torch.zeros(2, 3), torch.ones(4, dtype=torch.int64), torch.nn.Parameter(torch.zeros(1))]
)
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.text(max_size=90))
LEAVES = st.one_of(
    TENSORS, PLAIN, st.sampled_from([torch.float16, torch.nn.Linear(1, 1), object()])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=6),
        st.tuples(inner, inner),
        st.dictionaries(st.sampled_from(["a", "b", "c", "d", "e", "not a name"]), inner),
    ),
    max_leaves=12,
)


@given(value=VALUES, data=st.data())
def test_a_reader_finds_what_describing_everything_finds(value: Any, data: st.DataObject) -> None:
    whole: dict[str, Any] = {}
    properties("result", value, whole)
    others = ["result", "result.dtype", "result.0.shape", "result.a.b", "result.length"]
    wanted = data.draw(st.frozensets(st.sampled_from([*whole, *others]), min_size=1))

    read = Outputs(wanted).read(value)

    assert dict(read) == {name: whole[name] for name in whole if name in wanted}


@pytest.mark.parametrize("wanted", [ALL, frozenset({"x.dtype", "flag", "x", "y.shape", "3"})])
def test_inputs_are_found_however_they_were_passed(wanted: frozenset[str]) -> None:
    def function(x: Any, flag: bool = True, *, y: Any = None) -> None: ...

    inputs, tensor = Inputs(function, wanted), torch.zeros(2)
    told = [
        inputs.read((tensor, False), {"y": tensor}),
        inputs.read((tensor,), {"flag": False, "y": tensor}),
        inputs.read((), {"y": tensor, "flag": False, "x": tensor}),
    ]

    for read in told:
        assert (read["x.dtype"], read["flag"], read["y.shape"]) == ("torch.float32", False, (2,))
    assert told[0] == told[1] == told[2]


def test_a_default_is_read_unless_something_else_was_passed() -> None:
    def function(x: Any = None, *, y: Any = None) -> None: ...

    tensor = torch.zeros(2)

    assert Inputs(function, ALL).read((), {}) == {"x": None, "y": None}
    for wanted in (ALL, frozenset({"x", "y", "x.ndim", "y.ndim"})):
        read = Inputs(function, wanted).read((tensor,), {"y": tensor})
        assert not {"x", "y"} & read.keys()
        assert read["x.ndim"] == read["y.ndim"] == 1


def test_what_has_no_known_signature_is_called_by_position() -> None:
    inputs = Inputs(torch.nn.functional.linear, frozenset({"1.shape", "bias.shape"}))

    read = inputs.read((torch.zeros(2, 3), torch.zeros(4, 3)), {"bias": torch.zeros(4)})

    assert read == {"1.shape": (4, 3), "bias.shape": (4,)}


def test_memory_is_one_whatever_object_holds_it_and_never_after_it_was_freed() -> None:
    def told(tensor: Any) -> Any:
        return Outputs(frozenset({"result.identity"})).read(tensor)["result.identity"]

    weight = torch.nn.Parameter(torch.zeros(8))

    assert told(weight) == told(weight.data) == told(weight.detach())
    assert told(weight) != told(weight[:4])
    assert told(weight) != told(torch.zeros(8))
    before = told(torch.zeros(1 << 10))
    assert all(told(torch.zeros(1 << 10)) != before for _ in range(100))


def test_what_has_no_storage_is_one_as_an_object() -> None:
    sparse = torch.eye(2).to_sparse()
    of_sparse = Outputs(frozenset({"result.identity"})).read

    assert of_sparse(sparse) == of_sparse(sparse) != of_sparse(torch.eye(2).to_sparse())
    assert of_sparse([1, 2]) == {}
    assert Outputs(ALL).read(type("Slots", (), {"__slots__": ()})()).keys() == {"result.kind"}


def test_an_input_may_be_asked_for_by_its_position_though_it_has_a_name() -> None:
    assert Inputs(lambda x, y: None, frozenset({"1"})).read((5, 6), {}) == {"1": 6}
