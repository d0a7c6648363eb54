"""What torch does not check of operators that go backwards, and would read or write beyond.

Autograd gives them what it has itself worked out before. A stranger may give them anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from remora.core.errors import Refused
from remora.remote.graph.indices import within
from remora.remote.segment.operators import Operator, operator_named
from remora.remote.segment.plan import Seen, Signature
from remora.remote.segment.shapes import made_by

Given = Mapping[str, Any]
"""Arguments of an operator by name, those that were left out at their defaults."""


def given(operator: Operator, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> Given:
    """What an operator is given, by name."""
    known = operator.schema.arguments
    defaults = {a.name: a.default_value for a in known}
    named = {a.name: value for a, value in zip(known, arguments, strict=False)}
    return {**defaults, **named, **keywords}


def check_shapes(operator: Operator, signature: Signature) -> None:
    """Whether the shapes that ``operator`` is given go together, where torch does not look.

    Raises:
        Refused: they do not.
    """
    check = _SHAPES.get(operator.name)
    if check is None:
        return
    if not check(given(operator, signature.arguments, dict(signature.keywords))):
        raise Refused(f"{operator.name} is given shapes that do not go together")


def index_check(operator: Operator) -> Callable[[Given], bool] | None:
    """What tells whether the indices that ``operator`` is given are within bounds."""
    return _INDICES.get(operator.name)


def _same(*names: str) -> Callable[[Given], bool]:
    return lambda values: len({values[name].sizes for name in names}) == 1


def _same_in_front(trailing: int) -> Callable[[Given], bool]:
    def check(values: Given) -> bool:
        gradient, whole = values["grad_output"].sizes, values["self"].sizes
        return len(gradient) == len(whole) and gradient[:-trailing] == whole[:-trailing]

    return check


def _layer_norm(values: Given) -> bool:
    whole, part = values["input"].sizes, tuple(values["normalized_shape"].items)
    rows = math.prod(whole[: len(whole) - len(part)])
    fits = values["grad_out"].sizes == whole and whole[len(whole) - len(part) :] == part
    fits = fits and all(math.prod(values[name].sizes) == rows for name in ("mean", "rstd"))
    optional = (values["weight"], values["bias"])
    return fits and all(each is None or each.sizes == part for each in optional)


def _batch_norm(values: Given) -> bool:
    whole = values["input"].sizes
    names = ("weight", "running_mean", "running_var", "save_mean", "save_invstd")
    channels = [values[name].sizes for name in names if values[name] is not None]
    needs = ("save_mean", "save_invstd") if values["train"] else ("running_mean", "running_var")
    fits = values["grad_out"].sizes == whole and len(whole) >= 2
    fits = fits and all(values[name] is not None for name in needs)
    return fits and all(sizes == whole[1:2] for sizes in channels)


def _convolution(values: Given) -> bool:
    forward = operator_named("aten.convolution.default")
    names = ("stride", "padding", "dilation", "transposed", "output_padding", "groups")
    arguments = (values["input"], values["weight"], None, *(values[name] for name in names))
    (made,) = made_by(forward, Signature(forward.name, arguments))
    return made is not None and made.sizes == values["grad_output"].sizes


def _pooled(values: Given) -> bool:
    return _same("grad_output", "indices")(values) and _same_in_front(2)(values)


def _is_seen(check: Callable[[Given], bool]) -> Callable[[Given], bool]:
    """A shape that is no tensor's goes with nothing."""

    def checked(values: Given) -> bool:
        try:
            return check(values)
        except (AttributeError, TypeError):
            return False

    return checked


_SHAPES: dict[str, Callable[[Given], bool]] = {
    f"aten.{name}.default": _is_seen(check)
    for name, check in {
        "native_layer_norm_backward": _layer_norm,
        "native_batch_norm_backward": _batch_norm,
        "convolution_backward": _convolution,
        "max_pool2d_with_indices_backward": _pooled,
        "_adaptive_avg_pool2d_backward": _same_in_front(2),
        "_softmax_backward_data": _same("grad_output", "output"),
        "_log_softmax_backward_data": _same("grad_output", "output"),
    }.items()
}


def _rows(values: Given) -> bool:
    return within(values["indices"], 0, int(values["num_weights"]))


def _places(values: Given) -> bool:
    return within(values["indices"], 0, math.prod(values["self"].shape[-2:]))


def _classes(values: Given) -> bool:
    target, classes = values["target"], values["self"]
    target = target[target != values["ignore_index"]]
    return within(target, 0, classes.shape[1] if classes.dim() > 1 else classes.shape[0])


_INDICES: dict[str, Callable[[Given], bool]] = {
    f"aten.{name}.default": check
    for name, check in {
        "embedding_dense_backward": _rows,
        "max_pool2d_with_indices_backward": _places,
        "nll_loss_backward": _classes,
        "nll_loss2d_backward": _classes,
    }.items()
}
__all__ = ["Given", "Seen", "check_shapes", "given", "index_check"]
