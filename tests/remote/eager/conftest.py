"""A device on a server, which is given back at the end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from remora.remote.client.server import RemoteServer
from remora.remote.eager import backend
from remora.remote.eager.device import Device


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Tests that go backwards run in a process of their own where another has done so before."""
    if pyfuncitem.get_closest_marker("gradients") is None or backend.goes_backwards():
        return None
    alone = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", pyfuncitem.nodeid]
    ran = subprocess.run(alone, capture_output=True, text=True, cwd=pyfuncitem.config.rootpath)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return True


@pytest.fixture
def device(remote: RemoteServer) -> Iterator[Device]:
    with remote.device() as device:
        yield device
