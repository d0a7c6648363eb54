"""A server process that runs out of memory, and one that serves for long."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest
import torch
from tests.remote.conftest import prompt
from tests.remote.processes.conftest import Serve, remote, within

from remora.core.errors import Refused
from remora.remote.client.placed import Placed
from remora.remote.client.server import connect
from remora.remote.client.session import RemoteSession

pytestmark = pytest.mark.slow  # each starts a process that imports torch

SMALL = torch.nn.Linear(2, 2)


class Wide(torch.nn.Module):
    """Needs 400 MB for a thousand rows."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1, 100_000))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x @ self.weight).sum(1)


class Large(torch.nn.Module):
    """512 MB of weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(128, 10**6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


def settled_bytes(there: Serve) -> int:
    """The address space of the process, when it has given back what earlier connections had."""
    process, before = psutil.Process(there.process.pid), 0
    while (now := int(process.memory_info().vms)) != before:
        before = now
        time.sleep(0.3)
    return now


@contextmanager
def short_of_memory(
    there: Serve, spare_bytes: int, kind: int = resource.RLIMIT_AS
) -> Iterator[None]:
    """The process may take no more than ``spare_bytes`` beyond what it has."""
    limit = settled_bytes(there) + spare_bytes
    if kind == resource.RLIMIT_DATA:
        limit = int(psutil.Process(there.process.pid).memory_info().data) + spare_bytes
    before = resource.prlimit(there.process.pid, kind)
    resource.prlimit(there.process.pid, kind, (limit, before[1]))
    yield
    resource.prlimit(there.process.pid, kind, before)


@pytest.fixture(scope="module")
def there(serve: Callable[..., Serve]) -> Serve:
    return serve("--threads", "1")


def serves(there: Serve) -> None:
    with remote(there, reconnect_s=0) as server:
        torch.testing.assert_close(server.load(SMALL)(torch.ones(1, 2)), SMALL(torch.ones(1, 2)))


def test_a_call_beyond_its_quota_is_refused_and_the_server_goes_on(
    serve: Callable[..., Serve],
) -> None:
    there = serve("--threads", "1", "--calls", "50MB")
    with remote(there, reconnect_s=0) as server:
        wide = server.load(Wide())
        assert wide(torch.ones(10, 1)).shape == (10,)
        with pytest.raises(Refused, match=r"memory|MiB"):
            wide(torch.ones(1000, 1))
        assert wide(torch.ones(10, 1)).shape == (10,)
    serves(there)


def test_a_call_for_which_the_machine_has_no_memory_is_refused(there: Serve) -> None:
    with remote(there, reconnect_s=0) as server:
        wide = server.load(Wide())
        wide(torch.ones(10, 1))
        with short_of_memory(there, 200 * 2**20):
            began = time.monotonic()
            with pytest.raises(Refused, match="memory"):
                wide(torch.ones(1000, 1))
            assert time.monotonic() - began < 10
            assert wide(torch.ones(10, 1)).shape == (10,)
    serves(there)


@pytest.mark.parametrize("kind", [resource.RLIMIT_AS, resource.RLIMIT_DATA], ids=["AS", "DATA"])
@pytest.mark.parametrize("share", [True, False], ids=["shared", "socket"])
def test_weights_for_which_the_machine_has_no_memory_are_refused_over_a_connection_that_stays(
    there: Serve, kind: int, share: bool
) -> None:
    with (
        connect(there.address, reconnect_s=0, share=share) as server,
        short_of_memory(there, 200 * 2**20, kind),
    ):
        channel, large = server.channel, server.load(Large())
        for _ in range(2):
            with pytest.raises(Refused, match=r"no memory there for 488\.3 MiB .*MiB is free"):
                large(torch.ones(1, 128))
            assert server.load(SMALL)(torch.ones(1, 2)).equal(SMALL(torch.ones(1, 2)))
        assert server.channel is channel
        serves(there)
    assert within(10, lambda: there.counts()["models"] <= 4)
    serves(there)


def test_a_thousand_sessions_leave_the_memory_as_it_was(there: Serve, decoder: Placed) -> None:
    def sessions(count: int) -> None:
        with remote(there) as server:
            placed = Placed(decoder.captured, decoder=True)
            for index in range(count):
                one = RemoteSession(server, placed, deadline_s=60)
                one.prefill(prompt(30, seed=index))
                list(one.generate(5))
                if index % 10:  # one in ten is left for the server to end with its connection
                    one.close()

    sessions(100)
    sessions(100)
    before_mib = there.rss_mib
    for _ in range(10):
        sessions(100)
    assert within(10, lambda: there.counts()["sessions"] == 0)

    counts = there.counts()
    assert (counts["sessions_bytes"], counts["waiting"]) == (0, 0)
    assert there.rss_mib - before_mib < 8, f"{before_mib:.1f} MiB before, {there.rss_mib:.1f} after"
