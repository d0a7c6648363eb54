"""A device on a server, which is given back at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from remora.remote.client.server import RemoteServer
from remora.remote.eager import backend
from remora.remote.eager.device import Device

backend.register()  # before any test goes backwards: see test_backend.py


@pytest.fixture
def device(remote: RemoteServer) -> Iterator[Device]:
    with remote.device() as device:
        yield device
