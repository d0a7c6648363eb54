"""The operators a segment may hold: those of graphs, and those that write and go backwards.

None draws random numbers, touches a file, or changes anything but the tensors that its schema says
it writes to. Views are none: a segment says of every tensor how it lies in its memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch

from remora.remote.graph.operators import ATEN, NotAllowed

_FORWARD = """
    _cdist_forward _native_batch_norm_legit _prelu_kernel _safe_softmax binary_cross_entropy
    binary_cross_entropy_with_logits complex copy cross cummax empty_strided erfcx
    grid_sampler_2d hardshrink heaviside huber_loss hypot isin isneginf isposinf linalg_cross
    log_sigmoid_forward logaddexp2 max_pool3d_with_indices nansum native_batch_norm
    nll_loss_forward nll_loss2d_forward nonzero_static renorm signbit smooth_l1_loss sinc
    special_entr special_erfcx special_log_ndtr special_ndtri trace xlogy
"""
_BACKWARD = """
    _adaptive_avg_pool2d_backward _log_softmax_backward_data _prelu_kernel_backward
    _softmax_backward_data avg_pool2d_backward binary_cross_entropy_backward convolution_backward
    elu_backward embedding_dense_backward gelu_backward glu_backward hardsigmoid_backward
    hardswish_backward hardtanh_backward huber_loss_backward leaky_relu_backward
    log_sigmoid_backward logit_backward max_pool2d_with_indices_backward mish_backward
    mse_loss_backward native_batch_norm_backward native_dropout_backward native_group_norm_backward
    native_layer_norm_backward nll_loss_backward nll_loss2d_backward sigmoid_backward silu_backward
    smooth_l1_loss_backward softplus_backward tanh_backward threshold_backward
    upsample_bicubic2d_backward upsample_bilinear2d_backward upsample_linear1d_backward
    upsample_nearest1d_backward upsample_nearest2d_backward
"""
_WHOLE = """
    adaptive_avg_pool2d.default batch_norm.default conv1d.default conv2d.default conv3d.default
    conv_transpose1d.default conv_transpose2d.input cosine_similarity.default group_norm.default
    gru.input layer_norm.default linear.default log_softmax.int lstm.input matmul.default
    max_pool1d.default max_pool2d.default rms_norm.default rnn_relu.input rnn_tanh.input
    scaled_dot_product_attention.default softmax.int
"""
NAMES = ATEN | frozenset(f"{_FORWARD} {_BACKWARD}".split())
WHOLE = frozenset(f"aten.{name}" for name in _WHOLE.split())
"""Those that torch itself would take apart, and that are quicker, and exact, as one."""
_RESHAPING = frozenset(
    ["as_strided_", "detach_", "squeeze_", "swapaxes_", "t_", "transpose_", "unsqueeze_"]
)
"""They change how a tensor looks at its memory, which is nothing that is sent."""
_WRITE_UNSAID = {"aten.native_batch_norm.default": (3, 4), "aten.batch_norm.default": (3, 4)}
"""Arguments that are written to though the schema does not say so: running statistics."""


@dataclass(frozen=True, eq=False)
class Operator:
    """An operator that a segment may hold."""

    name: str
    function: Any

    @property
    def schema(self) -> torch.FunctionSchema:
        """What it takes and returns."""
        schema: torch.FunctionSchema = self.function._schema
        return schema

    @cached_property
    def written(self) -> frozenset[str]:
        """Names of the arguments that it writes to."""
        arguments = self.schema.arguments
        said = {a.name for a in arguments if a.alias_info is not None and a.alias_info.is_write}
        return frozenset(said | {arguments[i].name for i in _WRITE_UNSAID.get(self.name, ())})

    @cached_property
    def places(self) -> dict[str, int]:
        """The place of each argument by its name."""
        return {argument.name: place for place, argument in enumerate(self.schema.arguments)}

    @cached_property
    def takes_scalars(self) -> bool:
        """Whether no shape and no check depends on the floating-point numbers it is given: it does
        the same to every element."""
        return torch.Tag.pointwise in self.function.tags

    @cached_property
    def gives_list(self) -> bool:
        """Whether it returns a list of tensors."""
        return str(self.schema.returns[0].type) == "List[Tensor]"

    @cached_property
    def makes_one(self) -> bool:
        """Whether it returns one tensor, which it has made."""
        return self.returned == (None,) and not self.gives_list

    @cached_property
    def returned(self) -> tuple[str | None, ...]:
        """For each value it returns, the argument that it is; None for one that is made."""
        return tuple(self._argument_of(value) for value in self.schema.returns)

    def _argument_of(self, value: Any) -> str | None:
        if value.alias_info is None:
            return None
        for argument in self.schema.arguments:
            alias = argument.alias_info
            if alias is not None and alias.before_set == value.alias_info.before_set:
                return str(argument.name)
        return None


@lru_cache(maxsize=8192)
def operator_named(name: str) -> Operator:
    """The operator called ``aten.<name>.<overload>``.

    Raises:
        NotAllowed: it is none that a segment may hold.
    """
    family, _, rest = name.partition(".")
    base, _, overload = rest.partition(".")
    if family == "aten" and (base in NAMES or name in WHOLE or _is_in_place(base)):
        packet = getattr(torch.ops.aten, base, None)
        if packet is not None and overload in packet.overloads():
            operator = Operator(name, getattr(packet, overload))
            if _is_allowed(operator):
                return operator
    raise NotAllowed(
        f"operator {name[:100]!r} is not one that a server runs; those of "
        "remora.remote.segment.operators are: bring the tensors back with .cpu() for this step"
    )


def _is_in_place(base: str) -> bool:
    return base.endswith("_") and base[:-1] in NAMES and base not in _RESHAPING


def _is_allowed(operator: Operator) -> bool:
    schema = operator.schema
    if any(str(value.type) not in ("Tensor", "List[Tensor]") for value in schema.returns):
        return False
    aliases = [value.alias_info for value in schema.returns if value.alias_info is not None]
    if not all(alias.is_write for alias in aliases):
        return False  # a view
    return operator.name in WHOLE or not _is_taken_apart(operator) or schema.is_mutable


def _is_taken_apart(operator: Operator) -> bool:
    """Whether torch makes it out of others, and has no kernel for it."""
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    return bool(has_kernel(operator.schema.name + _suffix(operator), "CompositeImplicitAutograd"))


def _suffix(operator: Operator) -> str:
    overload = operator.schema.overload_name
    return f".{overload}" if overload else ""
