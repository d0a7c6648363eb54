"""From a URL to a shelf."""

from __future__ import annotations

from typing import Any

from remora.checkpoint.tiers.contract import Shelf


def open_shelf(url: str, **options: Any) -> Shelf:
    """The shelf at ``url``: ``peer://host:port/run``, or whatever fsspec opens.

    Args:
        options: for fsspec's file system, besides what its own configuration says.

    Raises:
        BadValue: ``url`` is none.
        Unavailable: a package for it is not installed.
    """
    if url.startswith("peer://"):
        from remora.checkpoint.peer.client import PeerShelf

        return PeerShelf(url)
    from remora.checkpoint.tiers.objects import ObjectShelf

    return ObjectShelf(url, **options)
