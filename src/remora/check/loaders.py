"""What an iterator of torch's data loader is about to hand out.

It is read from attributes that torch's iterators have had since there are samplers; of anything
else, loaders of other libraries among it, nothing is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sized
from typing import Any

_HOME = "torch.utils.data.dataloader"


def rows_due(value: Any) -> int | None:
    """How many rows its next batch should have: the batch size, or what is left for the last one.

    None where that cannot be told: data without a length, batches that come ready made.
    """
    own = _own(value)
    batches, yielded = own.get("_index_sampler"), own.get("_num_yielded")
    size, sampler = getattr(batches, "batch_size", None), getattr(batches, "sampler", None)
    if type(size) is not int or type(yielded) is not int or not isinstance(sampler, Sized):
        return None
    try:
        left = len(sampler) - yielded * size
    except TypeError:  # a sampler of data that has no length
        return None
    return min(size, left) if left > 0 else None


def collate(value: Any) -> str | None:
    """What puts its rows together into a batch, by name."""
    function = _own(value).get("_collate_fn")
    if function is None:
        return None
    function = getattr(function, "func", function)  # of a partial one
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def _own(value: Any) -> Mapping[str, Any]:
    return value.__dict__ if type(value).__module__ == _HOME else {}
