"""Say of many variables at once what holds of each: the largest modules it holds of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator

from remora.check.observation import places_of


def largest_modules(names: Iterable[str], held: Collection[str]) -> Iterator[tuple[str, list[str]]]:
    """(module, its variables): modules all of whose variables are in ``held``, none in another.

    ``names`` are all there are, such as ``model.encoder.weight``. A variable whose module has
    others that are not in ``held`` is told by its own name.
    """
    below: dict[str, list[str]] = defaultdict(list)
    for name in names:
        for module in places_of(name):
            below[module].append(name)
    whole = {module for module, all_of in below.items() if all(one in held for one in all_of)}
    for module in sorted(whole):
        if not any(around in whole for around in places_of(module) if around != module):
            yield module, below[module]
