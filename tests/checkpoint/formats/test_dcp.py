"""torch.distributed.checkpoint: its load reads ours, ours reads its; a hostile index is data."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.checkpoint.formats.states import Net, same_state
from torch._C._distributed_c10d import FileStore
from torch.distributed.checkpoint.metadata import Metadata, TensorProperties
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.multiprocessing.spawn import spawn

from remora.checkpoint.formats.dcp import export_dcp, import_dcp
from remora.checkpoint.formats.dcp_metadata import read_index
from remora.checkpoint.state.parts import Parts
from remora.core.errors import BadValue, CheckpointDamaged, StateUnsupported


def test_the_whole_state_comes_back(state: dict[str, Any], tmp_path: Path) -> None:
    export_dcp(state, tmp_path / "d")
    assert same_state(import_dcp(tmp_path / "d"), state)


def test_the_library_s_own_load_reads_it(state: dict[str, Any], tmp_path: Path) -> None:
    export_dcp(state, tmp_path)
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.optim.lr_scheduler.MultiStepLR(optimizer, [3])  # gives each group its initial_lr
    wanted = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    load(wanted, checkpoint_id=tmp_path, no_dist=True)
    optimizer.load_state_dict(wanted["optimizer"])
    again = Parts(model=model, optimizer=optimizer).capture()
    for part in ("model", "optimizer"):
        assert same_state({part: again[part]}, {part: state[part]})


def test_two_things_of_one_name_are_refused(tmp_path: Path) -> None:
    state = {"a.b": torch.ones(1), "a": {"b": torch.zeros(1)}}
    with pytest.raises(StateUnsupported, match=r"a\.b"):
        export_dcp(state, tmp_path)


def stock(model: torch.nn.Module) -> dict[str, Any]:
    optimizer = torch.optim.Adam(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}


def test_what_the_library_saved_is_read(tmp_path: Path) -> None:
    saved = stock(Net())
    save(saved, checkpoint_id=tmp_path, no_dist=True)
    read = import_dcp(tmp_path)
    assert read["epoch"] == 3
    model = Net()
    optimizer = torch.optim.Adam(model.parameters())
    Parts(model=model, optimizer=optimizer).apply(read)
    assert same_state({"o": optimizer.state_dict()}, {"o": saved["optimizer"]})
    assert same_state({"m": model.state_dict()}, {"m": saved["model"]})


def save_sharded(rank: int, folder: str) -> None:
    """One of two ranks: a tensor by rows, one by columns, and one that both have."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    store = FileStore(f"{folder}/store", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    whole = torch.arange(35.0).reshape(7, 5)
    state = {
        "model": {
            "rows": distribute_tensor(whole, mesh, [Shard(0)]),
            "columns": distribute_tensor(whole, mesh, [Shard(1)]),
            "both": distribute_tensor(whole, mesh, [Replicate()]),
        }
    }
    save(state, checkpoint_id=f"{folder}/saved")
    dist.destroy_process_group()


def test_sharded_tensors_are_put_together(tmp_path: Path) -> None:
    spawn(save_sharded, (str(tmp_path),), nprocs=2)
    model = import_dcp(tmp_path / "saved")["model"]
    for name in ("rows", "columns", "both"):
        assert torch.equal(model[name], torch.arange(35.0).reshape(7, 5))


class Runs:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("where", ["root", "inside"])
def test_an_index_that_would_run_a_command_does_not(where: str, tmp_path: Path) -> None:
    attack = Runs(f"touch {tmp_path}/ran")
    hostile = attack if where == "root" else Metadata({}, planner_data={"x": attack})
    (tmp_path / ".metadata").write_bytes(pickle.dumps(hostile))
    with pytest.raises(CheckpointDamaged, match=r"asks for posix\.system"):
        import_dcp(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"), ("builtins", "eval"), ("builtins", "getattr"), ("torch", "load"),
        ("torch.distributed.checkpoint.metadata", "os"), ("torch", "nn.Module"),
        ("torch.distributed.checkpoint.metadata", "dataclass"), ("remora.core.files", "os"),
    ],
)  # fmt: skip
def test_nothing_else_can_be_named(module: str, name: str) -> None:
    data = f"c{module}\n{name}\n.".encode()
    with pytest.raises(CheckpointDamaged, match=f"asks for {module}.{name}"):
        read_index(data)


def test_an_index_cannot_change_the_library_s_classes() -> None:
    before = dict(vars(TensorProperties)), dict(vars(Metadata))
    module = "torch.distributed.checkpoint.metadata"
    for name in ("TensorProperties", "Metadata"):
        # BUILD with (None, {"evil": 1}) sets attributes on the class itself
        with pytest.raises(CheckpointDamaged):
            read_index(f"c{module}\n{name}\n(N(dVevil\nI1\nstb.".encode())
    assert (dict(vars(TensorProperties)), dict(vars(Metadata))) == before


def test_a_value_that_needs_code_is_refused(tmp_path: Path) -> None:
    attack = Runs(f"touch {tmp_path}/ran")
    save({"model": {"w": torch.ones(1)}, "x": attack}, checkpoint_id=tmp_path, no_dist=True)
    with pytest.raises(StateUnsupported, match="'x' cannot be read without running code"):
        import_dcp(tmp_path)
    assert not (tmp_path / "ran").exists()


class Field:
    """Changes one thing in a saved index."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / ".metadata"
        self.metadata = pickle.loads(self.file.read_bytes())

    def save(self) -> None:
        self.file.write_bytes(pickle.dumps(self.metadata))


def elsewhere(metadata: Any) -> None:
    for info in metadata.storage_data.values():
        info.relative_path = "../outside"


def beyond(metadata: Any) -> None:
    for info in metadata.storage_data.values():
        info.length = 10**12


def larger(metadata: Any) -> None:
    entry = metadata.state_dict_metadata["model.w"]
    entry.size = torch.Size([10**9, 10**6])


def not_sizes(metadata: Any) -> None:
    metadata.state_dict_metadata["model.w"].size = "x"


def outside(metadata: Any) -> None:
    metadata.state_dict_metadata["model.w"].chunks[0].offsets = torch.Size([9])


def other_dtype(metadata: Any) -> None:
    metadata.state_dict_metadata["model.w"].properties.dtype = torch.int8


def unlocated(metadata: Any) -> None:
    metadata.storage_data.clear()


def bad_places(metadata: Any) -> None:
    metadata.planner_data = {"model.w": ("model", 10**12)}


def empty_place(metadata: Any) -> None:
    metadata.planner_data = {"model.w": ()}


@pytest.mark.parametrize(
    "change",
    [
        elsewhere,
        beyond,
        larger,
        not_sizes,
        outside,
        other_dtype,
        unlocated,
        bad_places,
        empty_place,
    ],
)
def test_an_index_that_lies_is_refused(change: Callable[[Any], None], tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    save({"model": {"w": torch.ones(3)}}, checkpoint_id=folder, no_dist=True)
    (tmp_path / "outside").write_bytes((folder / "__0_0.distcp").read_bytes())
    field = Field(folder)
    change(field.metadata)
    field.save()
    with pytest.raises(CheckpointDamaged) as refused:
        import_dcp(folder)
    assert "\n" not in str(refused.value)


@pytest.fixture(scope="module")
def saved_index(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("saved")
    save(stock(torch.nn.Linear(2, 2)), checkpoint_id=folder, no_dist=True)
    return (folder / ".metadata").read_bytes()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
def test_no_damaged_index_crashes_the_reader(
    saved_index: bytes, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(saved_index)
    for at, value in changes:
        data[at % len(data)] = value
    try:
        read_index(bytes(data))
    except CheckpointDamaged as refused:
        assert str(refused)  # noqa: PT017, any other error fails the test


def test_a_folder_without_a_checkpoint_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match=r"there is no .*\.metadata"):
        import_dcp(tmp_path)
