"""Calls of every operator that can be cut, of any size: what the suites run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

aten = torch.ops.aten
Example = tuple[list[Any], dict[str, Any]]


@dataclass(frozen=True)
class Sizes:
    """Four lengths, and what else there is to draw."""

    a: int
    b: int
    c: int
    d: int
    is_transposed: bool = False
    dtype: torch.dtype = torch.float64


def rand(*shape: int, sizes: Sizes) -> torch.Tensor:
    """Between 0.1 and 0.9: within the domain of whatever there is."""
    return torch.rand(*shape, dtype=sizes.dtype) * 0.8 + 0.1


def overload(name: str) -> Any:
    """The operator called ``aten.<name>.<overload>``."""
    _, base, which = name.split(".")
    return getattr(getattr(aten, base), which)


def example(name: str, sizes: Sizes) -> Example:
    """Arguments for the operator called ``name``."""
    maker = MAKERS.get(name)
    return maker(sizes) if maker is not None else _by_schema(name, sizes)


# ------------------------------------------------- by hand: shapes that must fit each other


def _matrices(s: Sizes) -> tuple[torch.Tensor, torch.Tensor]:
    left = rand(s.b, s.a, sizes=s).t() if s.is_transposed else rand(s.a, s.b, sizes=s)
    right = rand(s.c, s.b, sizes=s).t() if s.is_transposed else rand(s.b, s.c, sizes=s)
    return left, right


def _batches(s: Sizes) -> tuple[torch.Tensor, torch.Tensor]:
    return rand(s.d, s.a, s.b, sizes=s), rand(s.d, s.b, s.c, sizes=s)


_PLAIN = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1)


def _convolution(s: Sizes) -> Example:
    image, weight = rand(s.d, s.a % 40 + 1, 5, 6, sizes=s), rand(s.b, s.a % 40 + 1, 3, 3, sizes=s)
    return [image, weight, rand(s.b, sizes=s), *_PLAIN], {}


def _convolution_backward(s: Sizes) -> Example:
    (image, weight, bias, *geometry), _ = _convolution(s)
    gradient = rand(s.d, s.b, 5, 6, sizes=s)
    mask = [True, True, not s.is_transposed]
    return [gradient, image, weight, [bias.shape[0]], *geometry, mask], {}


def _attention(s: Sizes) -> Example:
    query, key, value = (rand(s.d, 3, s.a if i == 0 else s.b, 8, sizes=s) for i in range(3))
    return [query, key, value], {}


def _attention_backward(s: Sizes) -> Example:
    (query, key, value), _ = _attention(s)
    out, logsumexp = aten._scaled_dot_product_flash_attention_for_cpu(query, key, value)
    return [torch.rand_like(out), query, key, value, out, logsumexp, 0.0, False], {}


def _softmax(*more: Any) -> Callable[[Sizes], Example]:
    def make(s: Sizes) -> Example:
        return [rand(s.d, s.a, s.b, sizes=s), 1 if s.is_transposed else -1, *more], {}

    return make


def _softmax_backward(s: Sizes) -> Example:
    shape = (s.d, s.a, s.b)
    dim = 1 if s.is_transposed else -1
    return [rand(*shape, sizes=s), rand(*shape, sizes=s), dim, s.dtype], {}


def _layer_norm(s: Sizes) -> Example:
    affine = [rand(s.b, sizes=s), rand(s.b, sizes=s)]
    return [rand(s.d, s.a, s.b, sizes=s), [s.b], *affine, 1e-5], {}


def _layer_norm_backward(s: Sizes) -> Example:
    (source, shape, weight, bias, eps), _ = _layer_norm(s)
    _, mean, scale = aten.native_layer_norm(source, shape, weight, bias, eps)
    mask = [True, True, True]
    return [torch.rand_like(source), source, shape, mean, scale, weight, bias, mask], {}


def _image(s: Sizes) -> torch.Tensor:
    image = rand(s.d + 1, s.b, 4, 5, sizes=s)
    return image.contiguous(memory_format=torch.channels_last) if s.is_transposed else image


def _batch_norm(s: Sizes) -> Example:
    per_channel = [rand(s.b, sizes=s) for _ in range(4)]
    return [_image(s), *per_channel, True, 0.1, 1e-5], {}


def _batch_norm_no_stats(s: Sizes) -> Example:
    return [_image(s), rand(s.b, sizes=s), rand(s.b, sizes=s), True, 0.1, 1e-5], {}


def _batch_norm_backward(s: Sizes) -> Example:
    (image, weight, bias, *_), _ = _batch_norm(s)
    _, mean, scale = aten.native_batch_norm(image, weight, bias, None, None, True, 0.1, 1e-5)
    mask = [True, True, True]
    gradient = torch.rand_like(image)
    return [gradient, image, weight, None, None, mean, scale, True, 1e-5, mask], {}


def _group_norm(s: Sizes) -> Example:
    image = rand(s.d, 2 * s.b, 4, 5, sizes=s)
    affine = [rand(2 * s.b, sizes=s) for _ in range(2)]
    return [image, *affine, s.d, 2 * s.b, 20, 2, 1e-5], {}


def _group_norm_backward(s: Sizes) -> Example:
    (image, weight, bias, *counts, groups, eps), _ = _group_norm(s)
    _, mean, scale = aten.native_group_norm(image, weight, bias, *counts, groups, eps)
    return [torch.rand_like(image), image, mean, scale, weight, *counts, groups, [True] * 3], {}


def _embedding(s: Sizes) -> Example:
    return [rand(s.c, s.b, sizes=s), torch.randint(0, s.c, (s.d, s.a))], {}


def _embedding_backward(s: Sizes) -> Example:
    indices = torch.randint(0, s.c, (s.d, s.a))
    padding = 0 if s.is_transposed else -1
    return [rand(s.d, s.a, s.b, sizes=s), indices, s.c, padding, False], {}


def _nll_backward(s: Sizes) -> Example:
    target = torch.randint(0, s.b, (s.a,))
    return [
        torch.tensor(0.5, dtype=s.dtype), rand(s.a, s.b, sizes=s), target, None, 1, -100,
        torch.tensor(float(s.a), dtype=s.dtype),
    ], {}  # fmt: skip


def _max_pool(s: Sizes) -> Example:
    return [rand(s.d, 3, 8, 9, sizes=s), [3, 3], [2, 2], [1, 1]], {}


def _max_pool_backward(s: Sizes) -> Example:
    (image, *geometry), _ = _max_pool(s)
    out, indices = aten.max_pool2d_with_indices(image, *geometry)
    return [torch.rand_like(out), image, *geometry, [1, 1], False, indices], {}


def _reduction(s: Sizes) -> Example:
    return [rand(s.d, s.a, s.b, sizes=s), [1] if s.is_transposed else [0, 1], s.is_transposed], {}


def _lists(count: int) -> Callable[[Sizes], dict[str, Any]]:
    def make(s: Sizes) -> dict[str, Any]:
        shapes = [(s.a, s.b), (s.c,), (s.d, s.a)]
        return {
            "lists": [[rand(*shape, sizes=s) for shape in shapes] for _ in range(count)],
            "steps": [torch.tensor(3.0) for _ in shapes],
        }

    return make


def _fused_adam(tensor_lr: bool) -> Callable[[Sizes], Example]:
    def make(s: Sizes) -> Example:
        made = _lists(4)(s)
        lr: Any = torch.tensor(0.1) if tensor_lr else 0.1
        more = {"lr": lr, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1, "eps": 1e-8,
                "amsgrad": False, "maximize": False}  # fmt: skip
        return [*made["lists"], [], made["steps"]], more

    return make


def _fused_sgd(tensor_lr: bool) -> Callable[[Sizes], Example]:
    def make(s: Sizes) -> Example:
        lr: Any = torch.tensor(0.1) if tensor_lr else 0.1
        more = {"weight_decay": 0.1, "momentum": 0.9, "lr": lr, "dampening": 0.0,
                "nesterov": True, "maximize": False, "is_first_step": False}  # fmt: skip
        return [*_lists(3)(s)["lists"]], more

    return make


def _fused_adagrad(tensor_lr: bool) -> Callable[[Sizes], Example]:
    def make(s: Sizes) -> Example:
        made = _lists(3)(s)
        lr: Any = torch.tensor(0.1) if tensor_lr else 0.1
        more = {"lr": lr, "lr_decay": 0.0, "weight_decay": 0.1, "eps": 1e-8, "maximize": False}
        return [*made["lists"], made["steps"]], more

    return make


def _bias(s: Sizes) -> torch.Tensor:
    return rand(s.a, s.c, sizes=s) if s.is_transposed else rand(s.c, sizes=s)


MAKERS: dict[str, Callable[[Sizes], Example]] = {
    "aten.mm.default": lambda s: ([*_matrices(s)], {}),
    "aten.addmm.default": lambda s: ([_bias(s), *_matrices(s)], {"alpha": 0.5}),
    "aten.bmm.default": lambda s: ([*_batches(s)], {}),
    "aten.baddbmm.default": lambda s: ([_bias(s), *_batches(s)], {}),
    "aten.linear.default": lambda s: (
        [rand(s.d, s.a, s.b, sizes=s), rand(s.c, s.b, sizes=s), rand(s.c, sizes=s)], {},
    ),
    "aten.matmul.default": lambda s: (
        ([*_batches(s)] if s.is_transposed else [_batches(s)[0], _batches(s)[1][0]]), {},
    ),
    "aten.convolution.default": _convolution,
    "aten.convolution_backward.default": _convolution_backward,
    "aten._scaled_dot_product_flash_attention_for_cpu.default": _attention,
    "aten._scaled_dot_product_flash_attention_for_cpu_backward.default": _attention_backward,
    "aten._softmax.default": _softmax(False),
    "aten._log_softmax.default": _softmax(False),
    "aten._safe_softmax.default": _softmax(),
    "aten._softmax_backward_data.default": _softmax_backward,
    "aten._log_softmax_backward_data.default": _softmax_backward,
    "aten.native_layer_norm.default": _layer_norm,
    "aten.native_layer_norm_backward.default": _layer_norm_backward,
    "aten.native_batch_norm.default": _batch_norm,
    "aten._native_batch_norm_legit.default": _batch_norm,
    "aten._native_batch_norm_legit.no_stats": _batch_norm_no_stats,
    "aten.native_batch_norm_backward.default": _batch_norm_backward,
    "aten.native_group_norm.default": _group_norm,
    "aten.native_group_norm_backward.default": _group_norm_backward,
    "aten.embedding.default": _embedding,
    "aten.embedding_dense_backward.default": _embedding_backward,
    "aten.nll_loss_backward.default": _nll_backward,
    "aten.max_pool2d_with_indices.default": _max_pool,
    "aten.max_pool2d_with_indices_backward.default": _max_pool_backward,
    "aten.avg_pool2d.default": _max_pool,
    "aten.avg_pool2d_backward.default": lambda s: (
        [rand(s.d, 3, 4, 4, sizes=s), rand(s.d, 3, 8, 8, sizes=s), [2, 2], [2, 2], [0, 0], False,
         True, None], {},
    ),
    "aten._adaptive_avg_pool2d.default": lambda s: ([rand(s.d, 3, 8, 9, sizes=s), [2, 3]], {}),
    "aten._adaptive_avg_pool2d_backward.default": lambda s: (
        [rand(s.d, 3, 2, 3, sizes=s), rand(s.d, 3, 8, 9, sizes=s)], {},
    ),
    **dict.fromkeys(
        ("aten.sum.dim_IntList", "aten.mean.dim", "aten.amax.default", "aten.amin.default"),
        _reduction,
    ),
    "aten.cat.default": lambda s: (
        [[rand(s.a, s.b, sizes=s), rand(s.a, s.c, sizes=s)], 1] if s.is_transposed
        else [[rand(s.a, s.b, sizes=s), rand(s.c, s.b, sizes=s)], 0], {},
    ),
    "aten._to_copy.default": lambda s: ([_wide(s)], {"dtype": torch.float32}),
    "aten.full_like.default": lambda s: ([_wide(s), 3.5], {}),
    "aten._fused_adamw_.default": _fused_adam(False),
    "aten._fused_adamw_.tensor_lr": _fused_adam(True),
    "aten._fused_adam_.default": _fused_adam(False),
    "aten._fused_adam_.tensor_lr": _fused_adam(True),
    "aten._fused_sgd_.default": _fused_sgd(False),
    "aten._fused_sgd_.tensor_lr": _fused_sgd(True),
    "aten._fused_adagrad_.default": _fused_adagrad(False),
    "aten._fused_adagrad_.tensor_lr": _fused_adagrad(True),
}  # fmt: skip


# ------------------------------------------------- by schema: all of one shape, or that fits it


def _wide(s: Sizes) -> torch.Tensor:
    """Enough elements for some grains, and lying across where that was drawn."""
    return rand(s.d, s.a, 32 * s.b, sizes=s).transpose(0, 1 if s.is_transposed else 0)


_WHOLE_NUMBERS = ("bitwise_and", "bitwise_not", "bitwise_or")
_WITHOUT_DIMENSIONS = {("fill_", "value"), ("masked_fill", "value"), ("masked_fill_", "value")}


def _by_schema(name: str, s: Sizes) -> Example:
    operator = overload(name)
    base = name.split(".")[1]
    given = {
        each.name: _argument(base, each.name, str(each.type), s)
        for each in operator._schema.arguments
        if not each.has_default_value() or each.name in ("min", "max", "other")
    }
    names = [each.name for each in operator._schema.arguments if not each.kwarg_only]
    args = [given.pop(each) for each in names if each in given]
    return args, given


def _argument(base: str, name: str, kind: str, s: Sizes) -> Any:
    if kind in ("Tensor", "Optional[Tensor]"):
        return _tensor(base, name, s)
    if kind == "List[Tensor]":
        return _lists(1)(s)["lists"][0]
    if "List[" in kind and ("number" in kind or "Scalar" in kind):
        return [0.25, 0.5, 0.75]
    if kind == "bool":
        return False
    if kind.startswith("Optional[str") or kind == "str":
        return None
    if kind == "int":
        return 1
    whole = base.startswith("bitwise")
    return 3 if whole else 0.5


def _tensor(base: str, name: str, s: Sizes) -> torch.Tensor:
    if name == "scalars":
        return torch.tensor([0.25, 0.5, 0.75], dtype=s.dtype)
    if (base, name) in _WITHOUT_DIMENSIONS or (base.startswith("_foreach") and name != "self"):
        return torch.tensor(0.5, dtype=s.dtype)
    wide = _wide(s)
    if name in ("mask", "condition"):
        return wide > 0.5
    if base in _WHOLE_NUMBERS:
        return (wide * 100).long()
    if name in ("other", "weight", "exponent") and s.c % 2:
        return wide[:, :1]  # of those some are broadcast
    return wide
