"""Say of many variables at once what holds of each: the largest modules it holds of."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator

_DOT = re.compile(r"\.(?![^\[]*\])")
"""Not those of a name in brackets: ``optimizer.exp_avg[model.weight]``."""


def largest_modules(names: Iterable[str], held: Collection[str]) -> Iterator[tuple[str, list[str]]]:
    """(module, its variables): modules all of whose variables are in ``held``, none in another.

    ``names`` are all there are, such as ``model.encoder.weight``. A variable whose module has
    others that are not in ``held`` is told by its own name.
    """
    below: dict[str, list[str]] = defaultdict(list)
    for name in names:
        for module in _modules_around(name):
            below[module].append(name)
    whole = {module for module, all_of in below.items() if all(one in held for one in all_of)}
    for module in sorted(whole):
        if not any(around in whole for around in _modules_around(module) if around != module):
            yield module, below[module]


def _modules_around(name: str) -> Iterator[str]:
    """``a.b.c``: ``a``, then ``a.b``, then itself."""
    parts = _DOT.split(name)
    return (".".join(parts[:count]) for count in range(1, len(parts) + 1))
