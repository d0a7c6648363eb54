"""Seeded weights at the speed of memory, with the model's own tables left alone."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import torch
from torch import nn

from remora.workloads import registry
from remora.workloads.fast_init import build_seeded
from remora.workloads.model_workload import ModelWorkload

CPU = torch.device("cpu")
T = TypeVar("T")


class _Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(300, 200)
        self.norm = nn.LayerNorm(200)
        self.table = nn.Parameter(torch.arange(12.0).reshape(3, 4), requires_grad=False)
        self.query = nn.Parameter(torch.zeros(64))
        self.temperature = nn.Parameter(torch.tensor(2.5))
        self.register_buffer("frequencies", torch.arange(5.0))


def _weights(seed: int, std: float | None = 0.02) -> dict[str, torch.Tensor]:
    return build_seeded(_Mixed, CPU, seed=seed, std=std).state_dict()


def test_a_seed_fixes_every_weight_and_another_changes_them() -> None:
    first, again, other = _weights(1), _weights(1), _weights(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["linear.weight"], other["linear.weight"])
    assert not torch.equal(first["query"], other["query"])


def test_each_kind_of_weight_is_what_it_should_be() -> None:
    weights = _weights(1)
    assert weights["linear.weight"].std().item() == pytest.approx(0.02, rel=0.02)
    assert weights["query"].std().item() == pytest.approx(0.02, rel=0.3)
    assert not weights["linear.bias"].any()
    assert torch.equal(weights["norm.weight"], torch.ones(200))
    assert torch.equal(weights["table"], torch.arange(12.0).reshape(3, 4))
    assert torch.equal(weights["frequencies"], torch.arange(5.0))
    assert weights["temperature"] == 2.5


def test_without_a_deviation_the_fan_in_decides() -> None:
    assert _weights(1, None)["linear.weight"].std().item() == pytest.approx(
        (2 / 300) ** 0.5, rel=0.02
    )


def test_no_two_tensors_and_no_two_rows_are_alike() -> None:
    class Twins(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(1024, 5000, bias=False)
            self.b = nn.Linear(1024, 5000, bias=False)

    twins = build_seeded(Twins, CPU, seed=0)
    a, b = (parameter.detach() for parameter in twins.parameters())
    assert not (a == b).all(dim=1).any()
    assert len(torch.unique(a, dim=0)) == 5000  # longer than the block: it has wrapped round


def test_the_default_type_is_put_back_when_a_constructor_fails() -> None:
    def fail() -> nn.Module:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        build_seeded(fail, CPU, seed=0, dtype=torch.bfloat16)
    assert torch.get_default_dtype() == torch.float32


def test_rotary_frequencies_and_sinusoids_are_the_models_own() -> None:
    llama = registry.get("llama-2-7b-decode").build("quick", CPU).model
    (frequencies,) = (b for n, b in llama.named_buffers() if n.endswith("rotary_emb.inv_freq"))
    expected = 10000.0 ** (-torch.arange(0, 64, 2) / 64)
    torch.testing.assert_close(frequencies, expected)
    whisper = registry.get("whisper-tiny-forward").build("quick", CPU).model
    positions = whisper.get_parameter("model.encoder.embed_positions.weight")
    assert not positions.requires_grad
    assert torch.equal(positions[0, 64:], torch.ones(64))  # cosines of zero


@pytest.mark.parametrize("fillers", [1, 3])
def test_weights_do_not_depend_on_how_many_threads_fill(
    fillers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def large() -> nn.Module:
        return nn.Sequential(nn.Linear(1500, 3001), nn.Linear(1201, 1500), nn.Linear(7, 5))

    before = build_seeded(large, CPU, seed=2).state_dict()
    monkeypatch.setattr("remora.workloads.fast_init.os.cpu_count", lambda: fillers)
    after = build_seeded(large, CPU, seed=2).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    first = before["0.weight"].flatten()[: 2**22 - 3] * (1500 / 2) ** 0.5
    expected = torch.empty(2**22 - 3).normal_(generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(first, expected)


_BUILD_XL = """
import json, os, time, torch
from concurrent.futures import ThreadPoolExecutor
from remora.workloads import registry

def seconds(work):
    started = time.perf_counter()
    made = work()
    return time.perf_counter() - started

def touch():
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda _: torch.empty(2**22).fill_(1), range(weights // 2**24)))

workload = registry.get("gpt2-xl-forward")
weights = workload.footprint("paper").weights  # imports what the build needs, too
torch.set_num_threads(1)
touched = [seconds(touch)]
built = seconds(lambda: workload.build("paper", torch.device("cpu")))
touched.append(seconds(touch))
print(json.dumps([max(touched), built]))
"""

QUIET_SECONDS = 2.5
"""A machine that writes 5.8 GiB of fresh memory in less is quiet."""


@pytest.mark.slow
def test_gpt2_xl_is_built_in_five_seconds() -> None:
    """In a fresh process, imports left out. On a machine that is not quiet, in little more than
    writing as much fresh memory takes just before or after."""
    done = subprocess.run(
        [sys.executable, "-c", _BUILD_XL], capture_output=True, text=True, check=True, timeout=240
    )
    touched, built = json.loads(done.stdout)
    limit = 5.0 if touched < QUIET_SECONDS else 2.0 + 1.5 * touched
    assert built < limit, (touched, built)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2-xl-decode", "llama-2-7b-decode"])
def test_a_large_model_is_built_at_the_speed_of_memory_and_answers(name: str) -> None:
    """Building takes little longer than writing zeros to as many fresh bytes, in the same run.

    Not a number of seconds: fresh pages cost ten times as much on a busy machine as on a quiet one.
    """
    workload = registry.get(name)
    assert isinstance(workload, ModelWorkload)
    count = workload.footprint("paper").weights
    touching, building = [], []
    for _ in range(3):
        touching.append(_seconds(lambda: _touch(count))[0])
        seconds, network = _seconds(lambda: _paper_size(workload))
        building.append(seconds)
        with torch.no_grad():
            logits = network(input_ids=torch.tensor([[1, 2, 3]])).logits
        assert torch.isfinite(logits).all()
        del network
        gc.collect()
    assert min(building) < 1.5 * min(touching) + 2.0, (building, touching)


def _paper_size(workload: ModelWorkload[Any]) -> nn.Module:
    sizes = workload.table["paper"]
    dtype = workload.dtype(sizes)
    return build_seeded(lambda: workload.network(sizes), CPU, seed=0, std=0.02, dtype=dtype)


def _touch(count: int) -> list[torch.Tensor]:
    return [torch.empty(2**24).fill_(1) for _ in range(count // 2**26)]


def _seconds(work: Callable[[], T]) -> tuple[float, T]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result
