"""The device as torch knows it: which kernel is called for which operator.

Torch has one device type for backends that are not its own, ``PrivateUse1``. It is called
``remora`` once the first device is made, and its kernels are written in Python. Tensors are torch's
own, with sizes, strides, views, versions and gradients kept by torch itself; autograd lies above
the kernels, so what goes backwards is recorded like all else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from remora.core.errors import BadValue, CannotCapture
from remora.remote.eager import kernels
from remora.remote.eager.entries import NEXT
from remora.remote.eager.recording import kernel_of, record
from remora.remote.graph.operators import NotAllowed
from remora.remote.segment.operators import NAMES, WHOLE, Operator, operator_named
from remora.remote.segment.shapes import leaves_unfilled, makes_out_of_nothing

NAME = "remora"
_VIEWS = "as_strided _reshape_alias unfold view view.dtype view_as_complex view_as_real"
_DRAWN_IN_PLACE = """
    bernoulli_.Tensor bernoulli_.float cauchy_ exponential_ geometric_ log_normal_ normal_ random_
    random_.from random_.to uniform_
"""
_DRAWN = "bernoulli multinomial normal.Tensor_Tensor normal.Tensor_float randperm"
_SPECIAL: dict[str, Callable[..., Any]] = {
    "_local_scalar_dense": kernels.scalar_kernel,
    "_to_copy": kernels.to_copy_kernel,
    "copy_": kernels.copy_kernel,
    "empty.memory_format": kernels.empty_kernel,
    "empty_strided": kernels.empty_strided_kernel,
    "equal": kernels.equal_kernel,
    "index.Tensor": kernels.index_kernel,
    "index_put_": kernels.index_put_kernel,
    "masked_select": kernels.masked_select_kernel,
    "native_dropout": kernels.dropout_kernel,
    "nonzero": kernels.nonzero_kernel,
    "repeat_interleave.Tensor": kernels.repeat_interleave_kernel,
    "_fused_sdp_choice": lambda *args, **kwargs: 0,  # attention that is taken apart
}
_guard = threading.Lock()
_libraries: list[torch.library.Library] = []
"""Kernels are there as long as these."""


def register() -> None:
    """Tell torch of the device, once. It stays: torch cannot be made to forget one.

    Raises:
        BadValue: another backend has taken torch's place for one.
    """
    with _guard:
        if _libraries:
            return
        taken = torch._C._get_privateuse1_backend_name()
        if taken not in ("privateuseone", NAME):
            raise BadValue(
                f"torch has one place for a device of others, and {taken!r} has taken it; "
                "run the model with server.load(model) instead"
            )
        _setup_privateuseone_for_python_backend(NAME)
        library, rest = torch.library.Library("aten", "IMPL"), torch.library.Library("_", "IMPL")
        rest.fallback(_refuse, "PrivateUse1")
        _register_kernels(library)
        _libraries.extend((library, rest))


def _register_kernels(library: torch.library.Library) -> None:
    special = {**_SPECIAL, **_views(), **_drawn()}
    for name, kernel in special.items():
        library.impl(name, kernel, "PrivateUse1")
    for operator in _recorded():
        name = operator.name.removeprefix("aten.").removesuffix(".default")
        if name in special or _is_made_like_another(operator):
            continue
        library.impl(name, kernel_of(operator), "PrivateUse1")
        if operator.name in WHOLE:
            library.impl(name, _whole(operator), "AutogradPrivateUse1")


def _recorded() -> list[Operator]:
    """All operators that a segment may hold."""
    found = []
    for full in torch._C._dispatch_get_all_op_names():
        family, _, rest = full.partition("::")
        base, _, overload = rest.partition(".")
        if family == "aten" and (
            base in NAMES or base.rstrip("_") in NAMES or base in _WHOLE_BASES
        ):
            try:
                found.append(operator_named(f"aten.{base}.{overload or 'default'}"))
            except NotAllowed:
                continue
    return found


def _is_made_like_another(operator: Operator) -> bool:
    """Torch makes those out of ``empty``, on whichever device is wanted."""
    arguments = operator.schema.arguments
    says_where = any(argument.name == "device" for argument in arguments)
    return leaves_unfilled(operator) or (says_where and not makes_out_of_nothing(operator))


_WHOLE_BASES = frozenset(name.split(".")[1] for name in WHOLE)


def _whole(operator: Operator) -> Callable[..., Any]:
    """Above autograd: as one where nobody asks for gradients, else as torch takes it apart."""

    def kernel(*args: Any, **kwargs: Any) -> Any:
        if torch.is_grad_enabled() and _wants_gradients((*args, *kwargs.values())):
            return operator.function.decompose(*args, **kwargs)
        return record(operator, args, kwargs)

    return kernel


def _wants_gradients(values: tuple[Any, ...]) -> bool:
    for value in values:
        if isinstance(value, torch.Tensor):
            if value.requires_grad:
                return True
        elif isinstance(value, list | tuple) and _wants_gradients(tuple(value)):
            return True
    return False


def _views() -> dict[str, Callable[..., Any]]:
    return {name: kernels.view_kernel(*_parts(name)) for name in _VIEWS.split()}


def _drawn() -> dict[str, Callable[..., Any]]:
    return {
        **{name: kernels.drawing_in_place(*_parts(name)) for name in _DRAWN_IN_PLACE.split()},
        **{name: kernels.drawing(*_parts(name)) for name in _DRAWN.split()},
    }


def _parts(name: str) -> tuple[str, str]:
    base, _, overload = name.partition(".")
    return base, overload or "default"


def _refuse(operator: Any, *args: Any, **kwargs: Any) -> NoReturn:
    raise CannotCapture(f"operator {operator} is not one that a server runs; {NEXT}")
