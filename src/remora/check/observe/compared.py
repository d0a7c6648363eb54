"""What stands for the contents of variables, so that equal contents stand for the same."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any

import xxhash

from remora.check.observation import GRADIENT
from remora.check.observe.moment import Moment

if TYPE_CHECKING:
    from remora.check.observe.rows import Row, Rows
    from remora.check.observe.variable import Variable

Parts = tuple[Any, ...]
"""The type of the elements, then what stands for a sample, for all of them, or for each in turn."""


class Compared:
    """Variables whose contents are held against others', at the end of each step.

    What stands for one is the same however it is read. Tensors of one element are left out.
    """

    def __init__(self, variables: Iterable[Variable]) -> None:
        from remora.check.observe.rows import Rows, by_dtype  # torch is there by now

        self._all = list(variables)
        in_rows = by_dtype(one for one in self._all if one.kind != GRADIENT)
        self._rows = [Rows(alike, dtype) for dtype, alike in in_rows.items()]
        read = {id(one) for rows in self._rows for one in rows.variables}
        self._rest = [one for one in self._all if id(one) not in read]

    def whole(self) -> dict[str, Hashable]:
        """By name, what stands for every element of each."""
        return standing_for(self._all, sample=False, whole=True)

    def sampled(self, *, whole: bool) -> dict[str, Hashable]:
        """By name, what stands for a sample of each; and if asked for that of the ``whole``."""
        if whole:
            return standing_for(self._all, sample=True, whole=True)
        found: dict[str, Hashable] = {}
        rest, moment = self._rest, Moment()
        for rows in self._rows:
            row = rows.read(moment)
            if row is None:
                rest = [*rest, *rows.variables]
            else:
                found |= _of_row(rows, row)
        found |= standing_for(rest, sample=True, whole=False)
        return {one.name: found[one.name] for one in self._all if one.name in found}


def _of_row(rows: Rows, row: Row) -> dict[str, Hashable]:
    dtype, numbers, found = str(rows.dtype), row.numbers, dict[str, Hashable]()
    for slot, begin, end in row.layout.parts:
        if end - begin > 1:
            digest = xxhash.xxh3_64_intdigest(numbers[begin:end].data)
            found[rows.variables[slot].name] = (dtype, digest)
    return found


def standing_for(
    variables: Iterable[Variable], *, sample: bool, whole: bool
) -> dict[str, Hashable]:
    """By name; one tensor is read once, under however many names it goes.

    Those that lie on devices are fetched with one wait for each device.

    Args:
        sample: tell of a large tensor what stands for a sample.
        whole: tell what stands for all elements.
    """
    by_name: dict[str, int] = {}
    read: dict[int, Parts | None] = {}
    for variable in variables:
        tensor = variable.value()
        if tensor is None:
            continue
        key = id(tensor)
        if key not in read:
            read[key] = _parts(variable, tensor, sample, whole)
        by_name[variable.name] = key
    known = _fetched({key: parts for key, parts in read.items() if parts is not None})
    return {name: known[key] for name, key in by_name.items() if key in known}


def _parts(variable: Variable, tensor: Any, sample: bool, whole: bool) -> Parts | None:
    from remora.check.digest import device_digest
    from remora.check.observe.contents import Contents

    reading = variable.reading = variable.reading or Contents()
    token = reading.sample(tensor)
    if token is None or tensor.numel() < 2:
        return None
    parts: list[Any] = []
    if sample or reading.whole:
        parts.append(device_digest(token) if _is_remote(token) else token)
    if whole and not reading.whole:
        parts.append(reading.full(tensor))
    hashed = (xxhash.xxh3_64_intdigest(one) if type(one) is bytes else one for one in parts)
    return (str(tensor.dtype), *hashed)


def _is_remote(part: Any) -> bool:
    return hasattr(part, "device")


def _fetched(read: dict[int, Parts]) -> dict[int, Parts]:
    """``read``, with what lies on a device as numbers."""
    import torch

    by_device: dict[Any, list[Any]] = {}
    for parts in read.values():
        for part in filter(_is_remote, parts):
            by_device.setdefault(part.device, []).append(part)
    numbers = {
        id(part): number
        for parts in by_device.values()
        for part, number in zip(parts, torch.stack(parts).tolist(), strict=True)
    }
    return {
        key: tuple(numbers.get(id(part), part) for part in parts) for key, parts in read.items()
    }
