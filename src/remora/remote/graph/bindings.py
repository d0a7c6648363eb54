"""The shortest way to an operator.

``torch.ops`` calls any operator by its schema: each argument is looked up, checked and boxed, which
takes a microsecond or two. For those that models are made of there are functions in C that torch's
own Python uses, with the same arguments in the same order. What a graph may hold is decided before,
by name and schema; these only run it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from remora.remote.graph.operators import resolve

_FUNCTIONS = """
    add.Tensor addmm.default baddbmm.default batch_norm.default bmm.default cat.default
    chunk.default conv1d.default conv2d.default cos.default cumsum.default div.Tensor
    embedding.default exp.default flatten.using_ints group_norm.default layer_norm.default
    masked_fill.Scalar matmul.default max_pool2d.default mean.dim mm.default mul.Tensor neg.default
    permute.default pow.Tensor_Scalar relu.default reshape.default rsqrt.default select.int
    sigmoid.default sin.default softmax.int split.Tensor split_with_sizes.default squeeze.dim
    stack.default sub.Tensor t.default tanh.default transpose.int unbind.int unsqueeze.default
    where.self
"""
_NETWORK = """
    adaptive_avg_pool2d.default avg_pool2d.default gelu.default linear.default
    scaled_dot_product_attention.default silu.default
"""
_METHODS = "expand.default view.default"


def _found() -> Iterator[tuple[str, Callable[..., Any]]]:
    for home, names in (
        (torch._C._VariableFunctions, _FUNCTIONS),
        (torch._C._nn, _NETWORK),
        (torch._C.TensorBase, _METHODS),
    ):
        for name in names.split():
            function = getattr(home, name.split(".")[0], None)
            if function is not None:  # another version of torch may have put it elsewhere
                yield f"aten.{name}", function


BINDINGS = dict(_found())
"""By operator. Every one calls the overload it is listed for: a test watches the dispatcher."""


def function_of(operator: str) -> Callable[..., Any]:
    """What to call for ``operator``.

    Raises:
        NotAllowed: it is none that a graph may hold.
    """
    found = resolve(operator)
    if operator in BINDINGS:
        return BINDINGS[operator]
    boxed: Callable[..., Any] = getattr(found, "_op", found)
    return boxed
