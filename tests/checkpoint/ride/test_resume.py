"""A script that was killed and started again prints and learns what an undisturbed one does."""

from __future__ import annotations

import pytest
from tests.checkpoint.ride.conftest import Ride

pytest.importorskip("transformers", reason="the Trainer's script needs transformers")


SOME = ["plain"]
MORE = ["epochs", "gan", "mixed", "functional", "trainer"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "ride", [*SOME, *(pytest.param(each, marks=pytest.mark.slow) for each in MORE)], indirect=True
)
def test_killed_and_resumed_is_as_if_nothing_had_been(ride: Ride) -> None:
    undisturbed = ride.plainly()
    assert undisturbed.code == 0, undisturbed.errors
    killed = ride.killed(8)
    resumed = ride.ridden()

    assert killed.code == -9
    assert resumed.code == 0, resumed.errors
    assert "remora: checkpoint: resumed at step " in resumed.errors
    assert resumed.output == undisturbed.output


@pytest.mark.slow
@pytest.mark.parametrize(
    "ride", ["plain", "epochs", "gan", "mixed", "functional", "trainer"], indirect=True
)
@pytest.mark.parametrize("every", ["1", "auto"])
def test_killed_again_and_again(ride: Ride, every: str) -> None:
    undisturbed = ride.plainly()
    for lines in (3, 7, 8, 12, 15):
        ride.killed(lines, every=every)
    resumed = ride.ridden(every=every)

    assert resumed.code == 0, resumed.errors
    assert resumed.output == undisturbed.output
