"""Norms of an optimizer's gradients and parameters, tensor by tensor: on any device, of any dtype.

Of a large tensor the norm is estimated from some of its elements
(:mod:`remora.check.observe.samples`).
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from remora.check.measures import GRADIENT_NORM, PARAMETER_NORM, UPDATE, ZERO_GRADIENTS, of
from remora.check.observe.readings import Numbers, Reading, Readings
from remora.check.observe.samples import Sample, elements_of, is_numpys, length, share_of

_HALF = (torch.float16, torch.bfloat16)


class NormsOfEach:
    """Measures the steps of one optimizer after another."""

    def __init__(self) -> None:
        self._samples: weakref.WeakKeyDictionary[Any, Sample] = weakref.WeakKeyDictionary()

    def of_gradients(self, optimizer: Any, modules: Mapping[int, str]) -> Readings:
        """As they are now; ``modules`` names, by the id of a parameter, whose it is."""
        parameters = parameters_of(optimizer)
        with_one = [one for one in parameters if one.grad is not None]
        count = sum(one.requires_grad for one in parameters)
        norms = _norms([one.grad for one in with_one])
        if norms is None:
            return []
        owners = [modules.get(id(one)) for one in with_one]

        def conclude(values: Sequence[float]) -> Numbers:
            zero = count - len(values) + sum(value == 0 for value in values)
            found = {GRADIENT_NORM: math.hypot(*values), ZERO_GRADIENTS: zero / max(count, 1)}
            own: dict[str, float] = {}
            for name, value in zip(owners, values, strict=True):
                if name is not None:
                    own[name] = math.hypot(own.get(name, 0.0), value)
            return found | {of(GRADIENT_NORM, name): norm for name, norm in own.items()}

        return [Reading(norms, conclude)]

    def parameters(self, optimizer: Any) -> Any:
        """A copy of what is read of them."""
        return self._sample_of(optimizer).now(parameters_of(optimizer))

    def of_parameters(self, optimizer: Any, before: Any, *, norm: bool) -> Readings:
        """Their ``norm`` if it is wanted, and how far they moved from ``before``, if that is."""
        sample = self._sample_of(optimizer)
        now = sample.now(parameters_of(optimizer))
        if now is None:
            return []
        values = [sample.norm(now)] if norm else []
        if before is not None and before.shape == now.shape:
            values += [length(now - before), length(now)]

        def conclude(values: Sequence[float]) -> Numbers:
            first, moved = (values[:1], values[1:]) if norm else ((), values)
            found: Numbers = {PARAMETER_NORM: first[0]} if first else {}
            if moved and moved[1]:
                found[UPDATE] = moved[0] / moved[1]
            return found

        return [Reading(_together(values), conclude)] if values else []

    def _sample_of(self, optimizer: Any) -> Sample:
        found = self._samples.get(optimizer)
        if found is None:
            found = self._samples[optimizer] = Sample()
        return found


def parameters_of(optimizer: Any) -> list[Any]:
    return [one for group in optimizer.param_groups for one in group["params"]]


def _norms(tensors: Sequence[Any]) -> Any:
    """The norm of each, on its device."""
    read = elements_of(tensors)
    if not read:
        return None
    shares = [share_of(*each) for each in zip(tensors, read, strict=True)]
    if all(map(is_numpys, read)):
        norms = [length(one.numpy().reshape(-1)) for one in read]
        return [norm * share for norm, share in zip(norms, shares, strict=True)]
    if any(one.dtype in _HALF for one in read):  # the square of a large one is infinite there
        lengths = [torch.linalg.vector_norm(one, dtype=torch.float32) for one in read]
    else:
        lengths = list(torch._foreach_norm(read))
    stacked = torch.stack([one.float() for one in lengths])
    if all(share == 1.0 for share in shares):
        return stacked
    return stacked * torch.tensor(shares, device=stacked.device)


def _together(values: list[Any]) -> Any:
    return torch.stack(values) if isinstance(values[0], torch.Tensor) else values
