"""Norms of an optimizer's gradients and parameters, and of what its step adds to them.

Of a large tensor the norm is estimated from some of its elements
(:mod:`remora.check.observe.samples`): that is within a few per cent where elements are many, and
costs some 20 µs however large the tensor is. A model with parameters that are no plain tensors
(sparse, sharded, lazy), or a sparse gradient, is not measured.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from remora.check.measures import GRADIENT_NORM, PARAMETER_NORM, UPDATE, ZERO_GRADIENTS, of
from remora.check.observe.readings import Numbers, Reading
from remora.check.observe.samples import Sample, elements_of, is_numpys, length, share_of

_HALF = (torch.float16, torch.bfloat16)


_without_warnings = np.errstate(over="ignore", invalid="ignore")
"""A norm may be infinite, or no number: that is what is looked for."""


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
        self._samples: weakref.WeakKeyDictionary[Any, Sample] = weakref.WeakKeyDictionary()

    @_without_warnings
    def before(self, optimizer: Any) -> tuple[list[Reading], Any]:
        """The gradients as they are; and what the parameters were, to be told from after it."""
        parameters = _parameters_of(optimizer)
        readings = self._of_gradients(optimizer, parameters) if self._gradients else []
        return readings, self._sample_of(optimizer).now(parameters) if self._update else None

    @_without_warnings
    def after(self, optimizer: Any, before: Any) -> list[Reading]:
        if not (self._parameters or self._update):
            return []
        sample = self._sample_of(optimizer)
        now = sample.now(_parameters_of(optimizer))
        if now is None:
            return []
        values = [sample.norm(now)] if self._parameters else []
        if before is not None and before.shape == now.shape:
            values += [length(now - before), length(now)]
        return [Reading(_together(values), self._concluded)] if values else []

    def _concluded(self, values: Sequence[float]) -> Numbers:
        norm, moved = (values[:1], values[1:]) if self._parameters else ((), values)
        found: Numbers = {PARAMETER_NORM: norm[0]} if norm else {}
        if moved and moved[1]:
            found[UPDATE] = moved[0] / moved[1]
        return found

    def _sample_of(self, optimizer: Any) -> Sample:
        found = self._samples.get(optimizer)
        if found is None:
            found = self._samples[optimizer] = Sample()
        return found

    def _of_gradients(self, optimizer: Any, parameters: list[Any]) -> list[Reading]:
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
            own: dict[str, float] = {}
            for name, value in zip(modules, values, strict=True):
                if name is not None:
                    own[name] = math.hypot(own.get(name, 0.0), value)
            return found | {of(GRADIENT_NORM, name): norm for name, norm in own.items()}

        return [Reading(norms, conclude)]


def _parameters_of(optimizer: Any) -> list[Any]:
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
