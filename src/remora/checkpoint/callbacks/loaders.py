"""The parts of a checkpoint that say how far a framework's data loader is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils.data import DataLoader

from remora.checkpoint.callbacks.ahead import AheadPosition
from remora.core.errors import BadValue


def position_of(
    loader: Any, *, ahead: Callable[[], bool] = lambda: False, load_skipped: bool = False
) -> Any:
    """What to name as the part for ``loader``, prepared by accelerate or plain.

    ``ahead`` is asked whether one more batch is fetched than is given; of those that accelerate
    prepared this is known. A loader with a state of its own (torchdata's StatefulDataLoader)
    is its own part.

    Raises:
        BadValue: nothing can be known of where it is.
    """
    prepared = hasattr(loader, "base_dataloader")  # accelerate's: it fetches one ahead
    inner = loader.base_dataloader if prepared else loader
    if callable(getattr(inner, "state_dict", None)):
        return loader
    if isinstance(inner, DataLoader):
        asks = (lambda: True) if prepared else ahead
        return AheadPosition(inner, asks, load_skipped=load_skipped)
    raise BadValue(
        f"the data loader is a {type(loader).__qualname__}, whose place in the data is not known; "
        "give a torch DataLoader, or one with state_dict and load_state_dict"
    )
