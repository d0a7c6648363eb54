"""A few elements of each of many tensors, compared with what they were."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch

ELEMENTS = 8
"""Of each tensor, side by side in the middle of its memory: one place to fetch at every look."""
_WHOLE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""What elements are compared as, by their bytes: as numbers, NaN would differ from itself."""


class Samples:
    """Elements of ``tensors``, where they lie, and what they were.

    They are read by one call for all tensors of a kind, which is what makes a look cheap.
    """

    def __init__(self, tensors: Iterable[torch.Tensor]) -> None:
        places: dict[tuple[torch.dtype, torch.device], list[torch.Tensor]] = defaultdict(list)
        for tensor in tensors:
            place = _place(tensor)
            if place is not None:
                places[place.dtype, place.device].append(place)
        self._places = list(places.values())
        self._were = [torch.cat(each) for each in self._places]

    def differ(self) -> bool:
        """Whether any is not what it was."""
        return not all(map(torch.equal, map(torch.cat, self._places), self._were))


def _place(tensor: torch.Tensor) -> torch.Tensor | None:
    """A view of some elements of its memory; None where it has none that can be looked at."""
    whole = _WHOLE.get(tensor.element_size())
    if tensor.layout is not torch.strided or tensor.is_meta or whole is None or not tensor.numel():
        return None
    storage = tensor.untyped_storage()
    count = storage.nbytes() // tensor.element_size()
    taken = min(ELEMENTS, count)
    with torch.no_grad():
        view = torch.empty(0, dtype=whole, device=tensor.device)
        return view.set_(storage, (count - taken) // 2, (taken,), (1,))
