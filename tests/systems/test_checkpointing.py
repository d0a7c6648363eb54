"""The checkpointing peers really checkpoint, when they should, and count what it cost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.systems.builders import TinySession
from torch.distributed.checkpoint.state_dict_loader import load

from remora.core.errors import Unavailable
from remora.systems import registry
from remora.systems.contract import Ride
from remora.systems.gemini_like import Peer
from remora.systems.tensors import HostCopy, named_tensors
from remora.workloads.contract import Outcome

Tensors = dict[str, torch.Tensor]


def _ride(name: str, session: TinySession, directory: Path, **options: int) -> Ride:
    system = registry.create(name, options)
    if reason := registry.missing(system):
        pytest.skip(reason)
    return system.ride(session, directory)


def _torch_load(path: Path) -> Tensors:
    return named_tensors(torch.load(path, weights_only=True))


def _read_dcp(path: Path) -> Tensors:
    blank = {"model": TinySession(seed=1).model.state_dict()}
    load(blank, checkpoint_id=path, no_dist=True)
    return named_tensors(blank)


def _read_torch_checkpointing(path: Path) -> Tensors:
    model = torch.load(path / "model_0.pt", weights_only=True)
    return named_tensors({"model": model})


def _read_torchsnapshot(path: Path) -> Tensors:
    from torchsnapshot import Snapshot

    names = [f"model.{name}" for name in TinySession().model.state_dict()]
    snapshot = Snapshot(str(path))
    return {
        name: snapshot.read_object(f"0/job/model/{name.removeprefix('model.')}") for name in names
    }


def _read_gpm(path: Path) -> Tensors:
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    found = {}
    for name, _, shape, size in json.loads(data[8:start]):
        flat = torch.frombuffer(bytearray(data[start : start + size]), dtype=torch.float32)
        found[name], start = flat.reshape(shape), start + size
    return found


READERS: dict[str, tuple[str, Callable[[Path], Tensors]]] = {
    "torch-save": ("step-{}.pt", _torch_load),
    "torch-save-nosync": ("step-{}.pt", _torch_load),
    "safetensors-save": ("step-{}.safetensors", load_file),
    "dcp-save": ("step-{}", _read_dcp),
    "dcp-async": ("step-{}", _read_dcp),
    "dcp-async-process": ("step-{}", _read_dcp),
    "torch-checkpointing": ("step-{}", _read_torch_checkpointing),
    "torchsnapshot": ("step-{}", _read_torchsnapshot),
    "checkfreq-like": ("step-{}", _torch_load),
}
"""How a reader finds a step's checkpoint, and reads its tensors by name."""

CHECKPOINTING = [*READERS, "gpm-like", "gemini-like"]


@pytest.mark.parametrize("name", CHECKPOINTING)
def test_one_checkpoint_every_so_many_steps(name: str, tmp_path: Path) -> None:
    ride = _ride(name, TinySession(), tmp_path, every=3)
    for _ in range(10):
        ride.step()
    ride.drain()
    assert ride.period == 3
    assert len(ride.stalls_ns) == 3
    assert min(ride.stalls_ns) > 0
    promised = name not in ("torch-save-nosync", "torch-checkpointing", "torchsnapshot")
    assert len(ride.durable_ns) == (3 if promised else 0)
    ride.close()


@pytest.mark.parametrize("name", READERS)
def test_the_newest_two_checkpoints_hold_the_state_of_their_steps(
    name: str, tmp_path: Path
) -> None:
    """GIVEN a checkpoint every second step of seven
    THEN those of steps 4 and 6 are there, as the model was then, though training went on."""
    pattern, read = READERS[name]
    session = TinySession()
    ride = _ride(name, session, tmp_path, every=2)
    expected = {}
    for step in range(1, 8):
        ride.step()
        expected[step] = {
            f"model.{key}": value.clone() for key, value in session.model.state_dict().items()
        }
    ride.drain()
    ride.close()
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        pattern.format(4),
        pattern.format(6),
    ]
    for step in (4, 6):
        saved = read(tmp_path / pattern.format(step))
        for key, value in expected[step].items():
            assert torch.equal(saved[key], value), (step, key)


def test_a_whole_state_is_saved_not_the_model_alone(tmp_path: Path) -> None:
    ride = _ride("safetensors-save", TinySession(), tmp_path, every=1)
    ride.step()
    ride.close()
    saved = load_file(tmp_path / "step-1.safetensors")
    assert {name.split(".")[0] for name in saved} == {"model", "optimizer"}


def test_gpm_writes_two_files_in_turn(tmp_path: Path) -> None:
    session = TinySession()
    ride = _ride("gpm-like", session, tmp_path, every=1)
    states = []
    for _ in range(3):
        ride.step()
        states.append(named_tensors(session.model.state_dict()))
        states[-1] = {f"model.{key}": value.clone() for key, value in states[-1].items()}
    ride.close()
    for slot, state in ((0, states[2]), (1, states[1])):
        saved = _read_gpm(tmp_path / f"slot-{slot}")
        assert all(torch.equal(saved[key], value) for key, value in state.items())


def test_geminis_peer_has_what_it_acknowledged() -> None:
    peer = Peer()
    try:
        tensors = [torch.arange(1000), torch.zeros(0), torch.ones(3, 3).t()]
        assert peer.hold(tensors) == sum(tensor.nbytes for tensor in tensors)
        assert peer.hold([torch.ones(4)]) == 16
        peer.process.kill()
        peer.process.wait()
        with pytest.raises((Unavailable, OSError)):
            peer.hold([torch.ones(1 << 22)])
    finally:
        peer.close()


class PausingSession(TinySession):
    """Its forward gives the threads beside it time, as a real one does."""

    def step(self) -> Outcome:
        time.sleep(0.02)
        return super().step()


class SlowHostCopy(HostCopy):
    """A copy that would still be running when the next step changes the state."""

    def take(self, state: Any) -> Any:
        time.sleep(0.5)
        return super().take(state)


def test_the_update_waits_for_the_copy_and_the_wait_is_a_stall(tmp_path: Path) -> None:
    """GIVEN a copy of 500 ms and steps of 20
    THEN what was copied is the state as it was, and the rest of the wait is counted."""
    session = PausingSession()
    ride: Any = _ride("checkfreq-like", session, tmp_path, every=4)
    ride._host = SlowHostCopy()
    for _ in range(4):
        ride.step()
    expected = session.model.state_dict()["0.weight"].clone()
    ride.step()
    assert 0.05e9 < ride.stalls_ns[0] < 10e9
    ride.drain()
    ride.close()
    assert torch.equal(_torch_load(tmp_path / "step-4")["model.0.weight"], expected)


# ---------------------------------------------------------------- a slower disk


@pytest.mark.parametrize("name", ["torch-save", "checkfreq-like", "gpm-like"])
def test_a_checkpoint_is_durable_when_the_disk_had_time_for_its_bytes(
    name: str, tmp_path: Path
) -> None:
    session = TinySession()
    session.model.register_buffer("bulk", torch.zeros(250_000))
    ride = _ride(name, session, tmp_path, every=1, disk_mb_s=10)
    for _ in range(3):
        ride.step()
    ride.drain()
    ride.close()
    least_ns = ride.moved().disk_bytes / 3 / 10e6 * 1e9
    assert least_ns > 90e6
    assert all(least_ns * 0.999 < ns < least_ns * 20 for ns in ride.durable_ns)


@pytest.mark.parametrize("name", ["torch-save-nosync", "torchsnapshot"])
def test_what_is_not_synced_is_waited_for_at_the_end(name: str, tmp_path: Path) -> None:
    session = TinySession()
    session.model.register_buffer("bulk", torch.zeros(250_000))
    ride = _ride(name, session, tmp_path, every=1, disk_mb_s=10)
    began = time.monotonic()
    for _ in range(3):
        ride.step()
    ride.drain()
    took = time.monotonic() - began
    ride.close()
    assert took > ride.moved().disk_bytes / 10e6 > 0.29


# ---------------------------------------------------------------- states and copies


def test_tensors_have_the_names_of_their_places_and_shared_ones_the_first() -> None:
    shared = torch.ones(2)
    state = {"a": shared, "b": [{"c": torch.zeros(1)}, 3, "x"], 7: shared, "d": torch.empty(0)}
    assert list(named_tensors(state)) == ["a", "b.0.c", "d"]


def test_a_host_copy_keeps_its_memory_and_not_the_states() -> None:
    host, weight = HostCopy(), torch.ones(3)
    first = host.take({"w": weight, "n": [1, (weight,)]})
    weight += 1
    assert torch.equal(first["w"], torch.ones(3))
    again = host.take({"w": weight, "n": [1, (weight,)]})
    assert again["w"].data_ptr() == first["w"].data_ptr()
    assert torch.equal(again["n"][1][0], torch.full((3,), 2.0))
    assert host.take({"w": torch.ones(5)})["w"].shape == (5,)
