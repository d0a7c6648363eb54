"""Connections that a fleet's own parts make: to a directory, and to servers to see how they are."""

from __future__ import annotations

import ssl
from pathlib import Path

from remora.core.errors import BadValue
from remora.remote.client.errors import as_error
from remora.remote.fleet.messages import PEER, Answer
from remora.remote.fleet.messages import is_last as is_last_answer
from remora.remote.messages import Reply, is_last
from remora.remote.wire.channel import Channel
from remora.remote.wire.connect import connect
from remora.remote.wire.tls import trusting


class Calling:
    """Dials with what a fleet has in common: one token, one certificate.

    Args:
        tls: how they are verified; None: no TLS.
    """

    def __init__(
        self, token: str = "", tls: ssl.SSLContext | None = None, timeout_s: float = 5.0
    ) -> None:
        self._token, self._tls, self._timeout_s = token, tls, timeout_s

    def directory(self, address: str) -> Channel:
        """The directory at ``address``.

        Raises:
            BadValue: what answers there is none.
            ServerLost: nobody answers there.
            Refused: it does not take this client.
        """
        link = connect(
            address,
            Answer,
            token=self._token,
            tls=self._tls,
            timeout_s=self._timeout_s,
            share=False,
        )
        if link.peer != PEER:
            link.close()
            raise BadValue(f"at {address} is a server by itself, no fleet; connect to {address}")
        name = f"the fleet at {address}"
        return Channel(link, is_last=is_last_answer, as_error=as_error, name=name)

    def server(self, address: str) -> Channel:
        """The server at ``address``, for a question or two: without shared memory."""
        link = connect(
            address, Reply, token=self._token, tls=self._tls, timeout_s=self._timeout_s, share=False
        )
        name = f"the server at {address}"
        return Channel(link, is_last=is_last, as_error=as_error, name=name)


def verifying(certificate: Path | None) -> ssl.SSLContext | None:
    """TLS that trusts the PEM file ``certificate`` and no other, whatever its owner is called.

    A fleet's parts reach each other by addresses that no certificate may name.

    Raises:
        BadValue: it cannot be read.
    """
    context = trusting(certificate)
    if context is not None:
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
