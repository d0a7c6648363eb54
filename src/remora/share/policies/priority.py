"""Strict priority: best-effort work runs when no high-priority unit waits."""

from __future__ import annotations

from remora.share.policies.by_class import ByClass
from remora.share.policies.contract import Decision, Unit, whole


class StrictPriority(ByClass):
    """High-priority units first; a best-effort unit whenever none waits.

    A high-priority job whose units come one after another, each a moment behind the last, finds a
    best-effort unit in every such gap: that is what waiting (:mod:`min_wait`) is for.
    """

    name = "priority"
    title = "high priority first"

    def _offer(self, unit: Unit, now_ns: int) -> Decision:
        return whole(unit)
