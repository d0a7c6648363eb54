"""What stands for the contents of variables, so that equal contents stand for the same."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

import xxhash

if TYPE_CHECKING:
    from remora.check.observe.variable import Variable


def standing_for(variables: Iterable[Variable], *, exact: bool) -> dict[str, Hashable]:
    """By name; one tensor is read once, under however many names it goes.

    Those that lie on devices are fetched with one wait for each device.
    """
    by_name: dict[str, int] = {}
    read: dict[int, Hashable] = {}
    remote: dict[int, Any] = {}
    for variable in variables:
        tensor = variable.value()
        if tensor is None:
            continue
        key = id(tensor)
        if key not in read and key not in remote:
            token = _token(variable, tensor, exact)
            (remote if _is_remote(token) else read)[key] = token
        by_name[variable.name] = key
    read.update(_fetched(remote))
    return {name: read[key] for name, key in by_name.items() if read[key] is not None}


def _token(variable: Variable, tensor: Any, exact: bool) -> Any:
    from remora.check.digest import device_digest
    from remora.check.observe.contents import Contents

    reading = variable.reading = variable.reading or Contents()
    token = reading.sample(tensor)
    if token is None or tensor.numel() < 2:
        return None
    if exact and not reading.whole:
        token = reading.full(tensor)
    elif _is_remote(token):
        token = device_digest(token)
    if type(token) is bytes:
        token = xxhash.xxh3_64_intdigest(token)
    return token if _is_remote(token) else token ^ _of_dtype(tensor.dtype)


@cache
def _of_dtype(dtype: Any) -> int:
    """Tells equal bytes of two dtypes apart; the same in every process."""
    return xxhash.xxh3_64_intdigest(str(dtype).encode())


def _is_remote(token: Any) -> bool:
    return token is not None and hasattr(token, "device")


def _fetched(remote: dict[int, Any]) -> dict[int, Hashable]:
    import torch

    by_device: dict[Any, list[int]] = {}
    for key, token in remote.items():
        by_device.setdefault(token.device, []).append(key)
    return {
        key: value
        for keys in by_device.values()
        for key, value in zip(keys, torch.stack([remote[k] for k in keys]).tolist(), strict=True)
    }
