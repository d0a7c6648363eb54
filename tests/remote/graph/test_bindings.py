"""Short ways to operators lead to those operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from remora.remote.graph.bindings import BINDINGS, function_of
from remora.remote.graph.operators import NotAllowed, resolve

X, Y, V = torch.randn(4, 4), torch.randn(4, 4).abs(), torch.randn(4)
B, IDS = torch.randn(2, 4, 4), torch.tensor([[1, 2], [3, 0]])
PICTURE, KERNEL = torch.randn(2, 3, 8, 8), torch.randn(5, 3, 3, 3)
SOUND, WINDOW = torch.randn(2, 3, 8), torch.randn(5, 3, 3)
HEADS = torch.randn(2, 2, 3, 4)
ONE, NONE, TWO = [1, 1], [0, 0], [2, 2]

CALLS: Mapping[str, list[tuple[Any, ...]]] = {
    "add.Tensor": [(X, Y), (X, 2), (X, 1.5), (IDS, 1)],
    "sub.Tensor": [(X, Y), (X, 2.5)],
    "mul.Tensor": [(X, Y), (X, 3), (IDS, 2)],
    "div.Tensor": [(X, Y), (X, 3), (IDS, 2)],
    "pow.Tensor_Scalar": [(Y, 3.0), (X, 2)],
    "addmm.default": [(V, X, Y)],
    "baddbmm.default": [(B, B, B)],
    "batch_norm.default": [(PICTURE, *[torch.rand(3)] * 4, False, 0.1, 1e-5, False)],
    "bmm.default": [(B, B)],
    "mm.default": [(X, Y)],
    "matmul.default": [(X, Y), (B, X), (V, X)],
    "cat.default": [([X, Y],), ([X, Y], 1)],
    "stack.default": [([X, Y],), ([X, Y], -1)],
    "chunk.default": [(X, 2), (X, 2, 1)],
    "split.Tensor": [(X, 3), (X, 2, 1)],
    "split_with_sizes.default": [(X, [1, 3]), (X, [1, 3], 1)],
    "unbind.int": [(X,), (X, 1)],
    "conv1d.default": [(SOUND, WINDOW), (SOUND, WINDOW, torch.randn(5), [2], [1], [1], 1)],
    "conv2d.default": [(PICTURE, KERNEL), (PICTURE, KERNEL, None, TWO, ONE, ONE, 1)],
    "max_pool2d.default": [(PICTURE, TWO), (PICTURE, TWO, TWO, NONE, ONE, True)],
    "avg_pool2d.default": [(PICTURE, TWO)],
    "adaptive_avg_pool2d.default": [(PICTURE, ONE)],
    "embedding.default": [(X, IDS), (X, IDS, 1)],
    "flatten.using_ints": [(B, 1), (B, 0, 1)],
    "reshape.default": [(X, [16]), (X, [-1, 2])],
    "view.default": [(X, [16]), (X, [-1, 2])],
    "expand.default": [(V, [3, 4]), (V, [3, -1])],
    "permute.default": [(B, [2, 0, 1])],
    "transpose.int": [(B, 1, 2)],
    "t.default": [(X,)],
    "select.int": [(X, 0, 1)],
    "squeeze.dim": [(X[:, :1], 1)],
    "unsqueeze.default": [(X, -1)],
    "group_norm.default": [(PICTURE, 3, torch.rand(3), torch.rand(3), 1e-5, False)],
    "layer_norm.default": [(X, [4]), (X, [4], V, V, 1e-6, False)],
    "masked_fill.Scalar": [(X, X > 0, 1.5), (X, X > 0, float("-inf"))],
    "where.self": [(X > 0, X, Y)],
    "mean.dim": [(X, [-1]), (X, [0], True)],
    "cumsum.default": [(X, 1), (IDS, -1)],
    "softmax.int": [(X, -1), (X, 0, torch.float64)],
    "linear.default": [(X, Y), (X, Y, V)],
    "gelu.default": [(X,)],
    "scaled_dot_product_attention.default": [
        (HEADS, HEADS, HEADS), (HEADS, HEADS, HEADS, torch.zeros(3, 3)),
        (HEADS, HEADS, HEADS, None, 0.0, True),
    ],
    **{f"{name}.default": [(Y,)]
       for name in ("cos", "exp", "neg", "relu", "rsqrt", "sigmoid", "silu", "sin", "tanh")},
}  # fmt: skip
KEYWORDS: Mapping[str, dict[str, Any]] = {
    "add.Tensor": {"alpha": 2},
    "addmm.default": {"beta": 2, "alpha": 3},
    "cumsum.default": {"dtype": torch.float64},
    "gelu.default": {"approximate": "tanh"},
    "mean.dim": {"dtype": torch.float64},
    "scaled_dot_product_attention.default": {"scale": 0.5},
}


class Dispatched(TorchDispatchMode):
    """Writes down every overload that is called, with what it is given beside tensors."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.log: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        given = torch.utils._pytree.tree_map_only(torch.Tensor, lambda t: t.shape, (args, kwargs))
        self.log.append(f"{func} {given}")
        return func(*args, **(kwargs or {}))


def called(function: Any, arguments: tuple[Any, ...], keywords: Any) -> tuple[list[str], Any]:
    with Dispatched() as dispatched:
        found = function(*arguments, **keywords)
    return dispatched.log, found


def test_every_one_is_tried() -> None:
    assert {f"aten.{name}" for name in CALLS} == set(BINDINGS)


@pytest.mark.parametrize("name", CALLS)
def test_it_calls_the_overload_and_gives_the_same(name: str) -> None:
    operator: Any = resolve(f"aten.{name}")
    for keywords in ({}, KEYWORDS.get(name, {})):
        for arguments in CALLS[name]:
            log, found = called(BINDINGS[f"aten.{name}"], arguments, keywords)
            expected_log, expected = called(operator._op, arguments, keywords)
            assert log == expected_log
            assert log
            torch.testing.assert_close(tuple(found), tuple(expected), rtol=0, atol=0)


def test_others_are_called_by_their_schema() -> None:
    operator: Any = resolve("aten.slice.Tensor")
    assert function_of("aten.slice.Tensor") is operator._op
    assert function_of("number.add")(2, 3) == 5
    with pytest.raises(NotAllowed):
        function_of("aten.add_.Tensor")
