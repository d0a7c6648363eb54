"""The list of operators that a graph may hold."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.remote.graph.made import CPU, graph_of, node, run

from remora.remote.graph.nodes import Argument, Many, Named, Slot
from remora.remote.graph.operators import (
    ATEN,
    NAMED,
    NUMBERS,
    NotAllowed,
    name_of,
    object_of,
    resolve,
    schema,
)


def allowed(name: str) -> bool:
    try:
        resolve(name)
    except NotAllowed:
        return False
    return True


def test_every_name_is_an_operator_that_has_an_overload() -> None:
    assert not [base for base in ATEN if not taken(base)]


def test_no_overload_changes_what_it_is_given_or_gives_anything_but_tensors() -> None:
    for base in ATEN:
        for name in taken(base):
            known = schema(name)
            assert known is not None
            assert not known.is_mutable, name
            gives_tensors = all("Tensor" in str(value.type) for value in known.returns)
            assert gives_tensors or base.startswith("sym_"), name


def taken(base: str) -> list[str]:
    """The overloads of an operator that a graph may hold."""
    overloads = getattr(torch.ops.aten, base).overloads()
    return [f"aten.{base}.{name}" for name in overloads if allowed(f"aten.{base}.{name}")]


@pytest.mark.parametrize(
    "name",
    [
        "aten.add_.Tensor",
        "aten.add.out",
        "aten.fill_.Scalar",
        "aten.rand.default",
        "aten.bernoulli.default",
        "aten.from_file.default",
        "aten.as_strided.default",
        "aten.set_.source_Storage",
        "aten.mul.left_t",
        "aten.split.str",
        "aten.add.str",
        "aten.nonsense.default",
        "aten.add.nonsense",
        "aten.__class__.default",
        "prims.add.default",
        "number.pow",
        "number.__class__",
        "os.system",
        "",
        "aten",
        "aten..",
    ],
)
def test_what_is_not_listed_is_refused_with_words(name: str) -> None:
    with pytest.raises(NotAllowed, match="is not one that a server runs"):
        resolve(name)


def test_none_draws_random_numbers() -> None:
    # Attention is marked so for its dropout, which a model in eval() has none of.
    for base in ATEN - {"scaled_dot_product_attention"}:
        for name in taken(base):
            found: Any = resolve(name)
            assert torch.Tag.nondeterministic_seeded not in found.tags, name


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("mul", ([1, 2], 10**9)),
        ("mod", ("%1000000000d", 5)),
        ("add", ("a", "b")),
        ("mul", (2**40, 2**40)),
        ("add", (torch.ones(2), 1)),
    ],
)
def test_arithmetic_is_of_numbers_of_64_bits(name: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises((TypeError, OverflowError)):
        NUMBERS[name](*arguments)


def test_arithmetic_gives_what_python_gives() -> None:
    assert NUMBERS["floordiv"](7, 2) == 3
    assert NUMBERS["max"](3, 5) == 5
    assert NUMBERS["eq"](3, 3) is True


def test_every_object_of_torch_has_one_name() -> None:
    for kind, names in NAMED.items():
        for name, value in names.items():
            assert name_of(value) == (kind, name)
            assert object_of(kind, name, CPU) is value
    assert object_of("device", "here", CPU) is CPU
    assert name_of(object()) is None


@pytest.mark.parametrize(
    ("kind", "name"), [("device", "cuda:7"), ("dtype", "__class__"), ("file", "x")]
)
def test_other_objects_have_none(kind: str, name: str) -> None:
    with pytest.raises(NotAllowed, match="cannot name"):
        object_of(kind, name, CPU)


@pytest.mark.parametrize("name", ["empty.memory_format", "new_empty.default", "empty_like.default"])
def test_memory_that_nobody_filled_is_not_shown(name: str) -> None:
    torch.full([4096], 7.0)  # freed at once: what is allocated next may well lie there
    sizes = Many((4096,))
    given = node("aten.ones.default", sizes, out=0, dtype=Named("dtype", "float32"))
    arguments: dict[str, tuple[Argument, ...]] = {
        "empty": (sizes,),
        "empty_like": (Slot(0),),
        "new_empty": (Slot(0), sizes),
    }
    made = node(f"aten.{name}", *arguments[name.split(".")[0]], out=1)
    (found,) = run(graph_of(given, made, outputs=[1]))
    assert not found.any()
