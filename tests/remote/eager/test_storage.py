"""Tensors of the device are copied, saved and loaded as any others."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from remora.core.errors import BadValue, CannotCapture
from remora.remote.eager.device import Device


@pytest.fixture
def model(device: Device) -> Any:
    torch.manual_seed(0)
    return device.put(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))


def test_a_deep_copy_is_one_of_its_own(device: Device) -> None:
    x = torch.arange(6.0).to(device)
    pair = copy.deepcopy([x, x[2:4]])
    x.zero_()
    pair[1].add_(1)

    assert pair[0].tolist() == [0, 1, 3, 4, 4, 5]  # they look at one memory, as before


def test_a_module_is_copied(model: Any) -> None:
    copied = copy.deepcopy(model)
    with torch.no_grad():
        model[0].weight.zero_()
    model[1].running_mean.fill_(5)

    assert copied[0].weight.abs().sum().item() > 0
    assert copied[1].running_mean.tolist() == [0, 0, 0]


def test_what_is_saved_is_loaded_anywhere(model: Any, device: Device) -> None:
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    want = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    for where in ("cpu", device):
        file.seek(0)
        loaded = torch.load(file, map_location=where)
        assert {tensor.device.type for tensor in loaded.values()} == {torch.device(where).type}
        assert all(torch.equal(loaded[name].cpu(), want[name]) for name in want)
        model.load_state_dict(loaded)
        assert torch.equal(model[0].weight.cpu(), want["0.weight"])
    file.seek(0)
    assert all(tensor.is_cpu for tensor in torch.load(file).values())


@pytest.mark.slow
@pytest.mark.gradients
@pytest.mark.parametrize("reentrant", [False, True])
def test_activations_are_computed_again(model: Any, device: Device, reentrant: bool) -> None:
    x = torch.randn(4, 3).to(device).requires_grad_()
    torch.manual_seed(1)
    (nn.functional.dropout(model(x)) ** 2).sum().backward()
    assert x.grad is not None
    want = x.grad.cpu()
    x.grad.zero_()

    def part(x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(model(x))

    torch.manual_seed(1)
    (checkpoint(part, x, use_reentrant=reentrant) ** 2).sum().backward()
    assert torch.equal(x.grad.cpu(), want)


def test_a_dtype_is_changed_in_place(model: Any) -> None:
    model.half()
    assert model[0].weight.dtype == torch.float16
    assert model[0].weight.device.type == "remora"


def test_nothing_of_the_device_is_written_to_a_tensor_elsewhere_in_silence(device: Device) -> None:
    here = torch.ones(())
    with pytest.raises(BadValue, match=r"would write what is on the device to a tensor on cpu"):
        here.add_(torch.ones((), device=device))
    assert here == 1
    with pytest.raises(CannotCapture, match="cannot look at memory elsewhere"):
        torch.empty(3, device=device).set_(torch.ones(3).untyped_storage(), 0, (3,), (1,))


def test_a_loader_pins_nothing_for_it(device: Device) -> None:
    numbers: Any = torch.arange(4.0)
    loader: Any = torch.utils.data.DataLoader(numbers, batch_size=2, pin_memory=False)
    assert [batch.to(device).sum().item() for batch in loader] == [1, 5]
    assert not torch.accelerator.is_available()


def test_a_fast_path_that_no_server_has_says_how_to_leave_it(device: Device) -> None:
    layer = device.put(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval())
    x = torch.randn(2, 5, 8).to(device)
    with torch.no_grad(), pytest.raises(CannotCapture, match=r"set_fastpath_enabled\(False\)"):
        layer(x)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            assert layer(x).shape == (2, 5, 8)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def test_pinning_is_refused_in_words(device: Device) -> None:
    for tensor in (torch.ones(3), torch.ones(3)[:2]):
        with pytest.raises(BadValue, match=r"no memory can be pinned .*leave pin_memory out"):
            tensor.pin_memory()
    assert not torch.ones(3).is_pinned()


def test_a_storage_by_itself_is_refused_and_others_are_made(device: Device) -> None:
    make: Any = torch.UntypedStorage
    for where in (device, "remora", torch.device("remora", 0)):
        with pytest.raises(BadValue, match=r"make a tensor: torch\.empty"):
            make(4, device=where)
    assert torch.UntypedStorage(4).nbytes() == 4
    assert torch.UntypedStorage(4, device="meta").device.type == "meta"
    assert make([1, 2])[1] == 2
    assert copy.deepcopy(torch.ones(3)).untyped_storage().nbytes() == 12
