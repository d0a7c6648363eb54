"""A share of the device that best-effort work gets even while high-priority work waits.

While best-effort work waits or runs, credit grows by ``share`` of the time that passes. Once there
is enough for the next run, that run goes first, and what it took is paid. What runs while the
device would be idle is paid only as far as credit reaches, so an idle night is no debt in the
morning.
"""

from __future__ import annotations

import math

from remora.core.errors import BadValue


def check_share(share: float) -> None:
    """Refuse a floor that cannot be.

    Raises:
        BadValue: it is not from 0 to below 1.
    """
    if not 0 <= share < 1:
        raise BadValue(
            f"floor={share!r}: choose a share of the device from 0 (none) to below 1; "
            "at 1 nothing would be left for high-priority work"
        )


class Floor:
    """The credit of best-effort work, in nanoseconds of device time."""

    def __init__(self, share: float) -> None:
        self.share = share
        self._credit_ns = 0.0
        self._since_ns: int | None = None
        """Since when credit grows; None while it does not."""

    def credit_ns(self, now_ns: int) -> float:
        growing_ns = 0 if self._since_ns is None else now_ns - self._since_ns
        return self._credit_ns + self.share * growing_ns

    def grows(self, now_ns: int, growing: bool) -> None:
        """From now on credit grows, or does not."""
        self._credit_ns = self.credit_ns(now_ns)
        self._since_ns = now_ns if growing else None

    def due(self, now_ns: int, run_ns: int) -> bool:
        """Whether a run of ``run_ns`` is to go first."""
        return self.share > 0 and self.credit_ns(now_ns) >= max(run_ns, 1)

    def due_at_ns(self, now_ns: int, run_ns: int) -> int | None:
        """When it will be, if nothing happens; None without a floor."""
        if not self.share:
            return None
        missing_ns = max(run_ns, 1) - self.credit_ns(now_ns)
        return now_ns + max(0, math.ceil(missing_ns / self.share))

    def pay(self, now_ns: int, used_ns: int, *, was_due: bool) -> None:
        """A run is over that took ``used_ns``."""
        self._credit_ns = self.credit_ns(now_ns) - used_ns
        if not was_due:
            self._credit_ns = max(0.0, self._credit_ns)
        if self._since_ns is not None:
            self._since_ns = now_ns

    def forfeit(self, now_ns: int, most_ns: int) -> None:
        """Keep no more than ``most_ns``: what was saved for a long run is not for many short ones,
        which would all go before high-priority work at once."""
        self._credit_ns = min(self.credit_ns(now_ns), float(most_ns))
        if self._since_ns is not None:
            self._since_ns = now_ns

    def high_wait_ns(self, run_ns: int, high_ns: int, ahead_ns: int) -> int:
        """At most how long best-effort runs of ``run_ns`` keep a high-priority unit waiting.

        One run may be on the device, with credit left of at most the share of a high-priority unit
        (it had to wait for one) and of itself; and while the unit waits, behind work of its own
        class too, credit goes on growing. With the share *f*, a run *r*, a unit *h*, and work
        ahead *a*: ``w = r + f (h + r) + f (a + w)``.
        """
        if not self.share:
            return run_ns
        share = self.share
        return math.ceil((run_ns + share * (high_ns + run_ns + ahead_ns)) / (1 - share))
