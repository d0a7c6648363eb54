"""Functions that constructors of torch have as a default, swapped as those in modules are.

``TransformerEncoderLayer`` takes ``relu`` for its activation by default and then asks whether that
is what the name ``relu`` finds: only so does it take its fast path in evaluation. A layer made with
a default that is not what the name finds could not be pickled, either.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

_WHERE = "torch.nn.modules."


def swap_in_defaults(swaps: Mapping[int, tuple[Any, Any]]) -> None:
    """By the id of what is there: it and what is to come."""
    for constructor in _constructors():
        held = constructor.__defaults__ or ()
        if any(id(one) in swaps for one in held):
            constructor.__defaults__ = tuple(
                swaps[id(one)][1] if id(one) in swaps else one for one in held
            )


def _constructors() -> Iterator[Any]:
    for name, module in list(sys.modules.items()):
        if name.startswith(_WHERE):
            for one in list(vars(module).values()):
                if isinstance(one, type) and hasattr(vars(one).get("__init__"), "__defaults__"):
                    yield one.__init__  # type: ignore[misc]
