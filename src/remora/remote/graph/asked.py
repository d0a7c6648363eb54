"""A call of an operator that somebody else may make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Asked(NamedTuple):
    """A call of an operator, before it is made."""

    operator: Any
    """An overload, such as ``torch.ops.aten.mm.default``."""
    arguments: Sequence[Any]
    keywords: Mapping[str, Any]
