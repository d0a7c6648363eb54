"""A script without a forward: the step after a capture follows at once, and must wait for it."""

from __future__ import annotations

import pytest
from tests.checkpoint.ride.conftest import Ride

from remora.checkpoint import inventory


@pytest.mark.slow
@pytest.mark.parametrize("ride", ["no_forward"], indirect=True)
def test_the_next_step_waits_until_the_state_is_copied(ride: Ride) -> None:
    ended = ride.ridden(every="1")

    assert ended.code == 0, ended.errors
    storage = inventory.open_place(str(ride.folder / "saved"))
    norms = dict(line.split() for line in ended.output.splitlines())
    for step in (4, 5, 6):
        state = inventory.load(storage, inventory.find(storage, step))
        saved = state["optimizer"]["optimizer"]["state"][0]["prev_flat_grad"]
        assert saved.norm().item() == float(norms[str(step)])
