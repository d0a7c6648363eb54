"""Whether a module's weights are still those that were captured, told cheaply at every call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from remora.remote.client.samples import Samples
from remora.remote.client.stepped import Stepped

_Dict = dict[str, Any]


class Watch:
    """Notices weights that were changed in place or replaced, and parts added, replaced or removed.

    It remembers where everything lay, so a look is a few hundred reads of dicts. What is written
    through ``tensor.data`` or NumPy counts no version, nor does what fused optimizers write. So a
    step of an optimizer is heard of, and a sample of every weight is compared: what is written past
    torch is noticed where it changes a tensor as a whole, as an average of weights does.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self._sizes: list[tuple[_Dict, int]] = []
        self._parts: list[tuple[_Dict, str, object]] = []
        self._weights: list[tuple[_Dict, str, torch.Tensor, int]] = []
        for part in module.modules():
            for held in _dicts(part):
                self._sizes.append((held, len(held)))
                self._note(held)
        weights = [weight for _, _, weight, _ in self._weights]
        self._stepped = Stepped(weights)
        self._samples = Samples(weights)

    def sees_a_change(self) -> bool:
        """Whether anything is not as it was when this was made."""
        for held, name, weight, version in self._weights:
            if held.get(name) is not weight or weight._version != version:
                return True
        for held, name, part in self._parts:
            if held.get(name) is not part:
                return True
        if any(len(held) != size for held, size in self._sizes):
            return True
        return self._stepped.has_happened or self._samples.differ()

    def _note(self, held: _Dict) -> None:
        for name, value in held.items():
            if isinstance(value, torch.Tensor) and not value.is_inference():
                self._weights.append((held, name, value, value._version))
            else:
                self._parts.append((held, name, value))


def _dicts(module: torch.nn.Module) -> Iterator[_Dict]:
    yield module._parameters
    yield module._buffers
    yield module._modules
