"""Layer, batch and group norm: along what each does not take its mean over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from remora.share.slicing.call import Call, as_outputs
from remora.share.slicing.contract import Axis, Part, Slicer, uncut
from remora.share.slicing.narrowing import along, tensors

CHANNELS = 16
"""Values between places where a range of normalised ones may begin: a cache line of float32."""


def slicers() -> dict[str, Slicer]:
    """By the name of their overload."""
    return {
        "aten.native_layer_norm.default": layer_norm,
        "aten.native_layer_norm_backward.default": layer_norm_backward,
        "aten.native_batch_norm.default": batch_norm,
        "aten._native_batch_norm_legit.default": batch_norm,
        "aten._native_batch_norm_legit.no_stats": batch_norm,
        "aten.native_batch_norm_backward.default": batch_norm_backward,
        "aten.native_group_norm.default": group_norm,
        "aten.native_group_norm_backward.default": group_norm_backward,
    }


# ------------------------------------------------- layer norm


def layer_norm(call: Call) -> Sequence[Part]:
    """Rows: one for each mean."""
    shape, written = call["normalized_shape"], tuple(call.outputs)
    if not call["input"].is_contiguous():
        return ()
    rows = (-1, *shape)
    ones = (-1, *(1 for _ in shape))
    output, mean, scale = call.outputs
    into = [output.view(rows), mean.view(ones), scale.view(ones)]
    axis = along("rows", 0, call, {"input": call["input"].view(rows)}, into)
    return [Part("output", written, (axis,))]


def layer_norm_backward(call: Call) -> Sequence[Part]:
    """Rows for the input's gradient; for those of weight and bias, sums over the rows, columns."""
    given = tensors(call, "grad_out", "input", "mean", "rstd")
    if not all(each.is_contiguous() for each in given.values()):
        return ()
    shape, mask = call["normalized_shape"], call["output_mask"]
    wide, ones = (-1, *shape), (-1, *(1 for _ in shape))
    rows = {name: each.view(wide if name in ("grad_out", "input") else ones)
            for name, each in given.items()}  # fmt: skip
    parts = []
    if mask[0]:
        output = call.outputs[0]
        into = [output.view(wide), None, None]
        only = {"output_mask": [True, False, False]}
        axis = along("rows", 0, call, rows, into, only)
        parts.append(Part("input gradient", (output,), (axis,)))
    if mask[1] or mask[2]:
        parts.append(_of_affine(call, rows))
    return parts


def _of_affine(call: Call, rows: dict[str, Tensor]) -> Part:
    mask = [False, *call["output_mask"][1:]]
    outputs = tuple(each for each in call.outputs[1:] if each is not None)

    def compute(values: dict[str, Any], begin: int, end: int) -> None:
        made = as_outputs(call.operator(**{**call.values, "output_mask": mask, **values}))
        for output, piece in zip(call.outputs[1:], made[1:], strict=True):
            if output is not None:
                output[begin:end].copy_(piece)

    if len(call["normalized_shape"]) != 1:
        return uncut("weight gradient", outputs, lambda: compute({}, 0, outputs[0].shape[0]))

    def columns(begin: int, end: int) -> None:
        wide = {k: rows[k][:, begin:end].contiguous() for k in ("grad_out", "input")}
        affine = {k: each[begin:end] for k, each in tensors(call, "weight", "bias").items()}
        means = {k: rows[k] for k in ("mean", "rstd")}
        compute({**wide, **means, **affine, "normalized_shape": [end - begin]}, begin, end)

    axis = Axis("columns", outputs[0].shape[0], columns, CHANNELS)
    return Part("weight gradient", outputs, (axis,))


# ------------------------------------------------- batch norm


_AFFINE = ("weight", "bias", "running_mean", "running_var", "save_mean", "save_invstd")


def batch_norm(call: Call) -> Sequence[Part]:
    """Channels: each has a mean of its own."""
    running = [call.values.get(name) for name in ("running_mean", "running_var")]
    written = [*call.outputs, *(running if call["training"] else [])]
    return _by_channel("output", call, ("input",), written)


def batch_norm_backward(call: Call) -> Sequence[Part]:
    """Channels, all gradients of one together."""
    return _by_channel("gradients", call, ("grad_out", "input"), call.outputs)


def _by_channel(
    name: str, call: Call, wide: tuple[str, ...], written: Sequence[Tensor | None]
) -> Sequence[Part]:
    """With views of the channels; and with copies of them, which the kernel may go through as it
    goes through the whole, where it would take another way through a view."""
    if call[wide[0]].dim() < 2:
        return ()

    def channels(begin: int, end: int, copied: bool) -> None:
        own = {k: call[k][:, begin:end] for k in wide}
        if copied:
            own = {k: each.contiguous(memory_format=_format(call[k])) for k, each in own.items()}
        for key in _AFFINE:
            if call.values.get(key) is not None:
                own[key] = call[key][begin:end]
        made = as_outputs(call.operator(**{**call.values, **own}))
        for output, piece in zip(call.outputs, made, strict=True):
            if output is not None and output.numel():
                own_dim = 1 if output.dim() > 1 else 0
                output.narrow(own_dim, begin, end - begin).copy_(piece)

    extent = call[wide[0]].shape[1]
    axes = (
        Axis("channels", extent, lambda begin, end: channels(begin, end, False)),
        Axis("copied channels", extent, lambda begin, end: channels(begin, end, True)),
    )
    return [Part(name, tuple(each for each in written if each is not None), axes)]


def _format(tensor: Tensor) -> torch.memory_format:
    is_last = tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return (
        torch.channels_last if is_last and not tensor.is_contiguous() else torch.contiguous_format
    )


# ------------------------------------------------- group norm


def group_norm(call: Call) -> Sequence[Part]:
    """The batch."""

    def batch(begin: int, end: int) -> None:
        made = call.operator(**{**call.values, "input": call["input"][begin:end], "N": end - begin})
        for output, piece in zip(call.outputs, made, strict=True):
            output[begin:end].copy_(piece)

    return [Part("output", tuple(call.outputs), (Axis("batch", call["N"], batch),))]


def group_norm_backward(call: Call) -> Sequence[Part]:
    """The batch for the input's gradient; weight and bias, sums over it, are not cut."""
    parts = []
    mask = call["output_mask"]
    if mask[0]:
        output = call.outputs[0]

        def batch(begin: int, end: int) -> None:
            own = {k: call[k][begin:end] for k in ("grad_out", "input", "mean", "rstd")}
            only = {"N": end - begin, "output_mask": [True, False, False]}
            output[begin:end].copy_(call.operator(**{**call.values, **own, **only})[0])

        parts.append(Part("input gradient", (output,), (Axis("batch", call["N"], batch),)))
    if mask[1] or mask[2]:
        outputs = tuple(each for each in call.outputs[1:] if each is not None)

        def whole() -> None:
            made = call.operator(**{**call.values, "output_mask": [False, *mask[1:]]})
            for output, piece in zip(call.outputs[1:], made[1:], strict=True):
                if output is not None:
                    output.copy_(piece)

        parts.append(uncut("weight gradient", outputs, whole))
    return parts
