"""Indices out of range are refused before a device that cannot refuse them has them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from remora.remote.graph.bindings import function_of
from remora.remote.graph.indices import check_of, looked_at
from remora.remote.graph.nodes import Graph, Node, Slot, Value
from remora.remote.graph.program import Program

FIVE, SQUARE = torch.arange(5.0), torch.arange(12.0).view(4, 3)


def at(*places: int) -> torch.Tensor:
    return torch.tensor(places, dtype=torch.int64)


CALLS: list[tuple[str, list[Any], list[Any]]] = [
    ("aten.embedding.default", [SQUARE, at(0, 3)], [SQUARE, at(4)]),
    ("aten.embedding.default", [SQUARE, at()], [SQUARE, at(-1)]),
    ("aten.gather.default", [SQUARE, 1, at(0, 2)[None]], [SQUARE, 1, at(3)[None]]),
    ("aten.gather.default", [SQUARE, -2, at(3)[None]], [SQUARE, -2, at(-1)[None]]),
    ("aten.index_select.default", [SQUARE, 0, at(3)], [SQUARE, 0, at(4)]),
    ("aten.index.Tensor", [SQUARE, [None, at(-3, 2)]], [SQUARE, [None, at(3)]]),
    ("aten.index.Tensor", [SQUARE, [at(3), at(2)]], [SQUARE, [at(3), at(-4)]]),
    ("aten.index_put.default", [FIVE, [at(4)], at(1).float()], [FIVE, [at(5)], at(1).float()]),
    ("aten.index_add.default", [FIVE, 0, at(4), at(1).float()], [FIVE, 0, at(5), at(1).float()]),
    ("aten.scatter.value", [SQUARE, 0, at(3)[None], 1.0], [SQUARE, 0, at(4)[None], 1.0]),
    ("aten.take.default", [SQUARE, at(-12, 11)], [SQUARE, at(12)]),
    ("aten.take_along_dim.default", [SQUARE, at(11)], [SQUARE, at(12)]),
    ("aten.nll_loss.default", [SQUARE, at(0, 2, 1, -100)], [SQUARE, at(0, 3, 1, 1)]),
    ("aten.cross_entropy_loss.default", [SQUARE, at(0, 2, 1, 1)], [SQUARE, at(0, -1, 1, 1)]),
]


@pytest.mark.parametrize(("operator", "right", "wrong"), CALLS)
def test_it_says_what_the_cpu_says(operator: str, right: list[Any], wrong: list[Any]) -> None:
    check, function = check_of(operator), function_of(operator)
    assert check is not None
    assert check(tuple(right), {})
    function(*right)
    assert not check(tuple(wrong), {})
    with pytest.raises((IndexError, RuntimeError)):
        function(*wrong)


def test_a_mask_is_no_index() -> None:
    check = check_of("aten.index.Tensor")
    assert check is not None
    assert check((SQUARE, [torch.ones(4, 3, dtype=torch.bool)]), {})


def test_where_the_processor_looks_itself_nothing_is_added() -> None:
    function = function_of("aten.embedding.default")
    for device in ("cpu", "meta"):
        assert looked_at("aten.embedding.default", function, torch.device(device)) is function
    assert looked_at("aten.add.Tensor", function, torch.device("cuda")) is function


def test_a_program_elsewhere_looks_before_it_runs() -> None:
    node = Node("aten.embedding.default", (Slot(0), Slot(1)), {}, (2,))
    inputs = (Value(0, "float32", (4, 3)), Value(1, "int64", (-1,)))
    elsewhere = Program(Graph(3, (), inputs, (node,), (Slot(2),)), {}, torch.device("cuda"))
    assert elsewhere.run([SQUARE, at(3)])[0].tolist() == [[9, 10, 11]]
    with pytest.raises(Exception, match="an index is out of range"):
        elsewhere.run([SQUARE, at(4)])
