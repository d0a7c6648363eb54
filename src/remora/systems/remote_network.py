"""A connection to a server of ours, over the network that a row asks for."""

from __future__ import annotations

from contextlib import ExitStack

from remora.core.errors import BadValue
from remora.remote.client.server import RemoteServer, connect
from remora.remote.wire.relay import Relay


def connected(
    address: str, stack: ExitStack, *, mbit_s: float, delay_ms: float, share: bool = False
) -> RemoteServer:
    """Connected until ``stack`` ends; lost servers are not waited for.

    Args:
        mbit_s: the rate each way, in Mbit/s; 0 for loopback as it is.
        delay_ms: how long everything takes one way.

    Raises:
        BadValue: either is below 0.
    """
    if mbit_s < 0 or delay_ms < 0:
        raise BadValue(f"a network of {mbit_s} Mbit/s and {delay_ms} ms; not below 0")
    if mbit_s or delay_ms:
        relay = Relay(address, mbit_s * 1e6 or None, delay_ms)
        address = str(stack.enter_context(relay).address)
    return stack.enter_context(connect(address, reconnect_s=0, share=share))
