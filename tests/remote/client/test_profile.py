"""The parts of a call's latency make up the whole of it."""

from __future__ import annotations

from dataclasses import astuple

import pytest
import torch

from remora.remote.client.profile import ahead_of
from remora.remote.client.server import RemoteServer
from remora.remote.messages import Profile


def test_the_parts_add_up_to_the_whole(remote: RemoteServer) -> None:
    model = torch.nn.Sequential(*[torch.nn.Linear(512, 512) for _ in range(8)]).eval()
    there, inputs = remote.load(model), torch.randn(256, 512)
    there(inputs)
    for _ in range(5):
        output, profile = there.profiled(inputs)

        assert output.shape == (256, 512)
        assert profile.sum_ns == pytest.approx(profile.total_ns, rel=0.05)
        assert min(astuple(profile)) >= -1_000_000  # as far as two clocks can be told apart
        assert 0 < profile.execute_ns < profile.total_ns


def test_clocks_are_compared_by_the_quickest_echo() -> None:
    there = Profile(received_ns=1_000_500, answered_ns=1_000_600)
    took, ahead = ahead_of(0, there, 1_100)
    assert (took, ahead) == (1_100, 1_000_000)
