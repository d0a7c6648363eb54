"""Which device each server of a fleet runs on."""

from __future__ import annotations

from collections.abc import Sequence


def spread_over_gpus(device: str, servers: int, gpus: int) -> Sequence[str]:
    """``device`` for each of ``servers`` processes of one machine; ``cuda`` takes them in turn.

    >>> spread_over_gpus("cuda", 3, 2)
    ['cuda:0', 'cuda:1', 'cuda:0']
    """
    if device != "cuda" or not gpus:
        return [device] * servers
    return [f"cuda:{index % gpus}" for index in range(servers)]
