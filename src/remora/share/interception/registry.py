"""The best hook that can be had here."""

from __future__ import annotations

from remora.core.errors import Unavailable
from remora.share.interception.contract import Hook


def best() -> Hook:
    """A new hook. Torch is imported.

    Raises:
        Unavailable: there is none.
    """
    raise Unavailable("there is no hook before operators in this build of Remora")
