"""The device as torch knows it: which kernel is called for which operator.

Torch has one device type for backends that are not its own, ``PrivateUse1``. It is called
``remora`` once the first device is made, and its kernels are written in Python. Tensors are torch's
own, with sizes, strides, views, versions and gradients kept by torch itself; autograd lies above
the kernels, so what goes backwards is recorded like all else.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from remora.core.errors import BadValue, CannotCapture
from remora.core.saying import say
from remora.remote.eager import kernels, refusals, storage
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
    "_index_put_impl_": kernels.index_put_kernel,
    "masked_select": kernels.masked_select_kernel,
    "native_dropout": kernels.dropout_kernel,
    "nonzero": kernels.nonzero_kernel,
    "set_.source_Storage_storage_offset": storage.set_kernel,
    "repeat_interleave.Tensor": kernels.repeat_interleave_kernel,
    "_fused_sdp_choice": lambda *args, **kwargs: 0,  # attention that is taken apart
}
_guard = threading.Lock()
_libraries: list[torch.library.Library] = []
"""Kernels are there as long as these."""


class _Module:
    """``torch.remora``: what torch asks of the module of a device."""

    def is_initialized(self) -> bool:
        """Whether it has been made ready."""
        return True

    def is_available(self) -> bool:
        """Not as the accelerator of this machine, for which memory would be pinned."""
        return False

    def current_device(self) -> int:
        """The one there is."""
        return 0

    def device_count(self) -> int:
        """One."""
        return 1

    def manual_seed_all(self, seed: int) -> None:
        """Nothing: the generator of the CPU draws for it."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """None: there is no autocast for it, and torch says so."""
        return []

    def get_rng_state(self, device: object = None) -> torch.Tensor:
        """That of the CPU, which draws for it."""
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: object = None) -> None:
        """Nothing: who sets that of the CPU has set it."""

    def device(self, index: object) -> contextlib.AbstractContextManager[None]:
        """Within it the one that there is is current."""
        return contextlib.nullcontext()

    def _is_in_bad_fork(self) -> bool:
        return False


class _Hook(torch._C._acc.PrivateUse1Hooks):
    """What torch's autograd asks of a device."""

    def is_available(self) -> bool:
        """Whether tensors can be there; else the threads that go backwards do not start."""
        return True

    def has_primary_context(self, device_index: int) -> bool:
        """Whether it can be used."""
        return True

    def is_built(self) -> bool:
        """Whether torch was built with it."""
        return True


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
        _setup_privateuseone_for_python_backend(NAME, backend_module=_Module(), hook=_Hook())
        library, rest = torch.library.Library("aten", "IMPL"), torch.library.Library("_", "IMPL")
        storage.register()
        refusals.register(NAME)
        rest.fallback(_refuse, "PrivateUse1")
        _register_kernels(library)
        _libraries.extend((library, rest))
        if not goes_backwards():
            say(
                "remora: this program called backward() before it had a device on a server, and "
                "torch started its threads for that without it: gradients there will be an "
                "INTERNAL ASSERT of torch; call server.device() before the first backward()"
            )


def goes_backwards() -> bool:
    """Whether the threads of torch that go backwards know the device: they are started once."""
    create = torch._C._acc.create_empty_tensor
    tensor = create((1,), torch.float32).requires_grad_()
    try:
        with torch.enable_grad():
            torch.autograd.grad(tensor.view(1), tensor, create((1,), torch.float32))
    except RuntimeError:
        return False
    return True


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


_FAST_PATH = "call torch.backends.mha.set_fastpath_enabled(False) first"
_INSTEAD = {
    "aten._transformer_encoder_layer_fwd.default": _FAST_PATH,
    "aten._native_multi_head_attention.default": _FAST_PATH,
}


def _refuse(operator: Any, *args: Any, **kwargs: Any) -> NoReturn:
    instead = _INSTEAD.get(str(operator), NEXT)
    raise CannotCapture(f"operator {operator} is not one that a server runs; {instead}")
