"""Names of functions: TrainCheck's and ours, one mapping for invariants and for traces.

TrainCheck names a function by where it is defined (``torch.nn.modules.module.Module.train``), and
torch's built-in functions by the class they come from (``torch._VariableFunctionsClass.equal``).
We name it as a program finds it (``torch.nn.Module.train``, ``torch.equal``), since that is where
it can be watched, and a step of any optimizer by one name: the class is then an input of the call
(``self.kind``). A name without a rule is the same in both.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NamedTuple

from remora.check.calls import MODEL_FORWARD, OPTIMIZER_STEP
from remora.core.errors import UserError
from remora.tap.names import Place, find

OPTIMIZER_CLASS = "self.kind"
"""The input of an optimizer's step that tells its class."""

_FUNCTIONAL = (
    "adaptive_avg_pool1d|avg_pool1d|bilinear|celu_|channel_shuffle|conv1d|conv2d|conv3d|conv_tbc|"
    "conv_transpose1d|conv_transpose2d|conv_transpose3d|cosine_similarity|hardshrink|"
    "native_channel_shuffle|pairwise_distance|pdist|pixel_shuffle|pixel_unshuffle|prelu|relu_|"
    "rrelu_|selu_|threshold_"
)
"""Built-in functions of torch that programs call as ``torch.nn.functional.…``."""
_UNEXPORTED = r"NonDynamicallyQuantizableLinear\."
_C10D = r"torch\.distributed\.distributed_c10d"
_UTILS = "clip_grad|convert_parameters|fusion|init|memory_format|spectral_norm|weight_norm"
_RULES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (rf"torch\.nn\.modules\.(?!lazy\.|_)\w+\.(?!{_UNEXPORTED})([A-Z]\w*\..+)", r"torch.nn.\1"),
        (r"torch\.nn\.parallel\.data_parallel\.(DataParallel\..+)", r"torch.nn.\1"),
        (r"torch\.nn\.parallel\.distributed\.([A-Z]\w*\..+)", r"torch.nn.parallel.\1"),
        (r"torch\.nn\.utils\.clip_grad\._(clip_grads_with_norm_)", r"torch.nn.utils.\1"),
        (rf"torch\.nn\.utils\.(?:{_UTILS})\.([a-z]\w*)", r"torch.nn.utils.\1"),
        (r"torch\.optim\.(?!lr_scheduler\.|swa_utils\.)\w+\.([A-Z]\w*\..+)", r"torch.optim.\1"),
        (r"torch\.(?:_C\._?TensorBase|_tensor\.Tensor)\.(\w+)", r"torch.Tensor.\1"),
        (
            rf"torch\.(?:_C\.)?_VariableFunctions(?:Class)?\.({_FUNCTIONAL})",
            r"torch.nn.functional.\1",
        ),
        (r"torch\.(?:_C\.)?_VariableFunctions(?:Class)?\.(\w+)", r"torch.\1"),
        (r"torch\._C\._nn\.log_sigmoid", r"torch.nn.functional.logsigmoid"),
        (r"torch\._C\._nn\.(\w+)", r"torch.nn.functional.\1"),
        (rf"{_C10D}\.(?:PyCapsule\.)?([a-z]\w*)", r"torch.distributed.\1"),
        (r"torch\.distributed\.device_mesh\.(init_device_mesh)", r"torch.distributed.\1"),
        (r"torch\.distributed\.rendezvous\.(rendezvous|register_\w+)", r"torch.distributed.\1"),
        (r"torch\.autograd\.gradcheck\.(gradcheck|gradgradcheck)", r"torch.autograd.\1"),
        (r"torch\.amp\.grad_scaler\.(GradScaler\..+)", r"torch.amp.\1"),
        (r"torch\.amp\.autocast_mode\.(autocast\..+)", r"torch.\1"),
        (r"torch\.utils\.data\.dataloader\.(DataLoader\..+)", r"torch.utils.data.\1"),
    )
)  # fmt: skip
_OPTIMIZER_STEP = re.compile(
    r"torch\.optim\.(?!optimizer\.|lr_scheduler\.|swa_utils\.)\w+\.([A-Z]\w*)\.step"
)
_STANDS_FOR_MANY = frozenset({OPTIMIZER_STEP, MODEL_FORWARD})
"""Our names for the same method of every class; the base class's own is another function."""


class Named(NamedTuple):
    """A function by our name, and what its name there says of the inputs."""

    function: str
    inputs: dict[str, Any]


@cache
def ours(name: str) -> Named:
    """TrainCheck's ``name`` in our words."""
    if step := _OPTIMIZER_STEP.fullmatch(name):
        return Named(OPTIMIZER_STEP, {OPTIMIZER_CLASS: step[1]})
    for pattern, replacement in _RULES:
        if match := pattern.fullmatch(name):
            found = match.expand(replacement)
            return Named(name if found in _STANDS_FOR_MANY else found, {})
    return Named(name, {})


@cache
def theirs(function: str, optimizer: str | None = None) -> str | None:
    """Our ``function`` as TrainCheck names it; None for one it has no name for.

    Args:
        optimizer: the class of the optimizer whose step it is.

    Where a function is defined is looked up in torch, which this imports.
    """
    if function == OPTIMIZER_STEP:
        return None if optimizer is None else _step_of(optimizer)
    if function in _STANDS_FOR_MANY:
        return None
    return next(
        (name for name in (_defined(function), function) if ours(name).function == function), None
    )


def _step_of(optimizer: str) -> str | None:
    import torch

    found = getattr(torch.optim, optimizer, None)
    name = f"{found.__module__}.{optimizer}.step" if isinstance(found, type) else ""
    return name if ours(name).inputs == {OPTIMIZER_CLASS: optimizer} else None


def _defined(function: str) -> str:
    """The name by where it is defined, or ``function`` itself where that is not known."""
    import torch  # noqa: F401  find() imports nothing

    try:
        place = find(function)
    except UserError:
        return function
    if not isinstance(place, Place):
        return function
    if isinstance(place.owner, type):
        held_by = (base for base in place.owner.__mro__ if place.attribute in vars(base))
        base = next(held_by, place.owner)
        return f"{base.__module__}.{base.__qualname__}.{place.attribute}"
    module, name = getattr(place.raw, "__module__", None), getattr(place.raw, "__qualname__", "")
    return f"{module}.{name}" if module and "<" not in name else function
