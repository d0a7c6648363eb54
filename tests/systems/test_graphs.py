"""A workload's graph is captured once for all trials, as data: the one that each would capture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from remora.core.errors import ResultsUnusable
from remora.remote.graph import capture as capturing
from remora.remote.graph.decoder import Decoder, capture_decoder
from remora.systems import registry
from remora.systems.graphs import Graphs, keep_graph
from remora.workloads import registry as workloads
from remora.workloads.contract import Session

Kept = Callable[[str], Path]
DECODING, CALLED = "tiny-gpt2-decode", "micro-matmul-forward"


def _session(workload: str, seed: int = 0) -> Session:
    return workloads.get(workload).build("quick", torch.device("cpu"), seed=seed)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    pytest.importorskip("transformers")
    folders: dict[str, Path] = {}

    def of(workload: str) -> Path:
        if workload not in folders:
            folders[workload] = tmp_path_factory.mktemp("kept")
            keep_graph(lambda number: _session(workload, number), folders[workload])
        return folders[workload]

    return of


@pytest.fixture
def capturing_nothing(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """With both graphs kept, nothing may be captured any more."""
    for workload in (DECODING, CALLED):
        kept(workload)

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("captured again")

    monkeypatch.setattr(capturing, "_export", refused)


def test_what_is_kept_is_what_a_trial_would_capture(kept: Kept) -> None:
    model = _session(DECODING).model
    found, anew = Graphs(kept(DECODING)).decoder(model), capture_decoder(model)
    assert found.positions == anew.positions
    assert found.captured.graph == anew.captured.graph
    assert found.captured.outputs == anew.captured.outputs
    assert found.captured.tensors.keys() == anew.captured.tensors.keys()
    mine = {each.data_ptr() for each in (*model.parameters(), *model.buffers())}
    weights = [t for t in found.captured.tensors.values() if t.numel() > 100]
    assert weights
    assert all(each.data_ptr() in mine for each in weights)


def test_weights_are_not_kept_and_nothing_is_a_pickle(kept: Kept) -> None:
    names = {file.name: file.read_bytes() for file in kept(DECODING).iterdir()}
    assert set(names) == {"graph.msgpack", "about.json", "tensors.safetensors"}
    model = _session(DECODING).model
    weights = sum(each.nbytes for each in model.parameters())
    assert sum(map(len, names.values())) < weights / 2


@pytest.mark.usefixtures("capturing_nothing")
@pytest.mark.parametrize("workload", [DECODING, CALLED])
@pytest.mark.parametrize("name", ["captured", pytest.param("remote", marks=pytest.mark.slow)])
def test_a_prepared_system_captures_nothing_and_does_the_same_work(
    name: str, workload: str, kept: Kept, tmp_path: Path
) -> None:
    expected = _session(workload).step()
    session = _session(workload)
    system = registry.create(name)
    assert system.preparation() == "graph"
    ride = system.prepared(kept(workload)).ride(session, tmp_path)
    try:
        torch.testing.assert_close(ride.step().tensor, expected.tensor)
    finally:
        ride.close()


def test_a_model_of_other_weights_is_refused(kept: Kept) -> None:
    with pytest.raises(ResultsUnusable, match=r"other weights.*remove that folder"):
        Graphs(kept(DECODING)).decoder(_session(DECODING, seed=1).model)


@pytest.mark.parametrize("file", ["graph.msgpack", "about.json", "tensors.safetensors"])
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_what_is_damaged_is_refused(file: str, damage: str, kept: Kept, tmp_path: Path) -> None:
    for each in kept(CALLED).iterdir():
        (tmp_path / each.name).write_bytes(each.read_bytes())
    whole = (tmp_path / file).read_bytes()
    if damage == "gone":
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ResultsUnusable, match=r"no graph that can be read.*--resume"):
        Graphs(tmp_path).before_a_call(_session(CALLED).model)


def test_a_step_that_is_none_of_a_language_model_is_no_decoder(kept: Kept) -> None:
    model = _session(CALLED).model
    assert not isinstance(Graphs(kept(CALLED)).before_a_call(model), Decoder)
    with pytest.raises(ResultsUnusable, match="no step of a language model"):
        Graphs(kept(CALLED)).decoder(model)
