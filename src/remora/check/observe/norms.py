"""Norms of an optimizer's gradients and parameters, and of what its step adds to them.

Of a tensor of up to :data:`MOST_ELEMENTS` elements every one counts. Of a larger one so many are
read, evenly spread, and its norm is estimated from them: that is within a few per cent where
elements are many, and costs some 20 µs however large the tensor is. A model with parameters that
are no plain tensors (sparse, sharded, lazy), or a sparse gradient, is not measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch

from remora.check.measures import GRADIENT_NORM, PARAMETER_NORM, UPDATE, ZERO_GRADIENTS, of
from remora.check.observe.readings import Numbers, Reading

MOST_ELEMENTS = 1 << 13
_PLAIN = (torch.Tensor, torch.nn.Parameter)
_HALF = (torch.float16, torch.bfloat16)


class Norms:
    """Measures the steps of one optimizer after another.

    Args:
        wanted: whether a number is, by its name.
        modules: of an optimizer, by the id of a parameter, the name of the module it belongs to.
    """

    def __init__(
        self, wanted: Callable[[str], bool], modules: Callable[[Any], Mapping[int, str]] | None
    ) -> None:
        self._gradients = wanted(GRADIENT_NORM) or wanted(ZERO_GRADIENTS) or modules is not None
        self._parameters, self._update = wanted(PARAMETER_NORM), wanted(UPDATE)
        self._modules = modules

    def before(self, optimizer: Any) -> tuple[list[Reading], Any]:
        """The gradients as they are; and what the parameters were, to be told from after it."""
        readings: list[Reading] = []
        if self._gradients:
            readings += self._of_gradients(optimizer)
        return readings, self._sample(optimizer) if self._update else None

    def after(self, optimizer: Any, before: Any) -> list[Reading]:
        readings = []
        if self._parameters:
            readings += _norm(_parameters_of(optimizer))
        if before is not None and (now := self._sample(optimizer)) is not None:
            readings += _ratio(before, now)
        return readings

    def _of_gradients(self, optimizer: Any) -> list[Reading]:
        parameters = _parameters_of(optimizer)
        with_one = [one for one in parameters if one.grad is not None]
        count = sum(one.requires_grad for one in parameters)
        norms = _norms([one.grad for one in with_one])
        if norms is None:
            return []
        known = self._modules(optimizer) if self._modules is not None else {}
        modules = [known.get(id(one)) for one in with_one]

        def conclude(values: Sequence[float]) -> Numbers:
            zero = count - len(values) + sum(value == 0 for value in values)
            found = {GRADIENT_NORM: math.hypot(*values), ZERO_GRADIENTS: zero / max(count, 1)}
            for name in dict.fromkeys(name for name in modules if name is not None):
                own = [value for value, of_it in zip(values, modules, strict=True) if of_it == name]
                found[of(GRADIENT_NORM, name)] = math.hypot(*own)
            return found

        return [Reading(norms, conclude)]

    @staticmethod
    def _sample(optimizer: Any) -> Any:
        """A copy of those elements of all parameters that are read."""
        read = _elements(_parameters_of(optimizer))
        if not read or len({(one.device, one.dtype) for one in read}) > 1:
            return None
        return torch.cat([one.reshape(-1) for one in read])


def _parameters_of(optimizer: Any) -> list[Any]:
    return [one for group in optimizer.param_groups for one in group["params"]]


def _elements(tensors: Collection[Any]) -> list[torch.Tensor] | None:
    """Of each, the elements that are read; None if of one they cannot be."""
    found = []
    for tensor in tensors:
        if type(tensor) not in _PLAIN or tensor.layout is not torch.strided or tensor.is_meta:
            return None
        tensor = tensor.detach()
        if tensor.numel() > MOST_ELEMENTS:
            tensor = _spread(tensor)
        found.append(torch.view_as_real(tensor) if tensor.is_complex() else tensor)
    return found


def _spread(tensor: torch.Tensor) -> torch.Tensor:
    """So many elements, evenly spread; where they do not lie in a row, every so many-th row."""
    if tensor.is_contiguous():
        return tensor.view(-1)[:: tensor.numel() // MOST_ELEMENTS]
    return tensor[:: max(1, tensor.numel() // MOST_ELEMENTS // tensor[0].numel())]


def _norms(tensors: Collection[Any]) -> torch.Tensor | None:
    """The norm of each, on its device."""
    read = _elements(tensors)
    if not read or any(one.device != read[0].device for one in read):
        return None
    if any(one.dtype in _HALF for one in read):  # the square of a large one is infinite there
        norms = [torch.linalg.vector_norm(one, dtype=torch.float32) for one in read]
    else:
        norms = list(torch._foreach_norm(read))
    shares = [
        math.sqrt(whole.numel() / max(part.numel(), 1)) if part.numel() < whole.numel() else 1.0
        for whole, part in zip(tensors, read, strict=True)
    ]
    stacked = torch.stack([one.float() for one in norms])
    if all(share == 1.0 for share in shares):
        return stacked
    return stacked * torch.tensor(shares, device=stacked.device)


def _norm(parameters: list[Any]) -> list[Reading]:
    norms = _norms(parameters)
    if norms is None:
        return []
    return [Reading(norms, lambda values: {PARAMETER_NORM: math.hypot(*values)})]


def _ratio(before: torch.Tensor, now: torch.Tensor) -> list[Reading]:
    if before.shape != now.shape:
        return []
    both = torch.stack([(now - before).float().norm(), now.float().norm()])
    return [Reading(both, lambda values: {UPDATE: values[0] / values[1]} if values[1] else {})]
