"""What ``torch.save`` wrote, read by torch's own safe subset and no further."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from remora.checkpoint.formats.conventions import as_parts
from remora.core.errors import BadValue, CheckpointDamaged, StateUnsupported


def import_torch_save(file: Path) -> dict[str, Any]:
    """The state in ``file``, on the CPU, by part.

    Read with ``weights_only=True``: tensors and plain values. A whole module or anything else
    that takes running code to read is refused.

    Raises:
        BadValue: there is no such file, or it holds no dict.
        StateUnsupported: it holds what only unpickling could read.
        CheckpointDamaged: it is no file of ``torch.save``.
    """
    if not file.is_file():
        raise BadValue(f"there is no file {str(file)!r}; give one that torch.save wrote")
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = " ".join(str(error).split())
        raise StateUnsupported(
            f"{file.name} cannot be read without running code that is in it; save state_dict()s "
            f"and plain values only ({reason[:300]})"
        ) from None
    except Exception as error:  # a damaged archive or pickle may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise CheckpointDamaged(
            f"{file.name} is no whole file of torch.save: {reason[:300]}"
        ) from None
    if not isinstance(loaded, dict):
        raise BadValue(f"{file.name} holds a {type(loaded).__name__}, not a dict of states")
    return as_parts(loaded)
