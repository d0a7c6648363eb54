"""The same workloads on a CUDA device."""

from __future__ import annotations

import pytest
import torch

from remora.workloads import registry
from remora.workloads.devices import free_bytes, parse_device
from remora.workloads.fits import check_fits

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]


@pytest.mark.parametrize("name", registry.names())
def test_a_seed_gives_the_same_session_on_both_devices(name: str) -> None:
    workload = registry.get(name)
    here, there = (workload.build("quick", parse_device(place)) for place in ("cpu", "cuda"))
    for kind in ("parameters", "buffers"):
        pairs = zip(getattr(here.model, kind)(), getattr(there.model, kind)(), strict=True)
        for a, b in pairs:
            assert b.is_cuda
            torch.testing.assert_close(a, b.cpu())
    first, second = (there.step() for _ in range(2))
    assert first.tensor.is_cuda
    assert torch.isfinite(second.tensor.double()).all()
    again = workload.build("quick", parse_device("cuda")).step()
    assert again.value == pytest.approx(first.value, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("name", registry.names())
def test_a_step_asks_nothing_back_from_the_device(name: str, asking: frozenset[str]) -> None:
    if name in asking:
        pytest.skip("its class in transformers reads a value back")
    session = registry.get(name).build("quick", parse_device("cuda"))
    session.step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        session.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", ["vgg16-train", "gpt2-train", "llama-2-7b-decode"])
def test_a_paper_size_fits_as_predicted(name: str) -> None:
    device = parse_device("cuda")
    if free_bytes(device) < 20 * 2**30:
        pytest.skip("needs 20 GiB of free device memory")
    predicted = check_fits(registry.get(name), "paper", device).total
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    session = registry.get(name).build("paper", device)
    session.step()
    session.step()
    peak = torch.cuda.max_memory_allocated() - before
    # cuDNN takes workspaces, and the fused attention needs less than the rehearsal's.
    assert 0.4 < peak / predicted < 2.0, (peak, predicted)
