"""What each client was given of the device, and how long it had to wait for that."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from remora.remote.messages import ClientCounts
from remora.remote.server.clients import Client
from remora.remote.server.times import Times

GONE = 64
"""Clients that have left and are still told of."""


class Counted:
    """One client's counts."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.requests, self.units, self.device_ns, self.beyond_bound = 0, 0, 0, 0
        self.waits, self.responses = Times(), Times()
        self.left = False

    def told(self) -> ClientCounts:
        """As a message has them."""
        return ClientCounts(
            number=self.client.number,
            priority=self.client.priority.value,
            left=self.left,
            requests=self.requests,
            units=self.units,
            beyond_bound=self.beyond_bound,
            device_ns=self.device_ns,
            turnaround=self.waits.told(),
            response=self.responses.told(),
        )


class Counting:
    """Those of all clients, and of the last that have left. One thread writes, others read."""

    def __init__(self) -> None:
        self._of: OrderedDict[Client, Counted] = OrderedDict()

    def of(self, client: Client) -> Counted:
        counted = self._of.get(client)
        if counted is None:
            counted = self._of[client] = Counted(client)
        return counted

    def left(self, client: Client) -> None:
        """``client`` is gone; so, in their order, are the counts of those gone long ago."""
        if client not in self._of:
            return
        self._of[client].left = True
        self._of.move_to_end(client)
        gone = [each for each, counted in self._of.items() if counted.left]
        for each in gone[: max(0, len(gone) - GONE)]:
            del self._of[each]

    def told(self) -> Sequence[ClientCounts]:
        """Of each client, as messages have them."""
        return tuple(counted.told() for counted in list(self._of.values()))
