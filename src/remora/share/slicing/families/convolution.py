"""Convolutions, and their backward in two parts: the input's gradient, and the weight's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from remora.share.slicing.call import Call
from remora.share.slicing.contract import Axis, Part, Slicer
from remora.share.slicing.grid import Cells, grid

aten = torch.ops.aten
CHANNELS = 16
"""Channels between places where a range may begin: those that oneDNN keeps side by side."""


def slicers() -> dict[str, Slicer]:
    """By the name of their overload."""
    return {
        "aten.convolution.default": convolution,
        "aten.convolution_backward.default": convolution_backward,
    }


_GEOMETRY = ("stride", "padding", "dilation", "transposed", "output_padding", "groups")


def convolution(call: Call) -> Sequence[Part]:
    """Along the batch, or the output channels where there are no groups."""
    source, weight, bias, output = call["input"], call["weight"], call["bias"], call.out
    geometry = [call[name] for name in _GEOMETRY]

    def batch(begin: int, end: int) -> None:
        output[begin:end].copy_(aten.convolution(source[begin:end], weight, bias, *geometry))

    def both(images: slice, channels: slice) -> None:
        own = None if bias is None else bias[channels]
        made = aten.convolution(source[images], weight[channels], own, *geometry)
        output[images, channels].copy_(made)

    every = slice(0, output.shape[0])

    if source.dim() != weight.dim():
        return ()  # without a batch
    axes = [Axis("batch", output.shape[0], batch)]
    if call["groups"] == 1 and not call["transposed"]:
        axes += _by_channel("output channels", output, both, every)
    return [Part("output", (output,), tuple(axes))]


def convolution_backward(call: Call) -> Sequence[Part]:
    """The input's gradient along the batch or the input channels; the weight's and the bias's
    along the output or the input channels.

    The weight's is a sum over the batch, so along the batch it would be added in another order.
    """
    parts = []
    if call["output_mask"][0]:
        parts.append(_of_input(call))
    if any(call["output_mask"][1:]):
        parts.append(_of_weight(call))
    return parts


def _by_channel(name: str, output: Tensor, both: Cells, every: slice) -> list[Axis]:
    """Channels of all images, or of some."""
    images, channels = output.shape[:2]
    return [
        Axis(name, channels, lambda begin, end: both(every, slice(begin, end)), CHANNELS),
        grid(f"batch by {name}", (images, channels), (1, CHANNELS), both),
    ]


def _is_plain(call: Call) -> bool:
    return call["groups"] == 1 and not call["transposed"]


def _backward(
    call: Call, *tensors: Tensor, mask: Sequence[bool], biases: object = None
) -> Sequence[Tensor]:
    geometry = [call[name] for name in _GEOMETRY]
    made: Sequence[Tensor] = aten.convolution_backward(*tensors, biases, *geometry, list(mask))
    return made


def _of_input(call: Call) -> Part:
    gradient, source, weight = call["grad_output"], call["input"], call["weight"]
    output, only = call.outputs[0], (True, False, False)

    def batch(begin: int, end: int) -> None:
        made = _backward(call, gradient[begin:end], source[begin:end], weight, mask=only)
        output[begin:end].copy_(made[0])

    def both(images: slice, channels: slice) -> None:
        own = (gradient[images], source[images, channels], weight[:, channels])
        output[images, channels].copy_(_backward(call, *own, mask=only)[0])

    axes = [Axis("batch", output.shape[0], batch)]
    if _is_plain(call):
        axes += _by_channel("input channels", output, both, slice(0, output.shape[0]))
    return Part("input gradient", (output,), tuple(axes))


def _of_weight(call: Call) -> Part:
    gradient, source, weight = call["grad_output"], call["input"], call["weight"]
    mask = (False, *call["output_mask"][1:])
    outputs = [each for each in call.outputs[1:] if each is not None]

    def channels(begin: int, end: int) -> None:
        sizes = [end - begin] if mask[2] else None
        own = (gradient[:, begin:end], source, weight[begin:end])
        made = _backward(call, *own, mask=mask, biases=sizes)
        for output, piece in zip(call.outputs[1:], made[1:], strict=True):
            if output is not None:
                output[begin:end].copy_(piece)

    def both(outward: slice, inward: slice) -> None:
        own = (gradient[:, outward], source[:, inward], weight[outward, inward])
        made = _backward(call, *own, mask=(False, True, False))
        call.outputs[1][outward, inward].copy_(made[1])

    def whole(begin: int, end: int) -> None:
        made = _backward(call, gradient, source, weight, mask=mask, biases=call["bias_sizes"])
        for output, piece in zip(call.outputs[1:], made[1:], strict=True):
            if output is not None:
                output.copy_(piece)

    if not _is_plain(call):
        return Part("weight gradient", tuple(outputs), (Axis("whole", 1, whole),))
    axes = [Axis("output channels", weight.shape[0], channels, CHANNELS)]
    if mask == (False, True, False):
        wide, every = weight.shape[1], slice(0, weight.shape[0])
        axes += [
            Axis("input channels", wide, lambda b, e: both(every, slice(b, e)), CHANNELS),
            grid("channels by channels", (every.stop, wide), (CHANNELS, CHANNELS), both),
        ]
    return Part("weight gradient", tuple(outputs), tuple(axes))
