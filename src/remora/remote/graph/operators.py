"""The operators a graph may hold. Whatever is not listed here is refused, by either end.

Listed are ATen operators that compute outputs from inputs and do nothing else: none draws random
numbers, writes to a file, reads a device's memory by address, or changes what it is given. An
overload that does change something (``add_``, ``add.out``) is refused by its schema, and so is one
that gives no tensor (``mul.left_t`` repeats a list, ``split.str`` cuts a text).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch

from remora.core.errors import Refused

_ELEMENTWISE = """
    __and__ __or__ __xor__
    abs acos acosh add addcdiv addcmul angle asin asinh atan atan2 atanh bitwise_and
    bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor ceil celu clamp
    clamp_max clamp_min clone copysign cos cosh div elu eq erf erfc erfinv exp exp2 expm1 floor
    floor_divide fmax fmin fmod ge gelu glu gt hardsigmoid hardswish hardtanh isfinite isinf isnan
    le leaky_relu lerp lgamma log log10 log1p log2 log_sigmoid logaddexp logical_and logical_not
    logical_or logical_xor logit lt masked_fill maximum minimum mish mul nan_to_num ne neg pow
    prelu real reciprocal relu relu6 remainder round rsqrt rsub selu sgn sigmoid sign silu sin
    sinh softplus softshrink sqrt square sub tan tanh threshold trunc view_as_complex view_as_real
    where _to_copy to type_as zero fill imag polar conj _conj resolve_conj alias detach
    lift_fresh_copy
"""
_SHAPE = """
    _unsafe_view broadcast_tensors cat chunk constant_pad_nd diagonal expand
    expand_as flatten flip index_select masked_select_backward movedim narrow pad permute
    pixel_shuffle pixel_unshuffle reflection_pad1d reflection_pad2d repeat repeat_interleave
    replication_pad1d replication_pad2d reshape roll rot90 select slice split split_with_sizes
    squeeze stack swapaxes t tile transpose tril triu unbind unflatten unfold unsqueeze view
    view_as im2col col2im reshape_as expand_copy view_copy permute_copy slice_scatter
    select_scatter contiguous
"""
_LOOKUP = """
    embedding gather index index_add index_copy index_fill index_put scatter scatter_add
    scatter_reduce take take_along_dim one_hot bucketize searchsorted
"""
_REDUCTION = """
    all amax amin aminmax any argmax argmin argsort count_nonzero cummax cummin cumprod cumsum diff
    logcumsumexp logsumexp max mean median min norm prod sort std std_mean sum topk var var_mean
    linalg_vector_norm
"""
_NETWORK = """
    _adaptive_avg_pool2d _log_softmax _native_batch_norm_legit_no_training _softmax
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d addbmm addmm addmv addr avg_pool1d
    avg_pool2d avg_pool3d baddbmm batch_norm bilinear bmm conv1d conv2d conv3d conv_transpose1d
    conv_transpose2d convolution cosine_similarity dot einsum group_norm grid_sampler instance_norm
    layer_norm linear log_softmax matmul max_pool1d max_pool2d max_pool2d_with_indices max_pool3d
    mm mv native_group_norm native_layer_norm nll_loss outer pdist pairwise_distance rms_norm
    scaled_dot_product_attention softmax upsample_bicubic2d upsample_bilinear2d upsample_linear1d
    upsample_nearest1d upsample_nearest2d linalg_vecdot mse_loss cross_entropy_loss cdist
    _fused_rms_norm _grouped_mm celu gru_cell lstm_cell rnn_relu_cell rnn_tanh_cell
"""
_CREATION = """
    arange empty empty_like full full_like linspace new_empty new_full new_ones new_zeros ones
    ones_like scalar_tensor zeros zeros_like eye
"""
_SIZES = "sym_size sym_numel sym_stride"
_OF_SIZES = frozenset(_SIZES.split())

ATEN = frozenset(
    " ".join([_ELEMENTWISE, _SHAPE, _LOOKUP, _REDUCTION, _NETWORK, _CREATION, _SIZES]).split()
)
"""Names of operators, of which every overload that changes nothing is allowed."""

UNFILLED = frozenset({"empty", "empty_like", "new_empty"})
"""Operators that give memory as it is found. Where they are run it is filled with zeros."""

_ARITHMETIC: dict[str, Callable[..., Any]] = {
    **{name: getattr(operator, name) for name in ("add", "sub", "mul", "floordiv", "mod", "neg")},
    **{name: getattr(operator, name) for name in ("truediv", "eq", "ne", "lt", "le", "gt", "ge")},
    **{name: getattr(operator, name) for name in ("and_", "or_", "not_")},
    "max": max,
    "min": min,
    "abs": abs,
    "ceil": math.ceil,
    "floor": math.floor,
    "trunc": math.trunc,
    "int": int,
    "float": float,
    "bool": bool,
}


class _OfNumbers:
    """Arithmetic that takes numbers and gives numbers of 64 bits.

    Python's own would repeat lists, format texts, and square whole numbers until memory is full.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *numbers: int | float) -> int | float:
        for number in numbers:
            if not isinstance(number, int | float):
                raise TypeError(f"{type(number).__name__} is no number")
        result: int | float = self._function(*numbers)
        if not -(2**63) <= result < 2**63:
            raise OverflowError("a size is beyond 64 bits")
        return result


NUMBERS: dict[str, Callable[..., Any]] = {
    name: _OfNumbers(function) for name, function in _ARITHMETIC.items()
}
"""Arithmetic on sizes. Powers and shifts are not among it."""

NAMED: dict[str, dict[str, Any]] = {
    "dtype": {
        name: getattr(torch, name)
        for name in (
            "float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2",
            "complex64", "complex128", "int64", "int32", "int16", "int8", "uint8", "bool",
        )
    },
    "layout": {"strided": torch.strided},
    "memory_format": {
        "contiguous": torch.contiguous_format,
        "preserve": torch.preserve_format,
        "channels_last": torch.channels_last,
        "channels_last_3d": torch.channels_last_3d,
    },
}  # fmt: skip
"""Objects of torch by the names that graphs call them. ``device`` has but one: ``here``."""


class NotAllowed(Refused):
    """An operator or an argument that a graph may not hold."""


@lru_cache(maxsize=4096)
def resolve(name: str) -> Callable[..., Any]:
    """The function that ``name`` stands for.

    Raises:
        NotAllowed: it is none of those listed, or changes what it is given.
    """
    family, _, rest = name.partition(".")
    base, _, overload = rest.partition(".")
    found: Callable[..., Any] | None = None
    if family == "number":
        found = NUMBERS.get(rest)
    elif family == "aten" and base in ATEN:
        found = _overload(base, overload)
    if found is not None:
        return found
    raise NotAllowed(
        f"operator {name[:100]!r} is not one that a server runs; "
        "models of operators in remora.remote.graph.operators can be sent"
    )


def schema(name: str) -> torch.FunctionSchema | None:
    """What the operator takes and returns; None for arithmetic on sizes, which is unchecked."""
    return getattr(resolve(name), "_schema", None)


def _overload(base: str, overload: str) -> Any:
    packet = getattr(torch.ops.aten, base, None)
    if packet is None or overload not in packet.overloads():
        return None
    found = getattr(packet, overload)
    fits = not found._schema.is_mutable and (base in _OF_SIZES or _gives_tensors(found._schema))
    return found if fits else None


def _gives_tensors(known: torch.FunctionSchema) -> bool:
    return all(str(value.type) in ("Tensor", "List[Tensor]") for value in known.returns)


def object_of(kind: str, name: str, device: torch.device) -> Any:
    """What :class:`~remora.remote.graph.nodes.Named` stands for, on ``device``.

    Raises:
        NotAllowed: there is no such name.
    """
    if kind == "device" and name == "here":
        return device
    try:
        return NAMED[kind][name]
    except KeyError:
        raise NotAllowed(f"a graph cannot name the {kind[:40]} {name[:40]!r}") from None


def name_of(value: Any) -> tuple[str, str] | None:
    """The other way round: kind and name of an object of torch; None where it has none."""
    if isinstance(value, torch.device):
        return "device", "here"
    for kind, names in NAMED.items():
        for name, each in names.items():
            if each is value:
                return kind, name
    return None
